//! From a program to a running child.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::{Gid, Uid};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Rlimit};
use tonic::{Code, Status};

use super::channel::{Channel, register};
use super::child::{self, Ids};
use super::errors;
use super::program::Program;
use super::pty::{self, Size};
use super::reaper::{ExitReceiver, Reaper};
use super::user::Identity;

/// A running child, leader of its own session and process group.
pub(crate) struct Running {
    pub(crate) pid: Pid,
    /// Its exit status, once.
    pub(crate) exit: ExitReceiver,
    /// Where standard input goes; `None` when it is at its end. A terminal always takes input.
    pub(crate) stdin: Option<Channel>,
    /// Standard output; of a terminal, all output.
    pub(crate) stdout: Channel,
    /// Standard error; `None` on a terminal.
    pub(crate) stderr: Option<Channel>,
    /// Whether the child runs on a terminal.
    pub(crate) terminal: bool,
    /// Set once the child has gone, when its id may be another's.
    pub(crate) gone: Arc<AtomicBool>,
}

/// Starts a program.
///
/// # Errors
/// `NOT_FOUND` and `PERMISSION_DENIED` when it cannot be executed, `RESOURCE_EXHAUSTED` when the workspace is out of
/// processes, descriptors or memory.
pub(crate) fn spawn(reaper: &Reaper, program: &Program, nofile: Option<Rlimit>) -> Result<Running, Status> {
    start(reaper, program, nofile).map_err(|error| {
        let name = program.argv.first().map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
        let code = match (program.identity.as_ref(), errors::code(&error)) {
            // Taking on another identity is the only step that needs a privilege.
            (Some(_), Code::PermissionDenied) if error.raw_os_error() == Some(1) => {
                let text = "cannot run as another user: the agent itself is not root";
                return Status::permission_denied(text);
            }
            (_, code) => code,
        };
        Status::new(code, format!("cannot run {name}: {}", errors::reason(&error)))
    })
}

fn start(reaper: &Reaper, program: &Program, nofile: Option<Rlimit>) -> io::Result<Running> {
    let identity = program.identity.as_ref().map(prepare).filter(needs_change);
    let ends = match program.pty {
        Some(size) => Ends::terminal(size, program.identity.as_ref())?,
        None => Ends::pipes(program.stdin)?,
    };
    let Ends { stdin, stdout, stderr, channels } = ends;
    let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_ref().unwrap_or(&stdout).as_fd()];
    let terminal = program.pty.is_some();
    let start = |pid: &_| child::execute(program, &child::Start { stdio, terminal, nofile, identity, pid });
    let (pid, exit) = reaper.start(start)?;
    let Channels { stdin, stdout, stderr } = channels;
    Ok(Running { pid, exit, stdin, stdout, stderr, terminal, gone: Arc::default() })
}

/// The agent's ends, registered before anything runs: a failure leaves nothing behind.
struct Channels {
    stdin: Option<Channel>,
    stdout: Channel,
    stderr: Option<Channel>,
}

/// The child's ends, which the agent closes once the child has them, and its own.
struct Ends {
    stdin: OwnedFd,
    stdout: OwnedFd,
    /// `None`: the same as standard output.
    stderr: Option<OwnedFd>,
    channels: Channels,
}

impl Ends {
    fn terminal(size: Size, identity: Option<&Identity>) -> io::Result<Self> {
        let (master, slave) = pty::open(size)?;
        if let Some(identity) = identity {
            // A terminal that stays root's would refuse to be reopened.
            rustix::fs::fchown(&slave, Some(Uid::from_raw(identity.uid)), None)?;
        }
        let master = Arc::new(register(master)?);
        let channels = Channels { stdin: Some(Arc::clone(&master)), stdout: master, stderr: None };
        Ok(Self { stdin: slave.try_clone()?, stdout: slave, stderr: None, channels })
    }

    fn pipes(takes_input: bool) -> io::Result<Self> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let (stdin, to_stdin) = if takes_input {
            let (stdin, to_stdin) = pipe()?;
            (stdin, Some(Arc::new(register(to_stdin)?)))
        } else {
            (no_input()?, None)
        };
        let (from_stdout, stdout) = pipe()?;
        let (from_stderr, stderr) = pipe()?;
        let channels = Channels {
            stdin: to_stdin,
            stdout: Arc::new(register(from_stdout)?),
            stderr: Some(Arc::new(register(from_stderr)?)),
        };
        Ok(Self { stdin, stdout, stderr: Some(stderr), channels })
    }
}

fn prepare(identity: &Identity) -> Ids {
    let groups = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid), groups)
}

/// An unprivileged agent may still be asked for the identity it has.
fn needs_change((uid, gid, _): &Ids) -> bool {
    use rustix::process::{getegid, geteuid};
    geteuid().is_root() || (*uid, *gid) != (geteuid(), getegid())
}

/// Standard input that is at its end: `/dev/null`, or a closed pipe where there is no `/dev`.
fn no_input() -> io::Result<OwnedFd> {
    if let Ok(null) = File::open("/dev/null") {
        return Ok(null.into());
    }
    let (read, _closed) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok(read)
}

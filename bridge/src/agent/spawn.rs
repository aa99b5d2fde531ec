//! From a program to a running child.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::{Gid, Uid};
use rustix::process::{Pid, Resource, Rlimit, setrlimit, setsid};
use tonic::{Code, Status};

use super::channel::{Channel, register};
use super::errors;
use super::program::Program;
use super::pty;
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
    let Some((name, args)) = program.argv.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is given"));
    };
    let mut command = Command::new(name);
    command
        .args(args)
        .env_clear()
        .envs(program.env.iter().map(|(k, v)| (k, v)))
        .current_dir(&program.work_dir);

    let terminal = program.pty.map(pty::open).transpose()?;
    if let Some((_, slave)) = &terminal {
        if let Some(identity) = &program.identity {
            // A terminal that stays root's would refuse to be reopened.
            rustix::fs::fchown(slave, Some(Uid::from_raw(identity.uid)), None)?;
        }
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave.try_clone()?);
    } else {
        command.stdin(if program.stdin { Stdio::piped() } else { no_input()? });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    let identity = program.identity.as_ref().map(prepare).filter(needs_change);
    let has_terminal = terminal.is_some();
    // SAFETY: the closure runs in the forked child, before exec, while it has one thread. It makes system calls only:
    // rustix issues them directly or through async-signal-safe wrappers, and nothing in it allocates or locks.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            if has_terminal {
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            }
            if let Some(limit) = nofile {
                setrlimit(Resource::Nofile, limit)?;
            }
            if let Some((uid, gid, groups)) = &identity {
                rustix::thread::set_thread_groups(groups)?;
                rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
                rustix::thread::set_thread_res_uid(*uid, *uid, *uid)?;
            }
            Ok(())
        });
    }

    let (mut child, pid, exit) = reaper.spawn(&mut command)?;
    // From here on the child runs: a failure to register its pipes must not leave it behind.
    let channels = (|| -> io::Result<_> {
        if let Some((master, _)) = terminal {
            let master = Arc::new(register(master)?);
            return Ok((Some(Arc::clone(&master)), master, None));
        }
        let register = |fd: OwnedFd| register(fd).map(Arc::new);
        let stdin = child.stdin.take().map(|pipe| register(pipe.into())).transpose()?;
        let missing = || io::Error::other("a pipe of the child is missing");
        let stdout = register(child.stdout.take().ok_or_else(missing)?.into())?;
        let stderr = register(child.stderr.take().ok_or_else(missing)?.into())?;
        Ok((stdin, stdout, Some(stderr)))
    })();
    match channels {
        Ok((stdin, stdout, stderr)) => {
            let gone = Arc::default();
            Ok(Running { pid, exit, stdin, stdout, stderr, terminal: has_terminal, gone })
        }
        Err(error) => {
            super::kill::session(pid, rustix::process::Signal::KILL);
            Err(error)
        }
    }
}

type Ids = (Uid, Gid, Vec<Gid>);

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
fn no_input() -> io::Result<Stdio> {
    if let Ok(null) = File::open("/dev/null") {
        return Ok(null.into());
    }
    let (read, _closed) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok(read.into())
}

//! A program in a new process, without a copy of the agent's memory.
//!
//! After a `fork` both processes have to copy every page they write to, and the agent pays for it with each command.
//! `CLONE_VM | CLONE_VFORK` of clone(2) lends the memory to the child until it executes its program; only the thread that
//! asked waits meanwhile. `posix_spawn` of the C libraries does the same, but can neither give a terminal, nor limits, nor
//! another identity.

use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr;
use std::sync::atomic::AtomicI32;

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, WaitOptions, waitpid};

use super::program::Program;

/// What runs a file that has no header of its own, as execvp(3) has it.
const SHELL: &CStr = c"/bin/sh";
/// Bytes of the child's stack: it calls a handful of functions, none of them deep.
const STACK: usize = 64 << 10;
/// The last of the signals (signal(7)).
const LAST_SIGNAL: c_int = 64;
/// How the child ends when it cannot execute anything; nobody sees it.
const FAILED: c_int = 127;

/// User, group and supplementary groups.
pub(crate) type Ids = (Uid, Gid, Vec<Gid>);

/// What the process starts with beside its program.
pub(crate) struct Start<'a> {
    /// Standard input, output and error, none of which is one of the agent's own three: Rust's runtime opens what is missing of
    /// those before anything else.
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// Whether standard input becomes its controlling terminal.
    pub(crate) terminal: bool,
    /// The limit of open files; `None`: as it is.
    pub(crate) nofile: Option<Rlimit>,
    /// `None`: the agent's own.
    pub(crate) identity: Option<Ids>,
    /// Receives the id of the process before that runs.
    pub(crate) pid: &'a AtomicI32,
}

/// Starts a program as the leader of a new session, with the default action of every signal and none blocked. Returns once
/// it is executed.
///
/// A name without a slash is looked for in the `PATH` it is given; a file that is no program is run by `/bin/sh`.
///
/// # Errors
/// Those of clone(2) and of each step up to execve(2); no process is left then.
pub(crate) fn execute(program: &Program, start: &Start<'_>) -> io::Result<Pid> {
    let words = Words::new(program)?;
    let argv = pointers(&words.args);
    let mut child = Child {
        files: pointers(&words.files),
        script: [SHELL.as_ptr(), ptr::null()].into_iter().chain(argv.iter().skip(1).copied()).collect(),
        argv,
        envp: pointers(&words.env),
        work_dir: &words.work_dir,
        start,
        failure: None,
    };
    let cloned = child.begin();
    if start.identity.is_some() {
        // Taking on another identity took this from the memory that was lent. Without it, root inside could not look at the
        // agent in /proc any more.
        let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
    }
    let pid = cloned?;
    match child.failure {
        None => Ok(pid),
        Some(errno) => {
            while matches!(waitpid(Some(pid), WaitOptions::empty()), Err(Errno::INTR)) {}
            Err(errno.into())
        }
    }
}

/// All the text that the kernel is given.
struct Words {
    /// Where the program may be, in order.
    files: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
    work_dir: CString,
}

impl Words {
    fn new(program: &Program) -> io::Result<Self> {
        let text = |text: &[u8]| CString::new(text).map_err(io::Error::from);
        let variable = |(name, value): &(OsString, OsString)| {
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            text(&entry.into_vec())
        };
        let path = program.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_bytes());
        let name = program.argv.first().map(|name| name.as_bytes()).unwrap_or_default();
        Ok(Self {
            files: places(name, path.unwrap_or_default())
                .iter()
                .map(|file| text(file))
                .collect::<Result<_, _>>()?,
            args: program.argv.iter().map(|arg| text(arg.as_bytes())).collect::<Result<_, _>>()?,
            env: program.env.iter().map(variable).collect::<Result<_, _>>()?,
            work_dir: text(program.work_dir.as_os_str().as_bytes())?,
        })
    }
}

/// What execve(2) takes; good for as long as these words are there.
fn pointers(words: &[CString]) -> Vec<*const c_char> {
    words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect()
}

/// Where a program of this name may be: itself when it has a slash, else in each directory of `path`, of which an empty one is
/// the working directory.
fn places(name: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    if name.is_empty() || name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    let below = |dir: &[u8]| match dir {
        [] => name.to_vec(),
        dir => [dir, b"/", name].concat(),
    };
    path.split(|byte| *byte == b':').map(below).collect()
}

/// What the child works with, in memory that it borrows: all is made before it is there.
struct Child<'a> {
    files: Vec<*const c_char>,
    argv: Vec<*const c_char>,
    /// `/bin/sh`, room for the file, and the other arguments.
    script: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    work_dir: &'a CStr,
    start: &'a Start<'a>,
    /// What kept it from executing anything.
    failure: Option<Errno>,
}

#[repr(align(16))]
struct Stack(#[allow(dead_code, reason = "the child's")] [MaybeUninit<u8>; STACK]);

impl Child<'_> {
    /// Makes the process; returns when it has executed its program, or has ended and left its failure.
    ///
    /// With CLONE_VFORK nothing is used by both processes at a time. No signal is taken meanwhile: a handler would run in the
    /// child, on the agent's memory.
    fn begin(&mut self) -> io::Result<Pid> {
        let mut stack = Stack([MaybeUninit::uninit(); STACK]);
        // SAFETY: the sets are written before they are read. `clone` gets the upper end of an aligned stack, a function that
        // takes what `self` is, and an atomic to write to; all live until it returns, which is when the child has left this
        // memory.
        unsafe {
            let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            let top = (&raw mut stack).add(1).cast::<c_void>();
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;
            let pid = libc::clone(run, top, flags, ptr::from_mut(self).cast(), self.start.pid.as_ptr());
            let error = io::Error::last_os_error();
            libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
            (pid > 0).then(|| Pid::from_raw(pid)).flatten().ok_or(error)
        }
    }

    /// Everything up to the program; comes back with what went wrong. Makes system calls, and nothing else: other threads of
    /// the agent may hold any lock.
    fn become_program(&mut self) -> Errno {
        if let Err(errno) = self.prepare() {
            return errno;
        }
        let mut failure = Errno::NOENT;
        for file in self.files.iter().copied().filter(|file| !file.is_null()) {
            // SAFETY: all are text that ends in NUL and arrays that end in a null pointer, and live until this process has
            // another program.
            let errno = unsafe { execve(file, &self.argv, &self.envp) };
            match errno {
                // As execvp(3): the next directory may have it; that this one had it is told when none has.
                Errno::ACCESS => failure = Errno::ACCESS,
                Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::STALE | Errno::TIMEDOUT => {}
                Errno::NOEXEC => {
                    if let Some(place) = self.script.get_mut(1) {
                        *place = file;
                    }
                    // SAFETY: as above; the place was the null pointer that is not the end.
                    return unsafe { execve(SHELL.as_ptr(), &self.script, &self.envp) };
                }
                other => return other,
            }
        }
        failure
    }

    fn prepare(&self) -> rustix::io::Result<()> {
        let [stdin, stdout, stderr] = self.start.stdio;
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)?;
        rustix::process::chdir(self.work_dir)?;
        rustix::process::setsid()?;
        if self.start.terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        if let Some(limit) = self.start.nofile {
            rustix::process::setrlimit(Resource::Nofile, limit)?;
        }
        if let Some((uid, gid, groups)) = &self.start.identity {
            rustix::thread::set_thread_groups(groups)?;
            rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
            rustix::thread::set_thread_res_uid(*uid, *uid, *uid)?;
        }
        default_signals();
        Ok(())
    }
}

/// Gives every signal its default action, then lets them come: until then a handler of the agent could run. The child has a table
/// of actions of its own (no CLONE_SIGHAND).
fn default_signals() {
    // SAFETY: an all-zero action is the default one (SIG_DFL is 0) with an empty mask, no shorter than the kernel's own form
    // of it, whose sets have 8 bytes (rt_sigaction(2)); the set below is written before it is read.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in 1..=LAST_SIGNAL {
            // The C library's function leaves out two. Fails for those that cannot be changed, which have the default.
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, ptr::null::<c_void>(), 8_usize);
        }
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// execve(2); returns only when it fails.
///
/// # Safety
/// `file` and everything in both arrays must end in NUL, each array in a null pointer.
unsafe fn execve(file: *const c_char, argv: &[*const c_char], envp: &[*const c_char]) -> Errno {
    // SAFETY: what the caller has promised.
    unsafe { libc::execve(file, argv.as_ptr(), envp.as_ptr()) };
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The child's first function, on its own stack.
extern "C" fn run(child: *mut c_void) -> c_int {
    // SAFETY: `begin` passes itself, and does not touch it until this process has ended or has another program.
    let child = unsafe { &mut *child.cast::<Child<'_>>() };
    child.failure = Some(child.become_program());
    FAILED
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use rustix::pipe::{PipeFlags, pipe_with};

    fn program(argv: &[&str], path: &str, work_dir: &Path) -> Program {
        Program {
            argv: argv.iter().map(Into::into).collect(),
            env: vec![("PATH".into(), path.into())],
            work_dir: work_dir.to_owned(),
            identity: None,
            pty: None,
            stdin: false,
        }
    }

    /// What a program writes, to its end.
    fn output(program: &Program, identity: Option<Ids>) -> io::Result<String> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let null = OwnedFd::from(File::open("/dev/null")?);
        let stdio = [null.as_fd(), write.as_fd(), write.as_fd()];
        let pid = AtomicI32::new(0);
        let started = execute(program, &Start { stdio, terminal: false, nofile: None, identity, pid: &pid })?;
        assert_eq!(started.as_raw_nonzero().get(), pid.into_inner());
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text)?;
        Ok(text)
    }

    fn file(dir: &Path, name: &str, mode: u32, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_name_is_looked_for_where_its_path_says() {
        let found = |name: &str, path: &str| {
            let places = places(name.as_bytes(), path.as_bytes());
            places.into_iter().map(|place| String::from_utf8(place).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(found("sh", "/bin:/usr/bin"), ["/bin/sh", "/usr/bin/sh"]);
        assert_eq!(found("sh", ":/bin:"), ["sh", "/bin/sh", "sh"]);
        assert_eq!(found("./sh", "/bin"), ["./sh"]);
        assert_eq!(found("", "/bin"), [""]);
    }

    #[test]
    fn a_program_leads_a_session_and_has_its_signals() {
        // This process ignores SIGPIPE, as every one of Rust's does.
        let script = "echo $$; cut -d ' ' -f 6 /proc/$$/stat; grep -E 'Sig(Blk|Ign)' /proc/$$/status; pwd";
        let text = output(&program(&["sh", "-c", script], "/bin:/usr/bin", Path::new("/usr")), None).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let zero = "0000000000000000";
        let [pid, session, blocked, ignored, dir] = lines.as_slice() else { panic!("{text}") };
        assert_eq!((pid, *dir), (session, "/usr"));
        assert!(blocked.ends_with(zero) && ignored.ends_with(zero), "{text}");
    }

    #[test]
    fn a_file_without_a_header_is_run_by_the_shell() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), "plain", 0o755, "echo $0 $1");
        let path = format!("/bin:{}", dir.path().display());
        let text = output(&program(&["plain", "a b"], &path, Path::new("/")), None).unwrap();
        assert_eq!(text, format!("{}/plain a b\n", dir.path().display()));
    }

    #[test]
    fn what_cannot_run_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        std::fs::create_dir(&first).unwrap();
        std::fs::create_dir(&second).unwrap();
        file(&first, "tool", 0o644, "");
        let path = format!("{}:{}", first.display(), second.display());
        let here = |argv: &[&str]| output(&program(argv, &path, dir.path()), None);
        let failure = |argv: &[&str]| here(argv).unwrap_err().raw_os_error().map(Errno::from_raw_os_error);
        assert_eq!(failure(&["none"]), Some(Errno::NOENT));
        assert_eq!(failure(&[""]), Some(Errno::NOENT));
        assert_eq!(failure(&["tool"]), Some(Errno::ACCESS));
        assert_eq!(here(&["nul\0"]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let nowhere = output(&program(&["/bin/true"], "", &dir.path().join("none")), None);
        assert_eq!(nowhere.unwrap_err().kind(), io::ErrorKind::NotFound);
        // One that may be executed counts, wherever it is.
        file(&second, "tool", 0o755, "echo second");
        assert_eq!(here(&["tool"]).unwrap(), "second\n");
    }

    #[test]
    fn another_identity_leaves_the_agent_as_it_was() {
        assert!(rustix::process::geteuid().is_root(), "needs root");
        let ids = (Uid::from_raw(65534), Gid::from_raw(65533), vec![Gid::from_raw(7)]);
        let who = program(&["sh", "-c", "id -u; id -g; id -G"], "/bin:/usr/bin", Path::new("/"));
        assert_eq!(output(&who, Some(ids)).unwrap(), "65534\n65533\n65533 7\n");
        assert_eq!(rustix::process::dumpable_behavior(), Ok(DumpableBehavior::Dumpable));
    }
}

//! The one place that waits for children.
//!
//! As process 1 the agent inherits every orphan of the container, so it must wait for any child, and any second waiter
//! would race with it for the status. Everyone who starts a child therefore starts it through [`Reaper::start`] and
//! receives its status from here.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};
use tokio::sync::oneshot;

/// Where a child's status will arrive.
pub(crate) type ExitReceiver = oneshot::Receiver<WaitStatus>;

/// Hands each child's exit status to whoever started it, and forgets those of orphans.
#[derive(Default)]
pub(crate) struct Reaper {
    children: Mutex<Children>,
}

#[derive(Default)]
struct Children {
    waiting: HashMap<i32, oneshot::Sender<WaitStatus>>,
    /// The children of starts under way, zero until they are there: whoever starts one may still wait for it.
    starting: Vec<Arc<AtomicI32>>,
}

/// A start under way.
struct Start<'a> {
    reaper: &'a Reaper,
    pid: Arc<AtomicI32>,
}

impl<'a> Start<'a> {
    fn new(reaper: &'a Reaper) -> Self {
        let pid = Arc::default();
        reaper.lock().starting.push(Arc::clone(&pid));
        Self { reaper, pid }
    }
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        let mut children = self.reaper.lock();
        children.starting.retain(|pid| !Arc::ptr_eq(pid, &self.pid));
        // What ended meanwhile, and was left alone for this start, raises no signal any more.
        children.reap();
    }
}

impl Reaper {
    /// Starts a child and registers for its status in one step: it cannot be reaped in between, nor can `start` lose the status
    /// of a child that failed to execute its program, and that it waits for itself, to the reaper. `start` must see to it that
    /// the child's id is in the atomic before the child can end.
    ///
    /// `start` may take as long as reading a file. Others start and end meanwhile.
    ///
    /// # Errors
    /// Those of `start`.
    pub(crate) fn start(
        &self,
        start: impl FnOnce(&AtomicI32) -> io::Result<Pid>,
    ) -> io::Result<(Pid, ExitReceiver)> {
        let under_way = Start::new(self);
        let pid = start(&under_way.pid)?;
        let (sender, receiver) = oneshot::channel();
        self.lock().waiting.insert(pid.as_raw_nonzero().get(), sender);
        drop(under_way);
        Ok((pid, receiver))
    }

    /// Collects every child that has exited so far.
    pub(crate) fn reap(&self) {
        self.lock().reap();
    }

    fn lock(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reaps whenever a child exits, for as long as it is polled.
    ///
    /// # Errors
    /// When the signal handler cannot be installed.
    pub(crate) fn run(self: std::sync::Arc<Self>) -> io::Result<impl Future<Output = ()>> {
        let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())?;
        Ok(async move {
            loop {
                // Children that exited before the handler was there raise no signal.
                self.reap();
                if signals.recv().await.is_none() {
                    return;
                }
            }
        })
    }
}

impl Children {
    fn reap(&mut self) {
        while let Some(pid) = ended() {
            let raw = pid.as_raw_nonzero().get();
            let sender = self.waiting.remove(&raw);
            let mut starting = self.starting.iter();
            if sender.is_none() && starting.any(|starting| starting.load(Ordering::Acquire) == raw) {
                // Its start is about to return, and looks again then.
                return;
            }
            let status = loop {
                match waitpid(Some(pid), WaitOptions::NOHANG) {
                    Err(rustix::io::Errno::INTR) => {}
                    found => break found.ok().flatten(),
                }
            };
            if let (Some(sender), Some((_, status))) = (sender, status) {
                // The session may have given up on it already.
                let _ = sender.send(status);
            }
        }
    }
}

/// A child that has ended and is still to be waited for.
fn ended() -> Option<Pid> {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        let mut found = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: an all-zero `siginfo_t` is one without a signal, which the kernel fills or leaves as it is; after a child's
        // end, or without any (all zero), its process id may be read (waitid(2)).
        let (failed, pid) = unsafe {
            let failed = libc::waitid(libc::P_ALL, 0, found.as_mut_ptr(), options);
            (failed, found.assume_init().si_pid())
        };
        if failed == 0 {
            return Pid::from_raw(pid);
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::super::{child, program::Program};

    fn start(reaper: &Reaper, argv: &[&str]) -> io::Result<(Pid, ExitReceiver)> {
        let null = File::open("/dev/null")?;
        let program = Program {
            argv: argv.iter().map(Into::into).collect(),
            env: Vec::new(),
            work_dir: "/".into(),
            identity: None,
            pty: None,
            stdin: false,
        };
        let (stdio, terminal, nofile, identity) = ([null.as_fd(); 3], false, None, None);
        reaper.start(|pid| child::execute(&program, &child::Start { stdio, terminal, nofile, identity, pid }))
    }

    fn exited(reaper: &Reaper, mut exit: ExitReceiver) -> Option<i32> {
        for _ in 0..5000 {
            reaper.reap();
            match exit.try_recv() {
                Ok(status) => return status.exit_status(),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(2)),
            }
        }
        panic!("the status is lost");
    }

    // One test, since statuses are process-wide: a second reaper in this process would steal them.
    #[test]
    fn statuses_reach_their_own_waiters_and_failed_starts_leave_nothing() {
        let reaper = Reaper::default();
        let mut waiters = Vec::new();
        for code in 0..20 {
            let (_, exit) = start(&reaper, &["/bin/sh", "-c", &format!("exit {code}")]).unwrap();
            waiters.push((code, exit));
            assert!(start(&reaper, &["/does/not/exist"]).is_err());
            reaper.reap();
        }
        for (code, exit) in waiters {
            assert_eq!(exited(&reaper, exit), Some(code));
        }
        // One that ends before its start returns is left to it, and only until then.
        let late = |pid: &AtomicI32| {
            let ended = Pid::from_child(&std::process::Command::new("/bin/true").spawn()?);
            pid.store(ended.as_raw_nonzero().get(), Ordering::Release);
            for _ in 0..100 {
                reaper.reap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Ok(ended)
        };
        let (_, exit) = reaper.start(late).unwrap();
        assert_eq!(exited(&reaper, exit), Some(0));
        let children = reaper.lock();
        assert!(children.waiting.is_empty() && children.starting.is_empty());
    }
}

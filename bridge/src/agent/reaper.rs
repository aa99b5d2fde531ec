//! The one place that waits for children.
//!
//! As process 1 the agent inherits every orphan of the container, so it must wait for any child, and any second waiter
//! would race with it for the status. Everyone who starts a child therefore starts it through [`Reaper::start`] and
//! receives its status from here.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, WaitOptions, WaitStatus, wait, waitpid};
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
    /// Starts under way: each may have a child that is not known yet, and must not be taken for an orphan.
    starting: usize,
}

/// A start under way.
struct Start<'a>(&'a Reaper);

impl<'a> Start<'a> {
    fn new(reaper: &'a Reaper) -> Self {
        reaper.lock().starting += 1;
        Self(reaper)
    }
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        let mut children = self.0.lock();
        children.starting -= 1;
        // What ended meanwhile, and was not known or was an orphan, raises no signal any more.
        children.reap();
    }
}

impl Reaper {
    /// Starts a child and registers for its status in one step: it cannot be reaped in between, nor can `start` lose the status
    /// of a child that failed to execute its program, and that it waits for itself, to the reaper.
    ///
    /// `start` may take as long as reading a file. Others start and end meanwhile; only orphans are waited for later.
    ///
    /// # Errors
    /// Those of `start`.
    pub(crate) fn start(&self, start: impl FnOnce() -> io::Result<Pid>) -> io::Result<(Pid, ExitReceiver)> {
        let under_way = Start::new(self);
        let pid = start()?;
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
        if self.starting > 0 {
            return self.reap_known();
        }
        while let Some((pid, status)) = uninterrupted(|| wait(WaitOptions::NOHANG)) {
            self.tell(pid, status);
        }
    }

    /// Asks for each by its id, which is its own for as long as nobody has waited for it.
    fn reap_known(&mut self) {
        let known: Vec<Pid> = self.waiting.keys().filter_map(|pid| Pid::from_raw(*pid)).collect();
        for pid in known {
            if let Some((_, status)) = uninterrupted(|| waitpid(Some(pid), WaitOptions::NOHANG)) {
                self.tell(pid, status);
            }
        }
    }

    fn tell(&mut self, pid: Pid, status: WaitStatus) {
        if let Some(sender) = self.waiting.remove(&pid.as_raw_nonzero().get()) {
            // The session may have given up on it already.
            let _ = sender.send(status);
        }
    }
}

/// What a wait that does not block found.
fn uninterrupted<T>(mut wait: impl FnMut() -> rustix::io::Result<Option<T>>) -> Option<T> {
    loop {
        match wait() {
            Err(rustix::io::Errno::INTR) => {}
            found => return found.ok().flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    // One test, since statuses are process-wide: a second reaper in this process would steal them.
    #[test]
    fn statuses_reach_their_own_waiters_and_failed_starts_leave_nothing() {
        let reaper = Reaper::default();
        let mut waiters = Vec::new();
        for code in 0..20 {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &format!("exit {code}")]);
            let (_, exit) = reaper.start(|| command.spawn().map(|child| Pid::from_child(&child))).unwrap();
            waiters.push((code, exit));
            let missing = || Command::new("/does/not/exist").spawn().map(|child| Pid::from_child(&child));
            assert!(reaper.start(missing).is_err());
            reaper.reap();
        }
        for (code, mut exit) in waiters {
            let status = loop {
                reaper.reap();
                match exit.try_recv() {
                    Ok(status) => break status,
                    Err(_) => std::thread::sleep(std::time::Duration::from_millis(2)),
                }
            };
            assert_eq!(status.exit_status(), Some(code));
        }
        assert!(reaper.lock().waiting.is_empty());
    }
}

//! The one place that waits for children.
//!
//! As process 1 the agent inherits every orphan of the container, so it must wait for any child, and any second waiter
//! would race with it for the status. Everyone who starts a child therefore starts it through [`Reaper::spawn`] and
//! receives its status from here.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::sync::oneshot;

/// Where a child's status will arrive.
pub(crate) type ExitReceiver = oneshot::Receiver<WaitStatus>;

/// Hands each child's exit status to whoever started it, and forgets those of orphans.
#[derive(Default)]
pub(crate) struct Reaper {
    waiting: Mutex<HashMap<i32, oneshot::Sender<WaitStatus>>>,
}

impl Reaper {
    /// Starts a command and registers for its status in one step: the child cannot be reaped in between, nor can the
    /// standard library's own wait for a child that failed to execute lose its status to the reaper.
    ///
    /// Pipes asked for in `command` are in the returned child, which must not be waited for.
    pub(crate) fn spawn(
        &self,
        command: &mut Command,
    ) -> io::Result<(std::process::Child, Pid, ExitReceiver)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let (sender, receiver) = oneshot::channel();
        waiting.insert(pid.as_raw_nonzero().get(), sender);
        Ok((child, pid, receiver))
    }

    /// Collects every child that has exited so far.
    pub(crate) fn reap(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if let Some(sender) = waiting.remove(&pid.as_raw_nonzero().get()) {
                        // The session may have given up on it already.
                        let _ = sender.send(status);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    // One test, since statuses are process-wide: a second reaper in this process would steal them.
    #[test]
    fn statuses_reach_their_own_waiters_and_failed_starts_leave_nothing() {
        let reaper = Reaper::default();
        let mut waiters = Vec::new();
        for code in 0..20 {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &format!("exit {code}")]);
            let (_, pid, exit) = reaper.spawn(&mut command).unwrap();
            waiters.push((code, pid, exit));
            assert!(reaper.spawn(&mut Command::new("/does/not/exist")).is_err());
            reaper.reap();
        }
        for (code, _, mut exit) in waiters {
            let status = loop {
                reaper.reap();
                match exit.try_recv() {
                    Ok(status) => break status,
                    Err(_) => std::thread::sleep(std::time::Duration::from_millis(2)),
                }
            };
            assert_eq!(status.exit_status(), Some(code));
        }
        assert!(reaper.waiting.lock().unwrap().is_empty());
    }
}

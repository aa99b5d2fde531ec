//! The warden's children: started, signalled and reaped in one place.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use crate::error::{Context, Error, Result};

/// How often the dead are collected.
const REAP_EVERY: Duration = Duration::from_millis(10);

/// Children by process id, with their end once they have ended.
///
/// The lock is held while a helper command runs, so that the reaper never collects a child that `Command`
/// is waiting for, and while a signal is sent, so that a signal never meets a process id that was used again.
#[derive(Debug, Default)]
pub(crate) struct Children {
    ended: Mutex<HashMap<i32, Option<i32>>>,
}

impl Children {
    /// Collects dead children, ours and those that orphaned shims left us, for ever.
    pub(super) fn reap_for_ever(&self) -> ! {
        loop {
            {
                let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
                while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                    if let Some(slot) = ended.get_mut(&pid.as_raw_pid()) {
                        let killed = status.terminating_signal().map_or(-1, |signal| 128 + signal);
                        *slot = Some(status.exit_status().unwrap_or(killed));
                    }
                }
            }
            thread::sleep(REAP_EVERY);
        }
    }

    /// Starts a daemon in its own process group, its output appended to `log`.
    pub(super) fn spawn(
        &self,
        argv: &[String],
        env: &BTreeMap<String, String>,
        dir: &Path,
        log: &Path,
    ) -> Result<i32> {
        let [program, arguments @ ..] = argv else { return Err(Error::new("nothing to start")) };
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .context(format_args!("cannot write {}", log.display()))?;
        let err = out.try_clone().context("cannot share the log")?;
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let child = Command::new(program)
            .args(arguments)
            .envs(env)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .context(format_args!("cannot start {program}"))?;
        let pid = i32::try_from(child.id()).context("a process id is out of range")?;
        ended.insert(pid, None);
        Ok(pid)
    }

    /// Sends a signal to a daemon that has not ended.
    pub(super) fn signal(&self, pid: i32, signal: i32) -> Result<()> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match ended.get(&pid) {
            None => Err(Error::new(format!("process {pid} was not started here"))),
            Some(Some(_)) => Ok(()),
            Some(None) => {
                let signal = Signal::from_named_raw(signal)
                    .ok_or_else(|| Error::new(format!("signal {signal} is unknown")))?;
                let pid = Pid::from_raw(pid).ok_or_else(|| Error::new("process 0 is not a child"))?;
                kill_process(pid, signal).context("cannot signal a child")
            }
        }
    }

    /// The outer option says whether we started it, the inner one how it ended.
    pub(super) fn status(&self, pid: i32) -> Option<Option<i32>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).get(&pid).copied()
    }

    /// Runs a short helper command to its end.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> std::io::Result<Output> {
        let _hold = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        Command::new(program).args(arguments).stdin(Stdio::null()).output()
    }
}

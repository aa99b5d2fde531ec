//! The one directory of this process below which every daemon lives, and its warden.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::error::{Context, Error, Result};
use crate::warden::Warden;

static HOME: OnceLock<std::result::Result<Home, String>> = OnceLock::new();

/// The process's directory and warden, made at first use.
#[derive(Debug)]
pub(crate) struct Home {
    warden: Warden,
    token: String,
    next: AtomicU32,
}

impl Home {
    /// The one of this process.
    pub(crate) fn get() -> Result<&'static Self> {
        HOME.get_or_init(|| Self::start().map_err(|error| error.to_string()))
            .as_ref()
            .map_err(|message| Error::new(message.clone()))
    }

    fn start() -> Result<Self> {
        let warden = Warden::start()?;
        let name = warden.home().file_name().unwrap_or_default();
        let token = name.to_string_lossy().into_owned();
        Ok(Self { warden, token, next: AtomicU32::new(0) })
    }

    /// Eight hexadecimal digits that no other living harness has.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A number that this process has not used.
    pub(crate) fn next(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Makes a new directory for one component, named `<kind><number>`.
    pub(crate) fn new_dir(&self, kind: &str) -> Result<PathBuf> {
        let dir = self.warden.home().join(format!("{kind}{}", self.next()));
        fs::create_dir(&dir).context(format_args!("cannot make {}", dir.display()))?;
        Ok(dir)
    }

    /// Removes a component's directory with all that runs from it.
    pub(crate) fn remove_dir(&self, dir: &Path) -> Result<()> {
        self.warden.teardown(dir)
    }

    /// Starts a daemon under the warden.
    pub(crate) fn spawn(
        &'static self,
        argv: Vec<String>,
        env: BTreeMap<String, String>,
        dir: &Path,
    ) -> Result<Daemon> {
        let name = argv.first().cloned().unwrap_or_default();
        let log = dir.join("log");
        let pid = self.warden.spawn(argv, env, dir, &log)?;
        Ok(Daemon { home: self, name, pid, log })
    }
}

/// Takes down everything that this process started, and waits until it is done.
///
/// Tests need not call it: the warden does the same when the process ends, however it ends. Programs that look
/// for leftovers themselves want to wait for it. Nothing can be started afterwards.
///
/// # Errors
/// What could not be removed.
pub fn shut_down() -> Result<()> {
    match HOME.get() {
        Some(Ok(home)) => home.warden.finish(),
        _ => Ok(()),
    }
}

/// A daemon that the warden started.
#[derive(Debug)]
pub(crate) struct Daemon {
    home: &'static Home,
    name: String,
    pid: i32,
    log: PathBuf,
}

impl Daemon {
    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&self) -> Result<bool> {
        Ok(self.home.warden.exit_status(self.pid)?.is_none())
    }

    /// Sends a signal, if it still runs.
    pub(crate) fn signal(&self, signal: i32) -> Result<()> {
        self.home.warden.signal(self.pid, signal)
    }

    /// Sends a signal and waits until the daemon has ended.
    pub(crate) fn end_with(&self, signal: i32, patience: Duration) -> Result<()> {
        self.home.warden.signal(self.pid, signal)?;
        let deadline = Instant::now() + patience;
        while self.is_running()? {
            if Instant::now() > deadline {
                return Err(self.failed("does not end"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits until `ready` says so.
    pub(crate) fn wait_until(&self, patience: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !ready() {
            if !self.is_running()? {
                return Err(self.failed("ended at once"));
            }
            if Instant::now() > deadline {
                return Err(self.failed("does not answer"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// An error that carries the end of the daemon's log.
    fn failed(&self, what: &str) -> Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n");
        Error::new(format!("{} {what}; its last words:\n{tail}", self.name))
    }
}

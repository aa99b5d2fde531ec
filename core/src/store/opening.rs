//! The moment in which a database is opened: one at a time, across tasks and processes.

use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The pause between two tries.
const POLL: Duration = Duration::from_millis(5);

/// Waits for the right to open the database at `path`, which ends when what is returned is dropped, or with the process.
///
/// It is a `flock(2)` on the directory of the database: nothing is made that would stay.
///
/// # Errors
/// UNAVAILABLE when others take longer than `limit`; those of the directory.
///
/// # Cancel safety
/// Cancel safe: the right is given up.
pub(super) async fn alone(path: &Path, limit: Duration) -> Result<OwnedFd> {
    let deadline = Instant::now() + limit;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let failed = |e: Errno| {
        Error::io(e.into(), "cannot lock the directory of the database").with("path", dir.display())
    };
    let lock = open(dir, flags, Mode::empty()).map_err(failed)?;
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => sleep(POLL).await,
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                return Err(Error::unavailable("another process opens the database: repeat later")
                    .with("path", path.display()));
            }
            Err(e) => return Err(failed(e)),
        }
    }
}

/// Makes an empty database with mode 0600, which SQLite gives its side files too, unless there is one.
///
/// One that is there is not opened, not even to look: closing any descriptor of a file drops all locks that this process
/// has on it (fcntl(2)), among them those of another engine's connection.
///
/// # Errors
/// Those of making a file.
pub(super) fn make(path: &Path) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    match open(path, flags, Mode::from_raw_mode(0o600)) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(Error::io(e.into(), "cannot open the database").with("path", path.display())),
    }
}

//! Locks between tasks and processes of one host.

use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How often a taken lock is asked for again.
const POLL: Duration = Duration::from_millis(3);
/// What engines of one host share, whatever their data roots; gone after a reboot, like what it tells of.
const SHARED: &str = "/run/dunnage";

/// A lock, held until dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Waits for the lock of the file at `path`, which is made with its directories when absent.
    ///
    /// # Errors
    /// TIMEOUT at the deadline; I/O errors with the path.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub(super) async fn wait(path: &Path, deadline: Instant) -> Result<Self> {
        let fault = |e: std::io::Error| Error::io(e, "cannot lock the network").with("path", path.display());
        let dir = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fault)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(fault)?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(e) => return Err(fault(e.into())),
            }
            if Instant::now() >= deadline {
                let text = "the network of this host stays locked: see what other program holds the lock";
                return Err(Error::timeout(text).with("path", path.display()));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a fork of the host's program may keep a copy.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Lets the first connection of a host go alone, and all others at once.
///
/// Plugins look whether a shared chain is there and make it when it is not, in two steps: of several first ones some
/// fail and some add a rule twice (seen with version 1.1.1). Once the chains are there, nothing is shared any more.
#[derive(Debug)]
pub(super) struct FirstOfHost {
    marker: PathBuf,
    lock: Option<Lock>,
}

impl FirstOfHost {
    /// Waits until a connection of this `kind` may go. Different kinds need different shared things.
    pub(super) async fn wait(kind: &str, deadline: Instant) -> Result<Self> {
        // Rules belong to a network namespace: that of the host's program, which may be a container itself.
        let own = std::fs::metadata("/proc/thread-self/ns/net")
            .map_err(|e| Error::io(e, "cannot tell the network namespace of this program"))?;
        let marker = Path::new(SHARED).join(format!("connected-{}-{kind}", own.ino()));
        if marker.exists() {
            return Ok(Self { marker, lock: None });
        }
        let lock = Lock::wait(&Path::new(SHARED).join("network.lock"), deadline).await?;
        let lock = if marker.exists() { None } else { Some(lock) };
        Ok(Self { marker, lock })
    }

    /// Tells that the connection was made, so that all others may go at once.
    pub(super) fn connected(self) {
        if self.lock.is_some() {
            // Without it the next one goes alone too, no more.
            let _ =
                OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.marker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[tokio::test]
    async fn a_lock_excludes_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks/network");
        let soon = || Instant::now() + Duration::from_millis(30);
        let held = Lock::wait(&path, soon()).await.unwrap();
        assert_eq!(Lock::wait(&path, soon()).await.unwrap_err().kind(), ErrorKind::Timeout);
        // A copy that a forked process would keep does not keep the lock.
        let copy = held.0.try_clone().unwrap();
        drop(held);
        Lock::wait(&path, soon()).await.unwrap();
        drop(copy);
    }
}

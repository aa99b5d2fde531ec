//! One writer per workspace, across tasks and processes.
//!
//! Within the process a fair queue orders the tasks; the winner then takes `flock(2)` on `<data_root>/locks/<id>`, which
//! the kernel drops with the process, however it ends. Lock files stay: removing one would let two processes hold
//! locks on two different files of one name.

use crate::error::{Error, Result};
use crate::names::WorkspaceId;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep_until};

/// The shortest and the longest pause between two tries for another process's lock.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(25));

/// The locks of one data root.
#[derive(Debug)]
pub(crate) struct WorkspaceLocks {
    dir: PathBuf,
    limit: Duration,
    queues: Mutex<HashMap<WorkspaceId, Weak<AsyncMutex<()>>>>,
}

/// The right to change a workspace, until it is dropped.
#[derive(Debug)]
pub(crate) struct WorkspaceGuard {
    // The file's lock goes before the queue's, so that the next task here finds it free.
    file: OwnedFd,
    _turn: OwnedMutexGuard<()>,
}

impl WorkspaceGuard {
    /// Another descriptor of the lock's file: the lock is held until the last of them is closed, in whichever process.
    pub(crate) fn share(&self) -> Result<OwnedFd> {
        self.file.try_clone().map_err(|e| Error::io(e, "cannot share the workspace's lock"))
    }
}

impl WorkspaceLocks {
    /// Locks in `dir`, which must exist; waiting longer than `limit` is TIMEOUT.
    pub(crate) fn new(dir: &Path, limit: Duration) -> Self {
        Self { dir: dir.to_owned(), limit, queues: Mutex::default() }
    }

    /// Waits for the right to change this workspace.
    ///
    /// # Errors
    /// TIMEOUT when another holds it for too long.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue and nothing else.
    pub(crate) async fn acquire(&self, id: &WorkspaceId) -> Result<WorkspaceGuard> {
        let deadline = Instant::now() + self.limit;
        let queue = self.queue(id);
        let turn = tokio::time::timeout_at(deadline, queue.lock_owned()).await.map_err(|_| self.busy(id))?;
        let file = self.open(id)?;
        let mut pause = POLL.0;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(WorkspaceGuard { file, _turn: turn }),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(e) => {
                    return Err(Error::io(e.into(), "cannot lock the workspace").with("workspace", id));
                }
            }
            let next = Instant::now() + pause;
            if next >= deadline {
                return Err(self.busy(id));
            }
            sleep_until(next).await;
            pause = (pause * 2).min(POLL.1);
        }
    }

    /// Takes the right to change this workspace if nobody has it.
    pub(crate) fn try_acquire(&self, id: &WorkspaceId) -> Result<Option<WorkspaceGuard>> {
        let Ok(turn) = self.queue(id).try_lock_owned() else { return Ok(None) };
        let file = self.open(id)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(WorkspaceGuard { file, _turn: turn })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(Error::io(e.into(), "cannot lock the workspace").with("workspace", id)),
        }
    }

    fn open(&self, id: &WorkspaceId) -> Result<OwnedFd> {
        let path = self.dir.join(id.as_str());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map_err(|e| {
            Error::io(e.into(), "cannot open the workspace's lock file").with("path", path.display())
        })
    }

    fn queue(&self, id: &WorkspaceId) -> Arc<AsyncMutex<()>> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(id).and_then(Weak::upgrade) {
            return queue;
        }
        if queues.len() >= 1024 {
            queues.retain(|_, queue| queue.strong_count() > 0);
        }
        let queue = Arc::new(AsyncMutex::new(()));
        queues.insert(id.clone(), Arc::downgrade(&queue));
        queue
    }

    fn busy(&self, id: &WorkspaceId) -> Error {
        Error::timeout(
            "another operation on this workspace took too long: repeat later, or raise time_limits.lock_ms",
        )
        .with("workspace", id)
        .with("limit_ms", self.limit.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_at_a_time_within_and_across_lock_sets() {
        let dir = tempfile::tempdir().unwrap();
        // Two sets on one directory stand for two processes: each has its own descriptions of the files.
        let sets = [0, 1].map(|_| Arc::new(WorkspaceLocks::new(dir.path(), Duration::from_secs(30))));
        let inside = Arc::new(AtomicU32::new(0));
        let tasks: Vec<_> = (0..40)
            .map(|n| {
                let (locks, inside) = (sets[n % 2].clone(), inside.clone());
                tokio::spawn(async move {
                    let _guard = locks.acquire(&WorkspaceId::new("a").unwrap()).await.unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn waiting_ends_in_a_time_out_and_other_ids_are_free() {
        let dir = tempfile::tempdir().unwrap();
        let locks = WorkspaceLocks::new(dir.path(), Duration::from_millis(60));
        let other = WorkspaceLocks::new(dir.path(), Duration::from_millis(60));
        let id = WorkspaceId::new("a").unwrap();
        let guard = locks.acquire(&id).await.unwrap();
        assert_eq!(locks.acquire(&id).await.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(other.acquire(&id).await.unwrap_err().kind(), ErrorKind::Timeout);
        other.acquire(&WorkspaceId::new("b").unwrap()).await.unwrap();
        assert!(locks.try_acquire(&id).unwrap().is_none() && other.try_acquire(&id).unwrap().is_none());
        drop(guard);
        // A process that another test is starting may hold a copy of the file for a moment.
        drop(other.acquire(&id).await.unwrap());
        other.acquire(&id).await.unwrap();
    }
}

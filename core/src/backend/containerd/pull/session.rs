use super::scratch::Scratch;
use crate::backend::PullTracker;
use crate::backend::containerd::client::Client;
use crate::backend::containerd::content;
use crate::backend::containerd::lease::Lease;
use crate::error::Result;
use crate::registry::Repository;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// One pull at work: what its parts share, and what must be undone when it fails.
pub(super) struct Session {
    pub(super) client: Client,
    /// The full name of the image.
    pub(super) image: String,
    pub(super) snapshotter: String,
    pub(super) lease: Lease,
    /// Where blobs come from; none when all must be here.
    pub(super) repository: Option<Arc<Repository>>,
    /// The label that says so, for blobs that come.
    pub(super) source: Option<(String, String)>,
    pub(super) tracker: Arc<PullTracker>,
    /// Bounds the layers worked on at a time.
    pub(super) permits: Semaphore,
    /// Where our own unpacker writes; none when containerd unpacks.
    pub(super) scratch: Option<Scratch>,
    pub(super) downloaded: AtomicU64,
    /// Everything that works for this pull, tasks and threads.
    pub(super) alive: TaskTracker,
    begun: Instant,
    /// Milliseconds until the last blob was stored.
    stored_ms: AtomicU64,
    /// Names of writes that were begun and not ended.
    writes: Mutex<BTreeSet<String>>,
    /// Keys of active snapshots that were begun and not committed or removed.
    active: Mutex<BTreeSet<String>>,
}

impl Session {
    pub(super) fn new(
        client: &Client,
        image: &str,
        snapshotter: &str,
        lease: Lease,
        tracker: Arc<PullTracker>,
        parallel: usize,
        begun: Instant,
    ) -> Self {
        Self {
            client: client.clone(),
            image: image.to_owned(),
            snapshotter: snapshotter.to_owned(),
            lease,
            repository: None,
            source: None,
            tracker,
            permits: Semaphore::new(parallel.max(1)),
            scratch: None,
            downloaded: AtomicU64::new(0),
            alive: TaskTracker::new(),
            begun,
            stored_ms: AtomicU64::new(0),
            writes: Mutex::default(),
            active: Mutex::default(),
        }
    }

    /// Notes that all bytes of a blob are stored.
    pub(super) fn stored(&self) {
        self.stored_ms.fetch_max(self.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Milliseconds until the last blob was stored, and from then until now.
    pub(super) fn phases(&self) -> (u64, u64) {
        let stored = self.stored_ms.load(Ordering::Relaxed);
        (stored, (self.begun.elapsed().as_millis() as u64).saturating_sub(stored))
    }

    pub(super) fn writes(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn active(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a pull that succeeded: what it kept is pointed at by the image, the rest may be collected.
    pub(super) async fn close(&self) -> Result<()> {
        self.settled().await;
        self.remove_active().await;
        self.lease.delete(&self.client, false).await
    }

    /// Undoes a pull that failed: aborts its writes, removes its snapshots and, with the lease, whatever else only it
    /// kept. What fails here is left to the lease's end, and logged.
    pub(super) async fn undo(&self) {
        self.settled().await;
        let writes = std::mem::take(&mut *self.writes());
        for name in writes {
            if let Err(error) = content::abort(&self.client, &name).await {
                tracing::warn!(name, error = error.message(), "cannot abort a write of a failed pull");
            }
        }
        self.remove_active().await;
        if let Err(error) = self.lease.delete(&self.client, true).await {
            tracing::warn!(
                lease = self.lease.id(),
                error = error.message(),
                "cannot delete the lease of a failed pull"
            );
        }
    }

    /// Waits until nothing works for this pull any more.
    async fn settled(&self) {
        self.alive.close();
        self.alive.wait().await;
    }

    async fn remove_active(&self) {
        let active = std::mem::take(&mut *self.active());
        for key in active {
            if let Err(error) = super::snapshots::remove(&self.client, &self.snapshotter, &key).await {
                tracing::warn!(
                    key,
                    error = error.message(),
                    "cannot remove a snapshot that a pull no longer needs"
                );
            }
        }
    }
}

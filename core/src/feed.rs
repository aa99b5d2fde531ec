//! Lifecycle events for those who follow them.
//!
//! The store's table is the one source: history and what is new, of this process and of others, are read from it in the
//! order of its numbers. What this process writes wakes its readers at once; for what others write the table is looked at
//! from time to time, while somebody follows.

use crate::error::{Error, Result};
use crate::names::WorkspaceId;
use crate::store::{EventPage, Store};
use crate::types::{EventsOptions, LifecycleEvent};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often the table is looked at for events of other processes.
const LOOK: Duration = Duration::from_millis(250);

/// How many events are read at a time.
const PAGE: u32 = 128;

/// The events of one data root, for any number of readers. Closed or dropped, it ends them.
#[derive(Debug)]
pub(crate) struct Feed {
    store: Arc<dyn Store>,
    looking: Mutex<Weak<DropGuard>>,
    closed: CancellationToken,
    _closed_with_this: DropGuard,
}

impl Feed {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let closed = CancellationToken::new();
        Self { store, looking: Mutex::default(), _closed_with_this: closed.clone().drop_guard(), closed }
    }

    /// Begins to read.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed id; those of the store.
    pub(crate) async fn subscribe(&self, options: &EventsOptions) -> Result<LifecycleEvents> {
        let workspace = options.workspace.as_deref().map(WorkspaceId::new).transpose();
        let workspace = workspace.map_err(|e| e.with("field", "workspace"))?;
        // Before the place to begin at is known: what is written after that is heard of.
        let heard = self.store.hear_events();
        let looking = options.follow.then(|| self.look());
        let at = match options.after {
            Some(after) => after,
            None if options.follow => self.store.newest_event().await?,
            None => 0,
        };
        let reader = Reader {
            store: self.store.clone(),
            workspace,
            at,
            page: VecDeque::new(),
            heard,
            looking,
            closed: self.closed.clone(),
        };
        Ok(LifecycleEvents { inner: stream::unfold(Some(reader), step).boxed() })
    }

    /// Ends all readers.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Looks at the table from time to time, until all who hold what this returns have let go of it.
    fn look(&self) -> Arc<DropGuard> {
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = looking.upgrade() {
            return guard;
        }
        let stop = self.closed.child_token();
        let store = self.store.clone();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                if let Err(error) = store.newest_event().await {
                    tracing::debug!(%error, "cannot look for events of other processes");
                }
            }
        }));
        let guard = Arc::new(stop.drop_guard());
        *looking = Arc::downgrade(&guard);
        guard
    }
}

/// One who reads.
struct Reader {
    store: Arc<dyn Store>,
    workspace: Option<WorkspaceId>,
    /// The number of the last event that was read.
    at: u64,
    page: VecDeque<LifecycleEvent>,
    heard: watch::Receiver<u64>,
    /// What keeps the looks going; none for a reader that does not follow.
    looking: Option<Arc<DropGuard>>,
    closed: CancellationToken,
}

impl Reader {
    /// Reads in a task of its own: a stream may be left alone, or dropped on a thread without a runtime, in the middle of a
    /// read, which would keep the connection that everybody needs.
    async fn read(&self) -> Result<EventPage> {
        let (store, at, workspace) = (self.store.clone(), self.at, self.workspace.clone());
        let reading = tokio::spawn(async move { store.events(at, workspace.as_ref(), PAGE).await });
        reading.await.map_err(|e| Error::unavailable("the reading of events was broken off").caused_by(e))?
    }
}

/// The next event and the reader; after an error there is none, and at the end nothing.
async fn step(reader: Option<Reader>) -> Option<(Result<LifecycleEvent>, Option<Reader>)> {
    let mut reader = reader?;
    let closed = reader.closed.clone();
    match closed.run_until_cancelled(reader.next()).await? {
        Ok(event) => event.map(|event| (Ok(event), Some(reader))),
        // The store was closed meanwhile.
        Err(_) if closed.is_cancelled() => None,
        Err(error) => Some((Err(error), None)),
    }
}

impl Reader {
    async fn next(&mut self) -> Result<Option<LifecycleEvent>> {
        loop {
            if let Some(event) = self.page.pop_front() {
                return Ok(Some(event));
            }
            self.heard.borrow_and_update();
            let page = self.read().await?;
            self.page = page.events.into();
            match page.last {
                Some(last) => self.at = last,
                None if self.looking.is_none() => return Ok(None),
                // The store, which tells, is held by this reader.
                None => drop(self.heard.changed().await),
            }
        }
    }
}

/// Lifecycle events, one at a time and in order. Dropping it ends the reading; the closing of the engine ends it too. It
/// keeps no engine alive.
///
/// An event is read when it is asked for: a reader that is slow holds up nobody, and misses events only when so many have
/// come meanwhile that the oldest were dropped. After an error it has ended.
///
/// # Cancel safety
/// [`LifecycleEvents::next`] is cancel safe: an event is taken only when it is returned.
///
/// # Threads
/// It may be dropped on any thread, also outside of the runtime.
pub struct LifecycleEvents {
    inner: BoxStream<'static, Result<LifecycleEvent>>,
}

impl LifecycleEvents {
    /// The next event; none after the last one.
    ///
    /// # Errors
    /// Those of reading the database.
    pub async fn next(&mut self) -> Option<Result<LifecycleEvent, Error>> {
        self.inner.next().await
    }
}

impl Stream for LifecycleEvents {
    type Item = Result<LifecycleEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for LifecycleEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LifecycleEvents").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SqliteStore;
    use futures::task::noop_waker;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_may_be_left_or_dropped_anywhere_while_it_reads() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&dir.path().join("dunnage.db")).await.unwrap());
        let feed = Feed::new(store.clone());
        for _ in 0..20 {
            let mut events = feed.subscribe(&EventsOptions::default().after(0u64)).await.unwrap();
            let reading =
                Pin::new(&mut events).poll_next(&mut Context::from_waker(&noop_waker())).is_pending();
            assert!(reading, "there is nothing to read");
            // Left alone it holds up nobody; then a thread that knows no runtime drops it.
            let limit = Duration::from_secs(10);
            tokio::time::timeout(limit, store.newest_event()).await.unwrap().unwrap();
            std::thread::spawn(move || drop(events)).join().unwrap();
            tokio::time::timeout(limit, store.newest_event()).await.unwrap().unwrap();
        }
        feed.close();
        store.close().await;
    }
}

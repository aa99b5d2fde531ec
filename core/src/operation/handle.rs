use super::events::{EventHub, EventStream};
use crate::error::{Error, Result};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperationStatus {
    /// It is under way.
    Running,
    /// It has succeeded.
    Succeeded,
    /// It has failed, and what it had begun was undone.
    Failed,
    /// It was cancelled, and what it had begun was undone.
    Cancelled,
}

/// The status as the running task sets it and the handle reads it.
#[derive(Debug, Default)]
pub(super) struct StatusCell(AtomicU8);

impl StatusCell {
    pub(super) fn set(&self, status: OperationStatus) {
        self.0.store(status as u8, Ordering::Release);
    }

    fn get(&self) -> OperationStatus {
        match self.0.load(Ordering::Acquire) {
            1 => OperationStatus::Succeeded,
            2 => OperationStatus::Failed,
            3 => OperationStatus::Cancelled,
            _ => OperationStatus::Running,
        }
    }
}

/// The time limit that ended an operation, once one has.
pub(super) type Expired = Arc<OnceLock<Duration>>;

/// A multi-step write under way.
///
/// Await it for its result, or keep it to watch and cancel. Dropping it lets the operation go on by itself.
///
/// # Cancel safety
/// Dropping the handle or a future of [`Operation::wait`] never stops the operation: only [`Operation::cancel`] and the
/// closing of the engine do.
#[must_use = "an operation tells its result only to who awaits it"]
#[derive(Debug)]
pub struct Operation<T> {
    hub: Arc<EventHub>,
    cancel: CancellationToken,
    status: Arc<StatusCell>,
    expired: Expired,
    task: JoinHandle<Result<T>>,
    events: Option<EventStream>,
}

impl<T> Operation<T> {
    pub(super) fn new(
        hub: Arc<EventHub>,
        cancel: CancellationToken,
        status: Arc<StatusCell>,
        expired: Expired,
        task: JoinHandle<Result<T>>,
    ) -> Self {
        let events = Some(EventStream::new(hub.clone()));
        Self { hub, cancel, status, expired, task, events }
    }

    /// The operation's id, unique for good.
    pub fn id(&self) -> &str {
        self.hub.operation_id()
    }

    /// What it does now.
    pub fn status(&self) -> OperationStatus {
        self.status.get()
    }

    /// Asks it to undo what it did and end in CANCELLED. Past its point of no return it completes instead. Returns at
    /// once; may be called again.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// A token that cancels it, for use from elsewhere.
    pub fn cancel_token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// What ends it in TIMEOUT instead of CANCELLED: call it with the limit that has passed.
    pub(crate) fn expirer(&self) -> impl Fn(Duration) + Send + Sync + 'static {
        let (expired, cancel) = (self.expired.clone(), self.cancel.clone());
        move |limit| {
            let _ = expired.set(limit);
            cancel.cancel();
        }
    }

    /// Its events from the first to the terminal one. There is one stream: a second call returns none.
    pub fn events(&mut self) -> Option<EventStream> {
        self.events.take()
    }

    /// Waits for its result.
    ///
    /// # Errors
    /// What the operation documents; CANCELLED when it was cancelled.
    pub async fn wait(self) -> Result<T> {
        match self.task.await {
            Ok(result) => result,
            Err(error) if error.is_cancelled() => {
                Err(Error::unavailable("the runtime was shut down while the operation ran"))
            }
            Err(error) => Err(Error::unexpected("the operation panicked").caused_by(error)),
        }
    }
}

impl<T: Send + 'static> IntoFuture for Operation<T> {
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

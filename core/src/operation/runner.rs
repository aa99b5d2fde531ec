use super::context::{OperationContext, cancelled};
use super::events::EventHub;
use super::handle::{Expired, Operation, OperationStatus, StatusCell};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{Event, EventType};
use futures::FutureExt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Runs operations in tasks of their own, and ends them when the engine closes.
#[derive(Debug, Default)]
pub(crate) struct Runner {
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Runner {
    /// Starts an operation. `name` is `noun.verb` and goes into its errors.
    pub(crate) fn run<T, F>(
        &self,
        name: &'static str,
        body: impl FnOnce(OperationContext) -> F + Send + 'static,
    ) -> Operation<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.run_about(name, None, body)
    }

    /// Starts an operation whose errors tell what it is about, also one that ends it before it begins.
    pub(crate) fn run_about<T, F>(
        &self,
        name: &'static str,
        about: Option<(&'static str, String)>,
        body: impl FnOnce(OperationContext) -> F + Send + 'static,
    ) -> Operation<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let hub = EventHub::new(uuid::Uuid::now_v7().to_string());
        let cancel = self.closing.child_token();
        let status = Arc::new(StatusCell::default());
        let expired = Expired::default();
        let closed = self.tasks.is_closed();
        let task = self.tasks.spawn({
            let (hub, cancel, status, expired) =
                (hub.clone(), cancel.clone(), status.clone(), expired.clone());
            async move {
                let context = OperationContext::new(hub.clone(), cancel.clone());
                let result = if closed {
                    Err(closed_error())
                } else if cancel.is_cancelled() {
                    Err(cancelled())
                } else {
                    AssertUnwindSafe(body(context.clone())).catch_unwind().await.unwrap_or_else(|_| {
                        Err(Error::unexpected("the operation panicked; please report it"))
                    })
                };
                let result = match (result, expired.get()) {
                    (Err(error), Some(limit)) if error.kind() == ErrorKind::Cancelled => {
                        Err(timed_out(*limit))
                    }
                    (result, _) => result,
                };
                let result = result.map_err(|e| e.in_operation(name)).map_err(|e| match about {
                    Some((key, value)) => e.with(key, value),
                    None => e,
                });
                let event = match &result {
                    Ok(_) => {
                        status.set(OperationStatus::Succeeded);
                        context.take_complete()
                    }
                    Err(error) => {
                        let cancelled = error.kind() == ErrorKind::Cancelled;
                        status.set(if cancelled {
                            OperationStatus::Cancelled
                        } else {
                            OperationStatus::Failed
                        });
                        let mut event = Event::new(EventType::Error);
                        event.message = Some(error.message_with_cause());
                        event.code = Some(error.kind().as_str().to_owned());
                        event
                    }
                };
                hub.emit(event);
                result
            }
        });
        Operation::new(hub, cancel, status, expired, task)
    }

    /// FAILED_PRECONDITION once the engine is closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.tasks.is_closed() { Err(closed_error()) } else { Ok(()) }
    }

    /// A token that the closing of the engine cancels.
    pub(crate) fn closing_token(&self) -> CancellationToken {
        self.closing.child_token()
    }

    /// Waits until the engine closes.
    pub(crate) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// How many operations are under way.
    pub(crate) fn active(&self) -> usize {
        self.tasks.len()
    }

    /// Cancels what is under way, takes nothing new, and waits until all is undone or complete.
    pub(crate) async fn close(&self) {
        self.tasks.close();
        self.closing.cancel();
        self.tasks.wait().await;
    }
}

/// The error of a call whose time limit has passed.
pub(crate) fn timed_out(limit: Duration) -> Error {
    Error::timeout("the call took longer than its time limit").with("limit_ms", limit.as_millis())
}

fn closed_error() -> Error {
    Error::failed_precondition("the engine is closed: open a new one")
}

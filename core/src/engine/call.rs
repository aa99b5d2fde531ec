use crate::error::{Error, Result};
use crate::operation::{Operation, timed_out};
use crate::types::Event;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Takes the events of one call.
type EventCallback = Arc<dyn Fn(Event) + Send + Sync>;

/// What goes with a call besides its options: who watches, who may cancel, and how long it may take.
#[derive(Clone, Default)]
pub struct CallOptions {
    events: Option<EventCallback>,
    cancel: CancellationToken,
    time_limit: Option<Duration>,
}

impl fmt::Debug for CallOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallOptions")
            .field("events", &self.events.is_some())
            .field("cancel", &self.cancel.is_cancelled())
            .field("time_limit", &self.time_limit)
            .finish()
    }
}

impl CallOptions {
    /// Calls `f` with each event, one at a time and in order, on a thread where it may block. Progress that comes while
    /// it works is coalesced; a panic in it ends the watching and nothing else. The call returns after the terminal
    /// event was taken.
    #[must_use]
    pub fn on_event(mut self, f: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.events = Some(Arc::new(f));
        self
    }

    /// Lets `token` cancel the call.
    #[must_use]
    pub fn cancel_token(mut self, token: CancellationToken) -> Self {
        self.cancel = token;
        self
    }

    /// Ends the call with TIMEOUT, undone, when it takes longer.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// What cancels the call.
    pub(crate) fn token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Waits for a plain future under these options; it is dropped when cancelled or out of time.
    pub async fn guard<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::cancelled("the caller cancelled the call")),
            limit = expired(self.time_limit) => Err(timed_out(limit)),
            done = work => done,
        }
    }

    /// Waits for an operation under these options.
    pub async fn drive<T: Send + 'static>(&self, mut operation: Operation<T>) -> Result<T> {
        let watcher = match (&self.events, operation.events()) {
            (Some(callback), Some(mut events)) => {
                let callback = callback.clone();
                Some(tokio::spawn(async move {
                    while let Some(event) = events.next().await {
                        let callback = callback.clone();
                        if tokio::task::spawn_blocking(move || callback(event)).await.is_err() {
                            return;
                        }
                    }
                }))
            }
            _ => None,
        };
        let token = operation.cancel_token();
        let expire = operation.expirer();
        let wait = operation.wait();
        tokio::pin!(wait);
        let result = tokio::select! {
            biased;
            done = &mut wait => done,
            () = self.cancel.cancelled() => {
                token.cancel();
                wait.await
            }
            limit = expired(self.time_limit) => {
                expire(limit);
                wait.await
            }
        };
        if let Some(watcher) = watcher {
            // The watcher ends by itself after the terminal event.
            let _ = watcher.await;
        }
        result
    }
}

/// Waits until a time limit has passed, and tells it.
async fn expired(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

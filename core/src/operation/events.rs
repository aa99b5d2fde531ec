use crate::types::Event;
use futures::Stream;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Carries an operation's events to whoever watches it, and never makes the operation wait.
///
/// Progress that nobody has taken yet is replaced by newer progress, so a slow watcher sees fewer events, and the queue
/// holds no more than the operation's few steps.
#[derive(Debug)]
pub(crate) struct EventHub {
    operation_id: String,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Event>,
    finished: bool,
    watched: bool,
    waker: Option<Waker>,
}

impl EventHub {
    pub(crate) fn new(operation_id: String) -> Arc<Self> {
        Arc::new(Self { operation_id, started: Instant::now(), state: Mutex::default() })
    }

    pub(crate) fn operation_id(&self) -> &str {
        &self.operation_id
    }

    /// Whether anybody has asked for an event.
    pub(crate) fn is_watched(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).watched
    }

    /// Adds an event; after the terminal one, nothing is added.
    pub(crate) fn emit(&self, mut event: Event) {
        event.operation_id.clone_from(&self.operation_id);
        event.elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let waker = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.finished {
                return;
            }
            let replaces =
                event.kind.is_progress() && state.queue.back().is_some_and(|last| last.kind == event.kind);
            if replaces {
                state.queue.pop_back();
            }
            state.finished = event.kind.is_terminal();
            state.queue.push_back(event);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The events of one operation, in order, ending after the terminal one.
///
/// # Cancel safety
/// [`EventStream::next`] is cancel safe: an event is taken only when it is returned.
#[derive(Debug)]
pub struct EventStream {
    hub: Arc<EventHub>,
    ended: bool,
}

impl EventStream {
    pub(crate) fn new(hub: Arc<EventHub>) -> Self {
        Self { hub, ended: false }
    }

    /// The next event; none after the terminal one.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let taken = {
            let mut state = self.hub.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.watched = true;
            let event = state.queue.pop_front();
            if event.is_none() {
                if state.finished {
                    return Poll::Ready(None);
                }
                state.waker = Some(cx.waker().clone());
            }
            event
        };
        match taken {
            Some(event) => {
                self.ended = event.kind.is_terminal();
                Poll::Ready(Some(event))
            }
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::EventType;

    #[tokio::test]
    async fn progress_coalesces_order_is_kept_and_one_terminal_event_ends_it() {
        let hub = EventHub::new("op".to_owned());
        hub.emit(Event::new(EventType::Pulling));
        for bytes in 0..1000 {
            let mut event = Event::new(EventType::PullProgress);
            event.bytes = Some(bytes);
            hub.emit(event);
        }
        hub.emit(Event::new(EventType::Creating));
        hub.emit(Event::new(EventType::Complete));
        hub.emit(Event::new(EventType::Error));
        hub.emit(Event::new(EventType::PullProgress));
        let mut stream = EventStream::new(hub);
        let mut seen = Vec::new();
        while let Some(event) = stream.next().await {
            seen.push((event.kind, event.bytes));
        }
        assert_eq!(
            seen,
            [
                (EventType::Pulling, None),
                (EventType::PullProgress, Some(999)),
                (EventType::Creating, None),
                (EventType::Complete, None),
            ]
        );
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_waiting_watcher_is_woken() {
        let hub = EventHub::new("op".to_owned());
        let mut stream = EventStream::new(hub.clone());
        let watcher = tokio::spawn(async move { stream.next().await });
        tokio::task::yield_now().await;
        hub.emit(Event::new(EventType::Creating));
        assert_eq!(watcher.await.unwrap().unwrap().operation_id, "op");
    }
}

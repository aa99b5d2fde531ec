use super::events::EventHub;
use crate::backend::PullTracker;
use crate::error::{Error, Result};
use crate::types::{Event, EventType};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often progress is shown: 20 times a second at most.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// How much of a file is copied. Clones share the count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copied(Arc<CopiedCounts>);

#[derive(Debug, Default)]
struct CopiedCounts {
    bytes: AtomicU64,
    /// The length of the file plus 1; 0 while it is not known.
    total: AtomicU64,
}

impl Copied {
    /// More bytes are where they are to be.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The length of the file turned out.
    pub(crate) fn set_total(&self, bytes: u64) {
        self.0.total.store(bytes.saturating_add(1), Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    fn total(&self) -> Option<u64> {
        self.0.total.load(Ordering::Relaxed).checked_sub(1)
    }
}

/// What the body of an operation works with: its id, its events and its cancellation.
#[derive(Debug, Clone)]
pub(crate) struct OperationContext {
    hub: Arc<EventHub>,
    cancel: CancellationToken,
    complete: Arc<Mutex<Event>>,
}

impl OperationContext {
    pub(crate) fn new(hub: Arc<EventHub>, cancel: CancellationToken) -> Self {
        let complete = Arc::new(Mutex::new(Event::new(EventType::Complete)));
        Self { hub, cancel, complete }
    }

    /// For work that nobody waits for: no events are seen, and nobody cancels.
    pub(crate) fn detached(operation: &str) -> Self {
        Self::new(EventHub::new(operation.to_owned()), CancellationToken::new())
    }

    /// The same operation, past the point where the caller may cancel it.
    pub(crate) fn without_cancel(&self) -> Self {
        Self { cancel: CancellationToken::new(), ..self.clone() }
    }

    /// The same operation, for steps that nobody watches.
    pub(crate) fn without_events(&self) -> Self {
        Self { hub: EventHub::new(self.id().to_owned()), ..self.clone() }
    }

    pub(crate) fn id(&self) -> &str {
        self.hub.operation_id()
    }

    /// Whether anybody has asked for its events so far.
    pub(crate) fn is_watched(&self) -> bool {
        self.hub.is_watched()
    }

    pub(crate) fn emit(&self, event: Event) {
        self.hub.emit(event);
    }

    pub(crate) fn emit_kind(&self, kind: EventType) {
        self.hub.emit(Event::new(kind));
    }

    /// Sets what the terminal event of a success carries.
    pub(crate) fn complete_with(&self, fill: impl FnOnce(&mut Event)) {
        fill(&mut self.complete.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn take_complete(&self) -> Event {
        self.complete.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// CANCELLED when the caller has cancelled: called between steps, before the point of no return.
    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(cancelled()) } else { Ok(()) }
    }

    /// Waits for `work`, unless the caller cancels. Only for work that leaves nothing behind when dropped, or whose
    /// traces the undo of the operation knows.
    pub(crate) async fn or_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(cancelled()),
            done = work => done,
        }
    }

    /// Waits for the copying of a file and shows its progress meanwhile.
    pub(crate) async fn with_copy_progress<T>(
        &self,
        copied: &Copied,
        copying: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        let show = |bytes: u64| {
            let mut event = Event::new(EventType::DataProgress);
            (event.bytes, event.total_bytes) = (Some(bytes), copied.total().map(|total| total.max(bytes)));
            let micros = began.elapsed().as_micros().max(1);
            event.bytes_per_second = u64::try_from(u128::from(bytes) * 1_000_000 / micros).ok();
            self.emit(event);
        };
        tokio::pin!(copying);
        let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut shown = None;
        loop {
            tokio::select! {
                biased;
                done = &mut copying => {
                    if done.is_ok() {
                        show(copied.bytes());
                    }
                    return done;
                }
                _ = tick.tick() => {
                    let bytes = copied.bytes();
                    if shown.replace(bytes) != Some(bytes) {
                        show(bytes);
                    }
                }
            }
        }
    }

    /// Waits for a pull and shows its progress meanwhile, with `image` as the name. The last progress event shows the final counts.
    pub(crate) async fn with_pull_progress<T>(
        &self,
        image: &str,
        tracker: &PullTracker,
        pull: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::pin!(pull);
        let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = false;
        let mut shown: Option<Event> = None;
        let mut show = |this: &Self, told: &mut bool| {
            if !*told {
                match tracker.asked() {
                    Some(true) => this.emit(Event::new(EventType::Pulling).image(image)),
                    Some(false) => this.emit(Event::new(EventType::PullSkipped).image(image)),
                    None => return,
                }
                *told = true;
            }
            if tracker.asked() == Some(true)
                && let Some(event) = tracker.event()
                && shown.as_ref() != Some(&event)
            {
                this.emit(event.clone());
                shown = Some(event);
            }
        };
        loop {
            tokio::select! {
                done = &mut pull => {
                    show(self, &mut told);
                    return done;
                }
                _ = tick.tick() => show(self, &mut told),
            }
        }
    }
}

pub(crate) fn cancelled() -> Error {
    Error::cancelled("the caller cancelled the operation")
}

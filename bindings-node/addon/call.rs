use dunnage::CallOptions;
use dunnage::types::Event;
use napi::Status;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Takes one event as JSON text. Unreferenced: watching alone does not keep the event loop alive.
type OnEvent = ThreadsafeFunction<String, (), String, Status, false, true>;

/// How often a thread that waits for a callback looks whether the callback's environment is still there.
const ALIVE_CHECK: Duration = Duration::from_millis(100);

/// What goes with one call besides its options.
#[napi]
pub struct NativeCall {
    on_event: Option<Arc<OnEvent>>,
    cancel: CancellationToken,
    time_limit: Option<Duration>,
}

#[napi]
impl NativeCall {
    /// `time_limit_ms` of 0 is no limit.
    #[napi(constructor)]
    pub fn new(time_limit_ms: f64, on_event: Option<OnEvent>) -> Self {
        // Durations beyond what the type can carry are no limit in practice; the face has refused what is no number.
        let time_limit =
            (time_limit_ms > 0.0).then(|| Duration::try_from_secs_f64(time_limit_ms / 1000.0).ok()).flatten();
        Self { on_event: on_event.map(Arc::new), cancel: CancellationToken::new(), time_limit }
    }

    /// Asks the call to undo what it did and to end in CANCELLED. May be called again.
    #[napi]
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl NativeCall {
    /// As the library takes it.
    pub(crate) fn options(call: Option<&Self>) -> CallOptions {
        let Some(call) = call else { return CallOptions::default() };
        let mut options = CallOptions::default().cancel_token(call.cancel.clone());
        if let Some(limit) = call.time_limit {
            options = options.time_limit(limit);
        }
        if let Some(on_event) = call.on_event.clone() {
            options = options.on_event(move |event| deliver(&on_event, &event));
        }
        options
    }
}

/// Hands one event to JavaScript and waits until it was taken, so that a slow callback sees coalesced progress and not
/// a growing queue. Returns at once when the environment is gone.
fn deliver(on_event: &OnEvent, event: &Event) {
    let Ok(text) = serde_json::to_string(event) else { return };
    let (taken, wait) = sync_channel(1);
    let status =
        on_event.call_with_return_value(text, ThreadsafeFunctionCallMode::NonBlocking, move |_, _| {
            // Nobody waits any more when the environment was being torn down.
            let _ = taken.send(());
            Ok(())
        });
    if status != Status::Ok {
        return;
    }
    while let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(ALIVE_CHECK) {
        if on_event.handle.with_read_aborted(|aborted| aborted) {
            return;
        }
    }
}

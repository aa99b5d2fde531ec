use crate::failure::to_text;
use crate::promise::spawn;
use dunnage::catalog::JsonItems;
use napi::Status;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Takes what a request came to, as JSON text: `{"item":…}`, `{"error":…}`, or `{}` at the end. Unreferenced: waiting for
/// an item alone does not keep the event loop alive.
pub(crate) type OnItem = ThreadsafeFunction<String, (), String, Status, false, true>;

/// Items of an operation. They end when JavaScript's garbage collector finds this.
#[napi]
pub struct NativeItems {
    shared: Arc<Shared>,
}

struct Shared {
    items: Mutex<JsonItems>,
    on_item: OnItem,
    stop: CancellationToken,
}

impl NativeItems {
    pub(crate) fn new(items: JsonItems, on_item: OnItem) -> Self {
        let stop = CancellationToken::new();
        Self { shared: Arc::new(Shared { items: Mutex::new(items), on_item, stop }) }
    }
}

#[napi]
impl NativeItems {
    /// Asks for the next item, which is made then.
    #[napi(catch_unwind)]
    pub fn request(&self) -> napi::Result<()> {
        let shared = self.shared.clone();
        spawn(async move {
            let next = shared.stop.run_until_cancelled(async { shared.items.lock().await.next().await });
            let told = match next.await.flatten() {
                Some(Ok(item)) => format!("{{\"item\":{item}}}"),
                Some(Err(error)) => serde_json::json!({ "error": to_text(&error) }).to_string(),
                None => "{}".to_owned(),
            };
            // It fails when the environment is gone: nobody waits.
            shared.on_item.call(told, ThreadsafeFunctionCallMode::NonBlocking);
        })
    }

    /// Ends the items; a request under way comes to the end. May be called again.
    #[napi]
    pub fn close(&self) {
        self.shared.stop.cancel();
    }
}

impl Drop for NativeItems {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

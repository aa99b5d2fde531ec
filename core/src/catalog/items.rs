use super::find;
use crate::engine::{CallOptions, Engine};
use crate::error::{Error, Result};
use futures::stream::{BoxStream, StreamExt};
use std::fmt;
use tokio_util::sync::CancellationToken;

/// The items of an operation as JSON text, one at a time. An item is made when it is asked for. Dropping it ends the
/// operation.
///
/// # Cancel safety
/// [`JsonItems::next`] is cancel safe: an item is taken only when it is returned.
pub struct JsonItems {
    operation: &'static str,
    stream: BoxStream<'static, Result<String>>,
    cancel: CancellationToken,
    ended: bool,
}

impl JsonItems {
    /// The next item; none after the last one, and after an error.
    ///
    /// # Errors
    /// Those of the operation; CANCELLED once the token of the call it was made by is.
    pub async fn next(&mut self) -> Option<Result<String>> {
        if self.ended {
            return None;
        }
        let item = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Some(Err(Error::cancelled("the caller cancelled the call"))),
            item = self.stream.next() => item,
        };
        self.ended = !matches!(item, Some(Ok(_)));
        item.map(|item| item.map_err(|e| e.in_operation(self.operation)))
    }
}

impl fmt::Debug for JsonItems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonItems").field("operation", &self.operation).finish_non_exhaustive()
    }
}

impl Engine {
    /// Calls, by name, an operation that yields items: how bindings call. Empty text stands for `{}`. The time limit of
    /// `call` is for the beginning alone; its token goes on to end the items.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an operation that is unknown or yields no items, a missing workspace id, malformed JSON, or an
    /// unknown or ill-typed field (named); then whatever the operation documents.
    ///
    /// # Cancel safety
    /// Dropping the future ends what was begun.
    pub async fn call_items(
        &self,
        operation: &str,
        workspace: Option<&str>,
        options: &str,
        call: CallOptions,
    ) -> Result<JsonItems> {
        let spec = find(operation).ok_or_else(|| {
            Error::invalid_argument("unknown operation: see the catalogue").with("operation", operation)
        })?;
        let cancel = call.token().clone();
        let stream = spec.call_items(self, workspace, options, call).await;
        let stream = stream.map_err(|e| e.in_operation(spec.name))?;
        Ok(JsonItems { operation: spec.name, stream, cancel, ended: false })
    }
}

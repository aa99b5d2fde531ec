//! The catalogue of operations: one row each, from which the other languages' faces are generated, and the one door
//! through which they call.

mod items;
mod rows;
mod spec;

pub use items::JsonItems;
pub use spec::{Bytes, OperationSpec, Target, parse};

use crate::engine::{CallOptions, Engine};
use crate::error::{Error, Result};

/// Every operation, ordered by name within its noun as documents show them.
pub fn operations() -> &'static [OperationSpec] {
    &rows::ROWS
}

/// The operation of this name, as `noun.verb`.
pub fn find(name: &str) -> Option<&'static OperationSpec> {
    operations().iter().find(|spec| spec.name == name)
}

impl Engine {
    /// Calls an operation by name, with options and result as JSON text: how bindings call. Empty text stands for `{}`.
    ///
    /// Operations that move bytes are not called this way, they have methods of their own; nor those that yield items, for
    /// which there is [`Engine::call_items`].
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an unknown operation, a missing workspace id, malformed JSON, or an unknown or ill-typed
    /// field (named); then whatever the operation documents.
    ///
    /// # Cancel safety
    /// Dropping the future lets a multi-step write go on; the token of `call` cancels it.
    pub async fn call(
        &self,
        operation: &str,
        workspace: Option<&str>,
        options: &str,
        call: CallOptions,
    ) -> Result<String> {
        let spec = find(operation).ok_or_else(|| {
            Error::invalid_argument("unknown operation: see the catalogue").with("operation", operation)
        })?;
        spec.call(self, workspace, options, call).await.map_err(|e| e.in_operation(spec.name))
    }
}

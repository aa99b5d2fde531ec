use super::Engine;
use crate::error::Result;
use crate::feed::LifecycleEvents;
use crate::types::EventsOptions;

impl Engine {
    /// Follows what happens to the workspaces of this data root, whichever process does it or sees it: first, if asked
    /// for, what is kept of it (the newest 10 000 events), then what is new, with no gap and nothing twice. It keeps no
    /// engine alive: the stream ends when the engine is closed, or dropped.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed workspace id; FAILED_PRECONDITION when the engine is closed; those of reading
    /// the database.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn events(&self, options: EventsOptions) -> Result<LifecycleEvents> {
        const OPERATION: &str = "engine.events";
        self.inner.runner.check_open().map_err(|e| e.in_operation(OPERATION))?;
        self.inner.feed.subscribe(&options).await.map_err(|e| e.in_operation(OPERATION))
    }
}

use crate::engine::Engine;
use crate::error::Result;
use std::sync::{Arc, PoisonError, RwLock};

/// Which side of a step the process is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The change has not been asked for.
    Before,
    /// The change has taken effect, or failed.
    After,
}

type Hook = Arc<dyn Fn(&'static str, Side) + Send + Sync>;

static HOOK: RwLock<Option<Hook>> = RwLock::new(None);

/// Lets `hook` hear of every step of this process from now on, on both sides. The step waits for it.
pub fn on_step(hook: impl Fn(&'static str, Side) + Send + Sync + 'static) {
    *HOOK.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
}

/// The operations that the journal holds, as `<kind> <workspace>`.
///
/// # Errors
/// Those of the store.
pub async fn unfinished(engine: &Engine) -> Result<Vec<String>> {
    let store = &engine.inner.store;
    let mut found = Vec::new();
    for id in store.unfinished_workspaces().await? {
        let entries = store.unfinished(&id).await?;
        found.extend(entries.iter().map(|entry| format!("{} {id}", entry.kind.as_str())));
    }
    Ok(found)
}

fn tell(name: &'static str, side: Side) {
    let hook = HOOK.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(hook) = hook {
        hook(name, side);
    }
}

/// A change, from before it to after it.
#[derive(Debug)]
#[must_use = "it lasts as long as it is held"]
pub(crate) struct Step(&'static str);

impl Step {
    pub(super) fn begin(name: &'static str) -> Self {
        tell(name, Side::Before);
        Self(name)
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        tell(self.0, Side::After);
    }
}

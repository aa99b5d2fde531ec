use super::generation;
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::lifecycle::recover::take;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::types::{DataDiscardOptions, PreservedData, PreservedList};

/// Tells what is preserved of a workspace's data, whether the workspace is there or not.
pub(crate) async fn preserved(inner: &EngineInner, id: &WorkspaceId) -> Result<PreservedList> {
    let found = generation::all(inner, id).await?;
    Ok(PreservedList { preserved: found.into_iter().map(|one| one.data).collect() })
}

/// Removes one generation.
pub(crate) async fn discard(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: DataDiscardOptions,
    context: &OperationContext,
) -> Result<PreservedData> {
    if options.generation == 0 {
        return Err(Error::invalid_argument("malformed option generation: generations count from 1")
            .with("field", "generation"));
    }
    let _guard = take(inner, id, context).await?;
    generation::tidy(inner, id).await?;
    let one = generation::pick(inner, id, Some(options.generation)).await?;
    context.check_cancelled()?;
    generation::remove(inner, id, &one).await?;
    Ok(one.data)
}

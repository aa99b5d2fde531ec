use super::Workspace;
use crate::bridge::BridgeClient;
use crate::error::Result;
use crate::tools;
use crate::types::{ToolCallOptions, ToolList, ToolResult};

/// Tools for language models that work inside a workspace: read, write, list, edit, exec.
#[derive(Debug, Clone)]
pub struct Tools {
    workspace: Workspace,
}

impl Tools {
    pub(crate) fn new(workspace: Workspace) -> Self {
        Self { workspace }
    }

    /// The tools there are, with the JSON Schemas of their arguments. The workspace need not exist.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when the engine is closed.
    ///
    /// # Cancel safety
    /// Cancel safe: it only tells.
    pub async fn list(&self) -> Result<ToolList> {
        self.workspace.engine.inner.runner.check_open().map_err(|e| e.in_operation("tools.list"))?;
        Ok(tools::list())
    }

    /// Calls a tool. What a model may mend by another call, such as a file that is not there, is told in the result and is no
    /// error.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a tool that there is not and for arguments that do not fit its schema; NOT_FOUND when there is no such
    /// workspace; UNAVAILABLE when it does not run or its agent goes away; TIMEOUT.
    ///
    /// # Cancel safety
    /// When dropped, a file is as it was or as it shall be; a command is killed with all it started.
    pub async fn call(&self, options: ToolCallOptions) -> Result<ToolResult> {
        tools::check(&options).map_err(|e| e.in_operation("tools.call"))?;
        let call = async |client: BridgeClient| tools::call(&client, &options).await;
        self.workspace.with_bridge(call).await.map_err(|e| e.in_operation("tools.call"))
    }
}

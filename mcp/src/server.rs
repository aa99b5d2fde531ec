//! What the protocol asks for, answered by a workspace's tools.

use dunnage::types::{ToolCallOptions, ToolInfo};
use dunnage::{Error, ErrorKind, Workspace};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::{ErrorData, ServerHandler};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The server of one workspace.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    workspace: Workspace,
}

impl Server {
    pub(crate) fn new(workspace: Workspace) -> Self {
        Self { workspace }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.server_info = Implementation::new("dunnage", env!("CARGO_PKG_VERSION"));
        info.with_instructions(format!(
            "Tools that work inside the container workspace {}. Relative paths are under its data directory, /data, which \
             outlives the container.",
            self.workspace.id()
        ))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let list = self.workspace.tools().list().await.map_err(|e| refused(&e))?;
        Ok(ListToolsResult::with_all_items(list.tools.into_iter().map(tool).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments: BTreeMap<String, Value> = request.arguments.unwrap_or_default().into_iter().collect();
        let options = ToolCallOptions::default().name(request.name).arguments(arguments);
        let tools = self.workspace.tools();
        let called = tokio::select! {
            called = tools.call(options) => called,
            // Dropping the call ends what it began.
            () = context.ct.cancelled() => return Err(ErrorData::internal_error("the client cancelled the call", None)),
        };
        match called {
            Ok(done) => {
                let content = vec![ContentBlock::text(done.text)];
                let mut result = if done.is_error {
                    CallToolResult::error(content)
                } else {
                    CallToolResult::success(content)
                };
                result.structured_content = Some(Value::Object(done.structured.into_iter().collect()));
                Ok(result.into())
            }
            Err(error) if error.kind() == ErrorKind::InvalidArgument => Err(refused(&error)),
            // The model is told: it may wait, or say so.
            Err(error) => Ok(CallToolResult::error(vec![ContentBlock::text(error.to_string())]).into()),
        }
    }
}

fn tool(info: ToolInfo) -> Tool {
    let schema: Map<String, Value> = info.input_schema.into_iter().collect();
    let annotations = ToolAnnotations::new().read_only(info.read_only).open_world(info.name == "exec");
    Tool::new(info.name, info.description, schema).with_annotations(annotations)
}

fn refused(error: &Error) -> ErrorData {
    let data = Some(serde_json::json!({ "code": error.kind().as_str() }));
    match error.kind() {
        ErrorKind::InvalidArgument => ErrorData::invalid_params(error.to_string(), data),
        _ => ErrorData::internal_error(error.to_string(), data),
    }
}

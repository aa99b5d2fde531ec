//! The messages that this side speaks by itself. The one place that knows the protocol's types.

use super::pending::Message;
use crate::error::{Error, Result};
use rmcp::model::{
    ClientCapabilities, ErrorCode, Implementation, InitializeRequestParams, InitializeResult, ProtocolVersion,
};
use serde::Serialize;
use serde_json::{Value, json};

/// A method that a server may call on this side.
const PING: &str = "ping";

/// The request that begins a session, with everything but its id.
pub(super) fn initialize() -> Message {
    let client = Implementation::new("dunnage", env!("CARGO_PKG_VERSION"));
    let mut params = InitializeRequestParams::new(ClientCapabilities::default(), client);
    params.protocol_version = ProtocolVersion::LATEST_WITH_INITIALIZE;
    message(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": value(&params) }))
}

/// The notification that ends the beginning.
pub(super) fn initialized() -> Message {
    message(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
}

/// Asks for a page of tools.
pub(super) fn list_tools(cursor: Option<&str>) -> Message {
    let mut request = message(&json!({ "jsonrpc": "2.0", "id": 0, "method": "tools/list" }));
    if let Some(cursor) = cursor {
        request.insert("params".to_owned(), json!({ "cursor": cursor }));
    }
    request
}

/// Tells a server that an answer is not waited for any more.
pub(super) fn cancelled(wire: u64, reason: &str) -> Message {
    let params = json!({ "requestId": wire, "reason": reason });
    message(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }))
}

/// The answer to what a server asks of this side, which offers it nothing: no roots, no sampling, no elicitation.
pub(super) fn answer(id: &Value, method: &str) -> Message {
    if method == PING {
        return message(&json!({ "jsonrpc": "2.0", "id": id, "result": {} }));
    }
    let error = json!({ "code": ErrorCode::METHOD_NOT_FOUND.0, "message": format!("this client offers no {method}") });
    message(&json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

/// What a server says of itself.
#[derive(Debug, Clone)]
pub(super) struct Hello {
    pub(super) protocol_version: String,
    pub(super) server_name: String,
    pub(super) server_version: String,
    pub(super) instructions: Option<String>,
    pub(super) capabilities: Message,
    /// The result as it came.
    pub(super) whole: Value,
}

/// Reads the answer to [`initialize`].
///
/// # Errors
/// FAILED_PRECONDITION when it is none.
pub(super) fn hello(answer: Message) -> Result<Hello> {
    let whole = result(answer, "initialize")?;
    let read: InitializeResult = serde_json::from_value(whole.clone()).map_err(|why| {
        Error::failed_precondition("the server's answer to initialize is none of the protocol").caused_by(why)
    })?;
    Ok(Hello {
        protocol_version: read.protocol_version.to_string(),
        server_name: read.server_info.name,
        server_version: read.server_info.version,
        instructions: read.instructions,
        capabilities: whole.get("capabilities").and_then(Value::as_object).cloned().unwrap_or_default(),
        whole,
    })
}

/// Reads a page of tools: the tools as they came, and where the next page begins.
///
/// # Errors
/// FAILED_PRECONDITION when it is none.
pub(super) fn tools(answer: Message) -> Result<(Vec<Message>, Option<String>)> {
    let mut page = result(answer, "tools/list")?;
    let Some(Value::Array(tools)) = page.get_mut("tools").map(Value::take) else {
        return Err(Error::failed_precondition("the server's answer to tools/list has no tools"));
    };
    let next = page.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
    let tools = tools.into_iter().filter_map(|tool| match tool {
        Value::Object(tool) => Some(tool),
        _ => None,
    });
    Ok((tools.collect(), next))
}

fn result(mut answer: Message, method: &str) -> Result<Value> {
    if let Some(error) = answer.get("error") {
        let told = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
        let told: String = told.chars().take(500).collect();
        return Err(Error::failed_precondition(format!("the server refused {method}: {told}")));
    }
    Ok(answer.remove("result").unwrap_or_default())
}

/// The answer to a caller's own beginning: the session has begun, and this is how.
pub(super) fn begun(id: &Value, hello: &Hello) -> Message {
    message(&json!({ "jsonrpc": "2.0", "id": id, "result": hello.whole }))
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

fn message(value: &Value) -> Message {
    value.as_object().cloned().unwrap_or_default()
}

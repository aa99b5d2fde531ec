use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The tools that a language model may be given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ToolList {
    /// The tools.
    pub tools: Vec<ToolInfo>,
}

/// A tool, as the Model Context Protocol describes one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ToolInfo {
    /// Its name.
    pub name: String,
    /// What it does, in words for a language model.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub input_schema: BTreeMap<String, Value>,
    /// Whether it changes nothing.
    pub read_only: bool,
}

/// A tool to call, and its arguments.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ToolCallOptions {
    /// The tool's name.
    pub name: String,
    /// Its arguments, as its `input_schema` says.
    pub arguments: BTreeMap<String, Value>,
}

setters!(ToolCallOptions { name: String; arguments: BTreeMap<String, Value>; });

/// What a tool came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ToolResult {
    /// What to show to a language model: bounded in length, with a note where something was left out.
    pub text: String,
    /// The same for programs; of what it has, the tool's description tells.
    pub structured: BTreeMap<String, Value>,
    /// Whether the tool could not do it; `text` then says why, and what to try.
    pub is_error: bool,
}

//! Tools for language models: read, write, list, edit and exec, through the agent.
//!
//! Each takes a JSON object that its schema describes and comes to a text of bounded length. What a model can mend (a file that is
//! not there, a text that does not match) is told in the result; what it cannot (the workspace does not run) is an error.

mod cut;
mod edit;
mod exec;
mod files;
mod matching;
#[cfg(test)]
mod tests;

use crate::bridge::BridgeClient;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{ToolCallOptions, ToolInfo, ToolList, ToolResult};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a tool says when it could do it: a text, and the same for programs.
type Told = (String, Value);

/// One row for each tool.
macro_rules! tools {
    ($($name:literal, $arguments:ty, $run:path, $read_only:literal, $description:literal;)*) => {
        /// All tools, with the schemas of their arguments.
        pub(crate) fn list() -> ToolList {
            ToolList {
                tools: vec![$(ToolInfo {
                    name: $name.to_owned(),
                    description: $description.to_owned(),
                    input_schema: schema::<$arguments>(),
                    read_only: $read_only,
                },)*],
            }
        }

        /// Checks a call's name and arguments before anything else is done.
        pub(crate) fn check(options: &ToolCallOptions) -> Result<()> {
            match options.name.as_str() {
                $($name => arguments::<$arguments>(options).map(drop),)*
                _ => Err(unknown(&options.name)),
            }
        }

        /// Calls a tool.
        pub(crate) async fn call(client: &BridgeClient, options: &ToolCallOptions) -> Result<ToolResult> {
            match options.name.as_str() {
                $($name => finish($run(client, arguments(options)?).await),)*
                _ => Err(unknown(&options.name)),
            }
        }
    };
}

tools! {
    "read", files::ReadArguments, files::read, true,
        "Reads some lines of a text file: at most 200 lines or 5120 bytes at a time. Structured: content, total_lines, binary.";
    "write", files::WriteArguments, files::write, false,
        "Writes a text file, replacing what is there at once; missing directories are made. Structured: bytes_written.";
    "list", files::ListArguments, files::list, true,
        "Lists a directory, one entry a line: mode, size in bytes, time of the last change, name. Structured: entries, left_out.";
    "edit", edit::EditArguments, edit::edit, false,
        "Replaces a piece of text in a file. old_text must occur exactly once; differences in quotes, dashes, odd spaces, trailing \
         spaces and line ends are looked past. Structured: how (exact or similar), line.";
    "exec", exec::ExecArguments, exec::exec, false,
        "Runs a shell command and tells its output and exit code; of long output the beginning and the end. Structured: exit_code, \
         timed_out, stdout, stderr.";
}

fn unknown(name: &str) -> Error {
    let names: Vec<String> = list().tools.into_iter().map(|tool| tool.name).collect();
    let message = format!("there is no tool {name:?}; there are {}", names.join(", "));
    Error::invalid_argument(message).with("field", "name")
}

fn arguments<T: DeserializeOwned>(options: &ToolCallOptions) -> Result<T> {
    let fields: Map<String, Value> = options.arguments.clone().into_iter().collect();
    serde_json::from_value(Value::Object(fields)).map_err(|why| {
        Error::invalid_argument(format!("the arguments of the tool {} do not fit: {why}", options.name))
            .with("field", "arguments")
    })
}

/// The schema of a tool's arguments, all in one piece.
fn schema<T: JsonSchema>() -> BTreeMap<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut fields: BTreeMap<String, Value> = match schema.to_value() {
        Value::Object(fields) => fields.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    fields.remove("title");
    fields.remove("description");
    fields
}

fn finish(told: Result<Told>) -> Result<ToolResult> {
    let (text, structured, is_error) = match told {
        Ok((text, structured)) => (text, structured, false),
        Err(error) if is_for_the_model(error.kind()) => {
            let structured = serde_json::json!({ "code": error.kind().as_str() });
            (error.message().to_owned(), structured, true)
        }
        Err(error) => return Err(error),
    };
    let structured = match structured {
        Value::Object(fields) => fields.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    Ok(ToolResult { text, structured, is_error })
}

/// Whether another call of the model may mend it.
fn is_for_the_model(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidArgument
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::FailedPrecondition
            | ErrorKind::Conflict
            | ErrorKind::PermissionDenied
            | ErrorKind::ResourceExhausted
    )
}

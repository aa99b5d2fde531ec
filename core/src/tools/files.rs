//! The tools read, write and list.

use super::Told;
use crate::bridge::BridgeClient;
use crate::error::Result;
use crate::types::{DirEntry, EntryKind, ListDirOptions, ReadTextOptions, WriteOptions};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::fmt::Write;

/// The most entries that are told of a directory.
const MOST_ENTRIES: usize = 500;
/// The most lines that the agent tells at a time.
const MOST_LINES: u32 = 200;

/// What to read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadArguments {
    /// The file; a relative path is under /data.
    path: String,
    /// The first line to read, from 1.
    #[serde(default = "first")]
    #[schemars(range(min = 1))]
    line_offset: u32,
    /// How many lines to read.
    #[serde(default = "most")]
    #[schemars(range(min = 1, max = 200))]
    n_lines: u32,
}

fn first() -> u32 {
    1
}

fn most() -> u32 {
    MOST_LINES
}

pub(super) async fn read(client: &BridgeClient, arguments: ReadArguments) -> Result<Told> {
    let ReadArguments { path, line_offset, n_lines } = arguments;
    let (from, count) = (line_offset.max(1), n_lines.clamp(1, MOST_LINES));
    let options = ReadTextOptions::default().path(&path).line_offset(from).n_lines(count);
    let file = client.read_text(&options).await?;
    let structured =
        json!({ "content": file.content, "total_lines": file.total_lines, "binary": file.binary });
    if file.binary {
        return Ok((format!("{path} is no text; use exec to look into it"), structured));
    }
    let mut text = file.content;
    let shown = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    let next = from.saturating_add(shown);
    if next <= file.total_lines {
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let _ = write!(text, "{gap}[{} lines in all; go on with line_offset {next}]", file.total_lines);
    }
    Ok((text, structured))
}

/// What to write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteArguments {
    /// The file; a relative path is under /data.
    path: String,
    /// Its whole new content.
    content: String,
}

pub(super) async fn write(client: &BridgeClient, arguments: WriteArguments) -> Result<Told> {
    let WriteArguments { path, content } = arguments;
    let written =
        client.write(&WriteOptions::default().path(&path), Bytes::from(content)).await?.bytes_written;
    Ok((format!("wrote {written} bytes to {path}"), json!({ "bytes_written": written })))
}

/// What to list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListArguments {
    /// The directory; a relative path is under /data.
    #[serde(default = "here")]
    path: String,
    /// Whether to list what is below it too.
    #[serde(default)]
    recursive: bool,
}

fn here() -> String {
    ".".to_owned()
}

pub(super) async fn list(client: &BridgeClient, arguments: ListArguments) -> Result<Told> {
    let ListArguments { path, recursive } = arguments;
    let mut listed = client.list(&ListDirOptions::default().path(path).recursive(recursive)).await?;
    let left_out = listed.entries.len().saturating_sub(MOST_ENTRIES);
    listed.entries.truncate(MOST_ENTRIES);
    let mut text = String::new();
    for entry in &listed.entries {
        line(&mut text, entry, &listed.path);
    }
    for problem in listed.problems.iter().take(20) {
        let _ = writeln!(text, "[{}: {}]", problem.path, problem.message);
    }
    if left_out > 0 {
        let _ = writeln!(text, "[{left_out} more left out; list a directory below]");
    }
    if text.is_empty() {
        text.push_str("[empty]\n");
    }
    Ok((text, json!({ "entries": listed.entries, "left_out": left_out })))
}

fn line(text: &mut String, entry: &DirEntry, directory: &str) {
    let kind = match entry.kind {
        EntryKind::Dir => 'd',
        EntryKind::Symlink => 'l',
        EntryKind::File => '-',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
        EntryKind::CharDevice => 'c',
        EntryKind::BlockDevice => 'b',
        EntryKind::Unknown => '?',
    };
    let within = entry.path.strip_prefix(directory).unwrap_or(&entry.path).trim_start_matches('/');
    let slash = if entry.is_dir { "/" } else { "" };
    let time = entry.mod_time.get(..19).unwrap_or(&entry.mod_time);
    let _ = writeln!(text, "{kind}{} {:>9} {time} {within}{slash}", entry.mode, entry.size);
}

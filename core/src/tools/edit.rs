//! The tool edit.

use super::Told;
use super::matching::{Search, find};
use crate::bridge::BridgeClient;
use crate::error::{Error, Result};
use crate::types::{ReadOptions, StatOptions, WriteOptions};
use bytes::Bytes;
use memchr::memchr_iter;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;
use std::ops::Range;

/// The longest file that is edited, in bytes.
const MOST: u64 = 16 << 20;

/// What to replace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EditArguments {
    /// The file; a relative path is under /data.
    path: String,
    /// The text to replace, with enough around it to occur only once.
    old_text: String,
    /// What comes in its place.
    new_text: String,
}

pub(super) async fn edit(client: &BridgeClient, arguments: EditArguments) -> Result<Told> {
    let EditArguments { path, old_text, new_text } = arguments;
    if old_text.is_empty() {
        return Err(Error::invalid_argument("old_text is empty; to make a file, use write"));
    }
    if old_text == new_text {
        return Err(Error::invalid_argument("old_text and new_text are the same"));
    }
    // Looked at before it is read: whoever changes it from here on is noticed.
    let revision = client.stat(&StatOptions::default().path(&path)).await?.revision;
    let content = client.read(&ReadOptions::default().path(&path).max_bytes(MOST)).await?;
    let (range, how) = match find(&content, &old_text) {
        Search::Exact(range) => (range, "exact"),
        Search::Similar(range) => (range, "similar"),
        Search::Many(count) => {
            let message = format!("old_text occurs {count} times in {path}; give more of what is around it");
            return Err(Error::failed_precondition(message));
        }
        Search::None => {
            return Err(Error::failed_precondition(format!(
                "old_text does not occur in {path}; read it again"
            )));
        }
    };
    let line = memchr_iter(b'\n', content.get(..range.start).unwrap_or_default()).count() + 1;
    let edited = replace(&content, range, &new_text);
    let mut options = WriteOptions::default().path(&path);
    options.expected_revision = revision;
    client.write(&options, edited).await?;
    Ok((format!("edited {path} at line {line}"), json!({ "how": how, "line": line })))
}

/// Puts text in place of some bytes; its line ends become those of the file.
fn replace(content: &[u8], range: Range<usize>, new_text: &str) -> Bytes {
    let before = content.get(..range.start).unwrap_or_default();
    let after = content.get(range.end..).unwrap_or_default();
    let new_text = if has_crlf(content) && !new_text.contains("\r\n") {
        Cow::Owned(new_text.replace('\n', "\r\n"))
    } else {
        Cow::Borrowed(new_text)
    };
    [before, new_text.as_bytes(), after].concat().into()
}

/// Whether the first line ends as DOS ends lines.
fn has_crlf(content: &[u8]) -> bool {
    memchr::memchr(b'\n', content)
        .and_then(|at| content.get(at.checked_sub(1)?))
        .is_some_and(|before| *before == b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_match_changes() {
        assert_eq!(replace(b"\xef\xbb\xbfone two \xff", 7..10, "2"), &b"\xef\xbb\xbfone 2 \xff"[..]);
        assert_eq!(replace(b"a\r\nb\r\n", 3..4, "x\ny"), &b"a\r\nx\r\ny\r\n"[..]);
        assert_eq!(replace(b"a\r\nb\n", 3..4, "x\r\ny"), &b"a\r\nx\r\ny\n"[..]);
        assert_eq!(replace(b"a\nb\r\n", 2..3, "x\ny"), &b"a\nx\ny\r\n"[..]);
    }
}

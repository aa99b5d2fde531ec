//! What to list, in containerd's language of filters
//! (<https://github.com/containerd/containerd/blob/main/pkg/filters/filter.go>): selectors in one string must all hold,
//! of several strings one must; an empty one lets all through.

use crate::backend::{ContainerFilter, SnapshotFilter};
use std::collections::BTreeMap;

/// The containers that a filter lets through.
pub(super) fn containers(filter: &ContainerFilter) -> String {
    let mut selectors: Vec<String> = with_labels(&filter.labels).collect();
    selectors.extend(filter.has_label.as_ref().map(|key| format!("labels.{}", quoted(key))));
    selectors.extend(filter.id_prefix.as_ref().map(|prefix| starts_with("id", prefix)));
    selectors.join(",")
}

/// The snapshots that a filter lets through.
pub(super) fn snapshots(filter: &SnapshotFilter) -> String {
    let mut selectors: Vec<String> = with_labels(&filter.labels).collect();
    selectors.extend(filter.key_prefix.as_ref().map(|prefix| starts_with("name", prefix)));
    selectors.extend(filter.parent.as_ref().map(|parent| format!("parent=={}", quoted(parent))));
    selectors.join(",")
}

fn starts_with(field: &str, prefix: &str) -> String {
    format!("{field}~={}", quoted(&format!("^{}", literal(prefix))))
}

fn with_labels(labels: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    labels.iter().map(|(key, value)| format!("labels.{}=={}", quoted(key), quoted(value)))
}

/// A string as Go's syntax quotes it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A regular expression that matches just this text.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_quoted_and_joined() {
        assert_eq!(containers(&ContainerFilter::default()), "");
        let filter = ContainerFilter {
            labels: BTreeMap::from([("memoh.bot_id".to_owned(), "a\"b\\c,d\n".to_owned())]),
            has_label: Some("memoh.workspace".to_owned()),
            id_prefix: Some("mcp-x.y".to_owned()),
        };
        assert_eq!(
            containers(&filter),
            r#"labels."memoh.bot_id"=="a\"b\\c,d\u000a",labels."memoh.workspace",id~="^mcp\\-x\\.y""#
        );
        let filter = SnapshotFilter {
            key_prefix: Some("a-".to_owned()),
            parent: Some("b".to_owned()),
            ..SnapshotFilter::default()
        };
        assert_eq!(snapshots(&filter), r#"name~="^a\\-",parent=="b""#);
    }
}

use super::history::{History, history};
use super::version::name_of;
use crate::engine::EngineInner;
use crate::error::Result;
use crate::lifecycle::resolve::existing;
use crate::names::WorkspaceId;
use crate::types::{SnapshotVersion, TreeFormat, TreeOptions, VersionList, VersionTree, VersionsOptions};
use std::fmt::Write;

/// The versions of a workspace, a page of them.
pub(crate) async fn versions(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: &VersionsOptions,
) -> Result<VersionList> {
    let history = of(inner, id).await?;
    let current = history.position.follows;
    let mut page: Vec<SnapshotVersion> =
        shown(&history).into_iter().filter(|v| v.version > options.after).collect();
    let limit = if options.limit == 0 { usize::MAX } else { options.limit as usize };
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|last| last.version);
    Ok(VersionList { versions: page, current, next })
}

/// The whole history of a workspace.
pub(crate) async fn tree(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: &TreeOptions,
) -> Result<VersionTree> {
    let history = of(inner, id).await?;
    let versions = shown(&history);
    let text = options.format.map(|format| match format {
        TreeFormat::Mermaid => mermaid(&versions, history.position.follows),
        TreeFormat::Dot => dot(&versions, history.position.follows),
    });
    let roots = versions.iter().filter(|v| v.follows.is_none()).map(|v| v.version).collect();
    Ok(VersionTree { versions, roots, current: history.position.follows, text })
}

async fn of(inner: &EngineInner, id: &WorkspaceId) -> Result<History> {
    let found = existing(inner, id).await?;
    history(inner, id, &found).await
}

fn shown(history: &History) -> Vec<SnapshotVersion> {
    let mut followers = history.followers();
    let known = |number: u64| history.versions.iter().any(|version| version.version == number);
    history
        .versions
        .iter()
        .map(|version| SnapshotVersion {
            version: version.version,
            name: name_of(version),
            display_name: version.display_name.clone(),
            source: version.source.clone(),
            created_at: version.created_at.to_string(),
            runtime_snapshot_name: version.snapshot.clone(),
            follows: version.follows.filter(|follows| known(*follows)),
            followed_by: followers.remove(&version.version).unwrap_or_default(),
            current: history.position.follows == Some(version.version),
        })
        .collect()
}

/// What stands beside the names: the image at the root, and the workspace as it is now.
const IMAGE: &str = "image";
const NOW: &str = "now";

/// A name as both languages quote it: within double quotes, without what would end them.
fn quoted(name: &str, escape: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', escape))
}

/// <https://mermaid.js.org/syntax/flowchart.html>: entity codes stand for what would end a text.
fn mermaid(versions: &[SnapshotVersion], current: Option<u64>) -> String {
    let text = |name: &str| format!("\"{}\"", name.replace('#', "#35;").replace('"', "#quot;"));
    let mut out = format!("flowchart TD\n    {IMAGE}([{IMAGE}])\n");
    for version in versions {
        let (number, name) = (version.version, text(&version.name));
        let _ = writeln!(out, "    v{number}[{name}]");
        let _ = writeln!(out, "    {} --> v{number}", before(version.follows));
    }
    let _ = writeln!(out, "    {NOW}(({NOW}))\n    {} --> {NOW}", before(current));
    let _ = writeln!(out, "    style {NOW} stroke-width:3px");
    out
}

/// <https://graphviz.org/doc/info/lang.html>.
fn dot(versions: &[SnapshotVersion], current: Option<u64>) -> String {
    let mut out = format!("digraph versions {{\n    node [shape=box];\n    {IMAGE} [shape=oval];\n");
    for version in versions {
        let (number, name) = (version.version, quoted(&version.name, "\\\""));
        let _ = writeln!(out, "    v{number} [label={name}];");
        let _ = writeln!(out, "    {} -> v{number};", before(version.follows));
    }
    let _ = writeln!(out, "    {NOW} [shape=doublecircle];\n    {} -> {NOW};\n}}", before(current));
    out
}

fn before(follows: Option<u64>) -> String {
    follows.map_or_else(|| IMAGE.to_owned(), |follows| format!("v{follows}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawings_are_quoted_and_mark_the_position() {
        let version = |version, name: &str, follows| SnapshotVersion {
            version,
            name: name.to_owned(),
            follows,
            ..SnapshotVersion::default()
        };
        let versions =
            [version(1, "a \"b\" #1", None), version(2, "back\\slash", Some(1)), version(3, "x", Some(1))];
        insta::assert_snapshot!(mermaid(&versions, Some(3)));
        insta::assert_snapshot!(dot(&versions, Some(3)));
        assert!(dot(&[], None).contains("image -> now;"));
    }
}

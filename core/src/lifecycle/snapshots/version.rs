use crate::backend::{Snapshot, SnapshotFilter, SnapshotKind};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::lifecycle::create::{labels, labels_of_writable};
use crate::names::WorkspaceId;
use crate::store::VersionRecord;
use std::collections::BTreeMap;

/// The labels that tell a version from any other snapshot.
const VERSION: &str = "dunnage.version";
pub(super) const NAME: &str = "dunnage.name";
pub(super) const SOURCE: &str = "dunnage.source";
const CONTAINER: &str = "dunnage.container";
const CREATED_AT: &str = "dunnage.created-at";
/// On a version, and on a writable snapshot that a workspace moves to: the writable snapshot that is left.
pub(super) const LEFT: &str = "dunnage.left";
/// On a version that is made of what is left: the writable snapshot that the workspace goes on in, and what that stands on.
pub(super) const NEXT: &str = "dunnage.next";
pub(super) const ONTO: &str = "dunnage.onto";

/// What versions and writable snapshots have both: the version they go on from, and how many layers above the image they
/// have or stand on.
const FOLLOWS: &str = "dunnage.follows";
pub(super) const DEPTH: &str = "dunnage.depth";

/// What a writable snapshot alone has: the highest number that was given, and which history its versions are.
const LAST: &str = "dunnage.last-version";
const HISTORY: &str = "dunnage.history";

/// What a writable snapshot's workspace was made of.
pub(super) const IMAGE: &str = "dunnage.image";

/// What a fork's snapshots have: the workspace and version it goes on from.
const FORKED_FROM: &str = "dunnage.forked-from";

/// A snapshot that has the content of versions below others and is none itself.
const BASE: &str = "dunnage.base";

/// A snapshot whose workspace is gone, or has removed the version, while another workspace stands on it.
const LEFT_TO_OTHERS: &str = "dunnage.left-to-others";

/// The longest name, in characters: with four bytes each it still fits into a label.
pub(super) const MAX_NAME: usize = 200;
/// The longest word for why a version was made.
const MAX_SOURCE: usize = 64;

/// Where a writable snapshot is in its workspace's history.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::lifecycle) struct Position {
    /// The version it goes on from.
    pub(in crate::lifecycle) follows: Option<u64>,
    /// How many layers above the image it stands on.
    pub(in crate::lifecycle) depth: u32,
    /// The highest number that was ever given.
    pub(in crate::lifecycle) last: u64,
    /// Which history it belongs to: every change of the versions gives it another.
    pub(in crate::lifecycle) stamp: String,
    /// The workspace and version it was forked from, as `id/version`.
    pub(in crate::lifecycle) forked_from: Option<String>,
    /// The image of the workspace, in the full form.
    pub(in crate::lifecycle) image: Option<String>,
}

impl Position {
    /// The labels of a writable snapshot that is there.
    pub(in crate::lifecycle) fn to_labels(
        &self,
        config: &Config,
        id: &WorkspaceId,
    ) -> BTreeMap<String, String> {
        let mut labels = labels_of_writable(config, id);
        let mut put = |key: &str, value: String| labels.insert(key.to_owned(), value);
        if let Some(follows) = self.follows {
            put(FOLLOWS, follows.to_string());
        }
        put(DEPTH, self.depth.to_string());
        put(LAST, self.last.to_string());
        // An empty label is as good as none.
        if !self.stamp.is_empty() {
            put(HISTORY, self.stamp.clone());
        }
        self.add_origin(&mut labels);
        labels
    }

    /// Adds the labels of what the workspace was made of.
    pub(super) fn add_origin(&self, labels: &mut BTreeMap<String, String>) {
        let origin = [(IMAGE, &self.image), (FORKED_FROM, &self.forked_from)];
        labels.extend(origin.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))));
    }

    /// Where a snapshot is, as its labels tell.
    pub(in crate::lifecycle) fn of(snapshot: &Snapshot) -> Self {
        let number = |key: &str| snapshot.labels.get(key).and_then(|value| value.parse().ok());
        Self {
            follows: number(FOLLOWS),
            depth: number(DEPTH).and_then(|depth| u32::try_from(depth).ok()).unwrap_or_default(),
            last: number(LAST).unwrap_or_default(),
            stamp: snapshot.labels.get(HISTORY).cloned().unwrap_or_default(),
            forked_from: snapshot.labels.get(FORKED_FROM).cloned(),
            image: snapshot.labels.get(IMAGE).cloned(),
        }
    }
}

/// What a version is called.
pub(super) fn name_of(record: &VersionRecord) -> String {
    if record.display_name.is_empty() {
        format!("Version {}", record.version)
    } else {
        record.display_name.clone()
    }
}

/// A display name no longer than one may be.
pub(super) fn cut(name: String) -> String {
    match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) => name[..end].to_owned(),
        None => name,
    }
}

/// Checks what a caller wants a version to be called and for what it is made.
///
/// # Errors
/// INVALID_ARGUMENT that names the field.
pub(super) fn check(name: Option<&str>, source: Option<&str>) -> Result<(String, String)> {
    let bad = |field: &'static str, what: &str, value: &str| {
        Error::invalid_argument(format!("malformed option {field}: {what}"))
            .with("field", field)
            .with("value", format!("{value:?}"))
    };
    let name = name.unwrap_or_default();
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(bad("name", "use at most 200 characters and no control characters", name));
    }
    let source = source.unwrap_or("manual");
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if source.is_empty() || source.len() > MAX_SOURCE || !source.bytes().all(word) {
        return Err(bad("source", "use 1 to 64 characters of A-Z, a-z, 0-9, _ and -", source));
    }
    Ok((name.to_owned(), source.to_owned()))
}

/// Checks a version's number.
///
/// # Errors
/// INVALID_ARGUMENT for 0.
pub(super) fn check_number(version: u64) -> Result<()> {
    if version > 0 {
        return Ok(());
    }
    Err(Error::invalid_argument("malformed option version: versions count from 1")
        .with("field", "version")
        .with("value", version))
}

/// The error for a version that is not there.
pub(super) fn unknown(id: &WorkspaceId, version: u64) -> Error {
    Error::not_found("the workspace has no such version: list its versions")
        .with("workspace", id)
        .with("version", version)
}

/// The labels of a version's snapshot.
pub(super) fn to_labels(
    config: &Config,
    id: &WorkspaceId,
    record: &VersionRecord,
) -> BTreeMap<String, String> {
    let mut labels = labels(config, id);
    let mut put = |key: &str, value: String| labels.insert(key.to_owned(), value);
    put(VERSION, record.version.to_string());
    put(SOURCE, record.source.clone());
    put(CONTAINER, record.container_id.clone());
    put(CREATED_AT, record.created_at.to_string());
    put(DEPTH, record.depth.to_string());
    if let Some(follows) = record.follows {
        put(FOLLOWS, follows.to_string());
    }
    if !record.display_name.is_empty() {
        put(NAME, record.display_name.clone());
    }
    labels
}

/// The version that a snapshot is, as its labels tell; none when it is no version.
pub(in crate::lifecycle) fn from_labels(snapshotter: &str, snapshot: &Snapshot) -> Option<VersionRecord> {
    let label = |key: &str| snapshot.labels.get(key);
    if snapshot.kind != SnapshotKind::Committed {
        return None;
    }
    let position = Position::of(snapshot);
    Some(VersionRecord {
        version: label(VERSION)?.parse().ok().filter(|version| *version > 0)?,
        container_id: label(CONTAINER).cloned().unwrap_or_default(),
        snapshotter: snapshotter.to_owned(),
        snapshot: snapshot.key.clone(),
        parent: snapshot.parent.clone(),
        display_name: label(NAME).cloned().unwrap_or_default(),
        source: label(SOURCE).cloned().unwrap_or_else(|| "managed".to_owned()),
        created_at: label(CREATED_AT).and_then(|at| at.parse().ok()).unwrap_or(snapshot.created_at),
        follows: position.follows,
        depth: position.depth,
    })
}

/// The labels of a snapshot that others stand on and that is no version.
pub(super) fn base_labels(config: &Config, id: &WorkspaceId, depth: u32) -> BTreeMap<String, String> {
    let mut labels = labels(config, id);
    labels.insert(BASE.to_owned(), "1".to_owned());
    labels.insert(DEPTH.to_owned(), depth.to_string());
    labels
}

/// Whether a snapshot is such a base.
pub(super) fn is_base(snapshot: &Snapshot) -> bool {
    snapshot.labels.contains_key(BASE)
}

/// The labels of a snapshot that its workspace has left to the others that stand on it.
pub(super) fn left_labels(snapshot: &Snapshot, config: &Config) -> BTreeMap<String, String> {
    let gone = [config.names.id_label.as_str(), VERSION, BASE, FOLLOWS, HISTORY, LAST];
    let mut labels = snapshot.labels.clone();
    labels.retain(|key, _| !gone.contains(&key.as_str()) && !key.starts_with("containerd.io/gc."));
    labels.insert(LEFT_TO_OTHERS.to_owned(), "1".to_owned());
    labels
}

/// What lets through only snapshots that were left to others.
pub(super) fn left_filter() -> SnapshotFilter {
    let labels = BTreeMap::from([(LEFT_TO_OTHERS.to_owned(), "1".to_owned())]);
    SnapshotFilter { labels, ..SnapshotFilter::default() }
}

/// Whether a snapshot was left to others.
pub(super) fn is_left(snapshot: &Snapshot) -> bool {
    snapshot.labels.contains_key(LEFT_TO_OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn record() -> VersionRecord {
        VersionRecord {
            version: 7,
            container_id: "workspace-a".to_owned(),
            snapshotter: "overlayfs".to_owned(),
            snapshot: "workspace-a-snapshot-1".to_owned(),
            parent: "below".to_owned(),
            display_name: "before the \"upgrade\" ✓".to_owned(),
            source: "pre_exec".to_owned(),
            created_at: "2026-01-02T03:04:05.678901234Z".parse().unwrap(),
            follows: Some(5),
            depth: 3,
        }
    }

    fn snapshot(kind: SnapshotKind, labels: BTreeMap<String, String>) -> Snapshot {
        Snapshot {
            key: record().snapshot,
            parent: record().parent,
            kind,
            labels,
            created_at: Timestamp::now(),
            updated_at: Timestamp::now(),
        }
    }

    #[test]
    fn labels_tell_all_of_a_version() {
        let id = WorkspaceId::new("a").unwrap();
        let plain = VersionRecord { display_name: String::new(), follows: None, ..record() };
        for record in [record(), plain] {
            let mut snapshot = snapshot(SnapshotKind::Committed, to_labels(&Config::default(), &id, &record));
            assert_eq!(from_labels("overlayfs", &snapshot), Some(record));
            let left = left_labels(&snapshot, &Config::default());
            snapshot.kind = SnapshotKind::Active;
            assert_eq!(from_labels("overlayfs", &snapshot), None);
            let left = Snapshot { labels: left, kind: SnapshotKind::Committed, ..snapshot };
            assert!(is_left(&left) && from_labels("overlayfs", &left).is_none());
        }
    }

    #[test]
    fn labels_tell_where_a_writable_snapshot_is() {
        let id = WorkspaceId::new("a").unwrap();
        let position = Position {
            follows: Some(3),
            depth: 9,
            last: 12,
            stamp: "x".to_owned(),
            forked_from: Some("b/4".to_owned()),
            image: Some("docker.io/library/x:1".to_owned()),
        };
        for position in [position, Position::default()] {
            let labels = position.to_labels(&Config::default(), &id);
            assert_eq!(Position::of(&snapshot(SnapshotKind::Active, labels)), position);
        }
    }

    #[test]
    fn names_and_sources_are_checked() {
        assert_eq!(check(None, None).unwrap(), (String::new(), "manual".to_owned()));
        let long = "ä".repeat(200);
        assert_eq!(check(Some(&long), Some("a-B_9")).unwrap(), (long, "a-B_9".to_owned()));
        for (name, source, field) in [
            (Some("x".repeat(201)), None, "name"),
            (Some("a\nb".to_owned()), None, "name"),
            (None, Some(String::new()), "source"),
            (None, Some("a b".to_owned()), "source"),
            (None, Some("x".repeat(65)), "source"),
        ] {
            let error = check(name.as_deref(), source.as_deref()).unwrap_err();
            assert!(error.context().any(|(key, value)| (key, value) == ("field", field)), "{error}");
        }
    }
}

use crate::backend::{Snapshot, SnapshotKind};
use crate::config::Config;
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::lifecycle::create::labels;
use crate::lifecycle::resolve::Found;
use crate::names::WorkspaceId;
use crate::store::VersionRecord;
use std::collections::BTreeMap;

/// The labels that tell a version from any other snapshot.
const VERSION: &str = "dunnage.version";
const NAME: &str = "dunnage.name";
const SOURCE: &str = "dunnage.source";
const CONTAINER: &str = "dunnage.container";
const CREATED_AT: &str = "dunnage.created-at";
/// On a version, and on a writable snapshot that a workspace moves to: the writable snapshot that is left.
pub(super) const LEFT: &str = "dunnage.left";
/// On a version that is made of what is left: the writable snapshot that the workspace goes on in, and what that stands on.
pub(super) const NEXT: &str = "dunnage.next";
pub(super) const ONTO: &str = "dunnage.onto";

/// The longest name, in characters: with four bytes each it still fits into a label.
const MAX_NAME: usize = 200;
/// The longest word for why a version was made.
const MAX_SOURCE: usize = 64;

/// What a version is called.
pub(super) fn name_of(record: &VersionRecord) -> String {
    if record.display_name.is_empty() {
        format!("Version {}", record.version)
    } else {
        record.display_name.clone()
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

/// The labels of a version's snapshot.
pub(super) fn to_labels(
    config: &Config,
    id: &WorkspaceId,
    record: &VersionRecord,
) -> BTreeMap<String, String> {
    let mut labels = labels(config, id);
    labels.insert(VERSION.to_owned(), record.version.to_string());
    labels.insert(SOURCE.to_owned(), record.source.clone());
    labels.insert(CONTAINER.to_owned(), record.container_id.clone());
    labels.insert(CREATED_AT.to_owned(), record.created_at.to_string());
    if !record.display_name.is_empty() {
        labels.insert(NAME.to_owned(), record.display_name.clone());
    }
    labels
}

/// The version that a snapshot is, as its labels tell; none when it is no version.
pub(in crate::lifecycle) fn from_labels(snapshotter: &str, snapshot: &Snapshot) -> Option<VersionRecord> {
    let label = |key: &str| snapshot.labels.get(key);
    if snapshot.kind != SnapshotKind::Committed {
        return None;
    }
    Some(VersionRecord {
        version: label(VERSION)?.parse().ok().filter(|version| *version > 0)?,
        container_id: label(CONTAINER).cloned().unwrap_or_default(),
        snapshotter: snapshotter.to_owned(),
        snapshot: snapshot.key.clone(),
        parent: snapshot.parent.clone(),
        display_name: label(NAME).cloned().unwrap_or_default(),
        source: label(SOURCE).cloned().unwrap_or_else(|| "managed".to_owned()),
        created_at: label(CREATED_AT).and_then(|at| at.parse().ok()).unwrap_or(snapshot.created_at),
    })
}

/// The versions of a workspace, ordered by number.
///
/// Where the records do not know the version the workspace stands on, they are lost or older than it is: they are
/// completed from the labels.
pub(in crate::lifecycle) async fn versions(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
) -> Result<Vec<VersionRecord>> {
    let versions = inner.store.versions(id).await?;
    let (snapshotter, key) = (&found.container.snapshotter, &found.container.snapshot_key);
    let Some(active) = inner.backend.snapshot(snapshotter, key).await? else { return Ok(versions) };
    let known = |snapshot: &str| versions.iter().any(|version| version.snapshot == snapshot);
    if active.parent.is_empty() || known(&active.parent) {
        return Ok(versions);
    }
    let below = inner.backend.snapshot(snapshotter, &active.parent).await?;
    if below.and_then(|below| from_labels(snapshotter, &below)).is_none() {
        return Ok(versions);
    }
    let ours = BTreeMap::from([(inner.config.names.id_label.clone(), id.to_string())]);
    for snapshot in inner.backend.snapshots(snapshotter, &ours).await? {
        if let Some(version) = from_labels(snapshotter, &snapshot) {
            inner.store.add_version(id, &version).await?;
        }
    }
    inner.store.versions(id).await
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
        }
    }

    #[test]
    fn labels_tell_all_of_a_version() {
        let id = WorkspaceId::new("a").unwrap();
        for record in [record(), VersionRecord { display_name: String::new(), ..record() }] {
            let mut snapshot = Snapshot {
                key: record.snapshot.clone(),
                parent: record.parent.clone(),
                kind: SnapshotKind::Committed,
                labels: to_labels(&Config::default(), &id, &record),
                created_at: Timestamp::now(),
                updated_at: Timestamp::now(),
            };
            assert_eq!(from_labels("overlayfs", &snapshot), Some(record));
            snapshot.kind = SnapshotKind::Active;
            assert_eq!(from_labels("overlayfs", &snapshot), None);
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

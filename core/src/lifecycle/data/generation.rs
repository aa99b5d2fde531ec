//! What is preserved of a workspace's data: numbered generations, each an archive or a snapshot.
//!
//! A generation counts once its description `backups/<workspace>/<number>.json` is written: that comes last when it is made
//! and goes first when it is removed. The description of one that is a snapshot is also a label of that, so that it is found
//! when the data root is lost.

use crate::backend::{Graft, Snapshot, SnapshotFilter, SnapshotKind};
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::failpoints::step;
use crate::lifecycle::create::HOME;
use crate::names::WorkspaceId;
use crate::own_file::{self, Durability};
use crate::types::{PreserveForm, PreservedData};
use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The labels of a snapshot that is a generation: the workspace, and the description.
const OF: &str = "dunnage.preserved-of";
const DESCRIPTION: &str = "dunnage.preserved";

/// What an archive in the making is called.
const PART: &str = ".part-";

/// Preserved data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::lifecycle) struct Generation {
    #[serde(flatten)]
    pub(in crate::lifecycle) data: PreservedData,
    /// Of a snapshot: where it is kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(in crate::lifecycle) snapshotter: Option<String>,
    /// Of a snapshot: the directory in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(in crate::lifecycle) data_dir: Option<PathBuf>,
}

impl Generation {
    /// The labels of the snapshot that it is.
    pub(super) fn labels(&self, inner: &EngineInner, id: &WorkspaceId) -> Result<BTreeMap<String, String>> {
        let mut labels = mark(inner, id);
        labels.insert(DESCRIPTION.to_owned(), self.to_text()?);
        Ok(labels)
    }

    fn to_text(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|e| Error::unexpected("cannot write what is preserved").caused_by(e))
    }
}

/// The labels of all snapshots that are generations, or become one.
fn mark(inner: &EngineInner, id: &WorkspaceId) -> BTreeMap<String, String> {
    BTreeMap::from([(OF.to_owned(), id.to_string()), (HOME.to_owned(), inner.config.home_mark())])
}

fn failed(error: impl Into<io::Error>, path: &Path) -> Error {
    Error::io(error.into(), "cannot work on the preserved data").with("path", path.display())
}

fn described(inner: &EngineInner, id: &WorkspaceId, number: u64) -> PathBuf {
    inner.config.backups(id).join(format!("{number}.json"))
}

/// Where the archive of a generation is.
pub(super) fn archive(inner: &EngineInner, id: &WorkspaceId, number: u64) -> PathBuf {
    inner.config.backups(id).join(format!("{number}.tar.gz"))
}

/// Where an archive is made.
pub(super) fn part(inner: &EngineInner, id: &WorkspaceId, operation: &str) -> PathBuf {
    inner.config.backups(id).join(format!("{PART}{operation}"))
}

/// All generations of a workspace, the newest first.
pub(in crate::lifecycle) async fn all(inner: &EngineInner, id: &WorkspaceId) -> Result<Vec<Generation>> {
    let mut found: BTreeMap<u64, Generation> =
        written(inner, id)?.into_iter().map(|one| (one.data.generation, one)).collect();
    let mut there = BTreeSet::new();
    for (_, snapshot) in snapshots(inner, id, found.values()).await? {
        let told = snapshot.labels.get(DESCRIPTION).map(|told| serde_json::from_str::<Generation>(told));
        let Some(Ok(told)) = told else { continue };
        there.insert(snapshot.key);
        found.entry(told.data.generation).or_insert(told);
    }
    found.retain(|_, one| one.data.snapshot_name.as_ref().is_none_or(|name| there.contains(name)));
    if let Some(foreign) = foreign(inner, id)? {
        let number = found.last_key_value().map_or(1, |(last, _)| last + 1);
        found.insert(number, undescribed(number, &inner.config.newest_backup(id), &foreign));
    }
    Ok(found.into_values().rev().collect())
}

/// The snapshots that are generations of a workspace, or were to become one, each with its snapshotter.
async fn snapshots(
    inner: &EngineInner,
    id: &WorkspaceId,
    known: impl Iterator<Item = &Generation>,
) -> Result<Vec<(String, Snapshot)>> {
    let mut snapshotters: BTreeSet<String> = known.filter_map(|one| one.snapshotter.clone()).collect();
    snapshotters.insert(inner.config.containerd.snapshotter.clone());
    let filter = SnapshotFilter { labels: mark(inner, id), ..SnapshotFilter::default() };
    let mut found = Vec::new();
    for snapshotter in snapshotters {
        let there = inner.backend.snapshots(&snapshotter, std::slice::from_ref(&filter)).await?;
        let committed = there.into_iter().filter(|snapshot| snapshot.kind == SnapshotKind::Committed);
        found.extend(committed.map(|snapshot| (snapshotter.clone(), snapshot)));
    }
    Ok(found)
}

/// One of them: of this number, or the newest.
///
/// # Errors
/// NOT_FOUND.
pub(in crate::lifecycle) async fn pick(
    inner: &EngineInner,
    id: &WorkspaceId,
    number: Option<u64>,
) -> Result<Generation> {
    let mut found = all(inner, id).await?.into_iter();
    let picked = match number {
        Some(number) => found.find(|one| one.data.generation == number),
        None => found.next(),
    };
    picked.ok_or_else(|| {
        let error =
            Error::not_found("nothing is preserved of the workspace's data, or not under that number");
        match number {
            Some(number) => error.with("generation", number),
            None => error,
        }
    })
}

/// The one of this number.
///
/// # Errors
/// NOT_FOUND.
pub(in crate::lifecycle) async fn number(
    inner: &EngineInner,
    id: &WorkspaceId,
    number: u64,
) -> Result<Generation> {
    pick(inner, id, Some(number)).await
}

/// Those that are described.
fn written(inner: &EngineInner, id: &WorkspaceId) -> Result<Vec<Generation>> {
    let dir = inner.config.backups(id);
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| failed(e, &dir))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| failed(e, &dir))?.path();
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        let Some(number) = number.filter(|_| path.extension().is_some_and(|ending| ending == "json")) else {
            continue;
        };
        let text = match std::fs::read(&path) {
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text.map_err(|e| failed(e, &path))?,
        };
        let mut one: Generation = serde_json::from_slice(&text).map_err(|e| {
            Error::data_corrupt("the description of preserved data cannot be read")
                .with("path", path.display())
                .caused_by(e)
        })?;
        one.data.generation = number;
        if one.data.form == PreserveForm::Archive {
            let archive = archive(inner, id, number);
            if !archive.is_file() {
                tracing::warn!(workspace = %id, path = %archive.display(), "a preserved archive is gone");
                continue;
            }
            one.data.path = Some(archive.display().to_string());
        }
        found.push(one);
    }
    Ok(found)
}

/// The file at the place of the newest archive, when it is none of ours: another implementation's. An empty one is nothing.
fn foreign(inner: &EngineInner, id: &WorkspaceId) -> Result<Option<std::fs::Metadata>> {
    let newest = inner.config.newest_backup(id);
    let file = match newest.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|e| failed(e, &newest))?,
    };
    // Ours has a second name in the workspace's directory.
    Ok((file.is_file() && file.nlink() == 1 && file.len() > 0).then_some(file))
}

fn undescribed(number: u64, path: &Path, file: &std::fs::Metadata) -> Generation {
    let at = file.modified().ok().and_then(|at| Timestamp::try_from(at).ok()).unwrap_or_default();
    Generation {
        data: PreservedData {
            generation: number,
            form: PreserveForm::Archive,
            created_at: at.to_string(),
            entries: 0,
            bytes: 0,
            archive_bytes: file.len(),
            digest: None,
            path: Some(path.display().to_string()),
            snapshot_name: None,
            image: String::new(),
            version: None,
            restored_at: None,
        },
        snapshotter: None,
        data_dir: None,
    }
}

/// Makes the workspace's directory, removes what a process that is gone has left half made there, and takes another
/// implementation's archive into the order of generations. The caller holds the lock.
pub(super) async fn tidy(inner: &EngineInner, id: &WorkspaceId) -> Result<()> {
    let dir = inner.config.backups(id);
    make(&dir)?;
    let numbers: BTreeSet<u64> = written(inner, id)?.iter().map(|one| one.data.generation).collect();
    for entry in std::fs::read_dir(&dir).map_err(|e| failed(e, &dir))? {
        let path = entry.map_err(|e| failed(e, &dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.strip_suffix(".tar.gz").and_then(|number| number.parse::<u64>().ok());
        let half =
            number.is_some_and(|number| !numbers.contains(&number) && !described(inner, id, number).exists());
        if name.starts_with(PART) || half {
            remove_file(&path)?;
        }
    }
    let written = written(inner, id)?;
    for (snapshotter, snapshot) in snapshots(inner, id, written.iter()).await? {
        if !snapshot.labels.contains_key(DESCRIPTION) {
            inner.backend.remove_snapshot(&snapshotter, &snapshot.key).await?;
        }
    }
    let newest = inner.config.newest_backup(id);
    let Some(file) = foreign(inner, id)? else { return Ok(()) };
    let number = all(inner, id).await?.first().map_or(1, |one| one.data.generation);
    // Described first: a file of its number without description would be taken for half made.
    let one = undescribed(number, &archive(inner, id, number), &file);
    own_file::write(&described(inner, id, number), one.to_text()?.as_bytes(), 0o600, Durability::Synced)
        .map_err(|e| failed(e, &dir))?;
    place(&newest, &archive(inner, id, number))?;
    relink(inner, id)
}

/// Makes the snapshot that a generation is, of a committed one that has its directory, and notes how much that is.
pub(super) async fn graft(
    inner: &EngineInner,
    id: &WorkspaceId,
    one: &mut Generation,
    from: &str,
) -> Result<()> {
    let path = one.data_dir.clone().unwrap_or_default();
    let snapshotter = one.snapshotter.clone().unwrap_or_default();
    let name = one.data.snapshot_name.clone().unwrap_or_default();
    let graft = Graft {
        snapshotter: snapshotter.clone(),
        from: from.to_owned(),
        path: path.clone(),
        parent: String::new(),
        onto: path,
        name: name.clone(),
        // Without a description it does not count.
        labels: mark(inner, id),
    };
    let made = inner.backend.graft_snapshot(&graft).await?;
    let made = made.ok_or_else(|| Error::failed_precondition("the data directory went away meanwhile"))?;
    (one.data.entries, one.data.bytes) = (made.entries, made.bytes);
    // Only with its description it is found again.
    let labelled = inner.backend.label_snapshot(&snapshotter, &name, &one.labels(inner, id)?, true).await;
    if labelled.is_err() {
        inner.backend.remove_snapshot(&snapshotter, &name).await?;
    }
    labelled
}

fn make(dir: &Path) -> Result<()> {
    let _step = step("backup.dir");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| failed(e, dir))
}

pub(super) fn remove_file(path: &Path) -> Result<()> {
    let _step = step("backup.remove");
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error, path)),
        _ => Ok(()),
    }
}

/// Gives a whole file its name, where nothing may be.
pub(super) fn place(from: &Path, to: &Path) -> Result<()> {
    let _step = step("backup.place");
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(|e| failed(e, to))?;
    sync(to.parent().unwrap_or(Path::new("/")))
}

fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| failed(e, dir))
}

/// Lets a generation count: its archive or snapshot is there.
pub(super) fn describe(inner: &EngineInner, id: &WorkspaceId, one: &Generation) -> Result<()> {
    let path = described(inner, id, one.data.generation);
    own_file::write(&path, one.to_text()?.as_bytes(), 0o600, Durability::Synced)
        .map_err(|e| failed(e, &path))?;
    relink(inner, id)
}

/// Gives the newest archive its second name.
fn relink(inner: &EngineInner, id: &WorkspaceId) -> Result<()> {
    let _step = step("backup.link");
    let link = inner.config.newest_backup(id);
    if foreign(inner, id)?.is_some() {
        // It is never replaced: it becomes a generation when the next one is made.
        return Ok(());
    }
    let archives = written(inner, id)?;
    let archives = archives.iter().filter(|one| one.data.form == PreserveForm::Archive);
    let Some(newest) = archives.map(|one| one.data.generation).max() else {
        return remove_file(&link);
    };
    let newest = archive(inner, id, newest);
    let same = |a: &Path, b: &Path| match (a.symlink_metadata(), b.symlink_metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    };
    if same(&newest, &link) {
        return Ok(());
    }
    let fresh = inner.config.backups(id).join(format!("{PART}link"));
    remove_file(&fresh)?;
    match std::fs::hard_link(&newest, &fresh) {
        // A file system without links has the archives under their own names alone.
        Err(error)
            if Errno::from_io_error(&error).is_some_and(|e| matches!(e, Errno::PERM | Errno::OPNOTSUPP)) =>
        {
            return Ok(());
        }
        linked => linked.map_err(|e| failed(e, &fresh))?,
    }
    std::fs::rename(&fresh, &link).map_err(|e| failed(e, &link))?;
    // A rename to another name of the same file does nothing, and leaves the first name.
    remove_file(&fresh)?;
    sync(link.parent().unwrap_or(Path::new("/")))
}

/// Removes a generation. One that is gone is no fault.
pub(super) async fn remove(inner: &EngineInner, id: &WorkspaceId, one: &Generation) -> Result<()> {
    let number = one.data.generation;
    remove_file(&described(inner, id, number))?;
    if let (Some(snapshotter), Some(name)) = (&one.snapshotter, &one.data.snapshot_name) {
        inner.backend.remove_snapshot(snapshotter, name).await?;
        return Ok(());
    }
    relink(inner, id)?;
    remove_file(&archive(inner, id, number))
}

/// Removes the oldest generations, where there are more than are to be kept. Returns their numbers.
pub(super) async fn drop_old(inner: &EngineInner, id: &WorkspaceId) -> Result<Vec<u64>> {
    let keep = usize::try_from(inner.config.data.keep_generations).unwrap_or(usize::MAX);
    let mut dropped = Vec::new();
    for one in all(inner, id).await?.iter().skip(keep) {
        remove(inner, id, one).await?;
        dropped.push(one.data.generation);
    }
    Ok(dropped)
}

/// Notes that a generation was put back.
pub(in crate::lifecycle) fn restored(
    inner: &EngineInner,
    id: &WorkspaceId,
    one: &Generation,
) -> Result<PreservedData> {
    let mut one = one.clone();
    one.data.restored_at = Some(Timestamp::now().to_string());
    describe(inner, id, &one)?;
    Ok(one.data)
}

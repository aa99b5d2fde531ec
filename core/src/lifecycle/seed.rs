//! The data that a new workspace begins with.

use super::data::{self, Generation};
use super::snapshots::{self, DataGraft};
use crate::backend::SnapshotDir;
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoints::step;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Which preserved data a new workspace is to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restore {
    No,
    /// The newest, unless a workspace has had it back already: for one whose container was lost.
    Lost,
    /// The newest.
    Newest,
}

/// What a new workspace begins with.
#[derive(Debug)]
pub(super) enum Seed {
    /// The data directory of a snapshot, below its own; and the generation that it is.
    Graft(DataGraft, Option<Box<Generation>>),
    /// What an archive has.
    Archive(Box<Generation>),
    /// A directory of the host, in which an older implementation kept the data.
    Directory(Directory),
}

/// A directory of the host that is taken over once, and where it is moved then.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Directory {
    from: PathBuf,
    to: PathBuf,
}

/// What of a seed an undo has to know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct SeedIntent {
    /// The snapshot that is made for it.
    #[serde(default)]
    pub(super) graft: Option<String>,
    #[serde(default)]
    generation: Option<u64>,
    #[serde(default)]
    directory: Option<Directory>,
}

impl Seed {
    pub(super) fn intent(&self) -> SeedIntent {
        let number = |one: &Generation| one.data.generation;
        match self {
            Self::Graft(graft, one) => SeedIntent {
                graft: Some(graft.name.clone()),
                generation: one.as_deref().map(number),
                directory: None,
            },
            Self::Archive(one) => SeedIntent { generation: Some(number(one)), ..SeedIntent::default() },
            Self::Directory(directory) => {
                SeedIntent { directory: Some(directory.clone()), ..SeedIntent::default() }
            }
        }
    }
}

/// Finds out what a workspace begins with whose writable snapshot is about to be made. `kept` are the versions that were made
/// just now of what it had before; the newest is the last.
pub(super) async fn find(
    inner: &EngineInner,
    id: &WorkspaceId,
    container: &str,
    restore: Restore,
    kept: &[String],
) -> Result<Option<Seed>> {
    if let Some(directory) = directory(inner, id)? {
        return Ok(Some(Seed::Directory(directory)));
    }
    if restore == Restore::No {
        return Ok(None);
    }
    let data_dir = &inner.config.guest.data_dir;
    if let Some(from) = kept.last() {
        let graft = DataGraft {
            from: from.clone(),
            path: data_dir.clone(),
            onto: data_dir.clone(),
            name: format!("{container}-data-{}", Timestamp::now().as_nanosecond()),
            amount: None,
        };
        return Ok(Some(Seed::Graft(graft, None)));
    }
    let Some(newest) = data::generations(inner, id).await?.into_iter().next() else { return Ok(None) };
    if restore == Restore::Lost && newest.data.restored_at.is_some() {
        return Ok(None);
    }
    Ok(Some(match data::graft_of(inner, container, &newest) {
        Some(graft) => Seed::Graft(graft, Some(Box::new(newest))),
        None => Seed::Archive(Box::new(newest)),
    }))
}

/// The directory in which an older implementation kept the workspace's data, unless it was taken over before.
fn directory(inner: &EngineInner, id: &WorkspaceId) -> Result<Option<Directory>> {
    let from = inner.config.data_root.join("bots").join(id.as_str());
    match from.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Error::io(error, "cannot look for older data of the workspace").with("path", from.display()))
        }
        // A link leads to what somebody else may own.
        Ok(found) if !found.is_dir() => Ok(None),
        Ok(_) => {
            let plain = from.with_file_name(format!("{id}.migrated"));
            let to = if plain.symlink_metadata().is_ok() {
                from.with_file_name(format!("{id}.migrated-{}", Timestamp::now().as_nanosecond()))
            } else {
                plain
            };
            Ok(Some(Directory { from, to }))
        }
    }
}

/// Puts the seed into the data directory of a writable snapshot on which nothing runs yet. One that is below it already
/// stays there.
pub(super) async fn fill(
    inner: &EngineInner,
    seed: &Seed,
    snapshotter: &str,
    key: &str,
    context: &OperationContext,
) -> Result<()> {
    let dir = SnapshotDir {
        snapshotter: snapshotter.to_owned(),
        key: key.to_owned(),
        path: inner.config.guest.data_dir.clone(),
    };
    let stage = format!("dunnage-{}", context.id());
    match seed {
        Seed::Graft(..) => return Ok(()),
        Seed::Archive(one) => {
            let staged = inner.backend.stage_dir(&dir, &stage, false).await?;
            data::from_archive(context, one, staged).await?;
        }
        Seed::Directory(directory) => {
            let staged = inner.backend.stage_dir(&dir, &stage, false).await?;
            data::from_directory(context, &directory.from, staged).await?;
        }
    }
    inner.backend.swap_dir(&dir, &stage).await?;
    inner.backend.unstage_dir(&dir, &stage).await?;
    if let Seed::Directory(directory) = seed {
        // From here on it is the workspace's, or, when its creation is undone, the directory's again.
        rename(&directory.from, &directory.to)?;
    }
    Ok(())
}

/// Takes back what a creation did outside of its writable snapshot, which is gone by now.
pub(super) async fn undo(inner: &EngineInner, snapshotter: &str, intent: &SeedIntent) -> Result<()> {
    if let Some(name) = &intent.graft {
        inner.backend.remove_snapshot(snapshotter, name).await?;
    }
    match &intent.directory {
        Some(Directory { from, to }) if !from.exists() && to.exists() => rename(to, from),
        _ => Ok(()),
    }
}

/// Notes that the generation was put back. That it cannot be noted is no fault of the creation.
pub(super) async fn note(inner: &EngineInner, id: &WorkspaceId, intent: &SeedIntent) {
    let Some(number) = intent.generation else { return };
    let noted = async {
        let one = data::generation(inner, id, number).await?;
        data::restored(inner, id, &one).map(drop)
    };
    if let Err(error) = noted.await {
        tracing::warn!(workspace = %id, generation = number, %error, "cannot note that the data was restored");
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    let _step = step("dir.rename");
    let renamed = rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE);
    renamed
        .map_err(io::Error::from)
        .and_then(|()| std::fs::File::open(from.parent().unwrap_or(Path::new("/")))?.sync_all())
        .map_err(|e| {
            Error::io(e, "cannot move a directory of older data")
                .with("from", from.display())
                .with("to", to.display())
        })
}

/// Makes the snapshot that the seed has below the writable one, on `parent`. Returns what the writable one stands on.
pub(super) async fn below(
    inner: &EngineInner,
    id: &WorkspaceId,
    seed: &Seed,
    snapshotter: &str,
    parent: &str,
    depth: u32,
) -> Result<Option<String>> {
    let Seed::Graft(graft, one) = seed else { return Ok(None) };
    match snapshots::graft(inner, id, snapshotter, graft, parent, depth).await {
        // What the workspace has left has no data directory.
        Err(error) if error.kind() == ErrorKind::NotFound && one.is_none() => Ok(None),
        grafted => grafted.map(|()| Some(graft.name.clone())),
    }
}

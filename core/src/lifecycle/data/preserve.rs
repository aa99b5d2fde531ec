use super::carry::{Digesting, Load, carry};
use super::export::{Tree, write};
use super::generation::{self, Generation};
use super::still::Still;
use crate::backend::SnapshotDir;
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoints::step;
use crate::lifecycle::boot::halt;
use crate::lifecycle::millis;
use crate::lifecycle::recover::take;
use crate::lifecycle::resolve::{Found, existing};
use crate::lifecycle::snapshots::{self, Position};
use crate::lifecycle::start::start_existing;
use crate::lifecycle::stop::grace;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::types::{
    Consistency, DataPreserveOptions, DataPreserveResult, EventType, Phases, PreserveForm, PreservedData,
};
use dunnage_archive::{Limits, PackOptions, verify};
use jiff::Timestamp;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keeps a workspace's data as it is now.
pub(crate) async fn preserve(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: DataPreserveOptions,
    context: &OperationContext,
) -> Result<DataPreserveResult> {
    let began = Instant::now();
    let grace = grace(inner, options.grace_ms)?;
    let _guard = take(inner, id, context).await?;
    let found = existing(inner, id).await?;
    let mut phases = Phases::default();
    let kept = keep(inner, id, &found, options.form, After::Restart, grace, context, &mut phases).await?;
    phases.total = millis(began);
    Ok(DataPreserveResult {
        preserved: kept.preserved,
        dropped: kept.dropped,
        downtime_ms: kept.downtime_ms,
        phases_ms: phases,
    })
}

/// What becomes of a workspace that ran, once its data is preserved. After a fault it runs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lifecycle) enum After {
    Restart,
    Stay,
}

/// Data that was preserved.
#[derive(Debug, Default)]
pub(in crate::lifecycle) struct Kept {
    /// None when the workspace has no data directory.
    pub(in crate::lifecycle) preserved: Option<PreservedData>,
    dropped: Vec<u64>,
    downtime_ms: u64,
}

/// Preserves the data of a workspace. The caller holds the lock.
#[expect(clippy::too_many_arguments, reason = "all that its callers have found out")]
pub(in crate::lifecycle) async fn keep(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    form: PreserveForm,
    after: After,
    grace: Duration,
    context: &OperationContext,
    phases: &mut Phases,
) -> Result<Kept> {
    context.emit_kind(EventType::Preserving);
    generation::tidy(inner, id).await?;
    let last = generation::all(inner, id).await?.first().map_or(0, |one| one.data.generation);
    let container = &found.container;
    let active = inner.backend.snapshot(&container.snapshotter, &container.snapshot_key).await?;
    let position = active.as_ref().map(Position::of).unwrap_or_default();
    let one = Generation {
        data: PreservedData {
            generation: last + 1,
            form,
            created_at: Timestamp::now().to_string(),
            entries: 0,
            bytes: 0,
            archive_bytes: 0,
            digest: None,
            path: None,
            snapshot_name: None,
            image: container.image.clone(),
            version: position.follows,
            restored_at: None,
        },
        snapshotter: None,
        data_dir: None,
    };
    let layered = form == PreserveForm::Snapshot
        && inner.backend.has_layers(&container.snapshotter, &container.snapshot_key).await?;
    let mut work = Keeping { inner, id, found, after, grace, context, phases, downtime_ms: 0 };
    let made = if layered {
        match work.snapshot(one.clone()).await {
            // Something in it that layers cannot hold, such as a path that is too long.
            Err(error) if could_be_an_archive(&error) => {
                tracing::info!(workspace = %id, %error, "the data is preserved as an archive instead");
                work.archive(one).await?
            }
            made => made?,
        }
    } else {
        work.archive(one).await?
    };
    let downtime_ms = work.downtime_ms;
    let Some(made) = made else { return Ok(Kept { downtime_ms, ..Kept::default() }) };
    let dropped = generation::drop_old(inner, id).await?;
    Ok(Kept { preserved: Some(made.data), dropped, downtime_ms })
}

/// Whether a fault of the snapshotter's way leaves the other.
fn could_be_an_archive(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidArgument)
}

/// A preservation under way.
struct Keeping<'a> {
    inner: &'a EngineInner,
    id: &'a WorkspaceId,
    found: &'a Found,
    after: After,
    grace: Duration,
    context: &'a OperationContext,
    phases: &'a mut Phases,
    downtime_ms: u64,
}

impl Keeping<'_> {
    /// As an archive: written, on the disk, read back, and then let count.
    async fn archive(&mut self, one: Generation) -> Result<Option<Generation>> {
        let Self { inner, id, context, .. } = *self;
        let part = generation::part(inner, id, context.id());
        let mut still = Still::begin(inner, id, self.found, Consistency::Stop, false, context).await?;
        let packed = self.pack(&mut still, one, &part).await;
        if self.after == After::Restart || packed.is_err() {
            // It runs again while the archive is read back.
            let released = still.release(self.phases).await;
            let one = match packed.and_then(|one| released.map(|downtime| (one, downtime))) {
                Ok((one, downtime)) => {
                    self.downtime_ms = downtime;
                    one
                }
                Err(error) => {
                    generation::remove_file(&part)?;
                    return Err(error);
                }
            };
            return match one {
                Some(one) => self.count(one, &part).await.map(Some),
                None => Ok(None),
            };
        }
        let counted = match packed? {
            Some(one) => self.count(one, &part).await.map(Some),
            None => Ok(None),
        };
        match counted {
            Ok(one) => still.stay().await.map(|()| one),
            Err(error) => match still.release(self.phases).await {
                Ok(_) => Err(error),
                Err(not) => Err(error.with("not_restarted", not)),
            },
        }
    }

    /// Writes the archive. None when there is nothing to write.
    async fn pack(
        &mut self,
        still: &mut Still<'_>,
        mut one: Generation,
        part: &Path,
    ) -> Result<Option<Generation>> {
        self.context.check_cancelled()?;
        still.hold(self.grace, self.phases).await?;
        self.context.check_cancelled()?;
        let Some(opened) = self.inner.backend.open_dir(&still.dir()).await? else { return Ok(None) };
        let path = part.to_owned();
        let packed = write(self.context, Tree::of(Some(opened), None)?, PackOptions::default(), move |out| {
            let mut file = create(&path)?;
            let (mut digesting, sum) = Digesting::new(&mut file);
            let packed = out(&mut digesting)?;
            file.sync_all().map_err(|e| Error::io(e, "the archive was not written to disk"))?;
            Ok((packed, sum.digest()))
        });
        let (packed, digest) = packed.await?;
        one.data.form = PreserveForm::Archive;
        one.data.entries = packed.entries;
        one.data.bytes = packed.bytes;
        one.data.archive_bytes = packed.packed;
        one.data.digest = Some(digest);
        Ok(Some(one))
    }

    /// Reads an archive back, and lets it count.
    async fn count(&self, mut one: Generation, part: &Path) -> Result<Generation> {
        let Self { inner, id, context, .. } = *self;
        let checked = check(context, part.to_owned(), &one.data).await;
        let counted = checked.and_then(|()| {
            let path = generation::archive(inner, id, one.data.generation);
            generation::place(part, &path)?;
            one.data.path = Some(path.display().to_string());
            generation::describe(inner, id, &one)
        });
        let Err(error) = counted else { return Ok(one) };
        let removed = match one.data.path {
            None => generation::remove_file(part),
            // It has its place already; without a description it would stay there until the next one is made.
            Some(_) => generation::remove(inner, id, &one).await,
        };
        Err(with_removal(error, removed))
    }

    /// As a snapshot of its own, which shares every byte with the version that is made of the workspace.
    async fn snapshot(&mut self, mut one: Generation) -> Result<Option<Generation>> {
        let Self { inner, id, found, context, .. } = *self;
        let container = &found.container;
        let data_dir = inner.config.guest.data_dir.clone();
        let dir = SnapshotDir {
            snapshotter: container.snapshotter.clone(),
            key: container.snapshot_key.clone(),
            path: data_dir.clone(),
        };
        if inner.backend.open_dir(&dir).await?.is_none() {
            if self.after == After::Stay {
                halt(inner, id, &container.id, self.grace).await?;
            }
            return Ok(None);
        }
        let ran = inner.backend.task(&container.id).await?.is_some_and(|task| task.exit.is_none());
        let label = ("Preserved data".to_owned(), "preserve".to_owned());
        let restart = (self.after == After::Stay).then_some(false);
        let kept =
            snapshots::keep_version(inner, id, found, label, restart, None, self.grace, context, self.phases)
                .await;
        let kept = match kept {
            Ok(kept) => kept,
            Err(error) => {
                // What is not finished is in the journal still: nothing may run until it is.
                let unfinished = error.context().any(|(key, _)| key == "unfinished");
                if ran && !unfinished && self.after == After::Stay {
                    self.run_again(&error).await;
                }
                return Err(error);
            }
        };
        self.downtime_ms = kept.downtime_ms;
        let made = async {
            one.snapshotter = Some(container.snapshotter.clone());
            one.data.snapshot_name =
                Some(format!("{}-preserved-{}", container.id, Timestamp::now().as_nanosecond()));
            one.data.version = Some(kept.version.version);
            one.data_dir = Some(data_dir);
            generation::graft(inner, id, &mut one, &kept.version.snapshot).await?;
            if let Err(error) = generation::describe(inner, id, &one) {
                // By its labels it would count all the same.
                let removed = generation::remove(inner, id, &one).await;
                return Err(with_removal(error, removed));
            }
            Ok(Some(one))
        };
        let made: Result<_> = made.await;
        if let Err(error) = &made
            && ran
            && self.after == After::Stay
        {
            self.run_again(error).await;
        }
        made
    }

    /// Starts the workspace again that was to stay stopped, as it is not preserved. It may stand on another snapshot by now.
    async fn run_again(&mut self, error: &Error) {
        let Self { inner, id, found, .. } = *self;
        let context = self.context.without_cancel();
        let started = async {
            let container = inner.backend.container(&found.container.id).await?;
            let container = container.unwrap_or_else(|| found.container.clone());
            let found = Found { container, ..found.clone() };
            start_existing(inner, id, &found, &context, self.phases).await
        };
        if let Err(not) = started.await {
            tracing::warn!(workspace = %id, %error, %not, "the workspace was not started again");
        }
    }
}

/// The fault that ended a preservation, and whether what it had made stays.
fn with_removal(error: Error, removed: Result<()>) -> Error {
    match removed {
        Ok(()) => error,
        Err(not) => error.with("not_removed", not),
    }
}

fn create(path: &Path) -> Result<File> {
    let _step = step("backup.write");
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|e| Error::io(e, "cannot make the archive").with("path", path.display()))
}

/// Reads an archive from the disk and compares it with what was written.
pub(super) async fn check(context: &OperationContext, path: PathBuf, data: &PreservedData) -> Result<()> {
    let (entries, digest) = (data.entries, data.digest.clone());
    let shown = path.display().to_string();
    let quiet = context.without_events();
    let checked = carry(&quiet, Arc::new(Load::default()), move |load| {
        let file = File::open(&path).map_err(|e| Error::io(e, "cannot read the archive back"))?;
        let (digesting, sum) = Digesting::new(file);
        let found = verify(digesting, &Limits::none(), &load.watch)?;
        if found.entries != entries || Some(sum.digest()) != digest {
            return Err(Error::data_corrupt("the archive that was written is not the one that is read back"));
        }
        Ok(())
    });
    checked.await.map_err(|e| e.with("path", shown))
}

use super::carry::{Load, carry};
use super::generation::{self, Generation};
use super::import::unpack_into;
use super::still::Still;
use crate::backend::OpenDir;
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::lifecycle::millis;
use crate::lifecycle::recover::take;
use crate::lifecycle::resolve::existing;
use crate::lifecycle::snapshots::{self, DataGraft};
use crate::lifecycle::stop::grace;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::types::{Consistency, DataRestoreOptions, DataRestoreResult, EventType, Phases};
use dunnage_archive::{Limits, copy};
use dunnage_transfer::Keys;
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Puts preserved data back: all of it, at once, or nothing. It stays preserved.
pub(crate) async fn restore(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: DataRestoreOptions,
    context: &OperationContext,
) -> Result<DataRestoreResult> {
    let began = Instant::now();
    let grace = grace(inner, options.grace_ms)?;
    if options.generation == Some(0) {
        return Err(Error::invalid_argument("malformed option generation: generations count from 1")
            .with("field", "generation"));
    }
    let _guard = take(inner, id, context).await?;
    let found = existing(inner, id).await?;
    let one = generation::pick(inner, id, options.generation).await?;
    let mut phases = Phases::default();
    let (kept_version, downtime_ms);
    if let Some(graft) = graft(inner, &found.container.id, &one) {
        context.emit_kind(EventType::Restoring);
        let label = (format!("Before data {} was restored", one.data.generation), "restore".to_owned());
        let kept =
            snapshots::keep_version(inner, id, &found, label, None, Some(graft), grace, context, &mut phases)
                .await?;
        if let Some(error) = kept.not_grafted {
            return Err(error.with("kept_version", kept.version.version));
        }
        (kept_version, downtime_ms) = (Some(kept.version.version), kept.downtime_ms);
    } else {
        let mut still = Still::begin(inner, id, &found, Consistency::Stop, true, context).await?;
        let restored = async {
            context.check_cancelled()?;
            context.emit_kind(EventType::Restoring);
            let dir = still.dir();
            let staged = inner.backend.stage_dir(&dir, still.stage(), false).await?;
            from_archive(context, &one, staged).await?;
            context.check_cancelled()?;
            still.hold(grace, &mut phases).await?;
            inner.backend.swap_dir(&dir, still.stage()).await
        };
        let restored = restored.await;
        let released = still.release(&mut phases).await;
        restored?;
        (kept_version, downtime_ms) = (None, released?);
    }
    // It is back, whether that can be noted or not.
    let restored = generation::restored(inner, id, &one).unwrap_or_else(|error| {
        tracing::warn!(workspace = %id, generation = one.data.generation, %error, "cannot note that the data was restored");
        one.data
    });
    phases.total = millis(began);
    Ok(DataRestoreResult { restored, kept_version, downtime_ms, phases_ms: phases })
}

/// How a generation that is a snapshot comes below a writable one; none for an archive.
pub(in crate::lifecycle) fn graft(
    inner: &EngineInner,
    container: &str,
    one: &Generation,
) -> Option<DataGraft> {
    let onto = inner.config.guest.data_dir.clone();
    Some(DataGraft {
        from: one.data.snapshot_name.clone()?,
        path: one.data_dir.clone().unwrap_or_else(|| onto.clone()),
        onto,
        name: format!("{container}-data-{}", Timestamp::now().as_nanosecond()),
        amount: Some((one.data.entries, one.data.bytes)),
    })
}

/// Makes a staged directory's content of a generation that is an archive.
///
/// # Errors
/// DATA_CORRUPT when it is not the archive that was preserved.
pub(in crate::lifecycle) async fn from_archive(
    context: &OperationContext,
    one: &Generation,
    staged: OpenDir,
) -> Result<()> {
    let path = one.data.path.clone().unwrap_or_default();
    let file = crate::host_file::open_source(&path)?;
    let length = file.metadata().ok().map(|file| file.len());
    let unpacked = unpack_into(
        context,
        Box::new(file),
        length,
        Limits::none(),
        Keys::default(),
        one.data.digest.clone(),
        staged,
    );
    let (unpacked, _) = unpacked.await.map_err(|e| e.with("archive", Path::new(&path).display()))?;
    // Another implementation's tells nothing of itself.
    if one.data.digest.is_some() && unpacked.entries != one.data.entries {
        return Err(Error::data_corrupt("the preserved archive has another number of entries than it had")
            .with("archive", path)
            .with("entries", unpacked.entries)
            .with("expected", one.data.entries));
    }
    Ok(())
}

/// Makes a staged directory's content of a directory of the host, with all that it has.
pub(in crate::lifecycle) async fn from_directory(
    context: &OperationContext,
    path: &Path,
    staged: OpenDir,
) -> Result<()> {
    let failed = |e| Error::io(e, "cannot open the directory of older data").with("path", path.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let load = Arc::new(Load::default());
    carry(context, load, move |load| Ok(copy(from.as_fd(), staged.as_fd(), &load.watch)?)).await.map(drop)
}

use super::carry::{Digesting, Load, Total, carry};
use super::options;
use super::place::Inlet;
use super::still::Still;
use crate::backend::OpenDir;
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::lifecycle::millis;
use crate::lifecycle::recover::take;
use crate::lifecycle::resolve::existing;
use crate::lifecycle::stop::grace;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::types::{Consistency, DataImportOptions, DataImportResult, EventType, ImportMode, Phases};
use dunnage_archive::{Limits, Unpacked, unpack};
use dunnage_transfer::Keys;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// Puts an archive into a workspace's data directory: all of it, at once, or nothing.
///
/// Where it replaces what is there, the workspace runs on while the archive is read, and is stopped only for the moment in
/// which the directories change places.
pub(crate) async fn import(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: DataImportOptions,
    inlet: Result<Inlet>,
    context: &OperationContext,
) -> Result<DataImportResult> {
    let began = Instant::now();
    let grace = grace(inner, options.grace_ms)?;
    let limits = options::limits(&options)?;
    let keys = options::keys(&options)?;
    let inlet = inlet?;
    let _guard = take(inner, id, context).await?;
    let found = existing(inner, id).await?;
    let (source, length) = inlet.open(context).await?;
    let merge = options.mode == ImportMode::Merge;
    let mut phases = Phases::default();
    let mut still = Still::begin(inner, id, &found, Consistency::Stop, true, context).await?;
    let imported = async {
        context.check_cancelled()?;
        if merge {
            still.hold(grace, &mut phases).await?;
        }
        context.emit_kind(EventType::Importing);
        let dir = still.dir();
        let staged = inner.backend.stage_dir(&dir, still.stage(), merge).await?;
        let read = unpack_into(context, source, length, limits, keys, options.digest, staged).await?;
        context.check_cancelled()?;
        if !merge {
            still.hold(grace, &mut phases).await?;
        }
        // From here on it is done, or was never begun.
        inner.backend.swap_dir(&dir, still.stage()).await?;
        Ok::<_, Error>(read)
    };
    let imported = imported.await;
    let released = still.release(&mut phases).await;
    let (unpacked, digest) = imported?;
    let downtime_ms = released.map_err(|e| e.with("imported", &digest))?;
    phases.total = millis(began);
    Ok(DataImportResult {
        entries: unpacked.entries,
        bytes: unpacked.bytes,
        archive_bytes: unpacked.packed,
        digest,
        downtime_ms,
        phases_ms: phases,
    })
}

/// Makes a staged directory's content of an archive, which must have this digest. Returns its own, and how long it is.
pub(super) async fn unpack_into(
    context: &OperationContext,
    source: Box<dyn Read + Send>,
    length: Option<u64>,
    limits: Limits,
    keys: Keys,
    expected: Option<String>,
    staged: OpenDir,
) -> Result<(Unpacked, String)> {
    let load = Arc::new(Load::default());
    *load.total.lock().unwrap_or_else(PoisonError::into_inner) =
        Total { archive_bytes: length, ..Total::default() };
    carry(context, load, move |load| {
        let (source, sum) = Digesting::new(source);
        let opened = dunnage_transfer::unseal(source, &keys)?;
        let mut unpacked = unpack(opened, staged.as_fd(), &limits, &load.watch)?;
        unpacked.packed = sum.bytes();
        let digest = sum.digest();
        match expected {
            Some(expected) if expected != digest => Err(Error::data_corrupt(
                "the archive is not the one that was expected: its digest is another",
            )
            .with("expected", expected)
            .with("digest", digest)),
            _ => Ok((unpacked, digest)),
        }
    })
    .await
}

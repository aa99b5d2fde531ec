use super::carry::{Digesting, Load, Total, carry};
use super::options;
use super::place::{Opened, Outlet};
use super::still::Still;
use crate::backend::OpenDir;
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::lifecycle::millis;
use crate::lifecycle::recover::take;
use crate::lifecycle::resolve::existing;
use crate::lifecycle::stop::grace;
use crate::names::WorkspaceId;
use crate::operation::OperationContext;
use crate::types::{DataExportOptions, DataExportResult, EventType, Phases};
use dunnage_archive::{PackOptions, Packed, Watch, measure, pack, pack_nothing};
use dunnage_transfer::Seal;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::io;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// Writes a workspace's data directory to an archive. The workspace is locked until the last byte is written.
pub(crate) async fn export(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: DataExportOptions,
    outlet: Result<Outlet>,
    context: &OperationContext,
) -> Result<DataExportResult> {
    let began = Instant::now();
    let grace = grace(inner, options.grace_ms)?;
    let pack = options::pack(&options)?;
    let subpath = options::subpath(&options)?;
    let seal = options::seal(&options)?;
    let outlet = outlet?;
    let _guard = take(inner, id, context).await?;
    let found = existing(inner, id).await?;
    let place = outlet.open(context).await?;
    let mut phases = Phases::default();
    let mut still = Still::begin(inner, id, &found, options.consistency, false, context).await?;
    let packed = async {
        context.check_cancelled()?;
        still.hold(grace, &mut phases).await?;
        context.check_cancelled()?;
        context.emit_kind(EventType::Exporting);
        let opened = inner.backend.open_dir(&still.dir()).await?;
        let tree = Tree::of(opened, subpath.as_deref())?;
        pack_into(context, tree, pack, seal, place).await
    };
    let packed: Result<_> = packed.await;
    let released = still.release(&mut phases).await;
    let (packed, digest, place) = packed?;
    let etag = place.finish().await?;
    let downtime_ms = released.map_err(|e| e.with("exported", &digest))?;
    phases.total = millis(began);
    Ok(DataExportResult {
        entries: packed.entries,
        bytes: packed.bytes,
        archive_bytes: packed.packed,
        digest,
        etag,
        sockets: packed.sockets,
        changed: packed.changed,
        downtime_ms,
        phases_ms: phases,
    })
}

/// Packs a tree into a place that is open, encrypted if it is to be. Returns the digest of what was written, and the place,
/// which has to be finished.
pub(super) async fn pack_into(
    context: &OperationContext,
    tree: Tree,
    pack: PackOptions,
    seal: Option<Seal>,
    mut place: Opened,
) -> Result<(Packed, String, Opened)> {
    // It comes back, as it may have to be put in its place.
    write(context, tree, pack, move |out: &mut dyn FnMut(&mut dyn Write) -> Result<Packed>| {
        let (mut digesting, sum) = Digesting::new(place.writer());
        let mut packed = match seal {
            None => out(&mut digesting)?,
            Some(seal) => {
                let mut sealer = dunnage_transfer::seal(&mut digesting, &seal)?;
                let packed = out(&mut sealer)?;
                sealer.finish()?;
                packed
            }
        };
        packed.packed = sum.bytes();
        Ok((packed, sum.digest(), place))
    })
    .await
}

/// What is packed.
pub(super) enum Tree {
    /// The workspace has no data directory.
    Nothing,
    Whole(OpenDir),
    /// A directory of it, and what keeps it there.
    Part {
        dir: OwnedFd,
        _data: OpenDir,
    },
}

impl Tree {
    /// # Errors
    /// NOT_FOUND, or FAILED_PRECONDITION, when there is no such directory within.
    pub(super) fn of(data: Option<OpenDir>, subpath: Option<&Path>) -> Result<Self> {
        let Some(subpath) = subpath else { return Ok(data.map_or(Self::Nothing, Self::Whole)) };
        let failed = |kind, errno: Errno| {
            Error::new(kind, "cannot open the directory within the data directory")
                .with("subpath", subpath.display())
                .caused_by(io::Error::from(errno))
        };
        let Some(data) = data else { return Err(failed(ErrorKind::NotFound, Errno::NOENT)) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&data, subpath, flags, Mode::empty(), resolve) {
            Ok(dir) => Ok(Self::Part { dir, _data: data }),
            Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => Err(failed(ErrorKind::FailedPrecondition, errno)),
            Err(errno) => Err(failed(ErrorKind::of_io(&errno.into()), errno)),
        }
    }

    fn root(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Nothing => None,
            Self::Whole(data) => Some(data.as_fd()),
            Self::Part { dir, .. } => Some(dir.as_fd()),
        }
    }
}

/// Packs a tree. `place` gets what writes the archive into a writer, and calls it once.
pub(super) async fn write<T: Send + 'static>(
    context: &OperationContext,
    tree: Tree,
    options: PackOptions,
    place: impl FnOnce(&mut dyn FnMut(&mut dyn Write) -> Result<Packed>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let load = Arc::new(Load::default());
    let tree = Arc::new(tree);
    let measuring = Arc::new(Watch::default());
    if context.is_watched() {
        let (load, tree, options, measuring) =
            (load.clone(), tree.clone(), options.clone(), measuring.clone());
        // Nobody waits for it: without it, progress only tells no total.
        tokio::task::spawn_blocking(move || {
            let Some(Ok(found)) = tree.root().map(|root| measure(root, &options, &measuring)) else { return };
            let total = Total { entries: Some(found.entries), bytes: Some(found.bytes), archive_bytes: None };
            *load.total.lock().unwrap_or_else(PoisonError::into_inner) = total;
        });
    }
    let done = carry(context, load, move |load| {
        place(&mut |out| {
            let packed = match tree.root() {
                Some(root) => pack(root, &options, out, &load.watch),
                None => pack_nothing(&options, out, &load.watch),
            };
            Ok(packed?)
        })
    });
    let done = done.await;
    measuring.cancel();
    done
}

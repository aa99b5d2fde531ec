//! Any folder of a workspace as an archive, and back, whether the workspace runs or not.

use super::export::{Tree, pack_into};
use super::import::unpack_into;
use super::options;
use super::place::{Inlet, Outlet, blocking};
use super::stage::Stage;
use crate::backend::{OpenDir, ResolvedUser};
use crate::bridge::clean_path;
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoints::step;
use crate::lifecycle::bridge::is_at_rest;
use crate::lifecycle::recover::take;
use crate::lifecycle::resolve::existing;
use crate::names::WorkspaceId;
use crate::operation::{OperationContext, WorkspaceGuard};
use crate::types::{ArchiveOptions, ArchiveResult, EventType, ExtractMode, ExtractOptions, ExtractResult};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

/// The mode of directories that are made.
const NEW_DIR: Mode = Mode::from_raw_mode(0o755);
/// How often a lookup that something was moved under is made again.
const TRIES: usize = 16;

/// A workspace's files, opened from outside.
struct Opened {
    root: OwnedFd,
    /// Whose the directories are that are made.
    user: ResolvedUser,
    /// Held where nothing may run meanwhile.
    _guard: Option<WorkspaceGuard>,
}

/// Writes a folder to an archive.
pub(crate) async fn archive(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: ArchiveOptions,
    outlet: Result<Outlet>,
    context: &OperationContext,
) -> Result<ArchiveResult> {
    let path = clean(inner, &options.path)?;
    let export = options.as_export();
    let (pack, seal) = (options::pack(&export)?, options::seal(&export)?);
    let outlet = outlet?;
    let opened = open(inner, id, false, context).await?;
    let (folder, opened) = blocking(move || Ok((opened.folder(Path::new(&path))?, opened))).await?;
    let place = outlet.open(context).await?;
    context.emit_kind(EventType::Exporting);
    let tree = Tree::Whole(OpenDir::new(folder, None));
    let (packed, digest, place) = pack_into(context, tree, pack, seal, place).await?;
    drop(opened);
    let etag = place.finish().await?;
    Ok(ArchiveResult {
        entries: packed.entries,
        bytes: packed.bytes,
        archive_bytes: packed.packed,
        digest,
        etag,
        sockets: packed.sockets,
        changed: packed.changed,
    })
}

/// Makes a folder of an archive.
pub(crate) async fn extract(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: ExtractOptions,
    inlet: Result<Inlet>,
    context: &OperationContext,
) -> Result<ExtractResult> {
    let path = clean(inner, &options.path)?;
    let import = options.as_import();
    let (limits, keys) = (options::limits(&import)?, options::keys(&import)?);
    let inlet = inlet?;
    if path == "/" && options.mode != ExtractMode::Merge {
        return Err(Error::permission_denied("the root directory cannot be replaced; name a folder in it")
            .with("path", "/"));
    }
    let opened = open(inner, id, true, context).await?;
    let (source, length) = inlet.open(context).await?;
    let (site, dir) = blocking(move || {
        let site = Site::prepare(opened, Path::new(&path), options.mode)?;
        match site.dir() {
            Ok(dir) => Ok((site, dir)),
            Err(error) => {
                site.give_up();
                Err(error)
            }
        }
    })
    .await?;
    context.emit_kind(EventType::Importing);
    let target = OpenDir::new(dir, None);
    let read = async {
        let read = unpack_into(context, source, length, limits, keys, options.digest, target).await?;
        context.check_cancelled()?;
        Ok::<_, Error>(read)
    };
    let read = read.await;
    // From here on it is done, or was never begun.
    let (unpacked, digest) = blocking(move || match read {
        Ok(read) => site.place().map(|()| read),
        Err(error) => {
            site.give_up();
            Err(error)
        }
    })
    .await?;
    let (entries, bytes, archive_bytes) = (unpacked.entries, unpacked.bytes, unpacked.packed);
    Ok(ExtractResult { entries, bytes, archive_bytes, digest })
}

fn clean(inner: &EngineInner, path: &str) -> Result<String> {
    clean_path(path, &inner.config.guest.data_dir.to_string_lossy())
}

/// Opens what the workspace's processes see, or, where none run, its writable snapshot, locked.
async fn open(
    inner: &EngineInner,
    id: &WorkspaceId,
    write: bool,
    context: &OperationContext,
) -> Result<Opened> {
    let container = existing(inner, id).await?.container;
    match inner.backend.task_root(&container.id).await {
        Ok(task) => return Ok(Opened { root: task.root, user: container.user, _guard: None }),
        Err(error) if error.kind() == ErrorKind::FailedPrecondition => {}
        Err(error) => return Err(error),
    }
    let guard = take(inner, id, context).await?;
    let container = existing(inner, id).await?.container;
    if !is_at_rest(inner, id, &container, write).await? {
        // It was started meanwhile.
        let root = inner.backend.task_root(&container.id).await?.root;
        return Ok(Opened { root, user: container.user, _guard: None });
    }
    let root = inner.backend.open_root(&container.snapshotter, &container.snapshot_key, write).await?;
    Ok(Opened { root, user: container.user, _guard: Some(guard) })
}

impl Opened {
    /// Opens a path below the root, which no link leaves.
    fn at(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            match rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // Something was renamed while the kernel looked; it asks for another try.
                Err(Errno::AGAIN) => {}
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    }

    fn folder(&self, path: &Path) -> Result<OwnedFd> {
        let opened = self.at(path, OFlags::RDONLY | OFlags::DIRECTORY);
        opened.map_err(|errno| failed(errno, "cannot open the folder", path))
    }

    /// Opens a directory; those that are missing are made, as the workspace's user's.
    fn make_way(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let doing = "cannot make the folder's parents";
        let mut at = self.at(Path::new("/"), flags).map_err(|errno| failed(errno, doing, path))?;
        let mut prefix = Path::new("/").to_owned();
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            prefix.push(name);
            at = match self.at(&prefix, flags) {
                Err(Errno::NOENT) => self.make(&at, name).and_then(|()| self.at(&prefix, flags)),
                opened => opened,
            }
            .map_err(|errno| failed(errno, doing, &prefix))?;
        }
        Ok(at)
    }

    fn make(&self, parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
        match rustix::fs::mkdirat(parent, name, NEW_DIR) {
            // Somebody inside was quicker.
            Err(Errno::EXIST) => return Ok(()),
            made => made?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        rustix::fs::fchmod(&made, NEW_DIR)?;
        rustix::fs::fchown(&made, Some(Uid::from_raw(self.user.uid)), Some(Gid::from_raw(self.user.gid)))
    }
}

/// Where a folder is made.
enum Site {
    /// Where it is, among what is there.
    There { dir: OwnedFd, _opened: Opened },
    /// Beside its place.
    Beside { stage: Stage, name: OsString, replaces: bool, _opened: Opened },
}

impl Site {
    fn prepare(opened: Opened, path: &Path, mode: ExtractMode) -> Result<Self> {
        if mode == ExtractMode::Merge {
            let dir = opened.make_way(path)?;
            return Ok(Self::There { dir, _opened: opened });
        }
        let (parent, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
        let parent = opened.make_way(parent)?;
        let replaces = check_place(&parent, name, path, mode)?;
        let stage = Stage::new(parent, |parent, name| opened.make(parent, name))
            .map_err(|errno| failed(errno, "cannot make a folder beside", path))?;
        Ok(Self::Beside { stage, name: name.to_owned(), replaces, _opened: opened })
    }

    /// What the archive is unpacked into.
    fn dir(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match self {
            Self::There { dir, .. } => rustix::fs::openat(dir, ".", flags, Mode::empty()),
            Self::Beside { stage, .. } => stage.open(),
        };
        opened.map_err(|errno| failed(errno, "cannot open the new folder", Path::new("")))
    }

    /// Puts it in its place, at once.
    fn place(self) -> Result<()> {
        let Self::Beside { stage, name, replaces, .. } = &self else { return Ok(()) };
        let Stage { parent, name: staged, .. } = stage;
        let flags = if *replaces { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        let _step = step("folder.place");
        let placed = match rustix::fs::renameat_with(parent, staged, parent, name, flags) {
            // Not every file system can.
            Err(Errno::INVAL | Errno::NOSYS) if !*replaces => {
                rustix::fs::renameat(parent, staged, parent, name)
            }
            placed => placed,
        };
        let placed = placed.and_then(|()| rustix::fs::fsync(parent));
        // What is staged now is what was there before, or what could not be put in its place.
        let erased = stage.erase();
        placed.map_err(|errno| failed(errno, "cannot put the folder in its place", Path::new("")))?;
        if !erased {
            tracing::warn!(
                "a folder that was replaced is left under a hidden name beside the new one for now"
            );
        }
        Ok(())
    }

    /// Removes what is staged. What cannot be removed goes with the next extraction.
    fn give_up(&self) {
        if let Self::Beside { stage, .. } = self {
            stage.erase();
        }
    }
}

/// Whether a directory is there that will be replaced.
fn check_place(parent: &OwnedFd, name: &OsStr, path: &Path, mode: ExtractMode) -> Result<bool> {
    let there = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => there,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(failed(errno, "cannot look at the folder's place", path)),
    };
    if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
        return Err(Error::failed_precondition("something else than a directory is in the folder's place")
            .with("path", path.display()));
    }
    if mode == ExtractMode::New && !is_empty(parent, name).unwrap_or(false) {
        return Err(Error::already_exists("the folder is there, and not empty: choose another mode")
            .with("path", path.display()));
    }
    Ok(true)
}

fn is_empty(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&dir)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn failed(errno: Errno, doing: &str, path: &Path) -> Error {
    let kind = match errno {
        Errno::NOTDIR | Errno::LOOP | Errno::NOTEMPTY => ErrorKind::FailedPrecondition,
        Errno::EXIST => ErrorKind::AlreadyExists,
        errno => ErrorKind::of_io(&errno.into()),
    };
    Error::new(kind, doing.to_owned()).with("path", path.display()).caused_by(io::Error::from(errno))
}

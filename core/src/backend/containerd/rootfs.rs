//! The file tree of a snapshot, seen from this process without a place in any mount table.
//!
//! Every path is resolved by the kernel inside the tree (`openat2` with `RESOLVE_IN_ROOT`): a link that an image made
//! to `/etc/shadow` leads to the image's own file.

use super::layers;
use crate::error::{Error, ErrorKind, Result};
use containerd_client::types::Mount;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

/// What mount(2) takes of options: it cuts longer ones without a word.
const MAX_OPTIONS: usize = 4095;

/// The root of a snapshot's tree. The mount behind it goes with it.
#[derive(Debug)]
pub(super) struct RootFs {
    root: OwnedFd,
}

/// Where a snapshot's files are on the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Layers {
    Overlay {
        /// The layer that is written to and its work directory; none for a view.
        upper: Option<(String, String)>,
        /// The topmost first.
        lower: Vec<String>,
        /// Whether overlay's own attributes are in the `user.` namespace.
        user_xattr: bool,
    },
    Directory(PathBuf),
}

impl RootFs {
    /// The tree, for reading.
    ///
    /// An overlay is mounted without its upper layer's being writable: unmounting one that is writable makes the kernel
    /// write out all of the file system below it, which takes as long as others have written there.
    ///
    /// # Errors
    /// UNSUPPORTED for mounts other than overlay and bind, PERMISSION_DENIED without `CAP_SYS_ADMIN`,
    /// FAILED_PRECONDITION when containerd's directories cannot be seen from here.
    pub(super) fn read_only(mounts: &[Mount]) -> Result<Self> {
        let root = match Layers::of(mounts)? {
            Layers::Directory(path) => open_dir(&path)?,
            Layers::Overlay { upper, lower, user_xattr } => {
                let layers: Vec<String> = upper.map(|(upper, _)| upper).into_iter().chain(lower).collect();
                Overlay { layers: &layers, upper: None, user_xattr }.mount()?
            }
        };
        Ok(Self { root })
    }

    /// The tree, for writing. No task may run on it.
    pub(super) fn writable(mounts: &[Mount]) -> Result<Self> {
        let root = match Layers::of(mounts)? {
            Layers::Directory(path) => open_dir(&path)?,
            Layers::Overlay { upper, lower, user_xattr } => {
                let upper = upper.as_ref().map(|(upper, work)| (upper.as_str(), work.as_str()));
                Overlay { layers: &lower, upper, user_xattr }.mount()?
            }
        };
        Ok(Self { root })
    }

    /// A tree of these layers, the topmost first, below one that is written to.
    pub(super) fn over(lower: &[String], upper: &Path, work: &Path, user_xattr: bool) -> Result<Self> {
        let text = |path: &Path| {
            let text = path.to_str().map(ToOwned::to_owned);
            text.ok_or_else(|| unsupported("at a path that is no UTF-8"))
        };
        let (upper, work) = (text(upper)?, text(work)?);
        let overlay = Overlay { layers: lower, upper: Some((&upper, &work)), user_xattr };
        Ok(Self { root: overlay.mount()? })
    }

    /// What keeps the tree there.
    pub(super) fn into_root(self) -> OwnedFd {
        self.root
    }

    /// Opens a directory for reading; none when nothing is there.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when something else is there, a link above all, or on the way.
    pub(super) fn directory(&self, path: &Path) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        match self.resolve(path, flags, resolve) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => {
                let what = "there is something else than a directory, or a link on the way to it";
                Err(Error::failed_precondition(what)
                    .with("directory", path.display())
                    .caused_by(io::Error::from(errno)))
            }
            Err(errno) => Err(Error::io(errno.into(), "cannot open a directory of the snapshot")
                .with("directory", path.display())),
        }
    }

    /// Makes a directory with those above it, where they are missing, as root's; all are in the layer that is written to
    /// afterwards. Opens it.
    ///
    /// # Errors
    /// As [`RootFs::directory`].
    pub(super) fn make_way(&self, path: &Path) -> Result<OwnedFd> {
        let failed = |e: Errno| {
            Error::io(e.into(), "cannot make a directory in the snapshot").with("directory", path.display())
        };
        let mut at = self.resolve(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY, ResolveFlags::IN_ROOT);
        let mut prefix = PathBuf::new();
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            prefix.push(name);
            at = match self.directory(&prefix)? {
                Some(dir) => {
                    // A change that is none: what is written to is the layer's own.
                    let mode = rustix::fs::fstat(&dir).map_err(failed)?.st_mode;
                    rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode & 0o7777)).map_err(failed)?;
                    Ok(dir)
                }
                None => make_and_give(at.map_err(failed)?.as_fd(), name, 0, 0)
                    .map_err(failed)
                    .and_then(|()| self.directory(&prefix))?
                    .ok_or(Errno::NOENT),
            };
        }
        at.map_err(failed)
    }

    /// Reads a regular file of at most `limit` bytes; none when it is not there.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when it is no regular file or larger.
    pub(super) fn read(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
        let doing = || format!("cannot read /{} in the snapshot", path.display());
        // First without opening it: a device or a FIFO must not even be touched.
        let seen = match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            opened => opened.map_err(|e| Error::io(e.into(), doing()))?,
        };
        let stat = rustix::fs::fstat(&seen).map_err(|e| Error::io(e.into(), doing()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::failed_precondition(format!("{}: it is no regular file", doing())));
        }
        let file = self
            .open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .map_err(|e| Error::io(e.into(), doing()))?;
        let mut bytes = Vec::new();
        File::from(file).take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|e| Error::io(e, doing()))?;
        if bytes.len() > limit {
            return Err(Error::failed_precondition(format!("{}: it is larger than {limit} bytes", doing())));
        }
        Ok(Some(bytes))
    }

    /// Makes a directory, where it is missing with its parents, and gives it to a user. The tree must be that of these
    /// mounts, and no task may run on it. Parents that are made belong to root.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when something else is in its place.
    pub(super) fn give_dir(self, mounts: &[Mount], path: &Path, uid: u32, gid: u32) -> Result<()> {
        let parts: Vec<&std::ffi::OsStr> = path
            .components()
            .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
            .collect();
        let inside: PathBuf = parts.iter().collect();
        let missing = matches!(self.open(&inside, OFlags::PATH | OFlags::NOFOLLOW), Err(Errno::NOENT));
        let failed = |e: Errno| {
            let what = format!("cannot make {} in the snapshot", path.display());
            match e {
                Errno::EXIST | Errno::NOTDIR | Errno::LOOP => Error::failed_precondition(format!(
                    "{what}: the image has something else than a directory there"
                ))
                .caused_by(io::Error::from(e)),
                e => Error::io(e.into(), what),
            }
        };
        // The view must be gone before its upper layer changes.
        drop(self);
        // A new directory at the top needs no overlay: in the upper layer it is just a directory.
        if let (true, [name], Layers::Overlay { upper: Some((upper, _)), .. }) =
            (missing, &parts[..], Layers::of(mounts)?)
        {
            let upper = open_dir(Path::new(&upper))?;
            return make_and_give(upper.as_fd(), name, uid, gid).map_err(failed);
        }
        let tree = Self::writable(mounts)?;
        let mut at = tree.open(Path::new("."), OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
        let mut prefix = PathBuf::new();
        for (index, name) in parts.iter().enumerate() {
            prefix.push(name);
            at = match tree.open(&prefix, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    let last = index + 1 == parts.len();
                    let (owner, group) = if last { (uid, gid) } else { (0, 0) };
                    make_and_give(at.as_fd(), name, owner, group).map_err(failed)?;
                    tree.open(&prefix, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?
                }
                opened => opened.map_err(failed)?,
            };
        }
        let stat = rustix::fs::fstat(&at).map_err(failed)?;
        if (stat.st_uid, stat.st_gid) == (uid, gid) {
            return Ok(());
        }
        own(at.as_fd(), uid, gid).map_err(failed)
    }

    pub(super) fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    fn resolve(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        // EAGAIN: something was renamed elsewhere while the kernel looked; it asks for another try.
        for _ in 0..16 {
            match rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    }
}

/// Whether the writable layer behind these mounts holds nothing but the way to a directory that [`RootFs::give_dir`] has
/// made. False when it cannot be seen from here.
pub(super) async fn is_untouched(mounts: Vec<Mount>, given: PathBuf) -> bool {
    let looked = tokio::task::spawn_blocking(move || {
        let Layers::Overlay { upper: Some((upper, _)), user_xattr, .. } = Layers::of(&mounts)? else {
            // A directory without layers holds what is below it too.
            return Ok(false);
        };
        let opaque = layers::own_attribute(user_xattr, "opaque");
        holds_only(Path::new(&upper), &given, &opaque)
            .map_err(|e| Error::io(e, "cannot look into the snapshot"))
    });
    matches!(looked.await, Ok(Ok(true)))
}

/// Whether there is nothing in a layer but the directories of `way`. Follows no links. A directory that hides what is below
/// it stands for one that was removed.
fn holds_only(layer: &Path, way: &Path, opaque: &str) -> io::Result<bool> {
    let mut dir = layer.to_owned();
    for part in way.components() {
        let Component::Normal(name) = part else { continue };
        for entry in std::fs::read_dir(&dir)? {
            if entry?.file_name() != name {
                return Ok(false);
            }
        }
        dir.push(name);
        match dir.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            found => {
                if !found?.is_dir() {
                    return Ok(false);
                }
            }
        }
        match rustix::fs::lgetxattr(&dir, opaque, &mut [0u8; 8][..]) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            // It is there, or cannot be read.
            _ => return Ok(false),
        }
    }
    Ok(std::fs::read_dir(&dir)?.next().is_none())
}

fn make_and_give(
    parent: BorrowedFd<'_>,
    name: &std::ffi::OsStr,
    uid: u32,
    gid: u32,
) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(parent, name, mode)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    // Whatever this process's umask took away.
    rustix::fs::fchmod(&made, mode)?;
    own(made.as_fd(), uid, gid)
}

fn own(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> rustix::io::Result<()> {
    rustix::fs::chownat(fd, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)
}

pub(super) fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| not_seen(e, path))
}

fn not_seen(errno: Errno, path: &Path) -> Error {
    let kind =
        if errno == Errno::NOENT { ErrorKind::FailedPrecondition } else { ErrorKind::of_io(&errno.into()) };
    Error::new(kind, "cannot open a layer of the snapshot: this process must see containerd's directories")
        .with("path", path.display())
        .caused_by(io::Error::from(errno))
}

impl Layers {
    /// The directories of the layers, the topmost first.
    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        match self {
            Self::Overlay { upper, lower, .. } => {
                upper.iter().map(|(upper, _)| upper).chain(lower).map(PathBuf::from).collect()
            }
            Self::Directory(path) => vec![path.clone()],
        }
    }

    pub(super) fn is_overlay(&self) -> bool {
        matches!(self, Self::Overlay { .. })
    }

    /// Whether overlay's own attributes are in the `user.` namespace.
    pub(super) fn user_xattr(&self) -> bool {
        matches!(self, Self::Overlay { user_xattr: true, .. })
    }

    pub(super) fn of(mounts: &[Mount]) -> Result<Self> {
        let [mount] = mounts else {
            return Err(unsupported("several mounts"));
        };
        match mount.r#type.as_str() {
            "bind" | "rbind" => Ok(Self::Directory(PathBuf::from(&mount.source))),
            "overlay" => Self::overlay(&mount.options),
            other => Err(unsupported(other)),
        }
    }

    fn overlay(options: &[String]) -> Result<Self> {
        let value = |name: &str| options.iter().find_map(|o| o.strip_prefix(name)?.strip_prefix('='));
        let Some(lower) = value("lowerdir") else {
            return Err(unsupported("overlay without layers"));
        };
        let upper = value("upperdir").zip(value("workdir"));
        Ok(Self::Overlay {
            upper: upper.map(|(upper, work)| (upper.to_owned(), work.to_owned())),
            lower: split_lower(lower),
            user_xattr: options.iter().any(|o| o == "userxattr"),
        })
    }
}

pub(super) fn unsupported(what: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("cannot look into a snapshot that is {what}; use the overlayfs snapshotter"),
    )
}

/// Splits at colons, but not at those behind a backslash.
fn split_lower(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, parts.last_mut()) {
            (':', _) => parts.push(String::new()),
            ('\\', Some(part)) => part.extend(chars.next()),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts
}

/// An overlay to mount: read-only when it has no upper and work directory.
struct Overlay<'a> {
    layers: &'a [String],
    upper: Option<(&'a str, &'a str)>,
    user_xattr: bool,
}

impl Overlay<'_> {
    fn mount(&self) -> Result<OwnedFd> {
        match self.detached() {
            // Kernels before 6.7 know no `lowerdir+`.
            Err(Errno::INVAL | Errno::NOSYS) => self.briefly_attached(),
            mounted => mounted.map_err(mount_failed),
        }
    }

    /// Mounts it nowhere: only the descriptor leads to it.
    fn detached(&self) -> rustix::io::Result<OwnedFd> {
        use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen};
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for layer in self.layers {
            fsconfig_set_string(fs.as_fd(), "lowerdir+", layer.as_str())?;
        }
        if let Some((upper, work)) = self.upper {
            fsconfig_set_string(fs.as_fd(), "upperdir", upper)?;
            fsconfig_set_string(fs.as_fd(), "workdir", work)?;
        }
        if self.user_xattr {
            fsconfig_set_flag(fs.as_fd(), "userxattr")?;
        }
        fsconfig_create(fs.as_fd())?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        if self.upper.is_none() {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }

    /// Mounts it on a private directory for as long as it takes to open it. Layers are named by descriptor: their paths
    /// may be longer than mount(2) takes.
    fn briefly_attached(&self) -> Result<OwnedFd> {
        let mut held = Vec::new();
        let mut name = |path: &str| -> Result<String> {
            let fd = open_dir(Path::new(path))?;
            let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
            held.push(fd);
            Ok(name)
        };
        let layers = self.layers.iter().map(|layer| name(layer)).collect::<Result<Vec<_>>>()?;
        let mut options = format!("lowerdir={}", layers.join(":"));
        if let Some((upper, work)) = self.upper {
            options.push_str(&format!(",upperdir={},workdir={}", name(upper)?, name(work)?));
        }
        if self.user_xattr {
            options.push_str(",userxattr");
        }
        if options.len() > MAX_OPTIONS {
            return Err(unsupported("of more layers than this kernel mounts at once"));
        }
        let options =
            CString::new(options).map_err(|e| Error::unexpected("cannot mount the snapshot").caused_by(e))?;
        let dir = std::env::temp_dir().join(format!("dunnage-{}", uuid::Uuid::now_v7()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|e| {
            Error::io(e, "cannot make a directory to mount the snapshot on").with("path", dir.display())
        })?;
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if self.upper.is_none() {
            flags |= MountFlags::RDONLY;
        }
        let opened = rustix::mount::mount("overlay", &dir, "overlay", flags, options.as_c_str())
            .map_err(mount_failed)
            .and_then(|()| {
                let opened = open_dir(&dir);
                // Detached at once: from here on the descriptor alone keeps it.
                let gone = rustix::mount::unmount(&dir, UnmountFlags::DETACH).map_err(mount_failed);
                opened.and_then(|fd| gone.map(|()| fd))
            });
        let removed = std::fs::remove_dir(&dir);
        let fd = opened?;
        removed.map_err(|e| Error::io(e, "cannot remove a directory of ours").with("path", dir.display()))?;
        Ok(fd)
    }
}

fn mount_failed(errno: Errno) -> Error {
    let (kind, why) = match errno {
        Errno::PERM | Errno::ACCESS => {
            (ErrorKind::PermissionDenied, "this process needs CAP_SYS_ADMIN, as root has it")
        }
        Errno::NOENT => (ErrorKind::FailedPrecondition, "this process must see containerd's directories"),
        Errno::NODEV => (ErrorKind::Unsupported, "this kernel has no overlay file system"),
        errno => (ErrorKind::of_io(&errno.into()), "the kernel refuses it"),
    };
    Error::new(kind, format!("cannot mount the snapshot to look into it: {why}"))
        .caused_by(io::Error::from(errno))
}

#[cfg(test)]
#[path = "rootfs_tests.rs"]
mod tests;

//! Several overlay layers made one, without reading a file: what was written twice or removed again is passed over, files
//! are linked.
//!
//! How a layer says what it changes: <https://docs.kernel.org/filesystems/overlayfs.html>, "whiteouts and opaque
//! directories". The layers are committed: nobody writes to them, so one file may be in several of them.

use super::rootfs::{open_dir, unsupported};
use crate::backend::Grafted;
use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// Room for a list of attribute names and for a value: Linux keeps no larger (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 65536;

/// The overlay's own attributes that say something of one place in one stack only. A directory that is made anew gets none of them.
const OF_ONE_STACK: [&str; 5] = ["origin", "impure", "nlink", "uuid", "upper"];

fn is_of_one_stack(attribute: &str) -> bool {
    let own = ["trusted.overlay.", "user.overlay."].iter().find_map(|prefix| attribute.strip_prefix(prefix));
    own.is_some_and(|own| own == "opaque" || OF_ONE_STACK.contains(&own))
}

/// The name of an attribute of the overlay's own.
pub(super) fn own_attribute(user_xattr: bool, name: &str) -> String {
    format!("{}.overlay.{name}", if user_xattr { "user" } else { "trusted" })
}

/// Puts into the empty directory `into` what the layers, the topmost first, say together of what lies below them.
///
/// # Errors
/// UNSUPPORTED for what this kernel's overlay wrote with features that containerd does not ask for (redirected
/// directories); else what the file system says, with the path.
pub(super) fn squash(layers: &[PathBuf], into: &Path, user_xattr: bool) -> Result<()> {
    let layers = layers.iter().map(|layer| open_dir(layer)).collect::<Result<Vec<_>>>()?;
    Squashing { layers, into: open_dir(into)?, user_xattr, whole: false, made: Cell::default() }
        .run()
        .map(drop)
}

/// Puts into the empty directory `into` all that one directory of a layer says, itself included.
///
/// # Errors
/// As [`squash`].
pub(super) fn link_all(from: OwnedFd, into: &OwnedFd, user_xattr: bool) -> Result<()> {
    let opaque = is_opaque(&from, user_xattr)?;
    let into = into.try_clone().map_err(|e| Error::io(e, "cannot keep a directory open"))?;
    if opaque {
        set_opaque(&into, user_xattr).map_err(|e| failed(Path::new("."), e))?;
    }
    let layers = vec![from];
    Squashing { layers, into, user_xattr, whole: false, made: Cell::default() }.run().map(drop)
}

/// Puts into the empty directory `into` all that is in a directory of a tree of these layers, the topmost first, as it
/// shows. None when there is no such directory. `into` is asked for only when there is one.
///
/// # Errors
/// FAILED_PRECONDITION for something else than a directory; else as [`squash`].
pub(super) fn gather(
    layers: &[PathBuf],
    path: &Path,
    user_xattr: bool,
    into: impl FnOnce() -> Result<OwnedFd>,
) -> Result<Option<Grafted>> {
    let mut from = layers.iter().map(|layer| open_dir(layer)).collect::<Result<Vec<_>>>()?;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        let mut next = Vec::new();
        for layer in from {
            match entry(&layer, name) {
                Err(Errno::NOENT) => continue,
                Ok((Entry::Directory, _)) => {}
                Ok((Entry::Other, _)) if next.is_empty() => {
                    let what = "there is something else than a directory, or a link on the way to it";
                    return Err(Error::failed_precondition(what).with("directory", path.display()));
                }
                Ok(_) => break,
                Err(errno) => return Err(failed(path, errno)),
            }
            let dir = open(&layer, Path::new(name)).map_err(|e| failed(path, e))?;
            let opaque = is_opaque(&dir, user_xattr)?;
            next.push(dir);
            if opaque {
                break;
            }
        }
        from = next;
    }
    if from.is_empty() {
        return Ok(None);
    }
    let into = into()?;
    Squashing { layers: from, into, user_xattr, whole: true, made: Cell::default() }.run().map(Some)
}

struct Squashing {
    layers: Vec<OwnedFd>,
    into: OwnedFd,
    /// Whether the overlay's own attributes are in the `user.` namespace.
    user_xattr: bool,
    /// Whether nothing lies below: then nothing has to say that something is hidden.
    whole: bool,
    made: Cell<Grafted>,
}

/// A directory that is made, and the layers that have a part in it, the topmost first.
struct Part {
    path: PathBuf,
    from: Vec<usize>,
}

/// What an entry of a layer says.
enum Entry {
    Directory,
    Whiteout,
    Other,
}

impl Squashing {
    fn run(&self) -> Result<Grafted> {
        // The root is there already and takes what the topmost says of it; it is never opaque.
        let mut queue =
            VecDeque::from([Part { path: PathBuf::from("."), from: (0..self.layers.len()).collect() }]);
        let mut times = Vec::new();
        while let Some(part) = queue.pop_front() {
            let sources = part
                .from
                .iter()
                .map(|layer| open(&self.layers[*layer], &part.path).map_err(|e| failed(&part.path, e)))
                .collect::<Result<Vec<_>>>()?;
            let target = open(&self.into, &part.path).map_err(|e| failed(&part.path, e))?;
            let Some(top) = sources.first() else { continue };
            let stat = hand_on(top, &target).map_err(|e| failed(&part.path, e))?;
            self.count(None);
            self.entries(&part, &sources, &target, &mut queue)?;
            times.push((part.path, stat));
        }
        // Last, and from below: what is made in a directory changes its time.
        for (path, stat) in times.into_iter().rev() {
            let target = open(&self.into, &path).map_err(|e| failed(&path, e))?;
            rustix::fs::futimens(&target, &timestamps(&stat)).map_err(|e| failed(&path, e))?;
        }
        Ok(self.made.get())
    }

    fn count(&self, stat: Option<&Stat>) {
        let mut made = self.made.get();
        made.entries += 1;
        if let Some(stat) = stat.filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
        {
            let (size, kept) = (stat.st_size.unsigned_abs(), stat.st_blocks.unsigned_abs() * 512);
            made.bytes += size.min(kept);
        }
        self.made.set(made);
    }

    /// Makes all that the layers have in one directory.
    fn entries(
        &self,
        part: &Part,
        sources: &[OwnedFd],
        target: &OwnedFd,
        queue: &mut VecDeque<Part>,
    ) -> Result<()> {
        let mut decided = BTreeSet::new();
        for (level, source) in sources.iter().enumerate() {
            for name in names(source).map_err(|e| failed(&part.path, e))? {
                if !decided.insert(name.clone()) {
                    continue;
                }
                let path = part.path.join(&name);
                let (entry, stat) = entry(source, &name).map_err(|e| failed(&path, e))?;
                match entry {
                    Entry::Directory => queue.push_back(self.directory(part, sources, level, target, &name)?),
                    Entry::Whiteout if self.whole => {}
                    // Also where nothing is left below that it could hide: then it hides nothing.
                    Entry::Whiteout => whiteout(target, &name).map_err(|e| failed(&path, e))?,
                    Entry::Other => {
                        link(source, target, &name, &stat).map_err(|e| failed(&path, e))?;
                        self.count(Some(&stat));
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes a directory, and finds the layers that have a part in it.
    fn directory(
        &self,
        part: &Part,
        sources: &[OwnedFd],
        level: usize,
        target: &OwnedFd,
        name: &OsString,
    ) -> Result<Part> {
        let path = part.path.join(name);
        let mut from = Vec::new();
        let mut opaque = false;
        for (source, layer) in sources.iter().zip(&part.from).skip(level) {
            match entry(source, name) {
                Ok((Entry::Directory, _)) => {
                    from.push(*layer);
                    let dir = open(source, Path::new(name)).map_err(|e| failed(&path, e))?;
                    opaque = is_opaque(&dir, self.user_xattr).map_err(|e| e.with("path", path.display()))?;
                }
                // Something else was there, or the removal of what was: nothing from below shows.
                Ok(_) => opaque = true,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(&path, errno)),
            }
            if opaque {
                break;
            }
        }
        rustix::fs::mkdirat(target, name, Mode::RWXU).map_err(|e| failed(&path, e))?;
        if opaque && !self.whole {
            let made = open(target, Path::new(name)).map_err(|e| failed(&path, e))?;
            set_opaque(&made, self.user_xattr).map_err(|e| failed(&path, e))?;
        }
        Ok(Part { path, from })
    }
}

/// Whether nothing from below a directory of a layer shows in it.
///
/// # Errors
/// UNSUPPORTED for what containerd does not ask an overlay for.
pub(super) fn is_opaque(dir: &OwnedFd, user_xattr: bool) -> Result<bool> {
    let value = |name: &str| -> Result<Vec<u8>> {
        match xattr(dir, &own_attribute(user_xattr, name)) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(Vec::new()),
            read => read.map_err(|e| Error::io(e.into(), "cannot read an attribute of a layer")),
        }
    };
    if !value("redirect")?.is_empty() {
        return Err(unsupported("an overlay with redirected directories"));
    }
    match value("opaque")?.as_slice() {
        b"" => Ok(false),
        b"y" => Ok(true),
        _ => Err(unsupported("an overlay within an overlay")),
    }
}

/// Lets nothing from below show in a directory of a layer.
pub(super) fn set_opaque(dir: &OwnedFd, user_xattr: bool) -> rustix::io::Result<()> {
    let key = own_attribute(user_xattr, "opaque");
    rustix::fs::fsetxattr(dir, key.as_str(), b"y", XattrFlags::empty())
}

/// Gives a directory owner, mode and attributes of another, but nothing that concerns an overlay: whether it is opaque is
/// found from all layers together.
pub(super) fn hand_on(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<Stat> {
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for name in xattrs(from)? {
        if !is_of_one_stack(&name) {
            rustix::fs::fsetxattr(to, name.as_str(), &xattr(from, &name)?, XattrFlags::empty())?;
        }
    }
    Ok(stat)
}

/// Opens a directory below another, not through links.
fn open(below: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(below, path, flags, Mode::empty(), resolve)
}

/// The names in a directory.
pub(super) fn names(dir: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

fn entry(dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<(Entry, Stat)> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let entry = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Entry::Directory,
        FileType::CharacterDevice if stat.st_rdev == 0 => Entry::Whiteout,
        _ => Entry::Other,
    };
    Ok((entry, stat))
}

/// Hides what is below under a name.
pub(super) fn whiteout(dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Links a file; one that the file system links no more is copied.
fn link(from: &OwnedFd, to: &OwnedFd, name: &OsString, stat: &Stat) -> rustix::io::Result<()> {
    match rustix::fs::linkat(from, name, to, name, AtFlags::empty()) {
        // The most links a file may have, a file that is immutable, a layer on another file system.
        Err(Errno::MLINK | Errno::PERM | Errno::XDEV)
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile =>
        {
            copy(from, to, name, stat)
        }
        done => done,
    }
}

fn copy(from: &OwnedFd, to: &OwnedFd, name: &OsString, stat: &Stat) -> rustix::io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
    let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let target = rustix::fs::openat(to, name, create, Mode::RUSR | Mode::WUSR)?;
    io::copy(
        &mut File::from(source.try_clone().map_err(errno)?),
        &mut File::from(target.try_clone().map_err(errno)?),
    )
    .map_err(errno)?;
    rustix::fs::fchown(&target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for name in xattrs(&source)? {
        rustix::fs::fsetxattr(&target, name.as_str(), &xattr(&source, &name)?, XattrFlags::empty())?;
    }
    rustix::fs::futimens(&target, &timestamps(stat))
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn timestamps(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: timespec(stat.st_atime, stat.st_atime_nsec),
        last_modification: timespec(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// The kernel's structures and the C library's have nanoseconds of different types.
fn timespec(seconds: i64, nanoseconds: impl TryInto<i64>) -> Timespec {
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds.try_into().unwrap_or_default() }
}

/// The names of a file's attributes.
pub(super) fn xattrs(fd: &OwnedFd) -> rustix::io::Result<Vec<String>> {
    let mut names = vec![0u8; XATTR_MAX];
    let len = match rustix::fs::flistxattr(fd, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        listed => listed?,
    };
    let names = names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// The value of an attribute.
pub(super) fn xattr(fd: &OwnedFd, name: &str) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0u8; XATTR_MAX];
    let len = rustix::fs::fgetxattr(fd, name, &mut value[..])?;
    value.truncate(len);
    Ok(value)
}

fn failed(path: &Path, errno: Errno) -> Error {
    Error::new(ErrorKind::of_io(&errno.into()), "cannot make one layer of several")
        .with("path", path.display())
        .caused_by(io::Error::from(errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn files_are_linked_and_directories_keep_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = |path: &str| dir.path().join(path);
        for name in ["low/etc", "top/etc", "into"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::fs::write(path("low/etc/kept"), "kept").unwrap();
        std::fs::write(path("low/etc/hidden"), "hidden").unwrap();
        std::fs::write(path("top/etc/hidden"), "shown").unwrap();
        std::fs::set_permissions(path("top/etc"), PermissionsExt::from_mode(0o2750)).unwrap();
        std::os::unix::fs::chown(path("top/etc"), Some(12), Some(34)).unwrap();
        std::fs::set_permissions(path("top/etc"), PermissionsExt::from_mode(0o2750)).unwrap();
        rustix::fs::setxattr(path("top/etc"), "user.note", b"n", XattrFlags::empty()).unwrap();
        let before = std::fs::metadata(path("top/etc")).unwrap();
        squash(&[path("top"), path("low")], &path("into"), false).unwrap();
        let inode = |name: &str| std::fs::metadata(path(name)).unwrap().ino();
        assert_eq!(inode("into/etc/kept"), inode("low/etc/kept"), "no byte is copied");
        assert_eq!(inode("into/etc/hidden"), inode("top/etc/hidden"));
        let after = std::fs::metadata(path("into/etc")).unwrap();
        let what = |of: &std::fs::Metadata| (of.mode(), of.uid(), of.gid(), of.mtime(), of.mtime_nsec());
        assert_eq!(what(&after), what(&before));
        let mut note = [0u8; 8];
        let length = rustix::fs::getxattr(path("into/etc"), "user.note", &mut note[..]).unwrap();
        assert_eq!(&note[..length], b"n");
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = |path: &str| dir.path().join(path);
        for name in ["low", "top/etc", "into"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        let key = "trusted.overlay.redirect";
        match rustix::fs::setxattr(path("top/etc"), key, b"/srv", XattrFlags::empty()) {
            // Only root may.
            Err(Errno::PERM) => return,
            set => set.unwrap(),
        }
        let error = squash(&[path("top"), path("low")], &path("into"), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}

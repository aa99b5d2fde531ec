//! What is different between the file trees of two snapshots.
//!
//! Both trees are looked at as they show, merged; the layers in which they differ only tell which directories need a look.
//! What is so deep that no path leads there (`PATH_MAX`, 4,096 bytes) is not told of; the directory that it is in is.

use super::client::Client;
use super::layers::{names, xattr, xattrs};
use super::lease::Lease;
use super::rootfs::{Layers, RootFs, open_dir};
use super::{snapshots, squash};
use crate::backend::{Change, ChangesRequest, SnapshotKind, TreeEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{ChangeAspect, EntryKind};
use containerd_client::types::Mount;
use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// How much of two files is compared at a time.
const BLOCK: usize = 256 << 10;

/// Finds the changes from one snapshot to another.
///
/// # Errors
/// NOT_FOUND when a snapshot is not there; those of looking into one.
pub(super) async fn changes(client: &Client, request: &ChangesRequest) -> Result<Vec<Change>> {
    let lease = Lease::create(client, "changes").await?;
    let found = find(client, request, &lease).await;
    // Not left to the lease: containerd's garbage collector forgets to take a snapshot off its parent's list of children,
    // and the parent could not be removed any more.
    let mut removed = Ok(());
    for side in [FROM, TO] {
        removed = removed.and(squash::remove(client, &request.snapshotter, &view_of(&lease, side)).await);
    }
    let released = lease.delete(client, false).await;
    let found = found?;
    removed.and(released).map(|()| found)
}

/// The two sides of a comparison.
const FROM: &str = "from";
const TO: &str = "to";

fn view_of(lease: &Lease, side: &str) -> String {
    format!("{}-{side}", lease.id())
}

async fn find(client: &Client, request: &ChangesRequest, lease: &Lease) -> Result<Vec<Change>> {
    let from = if request.from.is_empty() {
        Vec::new()
    } else {
        look(client, request, lease, &request.from, FROM).await?
    };
    let to = look(client, request, lease, &request.to, TO).await?;
    let request = request.clone();
    let work = tokio::task::spawn_blocking(move || compare(&from, &to, &request));
    work.await.map_err(|e| Error::unexpected("comparing snapshots was broken off").caused_by(e))?
}

/// How to mount a snapshot: a committed one by a view of it.
async fn look(
    client: &Client,
    request: &ChangesRequest,
    lease: &Lease,
    key: &str,
    side: &str,
) -> Result<Vec<Mount>> {
    let snapshotter = &request.snapshotter;
    let there = snapshots::get(client, snapshotter, key).await?;
    let there = there.ok_or_else(|| Error::not_found("the snapshot is not there").with("snapshot", key))?;
    if there.kind == SnapshotKind::Committed {
        squash::view(client, lease, snapshotter, &view_of(lease, side), key).await
    } else {
        snapshots::mounts(client, snapshotter, key).await
    }
}

fn compare(from: &[Mount], to: &[Mount], request: &ChangesRequest) -> Result<Vec<Change>> {
    let dirs = |mounts: &[Mount]| {
        if mounts.is_empty() { Ok(Vec::new()) } else { Layers::of(mounts).map(|layers| layers.dirs()) }
    };
    let (mut before, mut after) = (dirs(from)?, dirs(to)?);
    while !before.is_empty() && before.last() == after.last() {
        before.pop();
        after.pop();
    }
    let differing = before.iter().chain(&after).map(|dir| open_dir(dir)).collect::<Result<Vec<_>>>()?;
    let mut walk = Walk {
        from: if from.is_empty() { None } else { Some(RootFs::read_only(from)?) },
        to: RootFs::read_only(to)?,
        differing,
        limit: request.limit,
        found: Vec::new(),
    };
    let after = PathBuf::from(OsString::from_vec(request.after.clone()));
    let after: Vec<OsString> = after.iter().map(ToOwned::to_owned).collect();
    walk.compare(&after)?;
    Ok(walk.found)
}

struct Walk {
    from: Option<RootFs>,
    to: RootFs,
    /// The layers that only one of the trees has.
    differing: Vec<OwnedFd>,
    limit: usize,
    found: Vec<Change>,
}

/// An entry before and after.
type Sides = (Option<Stat>, Option<Stat>);

/// A directory on the way.
struct Level {
    path: PathBuf,
    /// What is left of it.
    entries: std::vec::IntoIter<(OsString, Sides)>,
    /// Beyond what in it the comparison begins.
    resume: Vec<OsString>,
}

impl Walk {
    /// Compares all that is there, in the order of the directories' entries. Begins beyond `after`, a path, and ends at the
    /// limit. Not by recursion: how deep directories are is for a workspace to say.
    fn compare(&mut self, after: &[OsString]) -> Result<()> {
        let root = self.level(PathBuf::new(), self.from.is_some(), true, after.to_vec())?;
        let mut levels = vec![root];
        while let Some(level) = levels.last_mut() {
            let Some((name, sides)) = level.entries.next() else {
                levels.pop();
                continue;
            };
            // An entry on the way to where it begins was told before, but not all that is in it.
            let (told, below) = match level.resume.split_first() {
                Some((first, _)) if name.as_bytes() < first.as_bytes() => continue,
                Some((first, rest)) if name == *first => (true, rest.to_vec()),
                _ => (false, Vec::new()),
            };
            let path = level.path.join(&name);
            if !told && let Some(change) = self.change(&path, &sides)? {
                self.found.push(change);
                if self.found.len() >= self.limit {
                    return Ok(());
                }
            }
            let directory =
                |stat: &Option<Stat>| stat.as_ref().is_some_and(|stat| kind(stat) == EntryKind::Dir);
            let (before, after) = (directory(&sides.0), directory(&sides.1));
            let enter = if before && after { self.differs(&path)? } else { before || after };
            if enter {
                levels.push(self.level(path, before, after, below)?);
            }
        }
        Ok(())
    }

    /// A directory that is there before, after or both.
    fn level(&self, path: PathBuf, before: bool, after: bool, resume: Vec<OsString>) -> Result<Level> {
        let entries = self.entries(&path, before, after)?.into_iter();
        Ok(Level { path, entries, resume })
    }

    /// What is in a directory on either side, ordered by name.
    fn entries(&self, path: &Path, before: bool, after: bool) -> Result<Vec<(OsString, Sides)>> {
        let open = |tree: &RootFs| {
            let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            match tree.open(here, flags) {
                // A running workspace may have removed or replaced it since. Or no path leads there, see path_resolution(7).
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
                opened => opened.map(Some).map_err(|e| failed(path, e)),
            }
        };
        let from = self.from.as_ref().filter(|_| before).map(open).transpose()?.flatten();
        let to = if after { open(&self.to)? } else { None };
        let mut all = BTreeSet::new();
        for dir in from.iter().chain(&to) {
            all.extend(names(dir).map_err(|e| failed(path, e))?);
        }
        let stat = |dir: &Option<OwnedFd>, name: &OsString| match dir {
            None => Ok(None),
            Some(dir) => match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => Ok(None),
                found => found.map(Some).map_err(|e| failed(&path.join(name), e)),
            },
        };
        all.into_iter()
            .map(|name| {
                let sides = (stat(&from, &name)?, stat(&to, &name)?);
                Ok((name, sides))
            })
            .collect()
    }

    /// Whether a directory of both trees has a part in a layer that only one of them has.
    fn differs(&self, path: &Path) -> Result<bool> {
        for layer in &self.differing {
            match rustix::fs::statat(layer, path, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => return Ok(true),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => {}
                Err(errno) => return Err(failed(path, errno)),
            }
        }
        Ok(false)
    }

    fn change(&self, path: &Path, (before, after): &Sides) -> Result<Option<Change>> {
        let aspects = match (before, after) {
            (None, None) => return Ok(None),
            (Some(before), Some(after)) => {
                let aspects = self.aspects(path, before, after)?;
                if aspects.is_empty() {
                    return Ok(None);
                }
                aspects
            }
            _ => Vec::new(),
        };
        let path = path.as_os_str().as_bytes().to_vec();
        Ok(Some(Change {
            path,
            before: before.as_ref().map(entry),
            after: after.as_ref().map(entry),
            aspects,
        }))
    }

    fn aspects(&self, path: &Path, before: &Stat, after: &Stat) -> Result<Vec<ChangeAspect>> {
        let (old, new) = (kind(before), kind(after));
        if old != new {
            return Ok(vec![ChangeAspect::Type]);
        }
        let mut aspects = Vec::new();
        if before.st_mode != after.st_mode {
            aspects.push(ChangeAspect::Mode);
        }
        if (before.st_uid, before.st_gid) != (after.st_uid, after.st_gid) {
            aspects.push(ChangeAspect::Owner);
        }
        // One inode that has not changed since: the layers share it.
        let changed = |stat: &Stat| (stat.st_ino, stat.st_ctime, stat.st_ctime_nsec);
        if changed(before) == changed(after) {
            return Ok(aspects);
        }
        // A directory's time tells only that something in it has changed.
        let modified = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        if new != EntryKind::Dir && modified(before) != modified(after) {
            aspects.push(ChangeAspect::ModTime);
        }
        match new {
            EntryKind::File if before.st_size != after.st_size || self.contents_differ(path)? => {
                aspects.push(ChangeAspect::Content);
            }
            EntryKind::Symlink
                if self.target(self.from.as_ref(), path)? != self.target(&self.to, path)? =>
            {
                aspects.push(ChangeAspect::Content);
            }
            EntryKind::CharDevice | EntryKind::BlockDevice if before.st_rdev != after.st_rdev => {
                aspects.push(ChangeAspect::Content);
            }
            _ => {}
        }
        let open = matches!(new, EntryKind::File | EntryKind::Dir);
        if open && self.attributes(self.from.as_ref(), path)? != self.attributes(&self.to, path)? {
            aspects.push(ChangeAspect::Xattrs);
        }
        Ok(aspects)
    }

    fn contents_differ(&self, path: &Path) -> Result<bool> {
        let (Some(before), Some(after)) = (self.read(self.from.as_ref(), path)?, self.read(&self.to, path)?)
        else {
            return Ok(true);
        };
        let (mut before, mut after) = (File::from(before), File::from(after));
        let (mut a, mut b) = (vec![0; BLOCK], vec![0; BLOCK]);
        loop {
            let read = fill(&mut before, &mut a).map_err(|e| io_failed(path, e))?;
            let other = fill(&mut after, &mut b).map_err(|e| io_failed(path, e))?;
            if read != other || a[..read] != b[..other] {
                return Ok(true);
            }
            if read == 0 {
                return Ok(false);
            }
        }
    }

    fn attributes<'t>(
        &self,
        tree: impl Into<Option<&'t RootFs>>,
        path: &Path,
    ) -> Result<Vec<(String, Vec<u8>)>> {
        let Some(fd) = self.read(tree, path)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for name in xattrs(&fd).map_err(|e| failed(path, e))? {
            match xattr(&fd, &name) {
                // It was removed meanwhile, or may not be read.
                Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                value => found.push((name, value.map_err(|e| failed(path, e))?)),
            }
        }
        found.sort();
        Ok(found)
    }

    /// Opens a file or directory, if it is there still.
    fn read<'t>(&self, tree: impl Into<Option<&'t RootFs>>, path: &Path) -> Result<Option<OwnedFd>> {
        let Some(tree) = tree.into() else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        match tree.open(path, flags) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
            opened => opened.map(Some).map_err(|e| failed(path, e)),
        }
    }

    /// Where a symbolic link leads.
    fn target<'t>(&self, tree: impl Into<Option<&'t RootFs>>, path: &Path) -> Result<Option<Vec<u8>>> {
        let Some(tree) = tree.into() else { return Ok(None) };
        let read = tree
            .open(path, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(|link| rustix::fs::readlinkat(link, "", Vec::new()));
        match read {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::NOENT | Errno::INVAL | Errno::NAMETOOLONG) => Ok(None),
            Err(errno) => Err(failed(path, errno)),
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn entry(stat: &Stat) -> TreeEntry {
    let kind = kind(stat);
    let size = if kind == EntryKind::Dir { 0 } else { u64::try_from(stat.st_size).unwrap_or_default() };
    TreeEntry { kind, size }
}

fn kind(stat: &Stat) -> EntryKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Dir,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Unknown => EntryKind::Unknown,
    }
}

fn failed(path: &Path, errno: Errno) -> Error {
    io_failed(path, errno.into())
}

fn io_failed(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::of_io(&error), "cannot compare the snapshots")
        .with("path", format!("/{}", path.display()))
        .caused_by(error)
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;

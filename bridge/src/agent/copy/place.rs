//! Where a copy goes.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, lstat, open, renameat, renameat_with, stat, statat,
    unlinkat,
};
use rustix::io::Errno;
use tonic::Status;

use super::super::atomic::make_dirs;
use super::super::errors::At;
use super::super::long::Gone;
use super::super::temp::{self, Purpose};
use super::super::{locks, paths};
use super::tree::{Copied, Tree};

/// From where to where.
pub(super) struct Place<'a> {
    from: &'a Path,
    from_dir: OwnedFd,
    source: Stat,
    to: &'a Path,
    to_dir: OwnedFd,
    parent: &'a Path,
    overwrite: bool,
}

/// A copy under its hidden name.
pub(super) struct Staged {
    path: PathBuf,
    name: OsString,
    is_dir: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // In its place it has this name no more. Nothing is left to do about what cannot be removed.
        let _ =
            if self.is_dir { std::fs::remove_dir_all(&self.path) } else { std::fs::remove_file(&self.path) };
    }
}

impl<'a> Place<'a> {
    /// Looks at both ends; missing parents of the copy are made.
    pub(super) fn new(from: &'a Path, to: &'a Path, overwrite: bool) -> Result<Self, Status> {
        paths::not_root(from, "copy")?;
        paths::not_root(to, "replace")?;
        let source = lstat(from).at("copy", from)?;
        if FileType::from_raw_mode(source.st_mode) == FileType::Socket {
            let text = format!("cannot copy {}: it is a socket", from.display());
            return Err(Status::failed_precondition(text));
        }
        if let Ok(there) = lstat(to) {
            if !overwrite {
                return Err(taken(to));
            }
            not_over(from, &source, to, &there)?;
        }
        not_into(from, &source, to)?;
        let parent = to.parent().unwrap_or(Path::new("/"));
        make_dirs(parent)?;
        let open_dir = |path: &Path| {
            open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open", path)
        };
        let from_dir = open_dir(from.parent().unwrap_or(Path::new("/")))?;
        Ok(Self { from, from_dir, source, to, to_dir: open_dir(parent)?, parent, overwrite })
    }

    /// Makes the copy under a hidden name.
    pub(super) fn stage(&self, gone: &Gone) -> Result<(Staged, Copied), Status> {
        let purpose = if self.overwrite { Purpose::Replace } else { Purpose::Create };
        let name = temp::name(paths::base_name(self.to), purpose);
        let is_dir = FileType::from_raw_mode(self.source.st_mode) == FileType::Directory;
        let staged = Staged { path: self.parent.join(&name), name, is_dir };
        let mut tree = Tree::new(gone, &self.to_dir, &staged.name);
        tree.entry(
            &self.from_dir,
            paths::base_name(self.from),
            &self.to_dir,
            Path::new(&staged.name),
            self.from,
        )?;
        let copied = tree.copied;
        Ok((staged, copied))
    }

    /// Gives the copy its name.
    pub(super) fn take(&self, mut staged: Staged) -> Result<(), Status> {
        let name = paths::base_name(self.to);
        let _held = locks::hold(&self.to_dir, name);
        let dir = &self.to_dir;
        match renameat_with(dir, &staged.name, dir, name, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) if self.overwrite => {}
            Err(Errno::EXIST) => return Err(taken(self.to)),
            // Not every file system can make sure that nothing is there.
            Err(Errno::INVAL | Errno::NOSYS) if !self.overwrite => {
                return match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Err(taken(self.to)),
                    Err(_) => renameat(dir, &staged.name, dir, name).at("copy to", self.to),
                };
            }
            Err(Errno::INVAL | Errno::NOSYS) => {}
            Err(error) => return Err(error).at("copy to", self.to),
        }
        let there = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).at("replace", self.to)?;
        not_over(self.from, &self.source, self.to, &there)?;
        let there_is_dir = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
        if !staged.is_dir && !there_is_dir {
            return renameat(dir, &staged.name, dir, name).at("replace", self.to);
        }
        match renameat_with(dir, &staged.name, dir, name, RenameFlags::EXCHANGE) {
            Ok(()) => {
                // What was there has the hidden name now.
                staged.is_dir = there_is_dir;
                drop(staged);
                Ok(())
            }
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS) => self.swap(staged, name, there_is_dir),
            Err(error) => Err(error).at("replace", self.to),
        }
    }

    /// Replaces a directory where the file system cannot exchange two names: for a moment there is nothing.
    fn swap(&self, staged: Staged, name: &OsStr, there_is_dir: bool) -> Result<(), Status> {
        let dir = &self.to_dir;
        let aside = temp::name(name, Purpose::Replace);
        match renameat(dir, name, dir, &aside) {
            Ok(()) => {}
            Err(Errno::XDEV) => {
                return Err(Status::failed_precondition(format!(
                    "cannot replace {}: it is part of the image, remove it first",
                    self.to.display()
                )));
            }
            Err(error) => return Err(error).at("replace", self.to),
        }
        let old = Staged { path: self.parent.join(&aside), name: aside, is_dir: there_is_dir };
        if let Err(error) = renameat(dir, &staged.name, dir, name) {
            // It keeps its content, and its name again if that can be.
            let put_back = renameat(dir, &old.name, dir, name);
            if put_back.is_err() {
                std::mem::forget(old);
            }
            return Err(error).at("replace", self.to);
        }
        drop(old);
        Ok(())
    }
}

fn taken(to: &Path) -> Status {
    Status::already_exists(format!("{} is there already: overwrite it or choose another name", to.display()))
}

fn same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

/// Refuses a copy over what is copied or what holds it.
fn not_over(from: &Path, source: &Stat, to: &Path, there: &Stat) -> Result<(), Status> {
    let refuse = |what: &str| {
        Err(Status::invalid_argument(format!("cannot copy {} to {}: {what}", from.display(), to.display())))
    };
    let real = |path: &Path| path.parent().and_then(|parent| std::fs::canonicalize(parent).ok());
    if same(source, there) && (real(from), from.file_name()) == (real(to), to.file_name()) {
        return refuse("they are the same");
    }
    let above = real(from);
    let holds = above
        .iter()
        .flat_map(|path| path.ancestors())
        .any(|path| stat(path).is_ok_and(|up| same(&up, there)));
    if holds { refuse("the second holds the first") } else { Ok(()) }
}

/// Refuses a copy of a directory to a place in itself, however that is called.
fn not_into(from: &Path, source: &Stat, to: &Path) -> Result<(), Status> {
    // The nearest directory that is there already.
    let real = to.ancestors().skip(1).find_map(|above| std::fs::canonicalize(above).ok());
    let inside = real
        .iter()
        .flat_map(|path| path.ancestors())
        .any(|path| stat(path).is_ok_and(|up| same(&up, source)));
    if inside {
        let text = format!("cannot copy {} into itself, to {}", from.display(), to.display());
        return Err(Status::invalid_argument(text));
    }
    Ok(())
}

/// Removes a name that is no directory; nothing is left to do when that cannot be.
pub(super) fn discard(dir: &OwnedFd, name: &OsStr) {
    let _ = unlinkat(dir, name, AtFlags::empty());
}

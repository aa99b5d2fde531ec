//! Which directories the kernel watches, and what they are called.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{WatchFlags, add_watch, remove_watch};
use rustix::fs::lstat;
use rustix::io::Errno;
use tonic::Status;

use super::super::channel::Channel;
use super::super::globs::Globs;
use super::super::temp;

/// Most directories of one watch.
const MAX_DIRS: usize = 65_536;

/// What has to be looked into.
pub(super) enum Follow {
    /// A new directory.
    New(PathBuf),
    /// All of it: something was missed.
    Everything,
}

/// The directories that are watched. Each knows its name and the one it is in, so that one that is moved takes along all
/// that is below it.
pub(super) struct Tree {
    channel: Channel,
    root: PathBuf,
    recursive: bool,
    exclude: Globs,
    top: i32,
    dirs: HashMap<i32, Node>,
}

struct Node {
    parent: i32,
    name: OsString,
}

impl Tree {
    /// Watches a directory, and those below it when `recursive`.
    pub(super) fn new(
        channel: Channel,
        root: PathBuf,
        recursive: bool,
        exclude: Globs,
    ) -> Result<Self, Status> {
        let top = add_watch(channel.get_ref(), &root, flags());
        let top = top.map_err(|error| refused(error, &root))?;
        let mut tree = Self { channel, root, recursive, exclude, top, dirs: HashMap::new() };
        if recursive {
            tree.watch_below(Path::new(""), &mut |_, _| {})?;
        }
        Ok(tree)
    }

    pub(super) fn recursive(&self) -> bool {
        self.recursive
    }

    pub(super) fn is_top(&self, watch: i32) -> bool {
        self.top == watch
    }

    /// Whether there is nothing of that path; the empty one is the directory itself.
    pub(super) fn is_gone(&self, path: &Path) -> bool {
        lstat(self.root.join(path)).is_err_and(|error| error == Errno::NOENT)
    }

    pub(super) fn excludes(&self, path: &Path) -> bool {
        self.exclude.matches(path)
    }

    /// The path of an entry of a directory that is watched, relative to the top. None for one that is watched no more.
    pub(super) fn path(&self, watch: i32, name: &OsStr) -> Option<PathBuf> {
        let mut names = vec![name];
        let mut at = watch;
        while at != self.top {
            let node = self.dirs.get(&at)?;
            names.push(&node.name);
            // Directories moved into each other while they are looked at could make a ring.
            if names.len() > self.dirs.len() + 2 {
                return None;
            }
            at = node.parent;
        }
        Some(names.into_iter().rev().collect())
    }

    /// Watches a directory and all below it, and tells what is in them: path and whether it is a directory. What has gone
    /// meanwhile or cannot be read is passed over.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`.
    pub(super) fn watch_below(
        &mut self,
        path: &Path,
        tell: &mut dyn FnMut(&Path, bool),
    ) -> Result<(), Status> {
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            if !path.as_os_str().is_empty() && !self.add(&path)? {
                continue;
            }
            // Watched first: what comes into being from here on is heard of.
            let Ok(entries) = std::fs::read_dir(self.root.join(&path)) else { continue };
            for entry in entries.flatten() {
                let below = path.join(entry.file_name());
                if self.excludes(&below) || temp::purpose(&entry.file_name()).is_some() {
                    continue;
                }
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                tell(&below, is_dir);
                if is_dir && self.recursive {
                    waiting.push(below);
                }
            }
        }
        Ok(())
    }

    /// Watches one directory below the top. False when it is none, or no more.
    fn add(&mut self, path: &Path) -> Result<bool, Status> {
        let full = self.root.join(path);
        if self.dirs.len() >= MAX_DIRS {
            let text = format!("{} has over {MAX_DIRS} directories, watch its parts", self.root.display());
            return Err(Status::resource_exhausted(text));
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        let Some(parent) = self.find(parent) else { return Ok(false) };
        match add_watch(self.channel.get_ref(), &full, flags() | WatchFlags::DONT_FOLLOW) {
            Ok(watch) if watch == self.top => Ok(false),
            Ok(watch) => {
                let name = path.file_name().unwrap_or_default().to_owned();
                self.dirs.insert(watch, Node { parent, name });
                Ok(true)
            }
            Err(error @ (Errno::NOSPC | Errno::NOMEM)) => Err(refused(error, &full)),
            Err(_) => Ok(false),
        }
    }

    /// The watch of a directory by its path.
    fn find(&self, path: &Path) -> Option<i32> {
        path.iter().try_fold(self.top, |parent, name| self.named(parent, name))
    }

    fn named(&self, parent: i32, name: &OsStr) -> Option<i32> {
        let mut all = self.dirs.iter();
        all.find(|(_, node)| node.parent == parent && node.name == name).map(|(watch, _)| *watch)
    }

    /// A directory has another name. False when it was not watched.
    pub(super) fn renamed(&mut self, from: (i32, &OsStr), to: (i32, &OsStr)) -> bool {
        let Some(watch) = self.named(from.0, from.1) else { return false };
        self.dirs.insert(watch, Node { parent: to.0, name: to.1.to_owned() });
        true
    }

    /// A directory that was removed.
    pub(super) fn forget(&mut self, watch: i32) {
        self.dirs.remove(&watch);
    }

    /// A directory that went elsewhere, with all below it.
    pub(super) fn forget_named(&mut self, parent: i32, name: &OsStr) {
        let Some(gone) = self.named(parent, name) else { return };
        let mut waiting = vec![gone];
        while let Some(watch) = waiting.pop() {
            self.dirs.remove(&watch);
            // It may have been removed since, and its watch with it.
            let _ = remove_watch(self.channel.get_ref(), watch);
            waiting
                .extend(self.dirs.iter().filter(|(_, node)| node.parent == watch).map(|(watch, _)| *watch));
        }
    }
}

fn flags() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MODIFY
        | WatchFlags::ATTRIB
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
        | WatchFlags::EXCL_UNLINK
}

fn refused(error: Errno, path: &Path) -> Status {
    if error == Errno::NOSPC {
        let text = "the system allows no more watches: end others, or raise fs.inotify.max_user_watches";
        return Status::resource_exhausted(text);
    }
    super::super::errors::status("watch", path, &error.into())
}

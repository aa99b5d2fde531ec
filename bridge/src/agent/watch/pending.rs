//! What is to be told: joined, ordered, bounded.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::bytes::Bytes;
use tokio::time::Instant;

use super::super::temp::Purpose;
use super::tree::Tree;
use crate::v1::{WatchEvent, WatchKind};

/// How long what happens is gathered: the same thing about the same path is told once.
const GATHER: Duration = Duration::from_millis(50);
/// Most that waits to be told; then nothing is read any more.
const MAX_PENDING: usize = 4096;
/// Most of one message.
const MESSAGE: usize = 512;

/// What is to be told.
#[derive(Default)]
pub(super) struct Pending {
    events: Vec<WatchEvent>,
    /// The last that is told of each path.
    last: HashMap<PathBuf, WatchKind>,
    since: Option<Instant>,
    /// Names that went, and may have come elsewhere.
    moved: Vec<Moved>,
    overflow: bool,
}

struct Moved {
    cookie: u32,
    path: PathBuf,
    is_dir: bool,
    purpose: Option<Purpose>,
    /// The directory it was in, and its name there.
    of: (i32, OsString),
}

impl Pending {
    /// When it is to be told; none while there is nothing.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + GATHER)
    }

    pub(super) fn has_room(&self) -> bool {
        self.events.len() + self.moved.len() < MAX_PENDING
    }

    /// Something was missed.
    pub(super) fn overflow(&mut self) {
        self.begin();
        self.overflow = true;
    }

    /// Something happened to a path.
    pub(super) fn push(&mut self, kind: WatchKind, path: &Path, is_dir: bool) {
        self.settle(path);
        let last = self.last.get(path);
        // What has just come into being has changed by that alone.
        let known = last == Some(&kind) || (kind, last) == (WatchKind::Changed, Some(&WatchKind::Created));
        if !known {
            self.add(kind, path, is_dir, None);
        }
    }

    /// A name went.
    pub(super) fn moved_from(
        &mut self,
        cookie: u32,
        path: PathBuf,
        is_dir: bool,
        purpose: Option<Purpose>,
        of: (i32, OsString),
    ) {
        self.begin();
        self.moved.push(Moved { cookie, path, is_dir, purpose, of });
    }

    /// A name came, perhaps in the place of one that went. True when it is new here.
    pub(super) fn moved_to(
        &mut self,
        cookie: u32,
        path: &Path,
        is_dir: bool,
        tree: &mut Tree,
        to: (i32, &OsStr),
    ) -> bool {
        let from = self.moved.iter().position(|moved| moved.cookie == cookie).map(|at| self.moved.remove(at));
        match from {
            Some(Moved { purpose: Some(purpose), .. }) => {
                let replaced = purpose == Purpose::Replace;
                self.push(if replaced { WatchKind::Changed } else { WatchKind::Created }, path, is_dir);
                true
            }
            Some(moved) => {
                self.settle(path);
                self.last.remove(&moved.path);
                self.add(WatchKind::Renamed, path, is_dir, Some(&moved.path));
                is_dir && !tree.renamed((moved.of.0, &moved.of.1), to)
            }
            None => {
                self.push(WatchKind::Created, path, is_dir);
                true
            }
        }
    }

    /// What is to be told now; none when that is nothing.
    pub(super) fn take(&mut self, tree: &mut Tree) -> Option<Vec<WatchEvent>> {
        for moved in std::mem::take(&mut self.moved) {
            self.left(moved, Some(tree));
        }
        let rest = self.events.split_off(self.events.len().min(MESSAGE));
        let mut told = std::mem::replace(&mut self.events, rest);
        if self.events.is_empty() {
            self.since = None;
            self.last.clear();
            if std::mem::take(&mut self.overflow) {
                told.push(WatchEvent { kind: WatchKind::Overflow.into(), ..Default::default() });
            }
        }
        (!told.is_empty()).then_some(told)
    }

    /// Tells of a name that went before anything else is told of it.
    fn settle(&mut self, path: &Path) {
        while let Some(at) = self.moved.iter().position(|moved| moved.path == path) {
            let moved = self.moved.remove(at);
            self.left(moved, None);
        }
    }

    /// A name went and did not come elsewhere.
    fn left(&mut self, moved: Moved, tree: Option<&mut Tree>) {
        if moved.purpose.is_some() {
            return;
        }
        if let (true, Some(tree)) = (moved.is_dir, tree) {
            tree.forget_named(moved.of.0, &moved.of.1);
        }
        self.add(WatchKind::Removed, &moved.path, moved.is_dir, None);
    }

    fn add(&mut self, kind: WatchKind, path: &Path, is_dir: bool, from: Option<&Path>) {
        self.begin();
        self.last.insert(path.to_owned(), kind);
        let bytes = |path: &Path| Bytes::copy_from_slice(path.as_os_str().as_bytes());
        let from = from.map(bytes).unwrap_or_default();
        self.events.push(WatchEvent { kind: kind.into(), path: bytes(path), from, is_dir });
    }

    fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }
}

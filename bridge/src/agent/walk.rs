//! Directories and trees.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, lstat};
use tonic::Status;

use super::errors::{At, reason};

/// One thing found.
pub(crate) struct Found {
    /// Relative to where the walk began.
    pub(crate) path: PathBuf,
    pub(crate) stat: Stat,
    pub(crate) link_target: Option<OsString>,
}

/// One step of a walk.
pub(crate) enum Step {
    Found(Found),
    /// Something could not be read; the walk goes on.
    Problem(PathBuf, String),
}

/// How to walk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    /// Entries of each directory by name, each followed by what it holds; otherwise as the file system gives them.
    pub(crate) sorted: bool,
    /// How many directories deep; 0 is no limit.
    pub(crate) max_depth: usize,
}

/// A walk below a directory, which itself is not listed. Symbolic links are not followed, except at its beginning.
///
/// It keeps one open directory, or one directory's names when sorted, and the names of those it has yet to open.
pub(crate) struct Walk {
    root: PathBuf,
    order: Order,
    /// Directories yet to read, with their depth.
    pending: VecDeque<(PathBuf, usize)>,
    current: Option<Listing>,
}

struct Listing {
    path: PathBuf,
    depth: usize,
    entries: Box<dyn Iterator<Item = io::Result<OsString>> + Send>,
}

impl Walk {
    /// Opens the first directory.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FAILED_PRECONDITION` when it is not a directory, `PERMISSION_DENIED`.
    pub(crate) fn new(root: &Path, order: Order) -> Result<Self, Status> {
        let entries = read(root, order.sorted).at("list", root)?;
        let current = Some(Listing { path: PathBuf::new(), depth: 1, entries });
        Ok(Self { root: root.to_owned(), order, pending: VecDeque::new(), current })
    }

    fn describe(&mut self, path: PathBuf, depth: usize) -> Option<Step> {
        let full = self.root.join(&path);
        let stat = match lstat(&full) {
            Ok(stat) => stat,
            // Removed since it was listed.
            Err(rustix::io::Errno::NOENT) => return None,
            Err(error) => return Some(Step::Problem(path, reason(&error.into()))),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory && (self.order.max_depth == 0 || depth < self.order.max_depth) {
            self.pending.push_front((path.clone(), depth + 1));
        }
        let link_target = (kind == FileType::Symlink)
            .then(|| std::fs::read_link(&full).ok().map(PathBuf::into_os_string))
            .flatten();
        Some(Step::Found(Found { path, stat, link_target }))
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            let Some(listing) = &mut self.current else {
                let (path, depth) = self.pending.pop_front()?;
                match read(&self.root.join(&path), self.order.sorted) {
                    Ok(entries) => self.current = Some(Listing { path, depth, entries }),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Some(Step::Problem(path, reason(&error))),
                }
                continue;
            };
            match listing.entries.next() {
                None => self.current = None,
                Some(Err(error)) => {
                    let path = listing.path.clone();
                    self.current = None;
                    return Some(Step::Problem(path, reason(&error)));
                }
                Some(Ok(name)) => {
                    let (path, depth) = (listing.path.join(name), listing.depth);
                    if let Some(step) = self.describe(path, depth) {
                        return Some(step);
                    }
                }
            }
        }
    }
}

type Names = Box<dyn Iterator<Item = io::Result<OsString>> + Send>;

fn read(path: &Path, sorted: bool) -> io::Result<Names> {
    let entries = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name()));
    if !sorted {
        return Ok(Box::new(entries));
    }
    let mut names = entries.collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(Box::new(names.into_iter().map(Ok)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("b/deep/er")).unwrap();
        for file in ["a", "c", "b/x", "b/deep/y"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("b", dir.path().join("link")).unwrap();
        dir
    }

    fn paths(order: Order) -> Vec<String> {
        let dir = tree();
        let walk = Walk::new(dir.path(), order).unwrap();
        walk.filter_map(|step| match step {
            Step::Found(found) => Some(found.path.display().to_string()),
            Step::Problem(..) => None,
        })
        .collect()
    }

    #[test]
    fn one_directory_is_sorted_and_links_are_not_followed() {
        assert_eq!(paths(Order { sorted: true, max_depth: 1 }), ["a", "b", "c", "link"]);
    }

    #[test]
    fn a_tree_holds_everything_once() {
        let mut found = paths(Order::default());
        found.sort();
        assert_eq!(found, ["a", "b", "b/deep", "b/deep/er", "b/deep/y", "b/x", "c", "link"]);
        assert_eq!(paths(Order { sorted: false, max_depth: 2 }).len(), 6);
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let dir = tree();
        let refused = |path: &str| Walk::new(&dir.path().join(path), Order::default()).err().unwrap().code();
        assert_eq!(refused("nothing"), tonic::Code::NotFound);
        assert_eq!(refused("a"), tonic::Code::FailedPrecondition);
    }
}

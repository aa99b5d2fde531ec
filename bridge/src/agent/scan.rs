//! A tree in sorted order, from any place on.
//!
//! Each directory's entries come by name, byte by byte, each followed by what it holds. Of a directory it holds a bounded
//! number of names at a time, the smallest that are yet to come, and reads it again for more: a directory of any size
//! takes no more memory than one of [`BATCH`] names.

use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, lstat, open};
use rustix::io::Errno;
use tonic::Status;

use super::errors::{At, reason};
use super::walk::Found;

/// Names of one directory held at a time.
const BATCH: usize = 10_000;

/// What a scan does with an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Tell it.
    pub(crate) tell: bool,
    /// Look into it, if it is a directory.
    pub(crate) enter: bool,
}

/// Chooses, by a path relative to where the scan begins and whether it may be a directory.
pub(crate) type Choose = Box<dyn Fn(&Path, bool) -> Choice + Send>;

/// One step of a scan.
pub(crate) enum Step {
    Found(Found),
    /// Something could not be read; the scan goes on.
    Problem(PathBuf, String),
    /// A directory was read; a good moment to look at the clock.
    Read,
}

/// A scan below a directory, which itself is not told. Symbolic links are not followed, except at its beginning.
pub(crate) struct Scan {
    root: PathBuf,
    max_depth: usize,
    choose: Choose,
    levels: Vec<Level>,
    /// The last entry that was looked at.
    place: PathBuf,
}

/// A directory under way.
struct Level {
    path: PathBuf,
    names: std::vec::IntoIter<Name>,
    /// The largest name that has been read; those up to it are done.
    last: Option<OsString>,
    /// Whether there may be names after it.
    more: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    name: OsString,
    tell: bool,
    enter: bool,
}

impl Scan {
    /// Begins after the entry `after`, which may be gone, or at the beginning when it is empty. `max_depth` is how many
    /// directories deep, 0 for no limit.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FAILED_PRECONDITION` when it is no directory, `PERMISSION_DENIED`; `INVALID_ARGUMENT` for an `after`
    /// that is no relative path.
    pub(crate) fn new(root: &Path, max_depth: usize, after: &Path, choose: Choose) -> Result<Self, Status> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        drop(open(root, flags, Mode::empty()).at("list", root)?);
        let mut scan =
            Self { root: root.to_owned(), max_depth, choose, levels: Vec::new(), place: after.to_owned() };
        let mut path = PathBuf::new();
        for part in after.components() {
            let Component::Normal(name) = part else {
                return Err(Status::invalid_argument("the place to go on from is not one that was told"));
            };
            scan.levels.push(Level::new(path.clone(), Some(name.to_owned())));
            path.push(name);
            let is_dir = lstat(root.join(&path))
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
            if !is_dir || !scan.enters(&path) {
                return Ok(scan);
            }
        }
        scan.levels.push(Level::new(path, None));
        Ok(scan)
    }

    /// The last entry that was looked at, told or not: a scan after it goes on from here.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    fn enters(&self, path: &Path) -> bool {
        (self.max_depth == 0 || path.components().count() < self.max_depth) && (self.choose)(path, true).enter
    }

    /// The next step; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Step> {
        loop {
            let level = self.levels.last_mut()?;
            match level.names.next() {
                Some(name) => {
                    let path = level.path.join(&name.name);
                    self.place.clone_from(&path);
                    if let Some(step) = self.look(path, &name) {
                        return Some(step);
                    }
                }
                None if level.more => {
                    let depth = self.levels.len();
                    return Some(self.read(depth));
                }
                None => drop(self.levels.pop()),
            }
        }
    }

    /// Describes an entry, and goes into it next when it is a directory to be entered.
    fn look(&mut self, path: PathBuf, name: &Name) -> Option<Step> {
        let full = self.root.join(&path);
        let stat = match lstat(&full) {
            Ok(stat) => stat,
            // Removed since it was listed.
            Err(Errno::NOENT) => return None,
            Err(error) => return Some(Step::Problem(path, reason(&error.into()))),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if name.enter && kind == FileType::Directory {
            self.levels.push(Level::new(path.clone(), None));
        }
        if !name.tell {
            return None;
        }
        let link_target = (kind == FileType::Symlink)
            .then(|| std::fs::read_link(&full).ok().map(PathBuf::into_os_string))
            .flatten();
        Some(Step::Found(Found { path, stat, link_target }))
    }

    /// Takes the next names of the directory that is under way.
    fn read(&mut self, depth: usize) -> Step {
        let may_enter = self.max_depth == 0 || depth < self.max_depth;
        let Some(level) = self.levels.last_mut() else { return Step::Read };
        let full = self.root.join(&level.path);
        // The place where the scan begins may be a link.
        let follow = if level.path.as_os_str().is_empty() { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | follow;
        let choose = |name: &OsStr, kind: FileType| {
            let may_be_dir = matches!(kind, FileType::Directory | FileType::Unknown);
            let choice = (self.choose)(&level.path.join(name), may_be_dir);
            (choice.tell, choice.enter && may_enter && may_be_dir)
        };
        let read =
            open(&full, flags, Mode::empty()).and_then(|fd| smallest(fd, level.last.as_deref(), choose));
        match read {
            Ok((names, more)) => {
                level.last = names.last().map(|name| name.name.clone()).or(level.last.take());
                level.more = more;
                level.names = names.into_iter();
                Step::Read
            }
            Err(error) => {
                level.more = false;
                let path = level.path.clone();
                match error {
                    // Removed or replaced since it was listed.
                    Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Step::Read,
                    error => Step::Problem(path, reason(&error.into())),
                }
            }
        }
    }
}

impl Level {
    fn new(path: PathBuf, last: Option<OsString>) -> Self {
        Self { path, names: Vec::new().into_iter(), last, more: true }
    }
}

/// The smallest names of a directory after `last` that are told or entered, sorted, and whether there are more.
fn smallest(
    dir: std::os::fd::OwnedFd,
    last: Option<&OsStr>,
    choose: impl Fn(&OsStr, FileType) -> (bool, bool),
) -> rustix::io::Result<(Vec<Name>, bool)> {
    // The largest of those held is at hand, to make room for a smaller one.
    let mut held = BinaryHeap::new();
    let mut more = false;
    for entry in Dir::new(dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." || last.is_some_and(|last| name <= last) {
            continue;
        }
        let full = held.len() >= BATCH;
        if full && held.peek().is_some_and(|largest: &Name| *name >= *largest.name) {
            more = true;
            continue;
        }
        let (tell, enter) = choose(name, entry.file_type());
        if !tell && !enter {
            continue;
        }
        if full {
            held.pop();
            more = true;
        }
        held.push(Name { name: name.to_owned(), tell, enter });
    }
    Ok((held.into_sorted_vec(), more))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Choose {
        Box::new(|_, _| Choice { tell: true, enter: true })
    }

    fn names(scan: &mut Scan) -> Vec<String> {
        std::iter::from_fn(|| scan.next())
            .filter_map(|step| match step {
                Step::Found(found) => Some(found.path.display().to_string()),
                _ => None,
            })
            .collect()
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("b/deep/er")).unwrap();
        for file in ["a", "c", "b.txt", "b/x", "b/deep/y"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("b", dir.path().join("link")).unwrap();
        dir
    }

    const ALL: [&str; 9] = ["a", "b", "b/deep", "b/deep/er", "b/deep/y", "b/x", "b.txt", "c", "link"];

    #[test]
    fn it_goes_on_after_any_entry() {
        let dir = tree();
        let scan = |after: &str| Scan::new(dir.path(), 0, Path::new(after), everything()).unwrap();
        assert_eq!(names(&mut scan("")), ALL);
        for (index, entry) in ALL.iter().enumerate() {
            assert_eq!(names(&mut scan(entry)), ALL[index + 1..], "after {entry}");
        }
        // What is gone, or never was, is a place all the same.
        assert_eq!(names(&mut scan("b/deep/nothing/x")), ["b/deep/y", "b/x", "b.txt", "c", "link"]);
        assert_eq!(names(&mut scan("zzz")), [""; 0]);
        // A link is no way.
        assert_eq!(names(&mut scan("link/deep")), [""; 0]);
        let bad = Scan::new(dir.path(), 0, Path::new("../x"), everything()).err().unwrap();
        assert_eq!(bad.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn depth_and_choice_bound_it() {
        let dir = tree();
        let mut flat = Scan::new(dir.path(), 1, Path::new(""), everything()).unwrap();
        assert_eq!(names(&mut flat), ["a", "b", "b.txt", "c", "link"]);
        let mut two = Scan::new(dir.path(), 2, Path::new("b"), everything()).unwrap();
        assert_eq!(names(&mut two), ["b/deep", "b/x", "b.txt", "c", "link"]);
        let choose: Choose =
            Box::new(|path, _| Choice { tell: path.ends_with("x"), enter: !path.ends_with("deep") });
        let mut some = Scan::new(dir.path(), 0, Path::new(""), choose).unwrap();
        assert_eq!(names(&mut some), ["b/x"]);
    }

    #[test]
    fn a_large_directory_is_read_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let count = 2 * BATCH + 5;
        for n in 0..count {
            std::fs::write(dir.path().join(format!("{n:06}")), "").unwrap();
        }
        let mut scan = Scan::new(dir.path(), 0, Path::new(""), everything()).unwrap();
        let found = names(&mut scan);
        assert!(found.len() == count && found.is_sorted());
        let after = format!("{:06}", count - 2);
        let mut rest = Scan::new(dir.path(), 0, Path::new(&after), everything()).unwrap();
        assert_eq!(names(&mut rest), [format!("{:06}", count - 1)]);
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let dir = tree();
        let refused = |path: &str| {
            Scan::new(&dir.path().join(path), 0, Path::new(""), everything()).err().unwrap().code()
        };
        assert_eq!((refused("none"), refused("a")), (tonic::Code::NotFound, tonic::Code::FailedPrecondition));
    }
}

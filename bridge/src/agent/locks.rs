//! One change at a time to one name, among those that come through this agent.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Stat, fstat, stat};

/// Locks that all names share: two names rarely have the same one, and wait for each other then.
const COUNT: usize = 64;

static LOCKS: [Mutex<()>; COUNT] = [const { Mutex::new(()) }; COUNT];

/// Held while names change.
pub(crate) struct Held {
    _locks: [Option<MutexGuard<'static, ()>>; 2],
}

/// Holds a name in a directory. However the directory is called, it is the same lock.
pub(crate) fn hold(dir: impl AsFd, name: &OsStr) -> Held {
    Held { _locks: [Some(lock(place(fstat(dir).ok(), name))), None] }
}

/// Holds the last names of these paths.
pub(crate) fn hold_paths<const N: usize>(paths: [&Path; N]) -> Held {
    let mut places: Vec<usize> = paths
        .into_iter()
        .map(|path| {
            let parent = path.parent().unwrap_or(Path::new("/"));
            place(stat(parent).ok(), super::paths::base_name(path))
        })
        .collect();
    // One order for all, so that nobody waits for one who waits.
    places.sort_unstable();
    places.dedup();
    let mut places = places.into_iter().map(lock);
    Held { _locks: [places.next(), places.next()] }
}

fn place(dir: Option<Stat>, name: &OsStr) -> usize {
    let mut hasher = DefaultHasher::new();
    dir.map(|dir| (dir.st_dev, dir.st_ino)).hash(&mut hasher);
    name.hash(&mut hasher);
    usize::try_from(hasher.finish() % COUNT as u64).unwrap_or_default()
}

fn lock(place: usize) -> MutexGuard<'static, ()> {
    LOCKS[place].lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_has_one_lock_however_it_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let name = OsStr::new("x");
        assert_eq!(place(stat(&real).ok(), name), place(stat(&link).ok(), name));
        // The same path twice is one lock, not a wait for itself.
        drop(hold_paths([&real.join("x"), &link.join("x")]));
        let fd = std::fs::File::open(&real).unwrap();
        let held = hold(&fd, name);
        let (tell, told) = std::sync::mpsc::channel();
        let path = link.join("x");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _held = hold_paths([&path]);
                tell.send(()).unwrap();
            });
            assert!(told.recv_timeout(std::time::Duration::from_millis(50)).is_err());
            drop(held);
            told.recv().unwrap();
        });
    }
}

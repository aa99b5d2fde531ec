//! Cleaning up after wardens that were killed.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::children::Children;
use crate::teardown;

/// The file whose lock a living warden holds.
pub(super) const LOCK: &str = "lock";

/// A directory without a lock file is left alone this long: its warden may be about to make one.
const GRACE: Duration = Duration::from_secs(60);

/// Removes every directory below `base` that no living warden holds.
pub(super) fn remove_ownerless(base: &Path, children: &Children) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        match File::open(path.join(LOCK)) {
            // The lock is kept while we remove, so that two wardens never remove the same directory.
            Ok(lock) => {
                if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    report(teardown::remove(&path, children));
                }
            }
            Err(_) if is_old(&path) => report(teardown::remove(&path, children)),
            Err(_) => {}
        }
    }
}

fn is_old(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > GRACE))
}

/// A leftover that cannot be removed is worth a line, and no reason to refuse new work.
#[expect(clippy::print_stderr, reason = "the warden is a program, and has no other way to say it")]
fn report(result: crate::error::Result<()>) {
    if let Err(error) = result {
        eprintln!("dunnage-harness: {error}");
    }
}

//! The directory of a task that never came to be.
//!
//! A daemon that dies after it has made a task's bundle and before the shim has begun leaves one that nobody takes away: at
//! its next start the daemon lets the shim clean up, which gives up when the bundle does not say yet which runtime it is for
//! (containerd issue 11071), and from then on every task of that container fails with `mkdir …: file exists`.

use crate::error::Error;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, lstat, open, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::CString;
use std::path::Path;

/// What the shim writes first of all, before it mounts or runs anything: the name of the runtime.
const RUNTIME: &str = "runtime";

/// Takes away the bundle that a creation failed for. False when it is not there for us, or may be anybody's still.
///
/// The caller knows that the daemon has no task of that name, and that nobody else makes one. It blocks.
pub(super) fn discard(failure: &Error, socket: &str, namespace: &str, container: &str) -> bool {
    let Some(bundle) = named(failure.message(), namespace, container) else { return false };
    match remove(bundle, Path::new(socket)) {
        Ok(removed) => removed,
        Err(error) => {
            tracing::warn!(bundle = %bundle.display(), %error, "cannot remove what a dead daemon left");
            false
        }
    }
}

/// The bundle of this container that a message of the daemon names as being in the way.
fn named<'a>(message: &'a str, namespace: &str, container: &str) -> Option<&'a Path> {
    let (_, rest) = message.split_once("mkdir ")?;
    let (path, _) = rest.split_once(": file exists")?;
    let ours = format!("/io.containerd.runtime.v2.task/{namespace}/{container}");
    (path.starts_with('/') && path.ends_with(&ours)).then_some(Path::new(path))
}

/// Removes it if it is older than the daemon that listens on the socket now, no shim has begun with it and no process is in
/// it. Nothing is removed with what is below it: where a root file system is, or was mounted, this fails.
fn remove(bundle: &Path, socket: &Path) -> rustix::io::Result<bool> {
    let dir = match open(bundle, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error),
    };
    let begun = match statat(&dir, RUNTIME, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => true,
        Err(Errno::NOENT) => false,
        Err(error) => return Err(error),
    };
    if begun || modified(&fstat(&dir)?) >= modified(&lstat(socket)?) || is_used(bundle) {
        return Ok(false);
    }
    let (mut dirs, mut files) = (Vec::new(), Vec::<CString>::new());
    for entry in Dir::read_from(&dir)? {
        let name = entry?.file_name().to_owned();
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir { &mut dirs } else { &mut files }.push(name);
    }
    // Directories first: one that is not empty is a reason to leave all as it is.
    for name in dirs {
        unlinkat(&dir, &name, AtFlags::REMOVEDIR)?;
    }
    for name in files {
        unlinkat(&dir, &name, AtFlags::empty())?;
    }
    unlinkat(CWD, bundle, AtFlags::REMOVEDIR)?;
    Ok(true)
}

fn modified(stat: &Stat) -> (i64, i64) {
    // The types differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    (stat.st_mtime as i64, stat.st_mtime_nsec as i64)
}

/// Whether a process is in a directory, as a shim is in its bundle from its first moment on.
fn is_used(dir: &Path) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    processes
        .flatten()
        .any(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    const MESSAGE: &str = "cannot create the task: failed to start shim: mkdir /run/c/io.containerd.runtime.v2.task/ns/workspace-a: file exists";

    #[test]
    fn only_the_bundle_of_that_container_is_meant() {
        let found = named(MESSAGE, "ns", "workspace-a");
        assert_eq!(found, Some(Path::new("/run/c/io.containerd.runtime.v2.task/ns/workspace-a")));
        assert_eq!(named(MESSAGE, "ns", "workspace-b"), None);
        assert_eq!(named(MESSAGE, "s", "workspace-a"), None);
        assert_eq!(named(MESSAGE, "ns", "a"), None);
        assert_eq!(named("mkdir /x/ns/workspace-a: no space left on device", "ns", "workspace-a"), None);
        assert_eq!(named("mkdir : file exists", "", ""), None);
    }

    /// A bundle, and the socket of a daemon that was started after it was made.
    fn left() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("bundle");
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        fs::write(bundle.join("config.json"), "{}").unwrap();
        std::os::unix::fs::symlink("/", bundle.join("work")).unwrap();
        let socket = dir.path().join("socket");
        start_daemon(&bundle, &socket);
        (dir, bundle, socket)
    }

    fn start_daemon(bundle: &Path, socket: &Path) {
        let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        fs::write(socket, "").unwrap();
        // The kernel's clock for files has steps.
        while modified(socket) <= modified(bundle) {
            fs::write(socket, "again").unwrap();
        }
    }

    #[test]
    fn what_a_dead_daemon_left_goes() {
        let (dir, bundle, socket) = left();
        assert_eq!(remove(&bundle, &socket), Ok(true));
        assert!(!bundle.exists());
        assert_eq!(remove(&bundle, &socket), Ok(false));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_may_be_somebodys_stays() {
        let whole = |bundle: &Path| bundle.join("config.json").exists() && bundle.join("rootfs").exists();
        // Of the daemon that runs.
        let (_dir, bundle, socket) = left();
        fs::write(bundle.join("log"), "").unwrap();
        assert_eq!((remove(&bundle, &socket), whole(&bundle)), (Ok(false), true));
        // A shim has begun.
        let (_dir, bundle, socket) = left();
        fs::write(bundle.join(RUNTIME), "runc").unwrap();
        start_daemon(&bundle, &socket);
        assert_eq!((remove(&bundle, &socket), whole(&bundle)), (Ok(false), true));
        // A process is in it.
        let (_dir, bundle, socket) = left();
        let mut shim = std::process::Command::new("sleep").arg("1000").current_dir(&bundle).spawn().unwrap();
        let kept = (remove(&bundle, &socket), whole(&bundle));
        shim.kill().unwrap();
        shim.wait().unwrap();
        assert_eq!(kept, (Ok(false), true));
        // There is something below its root.
        let (_dir, bundle, socket) = left();
        fs::write(bundle.join("rootfs/precious"), "").unwrap();
        assert_eq!((remove(&bundle, &socket), whole(&bundle)), (Err(Errno::NOTEMPTY), true));
    }
}

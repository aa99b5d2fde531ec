//! Deleting and moving.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use tonic::Status;

use super::atomic::make_dirs;
use super::errors::At;
use super::locks;
use super::paths::not_root;

/// Deletes a path; a directory only when empty or `recursive`. One that is not there is a success. Symbolic links are
/// deleted, never followed.
///
/// # Errors
/// `PERMISSION_DENIED` for `/`, `FAILED_PRECONDITION` for a directory that is not empty or is a mount point.
pub(crate) fn delete(path: &Path, recursive: bool) -> Result<(), Status> {
    not_root(path, "delete")?;
    // A tree takes long, and nothing depends on the moment at which its top goes.
    let _held = (!recursive).then(|| locks::hold_paths([path]));
    let result = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() && recursive => std::fs::remove_dir_all(path),
        Ok(found) if found.is_dir() => std::fs::remove_dir(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if is_gone(&error) => Ok(()),
        result => result.at("delete", path),
    }
}

/// Neither the path nor, when a parent is no directory, anything like it.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Moves a path, replacing what is there as rename(2) does; missing parents of the new one are made.
///
/// # Errors
/// `NOT_FOUND`, `FAILED_PRECONDITION` (a directory that is not empty is in the way, or it is on another file system).
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Status> {
    not_root(from, "move")?;
    not_root(to, "replace")?;
    std::fs::symlink_metadata(from).at("move", from)?;
    if let Some(parent) = to.parent() {
        make_dirs(parent)?;
    }
    let _held = locks::hold_paths([from, to]);
    match rustix::fs::rename(from, to) {
        Err(Errno::XDEV) => Err(Status::failed_precondition(format!(
            "cannot move {} to {}: they are on different file systems, copy it and remove the old one",
            from.display(),
            to.display()
        ))),
        result => result.at("move to", to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn deleting_is_idempotent_and_careful() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("d/e")).unwrap();
        std::fs::write(path("d/f"), "").unwrap();
        std::os::unix::fs::symlink(path("d"), path("l")).unwrap();
        assert_eq!(delete(&path("d"), false).unwrap_err().code(), Code::FailedPrecondition);
        delete(&path("l"), true).unwrap();
        assert!(path("d/f").exists());
        delete(&path("d"), true).unwrap();
        delete(&path("d"), true).unwrap();
        delete(&path("d/deeper/still"), false).unwrap();
        assert_eq!(delete(Path::new("/"), true).unwrap_err().code(), Code::PermissionDenied);
    }

    #[test]
    fn moving_makes_parents_and_replaces_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a"), "a").unwrap();
        rename(&path("a"), &path("x/y/b")).unwrap();
        assert_eq!(std::fs::read(path("x/y/b")).unwrap(), b"a");
        assert_eq!(rename(&path("a"), &path("z/q")).unwrap_err().code(), Code::NotFound);
        assert!(!path("z").exists(), "a move that fails makes nothing");
    }
}

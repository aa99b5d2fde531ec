//! Symbolic links.

use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, renameat, statat, symlinkat, unlinkat};
use rustix::io::Errno;
use tonic::Status;

use super::atomic::make_dirs;
use super::errors::At;
use super::temp::{self, Purpose};
use super::{locks, paths};

/// Makes a symbolic link that says `target`. Missing parents are made. With `overwrite` it takes the place of what is there
/// in one step, but never of a directory.
///
/// # Errors
/// `ALREADY_EXISTS` when something is there, `FAILED_PRECONDITION` when that is a directory and was to be replaced,
/// `PERMISSION_DENIED` for `/`.
pub(crate) fn symlink(target: &OsStr, path: &Path, overwrite: bool) -> Result<(), Status> {
    paths::not_root(path, "replace")?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    make_dirs(parent)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = open(parent, flags, Mode::empty()).at("open", parent)?;
    let name = paths::base_name(path);
    let _held = locks::hold(&dir, name);
    match symlinkat(target, &dir, name) {
        Err(Errno::EXIST) if overwrite => {}
        result => return result.at("make the link", path),
    }
    let there = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW);
    if there.is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::Directory) {
        let text = format!("cannot replace {} by a link: it is a directory", path.display());
        return Err(Status::failed_precondition(text));
    }
    let (temp, ()) =
        temp::make(name, Purpose::Replace, |temp| symlinkat(target, &dir, temp)).at("make the link", path)?;
    renameat(&dir, &temp, &dir, name).map_err(|error| {
        // Nothing is left to do about a name that cannot be removed.
        let _ = unlinkat(&dir, &temp, AtFlags::empty());
        super::errors::status("make the link", path, &error.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn links_say_what_they_are_told_and_replace_only_on_demand() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/link");
        let link = |target: &str, overwrite| symlink(OsStr::new(target), &path, overwrite);
        link("../no where", false).unwrap();
        assert_eq!(std::fs::read_link(&path).unwrap(), Path::new("../no where"));
        assert_eq!(link("other", false).unwrap_err().code(), Code::AlreadyExists);
        link("other", true).unwrap();
        assert_eq!(std::fs::read_link(&path).unwrap(), Path::new("other"));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a file").unwrap();
        link("x", true).unwrap();
        assert_eq!(std::fs::read_link(&path).unwrap(), Path::new("x"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(link("x", true).unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(link("x", false).unwrap_err().code(), Code::AlreadyExists);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}

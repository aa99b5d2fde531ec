//! Paths from the wire.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use tonic::Status;

/// The absolute, lexically cleaned path a request means: relative ones start at `data_dir`, `..` never climbs above
/// the root, an empty one is `data_dir` itself.
///
/// # Errors
/// `INVALID_ARGUMENT` when it holds a NUL byte.
pub(crate) fn resolve(data_dir: &Path, raw: &[u8]) -> Result<PathBuf, Status> {
    if raw.contains(&0) {
        return Err(Status::invalid_argument("a path cannot hold a NUL byte"));
    }
    Ok(clean(&data_dir.join(OsStr::from_bytes(raw))))
}

/// As [`resolve`], for requests that need a path.
///
/// # Errors
/// `INVALID_ARGUMENT` when it is empty or holds a NUL byte.
pub(crate) fn required(data_dir: &Path, raw: &[u8]) -> Result<PathBuf, Status> {
    if raw.is_empty() {
        return Err(Status::invalid_argument("a path is required"));
    }
    resolve(data_dir, raw)
}

fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// Refuses to touch the root itself.
///
/// # Errors
/// `PERMISSION_DENIED` for `/`.
pub(crate) fn not_root(path: &Path, action: &str) -> Result<(), Status> {
    if path == Path::new("/") {
        return Err(Status::permission_denied(format!("cannot {action} /: it is the workspace's root")));
    }
    Ok(())
}

/// The last name of a path; `/` for the root.
pub(crate) fn base_name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_else(|| OsStr::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(raw: &str) -> String {
        resolve(Path::new("/data"), raw.as_bytes()).unwrap().display().to_string()
    }

    #[test]
    fn relative_paths_start_at_the_data_directory() {
        assert_eq!(at("a/b"), "/data/a/b");
        assert_eq!(at(""), "/data");
        assert_eq!(at("."), "/data");
        assert_eq!(at("../etc"), "/etc");
    }

    #[test]
    fn absolute_paths_are_cleaned_and_stay_below_the_root() {
        assert_eq!(at("/a//b/./c/"), "/a/b/c");
        assert_eq!(at("/../../x"), "/x");
        assert_eq!(at("/data/.."), "/");
    }

    #[test]
    fn nul_and_empty_are_refused() {
        assert_eq!(resolve(Path::new("/d"), b"a\0b").unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(required(Path::new("/d"), b"").unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(not_root(Path::new("/"), "delete").unwrap_err().code(), tonic::Code::PermissionDenied);
    }
}

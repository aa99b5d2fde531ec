//! Paths inside a workspace.

use crate::error::{Error, Result};

/// The longest path the kernel takes, without its NUL.
const MAX_PATH: usize = 4095;
/// The longest name of one file.
const MAX_NAME: usize = 255;

/// Makes a path absolute and plain: a relative one is under `data_dir`, and `.`, `..`, repeated and trailing slashes
/// are resolved by their letters, never above `/`.
///
/// # Errors
/// INVALID_ARGUMENT when it is empty, holds a NUL or is longer than the kernel takes.
pub(crate) fn clean(path: &str, data_dir: &str) -> Result<String> {
    let refuse = |message: &str| Error::invalid_argument(message).with("path", path.escape_default());
    if path.is_empty() {
        return Err(refuse("the path is empty; name a file or directory"));
    }
    if path.contains('\0') {
        return Err(refuse("the path holds a NUL; leave it out"));
    }
    let mut parts = Vec::new();
    let base = if path.starts_with('/') { "" } else { data_dir };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part if part.len() > MAX_NAME => {
                return Err(refuse("a name in the path is over 255 bytes; shorten it"));
            }
            part => parts.push(part),
        }
    }
    let cleaned = format!("/{}", parts.join("/"));
    if cleaned.len() > MAX_PATH {
        return Err(refuse("the path is over 4095 bytes; shorten it"));
    }
    Ok(cleaned)
}

/// [`clean`], for what must not be `/`: PERMISSION_DENIED then.
pub(super) fn clean_below_root(path: &str, data_dir: &str, verb: &str) -> Result<String> {
    let cleaned = clean(path, data_dir)?;
    if cleaned == "/" {
        return Err(Error::permission_denied(format!(
            "the root directory cannot be {verb}; name something in it"
        ))
        .with("path", "/"));
    }
    Ok(cleaned)
}

/// The path of an entry that an agent names relative to the listed directory. None for a name that leaves it.
pub(super) fn join_entry(directory: &str, entry: &str) -> Option<String> {
    if entry.is_empty()
        || entry.starts_with('/')
        || entry.split('/').any(|part| matches!(part, "" | "." | ".."))
    {
        return None;
    }
    Some(if directory == "/" { format!("/{entry}") } else { format!("{directory}/{entry}") })
}

/// The directory that a clean path is in; `/` for the root.
pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

/// The last name of a clean path; `/` for the root.
pub(super) fn name(path: &str) -> &str {
    match path.rsplit('/').next() {
        Some("") | None => "/",
        Some(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn paths_are_resolved_by_their_letters() {
        for (path, cleaned) in [
            ("/", "/"),
            ("a", "/data/a"),
            (".", "/data"),
            ("..", "/"),
            ("../etc/passwd", "/etc/passwd"),
            ("../../../../x", "/x"),
            ("//a//b/./c/", "/a/b/c"),
            ("/a/../..", "/"),
            (" a ", "/data/ a "),
        ] {
            assert_eq!(clean(path, "/data").unwrap(), cleaned, "{path}");
        }
        assert_eq!(clean("a", "/").unwrap(), "/a");
    }

    #[test]
    fn what_no_file_can_be_called_is_refused() {
        let long = "x".repeat(256);
        let deep = "abc/".repeat(1100);
        for path in ["", "a\0b", long.as_str(), deep.as_str()] {
            assert_eq!(clean(path, "/data").unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        for path in ["/", "..", "/a/.."] {
            assert_eq!(clean_below_root(path, "/data", "x").unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn entries_stay_below_their_directory() {
        assert_eq!(join_entry("/", "a").as_deref(), Some("/a"));
        assert_eq!(join_entry("/a", "b/c").as_deref(), Some("/a/b/c"));
        for entry in ["", "..", "../x", "a/../..", "/etc", "a//b", "."] {
            assert_eq!(join_entry("/a", entry), None, "{entry}");
        }
        assert_eq!((parent("/a/b"), parent("/a"), parent("/")), ("/a", "/", "/"));
        assert_eq!(name("/"), "/");
        assert_eq!(name("/a/b"), "b");
    }

    proptest! {
        #[test]
        fn a_clean_path_is_absolute_plain_and_stays_as_it_is(path in "[a-c./]{1,40}") {
            let cleaned = clean(&path, "/data").unwrap();
            prop_assert!(cleaned.starts_with('/'));
            prop_assert!(cleaned == "/" || !cleaned.ends_with('/'));
            prop_assert!(!cleaned.split('/').any(|p| p == "." || p == ".."));
            prop_assert_eq!(clean(&cleaned, "/data").unwrap(), cleaned);
        }
    }
}

//! The data directory on first boot.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{XattrFlags, lgetxattr, setxattr};

/// Marks a data directory that has had its templates. It is an attribute, and not a file, so that it is in no
/// listing; where attributes are not supported, every boot counts as the first.
const MARK: &str = "user.dunnage.seeded";

/// Makes the data directory and, on first boot, copies into it the templates that are not there.
///
/// Files keep their permission bits, links stay links; nothing is ever overwritten. A template that a user deleted
/// stays deleted.
///
/// # Errors
/// When the directory cannot be made. A template that cannot be copied is left out, and the next boot tries again.
pub(crate) fn seed(templates: &Path, data: &Path) -> io::Result<()> {
    fs::create_dir_all(data)?;
    if lgetxattr(data, MARK, &mut [0_u8; 8][..]).is_ok() {
        return Ok(());
    }
    match copy_dir(templates, data) {
        Ok(()) => {
            // Without the mark the next boot fills in again.
            let _ = setxattr(data, MARK, b"1", XattrFlags::empty());
            Ok(())
        }
        // No templates yet: a later runtime may bring some.
        Err(_) => Ok(()),
    }
}

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    let mut result = Ok(());
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        let copied = if kind.is_dir() {
            match target.symlink_metadata() {
                Ok(found) if found.is_dir() => copy_dir(&source, &target),
                // The user has put something else there.
                Ok(_) => Ok(()),
                Err(_) => make_dir(&source, &target).and_then(|()| copy_dir(&source, &target)),
            }
        } else if kind.is_symlink() {
            fs::read_link(&source).and_then(|link| symlink(link, &target))
        } else if kind.is_file() {
            copy_file(&source, &target)
        } else {
            Ok(())
        };
        match copied {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => result = Err(error),
            _ => {}
        }
    }
    result
}

fn make_dir(source: &Path, target: &Path) -> io::Result<()> {
    fs::create_dir(target)?;
    let mode = source.metadata()?.permissions().mode() & 0o7777;
    fs::set_permissions(target, PermissionsExt::from_mode(mode | 0o700))
}

fn copy_file(source: &Path, target: &Path) -> io::Result<()> {
    let mut from = fs::File::open(source)?;
    let mode = from.metadata()?.permissions().mode() & 0o7777;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let copied = io::copy(&mut from, &mut to)
        .and_then(|_| to.set_permissions(PermissionsExt::from_mode(mode | 0o200)));
    if copied.is_err() {
        // Half a template would pass for a whole one at the next boot.
        let _ = fs::remove_file(target);
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_fill_in_and_never_overwrite() {
        let dir = tempfile::tempdir().unwrap();
        let (templates, data) = (dir.path().join("templates"), dir.path().join("data"));
        fs::create_dir_all(templates.join("sub")).unwrap();
        for file in ["a", "b", "sub/c"] {
            fs::write(templates.join(file), format!("template {file}")).unwrap();
        }
        fs::set_permissions(templates.join("a"), PermissionsExt::from_mode(0o555)).unwrap();
        symlink("a", templates.join("link")).unwrap();
        fs::create_dir(&data).unwrap();
        fs::write(data.join("b"), "mine").unwrap();

        seed(&templates, &data).unwrap();
        assert_eq!(fs::read(data.join("a")).unwrap(), b"template a");
        assert_eq!(data.join("a").metadata().unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read(data.join("b")).unwrap(), b"mine");
        assert_eq!(fs::read(data.join("sub/c")).unwrap(), b"template sub/c");
        assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("a"));

        if lgetxattr(&data, MARK, &mut [0_u8; 8][..]).is_ok() {
            fs::remove_file(data.join("a")).unwrap();
            seed(&templates, &data).unwrap();
            assert!(!data.join("a").exists(), "a deleted template came back");
        }
    }

    #[test]
    fn no_templates_still_makes_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("x/data");
        seed(&dir.path().join("none"), &data).unwrap();
        assert!(data.is_dir());
    }
}

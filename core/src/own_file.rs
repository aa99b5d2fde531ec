//! Files of the library's own, which are either the old one or the new one, whatever happens in between.

use crate::failpoints::step;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Whether a file must survive a crash of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It is on the disk when the call returns.
    Synced,
    /// It survives the end of this process, not that of the host: for what means nothing after a reboot.
    Cached,
}

/// Writes a file beside its target and moves it there. Missing directories are made with mode 0700.
///
/// The caller holds the lock of the file's workspace: nobody else writes the same file.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let _step = step("file.write");
    let dir = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let temporary = temporary(path);
    // What a writer that died has left.
    remove_one(&temporary)?;
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        // The umask may have taken bits away that the container's users need.
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, path)?;
        if durability == Durability::Synced {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Removes a file, and what a writer that died has left beside it. Neither need be there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let _step = step("file.remove");
    remove_one(&temporary(path))?;
    remove_one(path)
}

/// Where a file is written before it is moved: always the same place, so that whoever comes next finds what is left.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

fn remove_one(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

//! Mounts that were made below a directory.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use crate::error::{Context, Error, Result};

/// One line of mountinfo that concerns us.
pub(super) struct Mount {
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// The file system's type.
    pub(super) kind: String,
}

/// All mounts of this mount namespace, oldest first.
pub(super) fn all() -> Vec<Mount> {
    let Ok(text) = fs::read("/proc/self/mountinfo") else { return Vec::new() };
    text.split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b' ');
            let point = unescape(fields.nth(4)?);
            fields.by_ref().find(|field| *field == b"-")?;
            let kind = String::from_utf8_lossy(fields.next()?).into_owned();
            Some(Mount { point: PathBuf::from(OsString::from_vec(point)), kind })
        })
        .collect()
}

/// Mount points at or below `dir`, the newest first.
pub(crate) fn below(dir: &Path) -> Vec<PathBuf> {
    let points = all().into_iter().map(|mount| mount.point).filter(|point| point.starts_with(dir));
    let mut points: Vec<_> = points.collect();
    points.reverse();
    points
}

/// Detaches every mount at or below `dir`.
pub(super) fn unmount_below(dir: &Path) -> Result<()> {
    // Mounts may be stacked and may uncover others, so look again until nothing is left.
    let mut last = Ok(());
    for _ in 0..8 {
        let points = below(dir);
        if points.is_empty() {
            return Ok(());
        }
        for point in points {
            last = detach(&point);
        }
    }
    last.and(Err(Error::new(format!("mounts below {} come back", dir.display()))))
}

/// Detaches one mount; a mount that is gone is fine.
pub(super) fn detach(point: &Path) -> Result<()> {
    match unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error).context(format_args!("cannot unmount {}", point.display())),
    }
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'\\'
            && let Some(digits) = tail.get(..3)
            && let Some(code) =
                std::str::from_utf8(digits).ok().and_then(|text| u8::from_str_radix(text, 8).ok())
        {
            out.push(code);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn mount_points_with_odd_names_are_read_back() {
        assert_eq!(unescape(br"/tmp/a\040b\134c\011"), b"/tmp/a b\\c\t");
        assert_eq!(unescape(br"/tmp/end\0"), br"/tmp/end\0");
    }
}

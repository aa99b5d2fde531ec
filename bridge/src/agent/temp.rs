//! Hidden names for what is in the making.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

/// How often a name that is taken is tried again.
const TRIES: usize = 16;
/// How the name of what will take a place ends: of something that is there, and of nothing.
const ENDS: [&str; 2] = [".tmp", ".new"];

/// What the finished thing will be at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// In the place of something.
    Replace,
    /// Where nothing is.
    Create,
}

/// A hidden name that is free but for bad luck, and no longer than a name may be.
pub(crate) fn name(of: &OsStr, purpose: Purpose) -> OsString {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let end = ENDS[usize::from(purpose == Purpose::Create)];
    let suffix = format!(".{}-{:x}{:x}-{count:x}{end}", std::process::id(), now.tv_sec, now.tv_nsec);
    let mut temp = OsString::from(".");
    // Cutting whole names keeps what they are made of intact.
    if of.len() + suffix.len() < 200 {
        temp.push(of);
    }
    temp.push(suffix);
    temp
}

/// Makes something under a hidden name that is free.
///
/// # Errors
/// Those of `make`, but for a name that is taken.
pub(crate) fn make<T>(
    of: &OsStr,
    purpose: Purpose,
    mut make: impl FnMut(&OsStr) -> rustix::io::Result<T>,
) -> rustix::io::Result<(OsString, T)> {
    for _ in 0..TRIES {
        let temp = name(of, purpose);
        match make(&temp) {
            Ok(made) => return Ok((temp, made)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST)
}

/// Whether this agent made the name, and for what.
pub(crate) fn purpose(name: &OsStr) -> Option<Purpose> {
    let name = name.as_bytes().strip_prefix(b".")?;
    let purpose =
        [Purpose::Replace, Purpose::Create][ENDS.iter().position(|end| name.ends_with(end.as_bytes()))?];
    let stem = name.get(..name.len().checked_sub(4)?)?;
    let unique = stem.rsplit(|byte| *byte == b'.').next()?;
    let mut parts = unique.split(|byte| *byte == b'-');
    let ours = parts.next()? == std::process::id().to_string().as_bytes();
    let hex = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_hexdigit);
    (ours && hex(parts.next()?) && hex(parts.next()?) && parts.next().is_none()).then_some(purpose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hidden_unlike_and_known_again() {
        for purpose in [Purpose::Replace, Purpose::Create] {
            let (a, b) = (name(OsStr::new("file.txt"), purpose), name(OsStr::new("file.txt"), purpose));
            assert_ne!(a, b);
            assert!(a.to_str().unwrap().starts_with(".file.txt."));
            assert_eq!(super::purpose(&a), Some(purpose));
            let long = name(OsStr::new(&"x".repeat(250)), purpose);
            assert!(long.len() < 200);
            assert_eq!(super::purpose(&long), Some(purpose));
        }
        for other in [".a.tmp", ".a.1-2-3.tmp", "a", ".tmp", "", ".x.1-zz-1.new"] {
            assert_eq!(super::purpose(OsStr::new(other)), None, "{other}");
        }
    }
}

//! Descriptors of this process by name, for calls that want a path.
//!
//! The names are in `/proc/self/fd`, which is opened once: an agent that has moved below another root finds them all the
//! same.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;

use rustix::fs::{CWD, Mode, OFlags, open};

static DIR: LazyLock<Option<OwnedFd>> = LazyLock::new(|| {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open("/proc/self/fd", flags, Mode::empty()).ok()
});

/// Opens the directory now, while it can be seen.
pub(crate) fn keep() {
    LazyLock::force(&DIR);
}

/// A directory and the name in it that leads to this descriptor's file, as a link that has to be followed. Good for as long
/// as the descriptor is open.
pub(crate) fn name(fd: impl AsFd) -> (BorrowedFd<'static>, String) {
    let number = fd.as_fd().as_raw_fd();
    match DIR.as_ref() {
        Some(dir) => (dir.as_fd(), number.to_string()),
        None => (CWD, format!("/proc/self/fd/{number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{AtFlags, chmodat};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_name_leads_to_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let held = open(file.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let (dir, name) = name(&held);
        chmodat(dir, name, Mode::from_raw_mode(0o641), AtFlags::empty()).unwrap();
        assert_eq!(file.path().metadata().unwrap().permissions().mode() & 0o777, 0o641);
    }
}

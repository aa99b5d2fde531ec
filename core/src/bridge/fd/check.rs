use rustix::fs::{FileType, OFlags};
use std::fs::File;
use std::os::fd::OwnedFd;

/// File systems whose regular files are nothing but bytes that are kept. Not among them: those where reading or
/// writing acts on the kernel or on another process (proc, sysfs, cgroup, FUSE and their like).
const PLAIN: &[u64] = &[
    0x794c_7630, // overlayfs
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
];

/// What a descriptor is to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
}

/// The file behind a descriptor from inside, if it is what it should be.
pub(super) fn check(fd: OwnedFd, purpose: Use) -> Option<File> {
    let stat = rustix::fs::fstat(&fd).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let kind = rustix::fs::fstatfs(&fd).ok()?.f_type as u64;
    if !PLAIN.contains(&(kind & 0xffff_ffff)) {
        return None;
    }
    let flags = rustix::fs::fcntl_getfl(&fd).ok()?;
    if flags.contains(OFlags::PATH) {
        return None;
    }
    let access = flags & OFlags::RWMODE;
    let fits = match purpose {
        Use::Read => access == OFlags::RDONLY || access == OFlags::RDWR,
        // With O_APPEND a write would not go where it is meant to.
        Use::Write => access != OFlags::RDONLY && !flags.contains(OFlags::APPEND),
    };
    fits.then(|| File::from(fd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode};

    fn fd(path: &std::path::Path, flags: OFlags) -> OwnedFd {
        rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn only_plain_files_pass() {
        let root = tempfile::tempdir().unwrap();
        let plain = root.path().join("plain");
        std::fs::write(&plain, "x").unwrap();
        assert!(check(fd(&plain, OFlags::RDONLY), Use::Read).is_some());
        assert!(check(fd(&plain, OFlags::RDWR), Use::Write).is_some());
        assert!(check(fd(&plain, OFlags::RDONLY), Use::Write).is_none());
        assert!(check(fd(&plain, OFlags::WRONLY), Use::Read).is_none());
        assert!(check(fd(&plain, OFlags::WRONLY | OFlags::APPEND), Use::Write).is_none());
        assert!(check(fd(&plain, OFlags::PATH), Use::Read).is_none());
        assert!(check(fd(root.path(), OFlags::RDONLY), Use::Read).is_none());
        assert!(check(fd("/proc/self/oom_score_adj".as_ref(), OFlags::RDWR), Use::Write).is_none());
        assert!(check(fd("/proc/self/status".as_ref(), OFlags::RDONLY), Use::Read).is_none());
        assert!(check(fd("/dev/null".as_ref(), OFlags::RDWR), Use::Write).is_none());
    }
}

//! What carries the bytes of a directory.

use std::io;
use std::path::Path;

/// A whole disk, as the kernel numbers it: what bandwidth is limited of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockDevice {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl std::fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What carries a writable snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Storage {
    /// The kind of its file system, for people.
    pub(crate) file_system: String,
    /// The one disk that it is on; none where there is none, or may be several.
    pub(crate) device: Option<BlockDevice>,
}

/// Kinds of file systems by the number that statfs(2) tells (linux/magic.h; of ZFS its own sources).
const KINDS: [(i64, &str); 8] = [
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x794C_7630, "overlay"),
    (0x2FC1_2FC1, "zfs"),
    (0xF2F5_2010, "f2fs"),
    (0x6969, "nfs"),
];

impl Storage {
    /// That of a directory of this host.
    pub(crate) fn of_dir(dir: &Path) -> io::Result<Self> {
        let kind = rustix::fs::statfs(dir)?.f_type;
        let kind = KINDS.iter().find(|(number, _)| *number == kind).map(|(_, name)| (*name).to_owned());
        let device = rustix::fs::stat(dir)?.st_dev;
        let file_system = kind.unwrap_or_else(|| "of another kind".to_owned());
        Ok(Self { device: whole_disk(Path::new("/sys"), device_of(device)), file_system })
    }

    /// That of a snapshot which is a block device itself, with a file system of this kind on it.
    pub(crate) fn of_device(device: &Path, file_system: &str) -> io::Result<Self> {
        let device = rustix::fs::stat(device)?.st_rdev;
        Ok(Self {
            device: whole_disk(Path::new("/sys"), device_of(device)),
            file_system: file_system.to_owned(),
        })
    }
}

fn device_of(number: u64) -> BlockDevice {
    BlockDevice { major: rustix::fs::major(number), minor: rustix::fs::minor(number) }
}

/// The disk of a device: of a partition the one that it is a part of, since the kernel limits whole disks only. None for what
/// is no block device: file systems that are on several, or on none, have numbers of their own.
pub(super) fn whole_disk(sys: &Path, device: BlockDevice) -> Option<BlockDevice> {
    let dir = std::fs::canonicalize(sys.join(format!("dev/block/{device}"))).ok()?;
    if !dir.join("partition").exists() {
        return Some(device);
    }
    let whole = std::fs::read_to_string(dir.parent()?.join("dev")).ok()?;
    let (major, minor) = whole.trim().split_once(':')?;
    Some(BlockDevice { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

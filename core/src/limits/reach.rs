//! Which limits a host can hold a workspace to.

use super::{BlockDevice, Storage};
use crate::metrics::group::Mounted;
use crate::types::{LimitName, Limits};
use std::path::{Path, PathBuf};

/// What there is to hold a workspace's processes to their limits.
#[derive(Debug)]
pub(crate) struct Reach {
    mounted: Mounted,
    /// What carries the writable snapshot; none while no limit needs it.
    storage: Option<Storage>,
    root: PathBuf,
}

impl Reach {
    /// Looks at this host. Blocks for a few reads of the kernel's files.
    pub(crate) fn of_host(storage: Option<Storage>) -> Self {
        Self::below(Path::new("/"), storage)
    }

    pub(super) fn below(root: &Path, storage: Option<Storage>) -> Self {
        Self { mounted: Mounted::below(root), storage, root: root.to_owned() }
    }

    /// Whether what carries the writable snapshot decides about any of these limits.
    pub(crate) fn needs_storage(mut names: impl Iterator<Item = LimitName>) -> bool {
        names.any(|name| controller(name).is_none_or(is_io))
    }

    /// The disk that bandwidth is limited of.
    pub(crate) fn device(&self) -> Option<BlockDevice> {
        self.storage.as_ref().and_then(|storage| storage.device)
    }

    /// Why this host cannot hold a workspace to a limit; none where it can.
    pub(crate) fn why_not(&self, name: LimitName) -> Option<String> {
        let Some(controller) = controller(name) else { return Some(self.no_quota()) };
        if !self.mounted.has(controller) {
            return Some(format!("this host has no cgroup controller {controller}"));
        }
        if !is_io(controller) {
            return None;
        }
        let Some(device) = self.device() else {
            let kind = self.storage.as_ref().map_or("of another kind", |storage| &storage.file_system);
            return Some(format!("the snapshot's file system, {kind}, is on no block device of its own"));
        };
        (name == LimitName::IoWeight && !self.has_weights(device))
            .then(|| format!("the disk {device} is not scheduled by bfq, so that weights have no effect"))
    }

    /// The limits that this host can hold a workspace to.
    pub(crate) fn within(&self, limits: &Limits) -> Limits {
        let mut within = Limits::default();
        for name in LimitName::ALL {
            if limits.get(name).is_some() && self.why_not(name).is_none() {
                within.take(name, limits);
            }
        }
        within
    }

    /// Whether the scheduler of a disk heeds weights: `none [bfq] mq-deadline`, with the one that is used in brackets.
    fn has_weights(&self, device: BlockDevice) -> bool {
        let file = self.root.join(format!("sys/dev/block/{device}/queue/scheduler"));
        std::fs::read_to_string(file).is_ok_and(|schedulers| schedulers.contains("[bfq]"))
    }

    fn no_quota(&self) -> String {
        let kind = self.storage.as_ref().map_or("of another kind", |storage| &storage.file_system);
        match kind {
            "ext4" | "xfs" | "f2fs" => {
                format!(
                    "the snapshot's file system is {kind}, whose project quotas this library does not set"
                )
            }
            "btrfs" => {
                "the snapshot's file system is btrfs, whose quota groups this library does not set".to_owned()
            }
            kind => format!("the snapshot's file system, {kind}, has no quotas of directory trees"),
        }
    }
}

/// The controller that holds to a limit, as cgroup version 2 calls it; none where that is the file system's part.
fn controller(name: LimitName) -> Option<&'static str> {
    use LimitName as L;
    match name {
        L::Cpus | L::CpuWeight => Some("cpu"),
        L::MemoryBytes => Some("memory"),
        L::Pids => Some("pids"),
        L::IoWeight
        | L::IoReadBytesPerSecond
        | L::IoWriteBytesPerSecond
        | L::IoReadOpsPerSecond
        | L::IoWriteOpsPerSecond => Some("io"),
        L::StorageBytes => None,
    }
}

fn is_io(controller: &str) -> bool {
    controller == "io"
}

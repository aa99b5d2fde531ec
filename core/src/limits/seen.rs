//! What the kernel holds a process's control groups to.

use super::{BlockDevice, DEFAULT_WEIGHT, weight};
use crate::metrics::group::{Group, Groups};
use crate::types::LimitName;
use std::path::Path;

/// Limits of memory above this mean none: the kernel rounds its largest number down to a page.
const NO_LIMIT: f64 = (1_u64 << 62) as f64;
/// The largest pages that a limit of memory is rounded down to, in bytes.
const PAGE: f64 = 65_536.0;
/// How much a share of processors may be rounded: quotas are counted in microseconds, of periods of 100 ms.
const CPU_GRAIN: f64 = 1e-5;

/// What the kernel tells of one limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Seen {
    /// Nothing: it does not limit this, or cannot be seen to.
    Missing,
    Unlimited,
    At(f64),
}

impl Seen {
    pub(crate) fn value(self) -> Option<f64> {
        match self {
            Self::At(value) => Some(value),
            Self::Missing | Self::Unlimited => None,
        }
    }
}

/// Whether what is seen is what is wanted; none wants no limit.
pub(crate) fn is_met(name: LimitName, wanted: Option<f64>, seen: Seen) -> bool {
    match (wanted, seen) {
        (None, Seen::Missing | Seen::Unlimited) => true,
        (None, Seen::At(value)) => {
            matches!(name, LimitName::CpuWeight | LimitName::IoWeight) && value == DEFAULT_WEIGHT as f64
        }
        (Some(_), Seen::Missing | Seen::Unlimited) => false,
        (Some(wanted), Seen::At(value)) => match name {
            LimitName::Cpus => (wanted - value).abs() <= CPU_GRAIN,
            LimitName::MemoryBytes => (0.0..PAGE).contains(&(wanted - value)),
            _ => wanted == value,
        },
    }
}

/// The control groups of a container, as those of its first process.
#[derive(Debug)]
pub(crate) struct InForce {
    groups: Groups,
    device: Option<BlockDevice>,
}

impl InForce {
    /// Finds them. None when the process is gone, or is not in the container's own groups: then nothing is known.
    pub(crate) fn of(pid: u32, container: &str, device: Option<BlockDevice>) -> Option<Self> {
        Self::below(Path::new("/"), pid, container, device)
    }

    pub(super) fn below(root: &Path, pid: u32, container: &str, device: Option<BlockDevice>) -> Option<Self> {
        let groups = Groups::of(root, &root.join("proc").join(pid.to_string()));
        groups.are_of(container).then_some(Self { groups, device })
    }

    /// The group of version 2, where that is what limits.
    pub(super) fn unified(&self) -> Option<&Group> {
        self.groups.unified_with_controllers()
    }

    /// The group of a controller of version 1.
    pub(super) fn controller(&self, name: &str) -> Option<&Group> {
        self.groups.controller(name)
    }

    /// Bytes that the kernel cannot take back from the processes without swapping or ending one: all but the page cache of
    /// files. What is in memory file systems counts as cache, but has nowhere else to be.
    pub(crate) fn memory_held(&self) -> Option<u64> {
        let (group, usage, cache, shared) = match self.unified() {
            Some(group) => (group, "memory.current", "file", "shmem"),
            None => (self.controller("memory")?, "memory.usage_in_bytes", "total_cache", "total_shmem"),
        };
        let files = group
            .named("memory.stat")
            .map_or(0, |stat| stat.or_zero(cache).saturating_sub(stat.or_zero(shared)));
        Some(group.number(usage)?.saturating_sub(files))
    }

    /// What is seen of a limit.
    pub(crate) fn seen(&self, name: LimitName) -> Seen {
        let seen = match self.unified() {
            Some(group) => self.seen_v2(group, name),
            None => self.seen_v1(name),
        };
        seen.unwrap_or(Seen::Missing)
    }

    fn seen_v2(&self, group: &Group, name: LimitName) -> Option<Seen> {
        use LimitName as L;
        Some(match name {
            L::Cpus => {
                let text = group.text("cpu.max")?;
                let (quota, period) = text.trim().split_once(' ')?;
                share(quota.parse().ok(), period.parse().ok()?)
            }
            L::CpuWeight => at(group.text("cpu.weight")?.trim()),
            L::MemoryBytes => at(group.text("memory.max")?.trim()),
            L::Pids => at(group.text("pids.max")?.trim()),
            L::IoWeight => io_weight(&group.text("io.bfq.weight")?),
            L::IoReadBytesPerSecond => self.io_max(group, "rbps")?,
            L::IoWriteBytesPerSecond => self.io_max(group, "wbps")?,
            L::IoReadOpsPerSecond => self.io_max(group, "riops")?,
            L::IoWriteOpsPerSecond => self.io_max(group, "wiops")?,
            L::StorageBytes => Seen::Missing,
        })
    }

    /// Of `8:0 rbps=1048576 wbps=max riops=max wiops=max`, a line a device that has any limit.
    fn io_max(&self, group: &Group, key: &str) -> Option<Seen> {
        let text = group.text("io.max")?;
        let device = self.device?.to_string();
        let line = text.lines().find_map(|line| line.strip_prefix(&device)?.strip_prefix(' '));
        let pairs = line.unwrap_or_default().split_whitespace();
        let value = pairs.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == key);
        Some(value.map_or(Seen::Unlimited, |(_, value)| at(value)))
    }

    fn seen_v1(&self, name: LimitName) -> Option<Seen> {
        use LimitName as L;
        Some(match name {
            L::Cpus => {
                let group = self.controller("cpu")?;
                let quota: i64 = group.text("cpu.cfs_quota_us")?.trim().parse().ok()?;
                share(
                    Some(quota as f64).filter(|quota| *quota > 0.0),
                    group.number("cpu.cfs_period_us")? as f64,
                )
            }
            L::CpuWeight => match at(self.controller("cpu")?.text("cpu.shares")?.trim()) {
                Seen::At(shares) => Seen::At(weight(shares)),
                seen => seen,
            },
            L::MemoryBytes => match at(self.controller("memory")?.text("memory.limit_in_bytes")?.trim()) {
                Seen::At(bytes) if bytes >= NO_LIMIT => Seen::Unlimited,
                seen => seen,
            },
            L::Pids => at(self.controller("pids")?.text("pids.max")?.trim()),
            L::IoWeight => {
                let group = self.controller("blkio")?;
                io_weight(&group.text("blkio.weight").or_else(|| group.text("blkio.bfq.weight"))?)
            }
            L::IoReadBytesPerSecond
            | L::IoWriteBytesPerSecond
            | L::IoReadOpsPerSecond
            | L::IoWriteOpsPerSecond => {
                // Of `8:0 1048576`, a line a device that has this limit.
                let text = self.controller("blkio")?.text(super::throttle::file_v1(name)?)?;
                let device = self.device?.to_string();
                let line = text.lines().find_map(|line| line.strip_prefix(&device)?.strip_prefix(' '));
                line.map_or(Seen::Unlimited, |value| at(value.trim()))
            }
            L::StorageBytes => Seen::Missing,
        })
    }
}

/// A number, or `max`, which is none.
fn at(text: &str) -> Seen {
    text.parse().map_or(Seen::Unlimited, Seen::At)
}

fn share(quota: Option<f64>, period: f64) -> Seen {
    quota.filter(|_| period > 0.0).map_or(Seen::Unlimited, |quota| Seen::At(quota / period))
}

/// Of `100`, or `default 100` and lines of devices.
fn io_weight(text: &str) -> Seen {
    let first = text.lines().next().unwrap_or_default();
    at(first.strip_prefix("default ").unwrap_or(first).trim())
}

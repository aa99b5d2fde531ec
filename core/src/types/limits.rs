use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Resource limits of a workspace: of all its processes together. Absent means unlimited, of a weight the kernel's default.
///
/// What the host cannot hold a workspace to is no error: it is kept, told as `unsupported` with the reason, and not emulated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Processors' worth of time, such as 1.5; 0.01 to 1024.
    pub cpus: Option<f64>,
    /// Share of the processors' time while others want it too, 1 to 10000; others have 100. With cgroup version 1 it becomes
    /// CPU shares, 1024 for 100.
    pub cpu_weight: Option<i64>,
    /// Bytes of memory, page cache included, swap not; at least 6 MiB, what containerd's runtimes can start with. The kernel
    /// rounds it to whole pages.
    pub memory_bytes: Option<i64>,
    /// Processes and threads; at least 4.
    pub pids: Option<i64>,
    /// Share of the block device's time while others want it too, 10 to 1000; others have 100. It needs the scheduler `bfq` on
    /// the device of the writable snapshot.
    pub io_weight: Option<i64>,
    /// Bytes read a second from the device of the writable snapshot; at least 4096. What is in the page cache is not read from it.
    pub io_read_bytes_per_second: Option<i64>,
    /// Bytes written a second to it; at least 4096. With cgroup version 1 the kernel counts only what is not written back from
    /// the page cache later: direct and synchronous writes.
    pub io_write_bytes_per_second: Option<i64>,
    /// Reads a second from it; at least 1.
    pub io_read_ops_per_second: Option<i64>,
    /// Writes a second to it, counted as `io_write_bytes_per_second`; at least 1.
    pub io_write_ops_per_second: Option<i64>,
    /// Bytes in the writable snapshot; at least 1 MiB. No file system's quotas are used for it yet: it is always `unsupported`,
    /// and the reason names the file system.
    pub storage_bytes: Option<i64>,
}

setters!(Limits {
    cpus: f64 => Some;
    cpu_weight: i64 => Some;
    memory_bytes: i64 => Some;
    pids: i64 => Some;
    io_weight: i64 => Some;
    io_read_bytes_per_second: i64 => Some;
    io_write_bytes_per_second: i64 => Some;
    io_read_ops_per_second: i64 => Some;
    io_write_ops_per_second: i64 => Some;
    storage_bytes: i64 => Some;
});

/// Which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitName {
    /// Processors' worth of time.
    Cpus,
    /// Share of the processors' time.
    CpuWeight,
    /// Bytes of memory.
    MemoryBytes,
    /// Processes and threads.
    Pids,
    /// Share of the block device's time.
    IoWeight,
    /// Bytes read a second.
    IoReadBytesPerSecond,
    /// Bytes written a second.
    IoWriteBytesPerSecond,
    /// Reads a second.
    IoReadOpsPerSecond,
    /// Writes a second.
    IoWriteOpsPerSecond,
    /// Bytes in the writable snapshot.
    StorageBytes,
}

impl LimitName {
    /// All of them, in the order in which they are told.
    pub(crate) const ALL: [Self; 10] = [
        Self::Cpus,
        Self::CpuWeight,
        Self::MemoryBytes,
        Self::Pids,
        Self::IoWeight,
        Self::IoReadBytesPerSecond,
        Self::IoWriteBytesPerSecond,
        Self::IoReadOpsPerSecond,
        Self::IoWriteOpsPerSecond,
        Self::StorageBytes,
    ];

    /// The name of the field.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cpus => "cpus",
            Self::CpuWeight => "cpu_weight",
            Self::MemoryBytes => "memory_bytes",
            Self::Pids => "pids",
            Self::IoWeight => "io_weight",
            Self::IoReadBytesPerSecond => "io_read_bytes_per_second",
            Self::IoWriteBytesPerSecond => "io_write_bytes_per_second",
            Self::IoReadOpsPerSecond => "io_read_ops_per_second",
            Self::IoWriteOpsPerSecond => "io_write_ops_per_second",
            Self::StorageBytes => "storage_bytes",
        }
    }
}

impl Limits {
    /// A whole number's field; none for `cpus`, which is a fraction.
    fn whole(&self, name: LimitName) -> Option<i64> {
        match name {
            LimitName::Cpus => None,
            LimitName::CpuWeight => self.cpu_weight,
            LimitName::MemoryBytes => self.memory_bytes,
            LimitName::Pids => self.pids,
            LimitName::IoWeight => self.io_weight,
            LimitName::IoReadBytesPerSecond => self.io_read_bytes_per_second,
            LimitName::IoWriteBytesPerSecond => self.io_write_bytes_per_second,
            LimitName::IoReadOpsPerSecond => self.io_read_ops_per_second,
            LimitName::IoWriteOpsPerSecond => self.io_write_ops_per_second,
            LimitName::StorageBytes => self.storage_bytes,
        }
    }

    /// One of them, as a number.
    pub(crate) fn get(&self, name: LimitName) -> Option<f64> {
        match name {
            LimitName::Cpus => self.cpus,
            // No limit that makes sense has more digits than a number of 64 bits keeps.
            name => self.whole(name).map(|value| value as f64),
        }
    }

    /// Takes one from another.
    pub(crate) fn take(&mut self, name: LimitName, from: &Self) {
        match name {
            LimitName::Cpus => self.cpus = from.cpus,
            LimitName::CpuWeight => self.cpu_weight = from.cpu_weight,
            LimitName::MemoryBytes => self.memory_bytes = from.memory_bytes,
            LimitName::Pids => self.pids = from.pids,
            LimitName::IoWeight => self.io_weight = from.io_weight,
            LimitName::IoReadBytesPerSecond => {
                self.io_read_bytes_per_second = from.io_read_bytes_per_second;
            }
            LimitName::IoWriteBytesPerSecond => {
                self.io_write_bytes_per_second = from.io_write_bytes_per_second;
            }
            LimitName::IoReadOpsPerSecond => self.io_read_ops_per_second = from.io_read_ops_per_second,
            LimitName::IoWriteOpsPerSecond => self.io_write_ops_per_second = from.io_write_ops_per_second,
            LimitName::StorageBytes => self.storage_bytes = from.storage_bytes,
        }
    }
}

/// How to change a workspace's limits. A limit that is neither in `limits` nor in `clear` stays as it is; with neither, what
/// is pending is tried again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SetLimitsOptions {
    /// The new limits.
    pub limits: Limits,
    /// Which limits there are to be no more. One may not be in `limits` too.
    pub clear: Vec<LimitName>,
}

setters!(SetLimitsOptions {
    limits: Limits;
    clear: Vec<LimitName>;
});

/// Whether a limit is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitState {
    /// The kernel holds the workspace's processes to it now.
    Applied,
    /// It is what the next start begins with: the workspace does not run, or the kernel does not take it now; `reason` tells.
    PendingRestart,
    /// The host cannot hold a workspace to it; `reason` tells why.
    Unsupported,
}

/// A limit, as it was asked for and as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LimitInfo {
    /// Which one.
    pub name: LimitName,
    /// What was asked for, a whole number for all but `cpus`; none where it is to be unlimited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wanted: Option<f64>,
    /// What the kernel holds the processes to now, as it tells; none where that is nothing, or nothing runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub effective: Option<f64>,
    /// Whether it is in force.
    pub state: LimitState,
    /// Why it is not, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// A workspace after its limits were changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SetLimitsResult {
    /// The workspace's id.
    pub workspace_id: String,
    /// Its container.
    pub container_id: String,
    /// All limits that it has now, and those that were cleared.
    pub limits: Vec<LimitInfo>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_fields() {
        let full: Limits = serde_json::from_value(serde_json::Value::Object(
            LimitName::ALL.iter().map(|name| (name.as_str().to_owned(), 7.into())).collect(),
        ))
        .unwrap();
        for name in LimitName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
            assert_eq!(full.get(name), Some(7.0), "{name:?}");
            let mut one = Limits::default();
            one.take(name, &full);
            assert_eq!(one.get(name), Some(7.0), "{name:?}");
            one.take(name, &Limits::default());
            assert_eq!(one, Limits::default());
        }
        let fields = serde_json::to_value(Limits::default()).unwrap();
        assert_eq!(fields.as_object().unwrap().len(), LimitName::ALL.len());
    }
}

use super::setters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to measure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MetricsOptions {
    /// Whether to count what its writable snapshot holds too. The snapshotter looks at every file for that. Default false.
    pub disk: bool,
}

setters!(MetricsOptions { disk: bool; });

/// What to measure, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MetricsStreamOptions {
    /// Milliseconds from one measurement to the next, 100 to 3 600 000. Default 1000.
    pub interval_ms: u64,
    /// As for a single measurement. Default false.
    pub disk: bool,
}

impl Default for MetricsStreamOptions {
    fn default() -> Self {
        Self { interval_ms: 1000, disk: false }
    }
}

setters!(MetricsStreamOptions { interval_ms: u64; disk: bool; });

/// What a workspace uses. A group of numbers that the kernel or the backend does not tell is absent; all are absent while it does
/// not run, but for `disk`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Metrics {
    /// When it was measured, RFC 3339.
    pub at: String,
    /// Whether it runs.
    pub running: bool,
    /// Time of processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuMetrics>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryMetrics>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<PidsMetrics>,
    /// What went to and came from block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<IoMetrics>,
    /// What went through its network interfaces, without loopback; absent in the host's network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkMetrics>,
    /// What its writable snapshot holds; absent unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskMetrics>,
}

/// Time of processors, since the workspace was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CpuMetrics {
    /// Nanoseconds of all processors together.
    pub usage_ns: u64,
    /// Nanoseconds of it in programs.
    pub user_ns: u64,
    /// Nanoseconds of it in the kernel.
    pub system_ns: u64,
    /// Periods in which it wanted time, where it has a limit.
    pub periods: u64,
    /// Periods of these in which it got less than it wanted.
    pub throttled_periods: u64,
    /// Nanoseconds that it waited for that.
    pub throttled_ns: u64,
}

/// Memory in bytes, now unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct MemoryMetrics {
    /// All that counts for it, the cache of its files too.
    pub usage_bytes: u64,
    /// All but the part of the cache that was not used lately: what cannot be taken away from it easily.
    pub working_set_bytes: u64,
    /// What its programs hold.
    pub anon_bytes: u64,
    /// The cache of its files.
    pub file_bytes: u64,
    /// The most that it has had; absent where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// The most that it may have; absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// How many of its processes the kernel has ended because there was no more.
    pub oom_kills: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct PidsMetrics {
    /// How many there are.
    pub current: u64,
    /// How many there may be; absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// Block devices, since the workspace was started. What only went to the kernel's cache is not counted yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct IoMetrics {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub read_ops: u64,
    /// Writes.
    pub write_ops: u64,
}

/// Network interfaces, since they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct NetworkMetrics {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets that were received with errors.
    pub rx_errors: u64,
    /// Packets that were dropped on receipt.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent for errors.
    pub tx_errors: u64,
    /// Packets that were dropped before they were sent.
    pub tx_dropped: u64,
}

/// The writable snapshot, without what it stands on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DiskMetrics {
    /// Bytes.
    pub used_bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

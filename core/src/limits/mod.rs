//! What a host can hold a workspace's processes to, and what it holds them to, as the kernel tells: control groups of both
//! versions (cgroups(7)).
//!
//! Nothing here remembers what was asked for. Whether a limit is in force is always read from the kernel.

mod reach;
mod seen;
mod storage;
mod throttle;

pub(crate) use reach::Reach;
pub(crate) use seen::{InForce, Seen, is_met};
pub(crate) use storage::{BlockDevice, Storage};
pub(crate) use throttle::{Bandwidth, throttle};

use crate::types::LimitName;

/// The weights of everything that has no other.
pub(crate) const DEFAULT_WEIGHT: i64 = 100;

/// The CPU shares of the default weight: the kernel's and containerd's default.
const DEFAULT_SHARES: f64 = 1024.0;

/// The CPU shares, of cgroup version 1, that are a weight of version 2.
pub(crate) fn shares(weight: i64) -> u64 {
    // The kernel takes 2 to 262144.
    (weight as f64 * DEFAULT_SHARES / DEFAULT_WEIGHT as f64).round().clamp(2.0, 262_144.0) as u64
}

/// The weight that these CPU shares are.
fn weight(shares: f64) -> f64 {
    (shares * DEFAULT_WEIGHT as f64 / DEFAULT_SHARES).round()
}

/// A limit that is to be put in force, or lifted, in a running task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LimitChange {
    pub(crate) name: LimitName,
    /// None lifts it.
    pub(crate) to: Option<f64>,
}

#[cfg(test)]
mod tests;

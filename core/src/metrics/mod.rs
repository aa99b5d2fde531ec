//! What a process and all that belongs to it use, as the kernel tells: control groups of both versions (cgroups(7)) and network
//! interfaces.
//!
//! A file that is not there leaves its numbers out: kernels and hosts differ in what they count.

pub(crate) mod group;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use crate::types::{CpuMetrics, IoMetrics, MemoryMetrics, NetworkMetrics, PidsMetrics};
use group::Groups;
use std::path::Path;

/// What is known of a process's control groups and network.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Used {
    pub(crate) cpu: Option<CpuMetrics>,
    pub(crate) memory: Option<MemoryMetrics>,
    pub(crate) pids: Option<PidsMetrics>,
    pub(crate) io: Option<IoMetrics>,
    pub(crate) network: Option<NetworkMetrics>,
}

/// Measures a process, by its id on this host. Blocks for a few reads of the kernel's files.
pub(crate) fn used(pid: u32) -> Used {
    used_below(Path::new("/"), pid)
}

fn used_below(root: &Path, pid: u32) -> Used {
    let proc = root.join("proc").join(pid.to_string());
    let mut used = match Groups::of(root, &proc) {
        Groups { unified: Some(group), .. } if v2::has_controllers(&group) => v2::used(&group),
        groups => v1::used(&groups),
    };
    used.network = network(root, &proc);
    used
}

/// The sums of all interfaces but loopback (proc_pid_net(5)); none in the host's own network.
fn network(root: &Path, proc: &Path) -> Option<NetworkMetrics> {
    let namespace = |proc: &Path| std::fs::read_link(proc.join("ns/net")).ok();
    if namespace(proc)? == namespace(&root.join("proc/self"))? {
        return None;
    }
    let text = std::fs::read_to_string(proc.join("net/dev")).ok()?;
    let mut sum = NetworkMetrics::default();
    for line in text.lines() {
        // Two lines of headings have no colon.
        let Some((name, numbers)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let at = |place: usize| numbers.get(place).copied().unwrap_or_default();
        sum.rx_bytes += at(0);
        sum.rx_packets += at(1);
        sum.rx_errors += at(2);
        sum.rx_dropped += at(3);
        sum.tx_bytes += at(8);
        sum.tx_packets += at(9);
        sum.tx_errors += at(10);
        sum.tx_dropped += at(11);
    }
    Some(sum)
}

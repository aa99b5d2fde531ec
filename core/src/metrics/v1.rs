//! Control groups of version 1 (Documentation/admin-guide/cgroup-v1/).

use super::Used;
use super::group::{Group, Groups};
use crate::types::{CpuMetrics, IoMetrics, MemoryMetrics, PidsMetrics};

/// Limits above this mean none: the kernel rounds its largest number down to a page.
const NO_LIMIT: u64 = 1 << 62;
/// `USER_HZ`, which `cpuacct.stat` counts in, is 100 on every architecture (time(7)).
const NS_PER_TICK: u64 = 10_000_000;

pub(super) fn used(groups: &Groups) -> Used {
    Used {
        cpu: cpu(groups),
        memory: groups.controller("memory").and_then(memory),
        pids: groups.controller("pids").and_then(pids),
        io: groups.controller("blkio").and_then(io),
        network: None,
    }
}

fn cpu(groups: &Groups) -> Option<CpuMetrics> {
    let account = groups.controller("cpuacct")?;
    let stat = account.named("cpuacct.stat");
    let ticks = |name: &str| stat.as_ref().map_or(0, |stat| stat.or_zero(name).saturating_mul(NS_PER_TICK));
    let limited = groups.controller("cpu").and_then(|group| group.named("cpu.stat"));
    let of = |name: &str| limited.as_ref().map_or(0, |stat| stat.or_zero(name));
    Some(CpuMetrics {
        usage_ns: account.number("cpuacct.usage")?,
        user_ns: ticks("user"),
        system_ns: ticks("system"),
        periods: of("nr_periods"),
        throttled_periods: of("nr_throttled"),
        throttled_ns: of("throttled_time"),
    })
}

fn memory(group: &Group) -> Option<MemoryMetrics> {
    let usage = group.number("memory.usage_in_bytes")?;
    let stat = group.named("memory.stat");
    let of = |name: &str| stat.as_ref().map_or(0, |stat| stat.or_zero(name));
    Some(MemoryMetrics {
        usage_bytes: usage,
        working_set_bytes: usage.saturating_sub(of("total_inactive_file")),
        anon_bytes: of("total_rss"),
        file_bytes: of("total_cache"),
        peak_bytes: group.number("memory.max_usage_in_bytes"),
        limit_bytes: group.number("memory.limit_in_bytes").filter(|limit| *limit < NO_LIMIT),
        oom_kills: group.named("memory.oom_control").map_or(0, |control| control.or_zero("oom_kill")),
    })
}

fn pids(group: &Group) -> Option<PidsMetrics> {
    Some(PidsMetrics { current: group.number("pids.current")?, limit: group.number("pids.max") })
}

fn io(group: &Group) -> Option<IoMetrics> {
    let (read_bytes, write_bytes) = both(group, "blkio.throttle.io_service_bytes_recursive")?;
    let (read_ops, write_ops) = both(group, "blkio.throttle.io_serviced_recursive").unwrap_or_default();
    Some(IoMetrics { read_bytes, write_bytes, read_ops, write_ops })
}

/// Sums lines such as `8:0 Read 4096` over the devices.
fn both(group: &Group, file: &str) -> Option<(u64, u64)> {
    let (mut reads, mut writes) = (0, 0);
    for line in group.text(file)?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, what, number] = words.as_slice() else { continue };
        let number: u64 = number.parse().unwrap_or_default();
        match *what {
            "Read" => reads += number,
            "Write" => writes += number,
            _ => {}
        }
    }
    Some((reads, writes))
}

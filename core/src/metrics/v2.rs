//! Control groups of version 2 (Documentation/admin-guide/cgroup-v2.rst).

use super::Used;
use super::group::Group;
use crate::types::{CpuMetrics, IoMetrics, MemoryMetrics, PidsMetrics};

/// Whether the group counts anything: beside version 1, version 2 is often mounted without controllers.
pub(super) fn has_controllers(group: &Group) -> bool {
    group.text("cgroup.controllers").is_some_and(|controllers| !controllers.trim().is_empty())
}

pub(super) fn used(group: &Group) -> Used {
    Used { cpu: cpu(group), memory: memory(group), pids: pids(group), io: io(group), network: None }
}

fn cpu(group: &Group) -> Option<CpuMetrics> {
    let stat = group.named("cpu.stat")?;
    let ns = |name: &str| stat.or_zero(name).saturating_mul(1000);
    Some(CpuMetrics {
        usage_ns: ns("usage_usec"),
        user_ns: ns("user_usec"),
        system_ns: ns("system_usec"),
        periods: stat.or_zero("nr_periods"),
        throttled_periods: stat.or_zero("nr_throttled"),
        throttled_ns: ns("throttled_usec"),
    })
}

fn memory(group: &Group) -> Option<MemoryMetrics> {
    let usage = group.number("memory.current")?;
    let stat = group.named("memory.stat");
    let of = |name: &str| stat.as_ref().map_or(0, |stat| stat.or_zero(name));
    Some(MemoryMetrics {
        usage_bytes: usage,
        working_set_bytes: usage.saturating_sub(of("inactive_file")),
        anon_bytes: of("anon"),
        file_bytes: of("file"),
        peak_bytes: group.number("memory.peak"),
        limit_bytes: group.number("memory.max"),
        oom_kills: group.named("memory.events").map_or(0, |events| events.or_zero("oom_kill")),
    })
}

fn pids(group: &Group) -> Option<PidsMetrics> {
    Some(PidsMetrics { current: group.number("pids.current")?, limit: group.number("pids.max") })
}

/// Each line is of a device: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn io(group: &Group) -> Option<IoMetrics> {
    let mut sum = IoMetrics::default();
    for pair in group.text("io.stat")?.split_whitespace() {
        let Some((name, number)) = pair.split_once('=') else { continue };
        let number: u64 = number.parse().unwrap_or_default();
        match name {
            "rbytes" => sum.read_bytes += number,
            "wbytes" => sum.write_bytes += number,
            "rios" => sum.read_ops += number,
            "wios" => sum.write_ops += number,
            _ => {}
        }
    }
    Some(sum)
}

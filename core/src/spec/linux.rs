use super::{HostTraits, broken, joins_host_network, limits, seccomp};
use crate::backend::{NetworkNamespace, NewContainer};
use crate::error::Result;
use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxNamespace,
    LinuxNamespaceBuilder, LinuxNamespaceType,
};

/// What the kernel tells there belongs to the host alone: containerd's list, the interrupt counters, which betray
/// keystrokes, and the power readings, which betray keys.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What may be read there but changed by the host alone.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Character devices that every program expects: null, random, full, tty, zero, urandom, console, the terminals of
/// /dev/pts and ptmx.
const DEVICES: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(8)),
    (1, Some(7)),
    (5, Some(0)),
    (1, Some(5)),
    (1, Some(9)),
    (5, Some(1)),
    (136, None),
    (5, Some(2)),
];

pub(super) fn linux(container: &NewContainer, namespace: &str, host: HostTraits) -> Result<Linux> {
    let mut resources = limits::resources(&container.limits, container.io_device, host.cgroup_v2)?;
    resources.set_devices(Some(devices()?));
    LinuxBuilder::default()
        .cgroups_path(format!("/{namespace}/{}", container.id))
        .namespaces(namespaces(container, host)?)
        .resources(resources)
        .masked_paths(MASKED.map(str::to_owned).to_vec())
        .readonly_paths(READ_ONLY.map(str::to_owned).to_vec())
        .seccomp(seccomp::profile(host.compat_32bit)?)
        .build()
        .map_err(broken)
}

fn namespaces(container: &NewContainer, host: HostTraits) -> Result<Vec<LinuxNamespace>> {
    use LinuxNamespaceType as Type;
    let mut types = vec![Type::Pid, Type::Ipc, Type::Uts, Type::Mount];
    if !joins_host_network(container) {
        types.push(Type::Network);
    }
    if host.cgroup_v2 {
        types.push(Type::Cgroup);
    }
    types
        .into_iter()
        .map(|typ| {
            let mut namespace = LinuxNamespaceBuilder::default().typ(typ);
            if let (Type::Network, NetworkNamespace::Path(path)) = (typ, &container.network) {
                namespace = namespace.path(path.clone());
            }
            namespace.build().map_err(broken)
        })
        .collect()
}

/// Nothing but the devices above: a workspace may make device nodes, but not open them.
fn devices() -> Result<Vec<LinuxDeviceCgroup>> {
    let deny_all = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm");
    let mut rules = vec![deny_all.build().map_err(broken)?];
    for (major, minor) in DEVICES {
        let mut rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(LinuxDeviceType::C)
            .major(major)
            .access("rwm");
        if let Some(minor) = minor {
            rule = rule.minor(minor);
        }
        rules.push(rule.build().map_err(broken)?);
    }
    Ok(rules)
}

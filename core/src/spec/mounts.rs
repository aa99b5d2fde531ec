use super::{HostTraits, broken};
use crate::backend::{GuestMount, NewContainer};
use crate::error::Result;
use oci_spec::runtime::{Mount, MountBuilder};

/// A file system of the kernel: where, type, source, options.
type Kernel = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// containerd's defaults (<https://github.com/containerd/containerd/blob/main/pkg/oci/mounts.go>).
const KERNEL: [Kernel; 7] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/run", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
];

/// On version 1 this would be a dozen mounts, each of which costs time at every start and shows the host's paths.
const CGROUP_V2: Kernel = ("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]);

pub(super) fn mounts(container: &NewContainer, host: HostTraits) -> Result<Vec<Mount>> {
    let cgroup = host.cgroup_v2.then_some(&CGROUP_V2);
    let mut mounts = Vec::with_capacity(KERNEL.len() + 1 + container.mounts.len());
    for (target, kind, source, options) in KERNEL.iter().chain(cgroup) {
        let mount = MountBuilder::default()
            .destination(*target)
            .typ(*kind)
            .source(*source)
            .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>());
        mounts.push(mount.build().map_err(broken)?);
    }
    // A mount above another must come first, in whatever order they were given.
    let mut binds: Vec<&GuestMount> = container.mounts.iter().collect();
    binds.sort_by_key(|mount| mount.target.components().count());
    for bind in binds {
        let mode = if bind.read_only { "ro" } else { "rw" };
        let mount = MountBuilder::default()
            .destination(bind.target.clone())
            .typ("bind")
            .source(bind.source.clone())
            .options(["rbind", "rprivate", "nosuid", "nodev", mode].map(str::to_owned).to_vec());
        mounts.push(mount.build().map_err(broken)?);
    }
    Ok(mounts)
}

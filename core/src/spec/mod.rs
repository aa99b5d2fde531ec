//! The OCI runtime specification of a workspace's container: hardened as containerd's own default is, and a little more.
//!
//! What differs from containerd's default, and why: a seccomp profile is always set (`ctr` sets none); `/proc/interrupts`
//! and the power readings of `/sys` are masked too; the hard limit of open files is what systemd gives its services,
//! while the soft one stays at 1024 so that `select` and programs that close every descriptor below it keep working;
//! the cgroup hierarchy is shown read-only where it is version 2, so that runtimes find their memory and CPU limits.

mod limits;
mod linux;
mod mounts;
mod process;
mod read;
mod seccomp;
mod syscalls;

pub(crate) use limits::{live, relimit};
pub(crate) use read::read_back;

use crate::backend::{NetworkNamespace, NewContainer};
use crate::error::{Error, Result};
use oci_spec::OciSpecError;
use oci_spec::runtime::{RootBuilder, Spec, SpecBuilder};

/// The version that every runc of the last years takes.
const OCI_VERSION: &str = "1.0.2";

/// What the host decides about a specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostTraits {
    /// Whether `/sys/fs/cgroup` is the unified hierarchy.
    pub(crate) cgroup_v2: bool,
    /// Whether programs of the processor's 32-bit mode may run.
    pub(crate) compat_32bit: bool,
    /// How many files a process here may open at most: not every host lets root raise that.
    pub(crate) open_files: u64,
}

impl HostTraits {
    /// The traits of this host.
    pub(crate) fn detect(compat_32bit: bool) -> Self {
        // CGROUP2_SUPER_MAGIC of linux/magic.h.
        let cgroup_v2 = rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.f_type == 0x6367_7270);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self { cgroup_v2, compat_32bit, open_files: limit.maximum.unwrap_or(u64::MAX) }
    }
}

/// Builds the specification of a container in a namespace of containerd.
///
/// # Errors
/// INVALID_ARGUMENT for limits that are no numbers or negative, UNEXPECTED when the specification cannot be put together.
pub(crate) fn build(container: &NewContainer, namespace: &str, host: HostTraits) -> Result<Spec> {
    let root = RootBuilder::default().path("rootfs").readonly(false).build().map_err(broken)?;
    let mut spec = SpecBuilder::default()
        .version(OCI_VERSION)
        .root(root)
        .process(process::process(container, host)?)
        .mounts(mounts::mounts(container, host)?)
        .linux(linux::linux(container, namespace, host)?)
        .build()
        .map_err(broken)?;
    // On the host's UTS namespace a name cannot be set, and every workspace has its own.
    let hostname = (!container.hostname.is_empty()).then(|| container.hostname.clone());
    spec.set_hostname(hostname);
    Ok(spec)
}

/// The error of a builder that misses a field: a bug here, not in what the caller gave.
fn broken(error: OciSpecError) -> Error {
    Error::unexpected("cannot put the runtime specification together").caused_by(error)
}

/// The namespaces a container gets, besides those that the host's kind of cgroups adds.
fn joins_host_network(container: &NewContainer) -> bool {
    container.network == NetworkNamespace::Host
}

#[cfg(test)]
mod tests;

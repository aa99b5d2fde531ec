//! A task's first process, reached without the daemon, its shim and `runc kill`, which take 10 ms for a signal.
//!
//! Only where this process sees the same processes as the daemon. A number alone proves nothing: it may be another's in
//! another PID namespace, or by now. So the process is held (`pidfd_open(2)`) before its cgroup is looked at, which is
//! the container's.

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::path::Path;

/// Sends a signal to a task's first process. False when that process cannot be reached for sure.
pub(super) fn signal(pid: u32, namespace: &str, container: &str, signal: i32) -> bool {
    let Some(signal) = Signal::from_named_raw(signal) else { return false };
    let Some(process) = hold(Path::new("/proc"), pid, namespace, container) else { return false };
    rustix::process::pidfd_send_signal(process, signal).is_ok()
}

/// Opens the process, if it is one of the container's.
fn hold(proc: &Path, pid: u32, namespace: &str, container: &str) -> Option<OwnedFd> {
    let number = i32::try_from(pid).ok().filter(|pid| *pid > 1)?;
    let process = rustix::process::pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
    let cgroups = std::fs::read_to_string(proc.join(pid.to_string()).join("cgroup")).ok()?;
    is_in(&cgroups, namespace, container).then_some(process)
}

/// Whether a process whose `/proc/<pid>/cgroup` this is (cgroups(7)) belongs to a container, by the path that its
/// specification has.
fn is_in(cgroups: &str, namespace: &str, container: &str) -> bool {
    let path = format!("/{namespace}/{container}");
    cgroups.lines().any(|line| line.splitn(3, ':').nth(2).is_some_and(|of| of.ends_with(&path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_its_cgroup() {
        for cgroups in [
            "0::/default/workspace-a",
            "0::/system.slice/host.service/default/workspace-a",
            "12:pids:/default/workspace-a\n1:name=systemd:/default/workspace-a\n0::/user.slice",
        ] {
            assert!(is_in(cgroups, "default", "workspace-a"), "{cgroups}");
        }
        for cgroups in
            ["", "0::/", "0::/default/workspace-ab", "0::/other/workspace-a", "0::/default/workspace-a/in"]
        {
            assert!(!is_in(cgroups, "default", "workspace-a"), "{cgroups}");
        }
    }

    #[test]
    fn nothing_is_sent_to_a_process_that_is_not_the_containers() {
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!signal(other.id(), "default", "workspace-a", 15));
        assert!(!signal(0, "default", "workspace-a", 15));
        assert!(!signal(1, "default", "workspace-a", 15));
        assert!(other.try_wait().unwrap().is_none(), "it was signalled");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

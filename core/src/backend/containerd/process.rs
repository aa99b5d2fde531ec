//! A task's first process, reached without the daemon, its shim and `runc kill`, which take 10 ms for a signal.
//!
//! Only where this process sees the same processes as the daemon. A number alone proves nothing: it may be another's in
//! another PID namespace, or by now. So the process is held (`pidfd_open(2)`) before its cgroup is looked at, which is
//! the container's.

use crate::backend::TaskRoot;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::path::Path;

/// Sends a signal to a task's first process. False when that process cannot be reached for sure.
pub(super) fn signal(pid: u32, namespace: &str, container: &str, signal: i32) -> bool {
    let Some(signal) = Signal::from_named_raw(signal) else { return false };
    let Some(process) = hold(Path::new("/proc"), pid, namespace, container) else { return false };
    rustix::process::pidfd_send_signal(process, signal).is_ok()
}

/// Sends a signal to the process group that a process leads. False when it cannot be reached for sure.
pub(super) fn signal_group(pid: u32, container: &str, signal: i32) -> bool {
    let Some(signal) = Signal::from_named_raw(signal) else { return false };
    let Some(_held) = hold_any(pid, container) else { return false };
    let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    rustix::process::kill_process_group(group, signal).is_ok()
}

/// The root of what a container's process sees. None when that process cannot be reached for sure.
pub(super) fn root(pid: u32, container: &str) -> Option<TaskRoot> {
    let process = hold_any(pid, container)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).ok()?;
    // It has not ended: its number was not free in between.
    (!has_ended(&process)).then_some(TaskRoot { root, process })
}

/// A container's first process, held to be asked later whether it ends.
pub(super) struct FirstProcess {
    pid: u32,
    held: OwnedFd,
}

impl FirstProcess {
    /// None when that process cannot be reached for sure.
    pub(super) fn hold(pid: u32, container: &str) -> Option<Self> {
        hold_any(pid, container).map(|held| Self { pid, held })
    }

    /// Whether it has ended, is ending, or was killed. The kernel kills all others of a PID namespace only once its first
    /// process exits (pid_namespaces(7)), so that nobody is killed with the container before this is true.
    pub(super) fn ends(&self) -> bool {
        let about = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", self.pid));
        let ends = match (about("stat"), about("status")) {
            (Ok(stat), Ok(status)) => is_exiting(&stat) || is_killed(&status),
            _ => true,
        };
        // What was read is another's when the number was free in between.
        ends || has_ended(&self.held)
    }
}

/// Whether the process whose `/proc/<pid>/stat` this is exits: its state, or `PF_EXITING` of its flags (proc(5)).
fn is_exiting(stat: &str) -> bool {
    const PF_EXITING: u64 = 0x4;
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let state = fields.next();
    let flags: Option<u64> = fields.nth(5).and_then(|flags| flags.parse().ok());
    matches!(state, Some("Z" | "X")) || flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

/// Whether the process whose `/proc/<pid>/status` this is has SIGKILL before it.
fn is_killed(status: &str) -> bool {
    const SIGKILL: u64 = 1 << (9 - 1);
    status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")))
        .any(|pending| u64::from_str_radix(pending.trim(), 16).is_ok_and(|pending| pending & SIGKILL != 0))
}

/// A descriptor of a process can be read once that has ended (`pidfd_open(2)`).
fn has_ended(process: &OwnedFd) -> bool {
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    poll(&mut ended, Some(&Timespec::default())).is_ok_and(|ended| ended > 0)
}

/// Opens the process, if it is one of this container's, whoever has made that: what others put into the last part of a
/// cgroup's path differs, but the container's id is in it.
fn hold_any(pid: u32, container: &str) -> Option<OwnedFd> {
    let number = i32::try_from(pid).ok().filter(|pid| *pid > 1)?;
    let process = rustix::process::pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    is_of(&cgroups, container).then_some(process)
}

fn is_of(cgroups: &str, container: &str) -> bool {
    let last = |line: &str| line.rsplit('/').next().unwrap_or_default().to_owned();
    cgroups.lines().map(last).any(|last| {
        // `<id>`, or `<prefix>-<id>.scope` as systemd names it.
        let scope = last.strip_suffix(".scope").and_then(|name| name.strip_suffix(container));
        last == container || scope.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('-'))
    })
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
    fn containers_of_others_are_known_by_their_id() {
        for cgroups in
            ["0::/default/web", "4:pids:/system.slice/nerdctl-web.scope", "0::/k8s/cri-containerd-web.scope"]
        {
            assert!(is_of(cgroups, "web"), "{cgroups}");
        }
        for cgroups in ["", "0::/", "0::/default/web2", "0::/web/in", "0::/nerdctl-otherweb.scope"] {
            assert!(!is_of(cgroups, "web"), "{cgroups}");
        }
    }

    #[test]
    fn a_process_that_ends_is_known_before_it_has_ended() {
        let stat = |state: &str, flags: u32| format!("7 (a) b c) {state} 1 7 7 0 -1 {flags} 104 0");
        assert!(
            is_exiting(&stat("S", 0x0040_0104)) && is_exiting(&stat("Z", 0)) && is_exiting(&stat("X", 0))
        );
        assert!(!is_exiting(&stat("S", 0x0040_0100)) && !is_exiting("") && !is_exiting("7 (cat) S"));
        let status = |own: &str, shared: &str| format!("Name:\tsh\nSigPnd:\t{own}\nShdPnd:\t{shared}\n");
        let (none, kill, term) = ("0000000000000000", "0000000000000100", "0000000000004000");
        assert!(is_killed(&status(kill, none)) && is_killed(&status(none, kill)));
        assert!(!is_killed(&status(term, none)) && !is_killed(""));

        let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        let held = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let first = FirstProcess { pid: process.id(), held };
        assert!(!first.ends());
        process.kill().unwrap();
        assert!(first.ends(), "killed, and not waited for");
        process.wait().unwrap();
        assert!(first.ends());
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

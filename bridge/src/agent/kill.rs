//! Ending a command with everything it started.

use std::fs;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Signals the process group of `leader`, then every other process of its session: the jobs of an interactive shell
/// have groups of their own.
///
/// With SIGKILL it looks again until none is left, so that a process that forks meanwhile does not slip through. A process
/// that made itself a session of its own is a daemon and stays.
pub(crate) fn session(leader: Pid, signal: Signal) {
    let rounds = if signal == Signal::KILL { 8 } else { 1 };
    // Errors mean that the group is gone, or is no longer ours to signal.
    let _ = kill_process_group(leader, signal);
    for _ in 0..rounds {
        let members = members(leader);
        if members.is_empty() {
            return;
        }
        for (pid, group) in members {
            if group != leader.as_raw_nonzero().get() || signal == Signal::KILL {
                let _ = kill_process(pid, signal);
            }
        }
    }
}

/// Whether any process of the session is left.
pub(crate) fn lives(leader: Pid) -> bool {
    !members(leader).is_empty()
}

/// Living processes of a session, with their groups. Empty where `/proc` is not mounted.
fn members(leader: Pid) -> Vec<(Pid, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let (group, session) = parse(&stat)?;
        (session == leader.as_raw_nonzero().get()).then_some((Pid::from_raw(pid)?, group))
    })
    .collect()
}

/// Group and session of a living process, from its `stat` line. The name in it may hold anything, also `)`.
fn parse(stat: &[u8]) -> Option<(i32, i32)> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let group = fields.nth(1)?.parse().ok()?;
    Some((group, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_odd_names_are_read() {
        assert_eq!(parse(b"12 (a) b (c)) S 1 34 56 0 -1"), Some((34, 56)));
        assert_eq!(parse(b"12 (sh) Z 1 34 56 0 -1"), None);
        assert_eq!(parse(b"garbage"), None);
    }
}

//! Finding and killing the daemons of a directory, and all that descends from them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Error, Result};

/// How long killed processes may take to disappear.
const PATIENCE: Duration = Duration::from_secs(10);

/// One process, as /proc shows it. Zombies are not listed: they are gone but for their status.
#[derive(Debug)]
struct Process {
    pid: i32,
    parent: i32,
}

fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read(entry.path().join("stat")).ok()?;
            // The name stands in parentheses and may hold anything, parentheses and non-UTF-8 bytes included.
            let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
            let mut fields = std::str::from_utf8(stat.get(after_name..)?).ok()?.split_ascii_whitespace();
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            (!matches!(state, "Z" | "X")).then_some(Process { pid, parent })
        })
        .collect()
}

/// The daemons that were started from `dir`: containerd and docker-registry by their configuration file, shims
/// by the address of their containerd, versitygw by its storage.
fn daemons_of(dir: &Path, processes: &[Process]) -> Vec<i32> {
    let mut prefix = dir.as_os_str().as_bytes().to_vec();
    prefix.push(b'/');
    processes
        .iter()
        .filter(|process| {
            let Ok(line) = fs::read(format!("/proc/{}/cmdline", process.pid)) else { return false };
            let mut words = line.split(|&byte| byte == 0);
            let Some(program) = words.next() else { return false };
            let name = Path::new(OsStr::from_bytes(program)).file_name().unwrap_or_default().as_bytes();
            let own: [&[u8]; 3] = [b"containerd", b"docker-registry", b"versitygw"];
            (own.contains(&name) || name.starts_with(b"containerd-shim"))
                && words.any(|word| word.starts_with(&prefix))
        })
        .map(|process| process.pid)
        .collect()
}

/// `roots` and everything below them.
fn with_descendants(roots: &[i32], processes: &[Process]) -> Vec<i32> {
    let mut below: HashMap<i32, Vec<i32>> = HashMap::new();
    for process in processes {
        below.entry(process.parent).or_default().push(process.pid);
    }
    let mut seen = HashSet::new();
    let mut pending = roots.to_vec();
    let mut found = Vec::new();
    while let Some(pid) = pending.pop() {
        if seen.insert(pid) {
            found.push(pid);
            pending.extend(below.get(&pid).into_iter().flatten());
        }
    }
    found
}

/// The daemons of `dir` and all that descends from them, without zombies.
pub(crate) fn owned_by(dir: &Path) -> Vec<i32> {
    let processes = all();
    with_descendants(&daemons_of(dir, &processes), &processes)
}

/// All that descends from `pid`, without itself and without zombies.
fn descendants(pid: i32) -> Vec<i32> {
    let mut found = with_descendants(&[pid], &all());
    found.retain(|&other| other != pid);
    found
}

/// Kills the daemons of `dir` and all that descends from them.
pub(super) fn kill_owned_by(dir: &Path) -> Result<()> {
    // Children of a killed shim lose their parent, so what was once seen stays on the list.
    let deadline = Instant::now() + PATIENCE;
    let mut known: HashMap<i32, Vec<u8>> = HashMap::new();
    loop {
        known.retain(|pid, start| start_of(*pid).as_ref() == Some(start));
        for pid in owned_by(dir) {
            if let Some(start) = start_of(pid) {
                known.insert(pid, start);
            }
        }
        if known.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let left: Vec<_> = known.keys().collect();
            return Err(Error::new(format!("processes {left:?} of {} do not die", dir.display())));
        }
        known.keys().for_each(|&pid| kill(pid));
        thread::sleep(Duration::from_millis(10));
    }
}

/// Kills all that descends from `pid`.
pub(crate) fn kill_descendants_of(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = descendants(pid);
        if found.is_empty() || Instant::now() > deadline {
            return;
        }
        found.into_iter().for_each(kill);
        thread::sleep(Duration::from_millis(10));
    }
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended meanwhile, which is all we want.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// When the process started, as a token that tells it from a later one with the same number. `None` for the dead.
fn start_of(pid: i32) -> Option<Vec<u8>> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = stat.get(after_name..)?.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    let state = fields.next()?;
    if matches!(state, b"Z" | b"X") {
        return None;
    }
    // The state is field 3 of the file, the start time field 22.
    fields.nth(18).map(<[u8]>::to_vec)
}

/// Directories that hold the FIFOs which `pid` has open below `parent`.
pub(super) fn fifo_dirs(pid: i32, parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|target| {
            let below = target.strip_prefix(parent).ok()?;
            Some(parent.join(below.components().next()?))
        })
        .collect()
}

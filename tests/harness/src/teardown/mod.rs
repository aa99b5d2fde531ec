//! Undoing everything that a directory of ours may have done to the host.
//!
//! Nothing here trusts a record of what was started: a daemon that was killed has none. What belongs to a
//! directory is read from the kernel instead (command lines, parents, mounts, links, firewall comments), so the
//! same code serves a test that ended well and one that was killed a week ago.

mod mounts;
mod network;
mod processes;
mod runc;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::warden::Children;

pub(crate) use mounts::below as mounts_below;
pub(crate) use network::{FILE as NETWORK_FILE, firewall_rules, pinned_namespaces, remove_idle_chains};
pub(crate) use processes::{kill_descendants_of, owned_by};

/// Kills what runs from `dir`, undoes its traces on the host and removes it.
///
/// # Errors
/// The first thing that could not be undone; the rest is undone all the same.
pub(crate) fn remove(dir: &Path, children: &Children) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let mut first = Ok(());
    let mut step = |result: Result<()>| {
        if first.is_ok() {
            first = result;
        }
    };
    let traces = runc::Traces::collect(dir);
    step(processes::kill_owned_by(dir));
    traces.remove();
    step(mounts::unmount_below(dir));
    network::remove(dir, children);
    step(remove_tree(dir));
    first
}

/// Removes a tree that something on its way out may still write to.
fn remove_tree(dir: &Path) -> Result<()> {
    let mut last = Ok(());
    for _ in 0..20 {
        match fs::remove_dir_all(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !dir.exists() => return Ok(()),
            Err(error) => last = Err(error),
        }
        thread::sleep(Duration::from_millis(50));
    }
    last.context(format_args!("cannot remove {}", dir.display()))
        .map_err(|error| Error::new(error.to_string()))
}

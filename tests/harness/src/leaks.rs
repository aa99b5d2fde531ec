//! Counting what exists, to compare before and after.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::containerd::Containerd;
use crate::error::{Context, Error, Result};
use crate::teardown;

/// How many of each thing one harness's containerd, network and directories hold right now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaks {
    /// Containers of all namespaces.
    pub containers: u64,
    /// Tasks, running or not.
    pub tasks: u64,
    /// Leases.
    pub leases: u64,
    /// Snapshots of the overlayfs snapshotter; images that are kept have some.
    pub snapshots: u64,
    /// Unfinished uploads into the content store.
    pub ingests: u64,
    /// Image records.
    pub images: u64,
    /// Shims.
    pub shims: u64,
    /// Processes below containerd and the shims, these included; zombies are not.
    pub processes: u64,
    /// Mounts below the harness's directory.
    pub mounts: u64,
    /// Pinned network namespaces of the whole host.
    pub netns: u64,
    /// Interfaces on the network's bridge.
    pub links: u64,
    /// Addresses that are leased in the network.
    pub addresses: u64,
    /// Firewall rules that were made for the network.
    pub firewall_rules: u64,
}

impl Containerd {
    /// Counts everything. Blocks for some tenths of a second: `ctr` is asked about every namespace.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn leaks(&self) -> Result<Leaks> {
        let mut leaks = Leaks::default();
        for namespace in self.list("default", &["namespaces", "ls", "-q"], 0)? {
            let count = |arguments: &[&str], headers: usize| -> Result<u64> {
                Ok(self.list(&namespace, arguments, headers)?.len() as u64)
            };
            leaks.containers += count(&["containers", "ls", "-q"], 0)?;
            leaks.tasks += count(&["tasks", "ls", "-q"], 0)?;
            leaks.leases += count(&["leases", "ls", "-q"], 0)?;
            leaks.snapshots += count(&["snapshots", "ls"], 1)?;
            leaks.ingests += count(&["content", "active"], 1)?;
            leaks.images += count(&["images", "ls", "-q"], 0)?;
        }
        let owned = teardown::owned_by(self.dir());
        leaks.shims = owned.iter().filter(|&&pid| is_shim(pid)).count() as u64;
        leaks.processes = owned.len() as u64;
        leaks.mounts = teardown::mounts_below(self.dir()).len() as u64;
        leaks.netns = teardown::pinned_namespaces().len() as u64;
        leaks.links = fs::read_dir(format!("/sys/class/net/{}/brif", self.network().bridge))
            .map_or(0, |entries| entries.count() as u64);
        leaks.addresses =
            fs::read_dir(self.dir().join("ipam").join(&self.network().name)).map_or(0, |entries| {
                let named = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
                named.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).count() as u64
            });
        leaks.firewall_rules = teardown::firewall_rules(self.network());
        Ok(leaks)
    }

    /// The lines that a `ctr` command prints, without its headers and blank lines.
    fn list(&self, namespace: &str, arguments: &[&str], headers: usize) -> Result<Vec<String>> {
        let mut command: Command = self.ctr(namespace);
        let output = command.args(["--timeout", "20s"]).args(arguments).output().context("cannot run ctr")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(format!("ctr {}: {}", arguments.join(" "), said.trim())));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text
            .lines()
            .skip(headers)
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect())
    }
}

fn is_shim(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("containerd-shim"))
}

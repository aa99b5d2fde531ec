//! A host of its own for one test.

use super::super::manager::NetworkManager;
use super::super::netlink::Netlink;
use crate::config::{NetworkConfig, TimeLimits};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The host that a test sees.
pub(super) struct Host {
    dir: PathBuf,
    pub(super) config: NetworkConfig,
    pub(super) limits: TimeLimits,
}

/// Runs a test on a host of its own: nothing it does to the network or to mounts is seen outside or stays.
pub(super) fn on_own_host<F: Future<Output = ()>>(test: impl FnOnce(Host) -> F + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    // Removed from outside, where the pins are no mounts.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let ended = std::thread::scope(|scope| {
        scope
            .spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                    .unwrap();
                mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
                Netlink::open().unwrap().loopback_up().unwrap();
                let config = NetworkConfig {
                    config_dir: path.join("net.d"),
                    bridge: "dntest0".to_owned(),
                    subnet: "10.199.0.0/24".to_owned(),
                    ..NetworkConfig::default()
                };
                let host = Host { dir: path, config, limits: TimeLimits::default() };
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(test(host));
            })
            .join()
    });
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

impl Host {
    /// A data root of this name.
    pub(super) fn root(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn manager(&self) -> NetworkManager {
        self.manager_of("root")
    }

    pub(super) fn manager_of(&self, root: &str) -> NetworkManager {
        NetworkManager::new(&self.config, &self.root(root), &self.limits)
    }

    /// All rules of the host without their counters.
    pub(super) fn rules(&self) -> String {
        let text = output("iptables-save", &[]);
        let kept = text.lines().filter(|line| !line.starts_with('#'));
        let mut lines: Vec<_> = kept.map(|line| line.split(" [").next().unwrap_or(line)).collect();
        lines.sort_unstable();
        lines.join("\n")
    }

    /// The host's links that connect containers.
    pub(super) fn veths(&self) -> usize {
        output("ip", &["-o", "link", "show", "type", "veth"]).lines().count()
    }

    /// The addresses that are given away on the bridge.
    pub(super) fn given_away(&self) -> usize {
        let dir = Path::new("/run/dunnage/addresses").join(&self.config.bridge);
        let Ok(entries) = std::fs::read_dir(dir) else {
            return 0;
        };
        entries.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("10.")).count()
    }

    /// The files of a data root's folder.
    pub(super) fn files(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.root("root").join(folder)) else {
            return Vec::new();
        };
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    /// Forgets the pin of a container but leaves its file, as a reboot does.
    pub(super) fn lose_namespace(&self, container: &str) {
        umount2(&self.root("root").join("netns").join(container), MntFlags::MNT_DETACH).unwrap();
    }

    /// Writes the configuration directory's only list.
    pub(super) fn configure(&self, list: &serde_json::Value) {
        std::fs::create_dir_all(&self.config.config_dir).unwrap();
        std::fs::write(self.config.config_dir.join("10-test.conflist"), list.to_string()).unwrap();
    }

    /// The list that is built in, for a test to change.
    pub(super) fn own_list(&self) -> serde_json::Value {
        serde_json::json!({
            "cniVersion": "1.0.0",
            "name": "dntest0",
            "plugins": [
                {
                    "type": "bridge", "bridge": "dntest0", "isGateway": true, "ipMasq": true,
                    "ipam": {
                        "type": "host-local", "dataDir": "/run/dunnage/addresses",
                        "ranges": [[{"subnet": "10.199.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        })
    }

    /// Adds a plugin made of a shell script, and the directory it is in.
    pub(super) fn plugin(&mut self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let dir = self.root("plugins");
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(name);
        // By a program of its own: a fork of another test would else hold it open for writing.
        let status = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\"", "sh", script])
            .arg(&path)
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        if !self.config.plugin_dirs.contains(&dir) {
            self.config.plugin_dirs.push(dir);
        }
    }
}

/// What a program of the host prints. It must succeed.
pub(super) fn output(program: &str, args: &[&str]) -> String {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Runs `ip` inside a namespace.
pub(super) fn ip_in(netns: &Path, args: &str) -> String {
    let command = format!("nsenter --net={} ip {args}", netns.display());
    output("sh", &["-c", &command])
}

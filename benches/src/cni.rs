//! The plugin chain of the private network, run by hand: what its programs take by themselves.

use crate::Failure;
use crate::bed;
use dunnage_harness::{Containerd, PLUGIN_DIR};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The plugins of a list, in order.
#[derive(Debug)]
pub(crate) struct Chain {
    name: String,
    version: String,
    plugins: Vec<Value>,
}

impl Chain {
    /// The one in the daemon's own configuration directory.
    pub(crate) fn of(containerd: &Containerd) -> Result<Self, Failure> {
        let file = std::fs::read_dir(containerd.cni_conf_dir())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|ext| ext == "conflist"))
            .ok_or("the network has no plugin list")?;
        let list: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let text = |key: &str| list[key].as_str().unwrap_or_default().to_owned();
        let plugins = list["plugins"].as_array().cloned().unwrap_or_default();
        Ok(Self { name: text("name"), version: text("cniVersion"), plugins })
    }

    /// Connects a new network namespace and disconnects it; returns how long the connecting took.
    pub(crate) fn add_and_del(&self, id: &str, port: u16) -> Result<Duration, Failure> {
        let netns = Netns::new(id)?;
        let began = Instant::now();
        let added = self.add(id, &netns.path, port);
        let took = began.elapsed();
        for plugin in self.plugins.iter().rev() {
            let previous = added.as_ref().ok();
            self.run("DEL", plugin, id, &netns.path, port, previous)?;
        }
        added.map(|_| took)
    }

    fn add(&self, id: &str, netns: &Path, port: u16) -> Result<Value, Failure> {
        let mut previous = None;
        for plugin in &self.plugins {
            let answer = self.run("ADD", plugin, id, netns, port, previous.as_ref())?;
            previous = Some(serde_json::from_str(&answer)?);
        }
        previous.ok_or_else(|| "the plugin list is empty".into())
    }

    fn run(
        &self,
        verb: &str,
        plugin: &Value,
        id: &str,
        netns: &Path,
        port: u16,
        previous: Option<&Value>,
    ) -> Result<String, Failure> {
        let mut input = plugin.clone();
        input["name"] = self.name.clone().into();
        input["cniVersion"] = self.version.clone().into();
        if let Some(previous) = previous {
            input["prevResult"] = previous.clone();
        }
        if plugin["capabilities"]["portMappings"] == true {
            let mapping = json!({ "hostPort": port, "containerPort": 80, "protocol": "tcp" });
            input["runtimeConfig"] = json!({ "portMappings": [mapping] });
        }
        let kind = plugin["type"].as_str().unwrap_or_default();
        let mut child = Command::new(Path::new(PLUGIN_DIR).join(kind))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", id)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", PLUGIN_DIR)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot run the plugin {kind}: {e}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.to_string().as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(said) } else { Err(format!("{kind} {verb}: {}", said.trim()).into()) }
    }
}

/// A named network namespace, removed with it.
struct Netns {
    name: String,
    path: PathBuf,
}

impl Netns {
    fn new(id: &str) -> Result<Self, Failure> {
        let name = format!("dunnage-bench-{}-{id}", std::process::id());
        bed::run(Command::new("ip").args(["netns", "add", &name]))?;
        let path = Path::new("/run/netns").join(&name);
        Ok(Self { name, path })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // A namespace that stays is empty, and named after us.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

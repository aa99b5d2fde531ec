//! A whole list of plugins, run in the order of the specification with what each answered handed to the next.

use super::conflist::{PluginList, find, kind, shown, takes_ports};
use super::plugin::{Failure, Run, Verb};
use super::ports;
use crate::error::Error;
use crate::types::PortMapping;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// The name of the interface inside.
pub(super) const INTERFACE: &str = "eth0";

/// One attachment and what it takes to work on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain<'a> {
    pub(super) list: &'a PluginList,
    pub(super) dirs: &'a [PathBuf],
    pub(super) id: &'a str,
    pub(super) netns: &'a Path,
    pub(super) ports: &'a [PortMapping],
}

impl Chain<'_> {
    /// Connects. Each plugin's answer is kept by `keep` before the next one runs, and the last one returned.
    pub(super) async fn add(
        &self,
        limit: Duration,
        mut keep: impl FnMut(&Value) -> Result<(), Error>,
    ) -> Result<Value, Failure> {
        let deadline = Instant::now() + limit;
        let mut previous: Option<Value> = None;
        for plugin in &self.list.plugins {
            let answer = self.run(Verb::Add, plugin, previous.as_ref(), deadline).await?;
            let result: Value = serde_json::from_slice(&answer).map_err(|e| {
                let error = Error::unavailable("the CNI plugin printed no result");
                Failure::lasting(error.with("plugin", kind(plugin).unwrap_or_default()).caused_by(e))
            })?;
            keep(&result).map_err(Failure::lasting)?;
            previous = Some(result);
        }
        previous.ok_or_else(|| {
            Failure::lasting(Error::failed_precondition("the CNI configuration lists no plugins"))
        })
    }

    /// Asks every plugin whether the attachment is as it made it. Plugins of versions that cannot tell are not asked.
    pub(super) async fn check(&self, result: &Value, limit: Duration) -> Result<(), Failure> {
        if self.list.disable_check || !self.keeps_results() {
            return Ok(());
        }
        let deadline = Instant::now() + limit;
        for plugin in &self.list.plugins {
            match self.run(Verb::Check, plugin, Some(result), deadline).await {
                Err(failure) if is_false_alarm(plugin, result, &failure) => {}
                done => done.map(drop)?,
            }
        }
        Ok(())
    }

    /// Disconnects: every plugin is asked, last first, and the first failure is returned after the last was.
    pub(super) async fn del(&self, result: Option<&Value>, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        let result = result.filter(|_| self.keeps_results());
        let mut first = Ok(());
        for plugin in self.list.plugins.iter().rev() {
            let done = self.run(Verb::Del, plugin, result, deadline).await;
            if first.is_ok() {
                first = done.map(drop);
            }
        }
        first
    }

    /// Since version 0.4.0 a plugin gets the attachment's result with DEL and CHECK.
    fn keeps_results(&self) -> bool {
        !self.list.cni_version.starts_with("0.3.")
    }

    async fn run(
        &self,
        verb: Verb,
        plugin: &Map<String, Value>,
        previous: Option<&Value>,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let name = kind(plugin).unwrap_or_default();
        let Some(program) = find(name, self.dirs) else {
            let error = Error::failed_precondition(format!(
                "the CNI plugin {name} is missing: install it or set network.plugin_dirs"
            ));
            return Err(Failure::lasting(error.with("missing", name).with("searched", shown(self.dirs))));
        };
        let input = self.input(plugin, previous).to_string();
        let run = Run {
            verb,
            program: &program,
            dirs: self.dirs,
            id: self.id,
            netns: self.netns,
            interface: INTERFACE,
            input: input.as_bytes(),
            deadline,
        };
        run.run().await
    }

    /// The configuration of one plugin, made from its entry in the list.
    fn input(&self, plugin: &Map<String, Value>, previous: Option<&Value>) -> Value {
        let mut input = plugin.clone();
        input.insert("name".to_owned(), self.list.name.clone().into());
        input.insert("cniVersion".to_owned(), self.list.cni_version.clone().into());
        // The answer of the plugin before replaces any in the file, and the capabilities become settings.
        input.remove("prevResult");
        input.remove("capabilities");
        if let Some(previous) = previous {
            input.insert("prevResult".to_owned(), previous.clone());
        }
        if takes_ports(plugin) && !self.ports.is_empty() {
            let mappings: Vec<Value> = self.ports.iter().map(mapping).collect();
            let runtime = input.entry("runtimeConfig").or_insert_with(|| json!({}));
            if let Value::Object(runtime) = runtime {
                runtime.insert("portMappings".to_owned(), mappings.into());
            }
        }
        Value::Object(input)
    }
}

/// portmap looks for rules of IPv6 even where the container has no such address, after it found those of IPv4 in
/// order (seen with version 1.1.1).
fn is_false_alarm(plugin: &Map<String, Value>, result: &Value, failure: &Failure) -> bool {
    let ips = result.get("ips").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let six = ips.iter().any(|ip| ip.get("address").and_then(Value::as_str).is_some_and(|a| a.contains(':')));
    !six && kind(plugin) == Some("portmap") && failure.error.message().contains("could not check ipv6 dnat")
}

fn mapping(port: &PortMapping) -> Value {
    let mut mapping = json!({
        "hostPort": port.host_port,
        "containerPort": port.container_port,
        "protocol": ports::protocol(port.protocol),
    });
    if let Some(address) = &port.host_ip {
        mapping["hostIP"] = address.clone().into();
    }
    mapping
}

//! What everything is measured on: one containerd, one registry, one engine.

use crate::Failure;
use crate::arguments::Arguments;
use crate::calls::Calls;
use dunnage::types::{CreateOptions, DeleteOptions, NetworkMode, PullOptions};
use dunnage::{Config, Engine, Workspace};
use dunnage_harness::{
    Containerd, ContainerdOptions, PLUGIN_DIR, Registry, RegistryOptions, fixtures, shut_down, target_dir,
};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// All that runs while benches do.
#[derive(Debug)]
pub(crate) struct Bed {
    /// The daemon both sides use.
    pub(crate) containerd: Containerd,
    /// The registry both sides pull from.
    pub(crate) registry: Registry,
    /// The engine under measurement.
    pub(crate) engine: Engine,
    /// Its namespace, and the peer's.
    pub(crate) namespace: String,
    /// The small image, which is here.
    pub(crate) image: String,
    /// What the library traces.
    pub(crate) calls: Calls,
    /// Turns of each side.
    pub(crate) rounds: usize,
    next: AtomicU32,
}

impl Bed {
    /// Starts it all and fetches the small image.
    pub(crate) async fn start(arguments: &Arguments, calls: Calls) -> Result<Self, Failure> {
        let options = ContainerdOptions { version: arguments.version, ..Default::default() };
        let containerd = Containerd::start(options)?;
        let registry = Registry::start(RegistryOptions::default())?;
        let image = registry.add(&fixtures::image("busybox")?)?;
        let namespace = containerd.namespace();
        let config = config(&containerd, &namespace, "a");
        let engine = Engine::open(Config::from_json(&config.to_string())?).await?;
        engine.image().pull(PullOptions::default().image(&image)).await?;
        let (rounds, next) = (arguments.rounds, AtomicU32::new(0));
        Ok(Self { containerd, registry, engine, namespace, image, calls, rounds, next })
    }

    /// A second engine, in a namespace of its own.
    pub(crate) async fn another_engine(&self) -> Result<(Engine, String), Failure> {
        let namespace = self.containerd.namespace();
        let config = config(&self.containerd, &namespace, &namespace);
        Ok((Engine::open(Config::from_json(&config.to_string())?).await?, namespace))
    }

    /// The configuration of an engine in a namespace, as JSON.
    pub(crate) fn config(&self, namespace: &str) -> Value {
        config(&self.containerd, namespace, namespace)
    }

    /// A name that was not used before.
    pub(crate) fn name(&self, of: &str) -> String {
        format!("{of}{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// A running workspace of the small image without network.
    pub(crate) async fn workspace(&self, of: &str) -> Result<Workspace, Failure> {
        let workspace = self.engine.workspace(self.name(of))?;
        workspace.create(self.plain()).await?;
        Ok(workspace)
    }

    /// The options of such a workspace.
    pub(crate) fn plain(&self) -> CreateOptions {
        CreateOptions::default().image(&self.image).network(NetworkMode::None)
    }

    /// Deletes a workspace at once.
    pub(crate) async fn delete(&self, workspace: &Workspace) -> Result<(), Failure> {
        workspace.delete(DeleteOptions::default().grace_ms(0u64)).await?;
        Ok(())
    }

    /// Lets the daemon remove what nobody uses any more, and waits for it.
    pub(crate) fn collect(&self) -> Result<(), Failure> {
        self.peer(&["leases", "create", "--id", "collect"])?;
        self.peer(&["leases", "delete", "--sync", "collect"]).map(drop)
    }

    /// Runs the peer in its namespace and returns the wall time of its process.
    pub(crate) fn peer(&self, words: &[&str]) -> Result<Duration, Failure> {
        self.peer_in(&self.namespace, words)
    }

    /// Runs the peer in a namespace and returns the wall time of its process.
    pub(crate) fn peer_in(&self, namespace: &str, words: &[&str]) -> Result<Duration, Failure> {
        let mut command = self.containerd.ctr(namespace);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let began = Instant::now();
        let output = command.spawn()?.wait_with_output()?;
        let took = began.elapsed();
        checked(words, &output)?;
        Ok(took)
    }

    /// What the peer prints.
    pub(crate) fn peer_says(&self, namespace: &str, words: &[&str]) -> Result<String, Failure> {
        let output = self.containerd.ctr(namespace).args(words).stdin(Stdio::null()).output()?;
        checked(words, &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Removes what `ctr run -d` made.
    pub(crate) fn remove_peer(&self, id: &str) -> Result<(), Failure> {
        self.peer(&["task", "delete", "--force", id])?;
        self.peer(&["container", "delete", id]).map(drop)
    }

    /// Takes all down.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        self.engine.close().await;
        let Self { containerd, registry, .. } = self;
        drop((containerd, registry));
        Ok(shut_down()?)
    }
}

fn checked(words: &[&str], output: &std::process::Output) -> Result<(), Failure> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ctr {} failed: {}", words.join(" "), said.trim()).into())
}

/// The directory of the agent.
fn runtime_dir() -> PathBuf {
    target_dir().join("runtime")
}

fn config(containerd: &Containerd, namespace: &str, data: &str) -> Value {
    json!({
        "data_root": containerd.data_root().join(data),
        "runtime_dir": runtime_dir(),
        "containerd": { "address": containerd.socket(), "namespace": namespace },
        "network": {
            "mode": "none", "plugin_dirs": [PLUGIN_DIR], "config_dir": containerd.cni_conf_dir(),
        },
    })
}

/// Runs a program to its end; an error carries what it said.
pub(crate) fn run(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().map_err(|e| format!("cannot run {}: {e}", shown(command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{} failed: {said}", shown(command)).into())
}

fn shown(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

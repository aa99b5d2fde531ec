//! The client against the real agent, run as a process of its own over a directory of its own.

mod exec;
mod failures;
mod files;
mod more_files;
mod old_agent;
mod sessions;
mod transfers;
mod tree;
mod tree_paths;

use super::{BridgeClient, BridgePool, BridgeTarget};
use crate::config::Config;
use crate::types::{ExecOptions, OpenReadOptions, ReadOptions, RunOptions, WriteOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The agent's program: `DUNNAGE_AGENT` when it is set, else built once beside these tests.
fn agent_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os("DUNNAGE_AGENT") {
            return path.into();
        }
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "dunnage-bridge", "--bin", "dunnage-bridge"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success(), "the agent was not built");
        // <target>/<profile>/deps/<this test>
        let tests = std::env::current_exe().unwrap();
        tests.parent().unwrap().parent().unwrap().join("dunnage-bridge")
    })
}

/// A workspace's directories, and an agent when one runs.
pub(crate) struct Fixture {
    root: TempDir,
    agent: Option<Child>,
    pool: BridgePool,
}

impl Fixture {
    /// Directories without an agent.
    fn idle() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["run", "data", "runtime", "host"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let mut config = Config::default();
        config.guest.data_dir = root.path().join("data");
        config.time_limits.connect_ms = 2_000;
        config.time_limits.backend_ms = 10_000;
        Self { root, agent: None, pool: BridgePool::new(&config) }
    }

    /// With an agent that answers.
    pub(crate) async fn start() -> Self {
        let mut fixture = Self::idle();
        fixture.start_agent();
        fixture.ready().await;
        fixture
    }

    fn start_agent(&mut self) {
        let agent = Command::new(agent_program())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("BRIDGE_SOCKET_PATH", self.socket())
            .env("BRIDGE_DATA_DIR", self.data())
            .env("BRIDGE_RUNTIME_DIR", self.path("runtime"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.agent = Some(agent);
    }

    /// Kills the agent as a crash would.
    fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    async fn ready(&self) {
        self.client().wait_ready(Duration::from_secs(10), &CancellationToken::new()).await.unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn socket(&self) -> PathBuf {
        self.path("run").join("bridge.sock")
    }

    pub(crate) fn client(&self) -> BridgeClient {
        self.pool.client("w", BridgeTarget::Socket(self.socket()))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            // SIGTERM, so that the agent ends what it started.
            if let Some(pid) = i32::try_from(agent.id()).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            for _ in 0..200 {
                if agent.try_wait().ok().flatten().is_some() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn sh(command: &str) -> RunOptions {
    RunOptions::default().command(command)
}

fn spawn(command: &str) -> ExecOptions {
    ExecOptions::default().command(command)
}

fn read(path: &str) -> ReadOptions {
    ReadOptions::default().path(path)
}

fn open(path: &str) -> OpenReadOptions {
    OpenReadOptions::default().path(path)
}

fn write(path: &str) -> WriteOptions {
    WriteOptions::default().path(path)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Whether a process of this id is there and no zombie.
fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

/// Waits, within seconds, until `done`.
async fn eventually(what: &str, done: impl Fn() -> bool) {
    for _ in 0..6000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within a minute");
}

/// What comes although something beside it never ends.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it waits for what never ends")
}

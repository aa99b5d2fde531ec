//! An agent of its own for each test, and clients for it.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dunnage_bridge::bridgepb::container_service_client::ContainerServiceClient;
use dunnage_bridge::bridgepb::exec_output::Stream as Kind;
use dunnage_bridge::bridgepb::{ExecInput, ExecOutput, TerminalSize};
use dunnage_bridge::v1::bridge_client::BridgeClient;
use dunnage_bridge::{CONNECTION_WINDOW, MAX_FRAME_SIZE, MAX_MESSAGE_SIZE, STREAM_WINDOW};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

pub type Client = ContainerServiceClient<Channel>;

/// A running agent; ended when dropped.
pub struct Agent {
    pub dir: tempfile::TempDir,
    /// The process started: the agent, or `unshare` above it.
    child: Child,
    pid: u32,
}

/// How to start one.
#[derive(Default)]
pub struct Options {
    /// As process 1 of a namespace of its own.
    pub first: bool,
    pub env: Vec<(&'static str, String)>,
    /// Done to the directory before the start.
    pub prepare: Option<fn(&Path)>,
}

impl Agent {
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn first() -> Self {
        Self::with(Options { first: true, ..Options::default() })
    }

    pub fn with(options: Options) -> Self {
        let dir = tempfile::Builder::new().prefix("br").tempdir().unwrap();
        if let Some(prepare) = options.prepare {
            prepare(dir.path());
        }
        Self::in_dir(dir, options)
    }

    pub fn in_dir(dir: tempfile::TempDir, options: Options) -> Self {
        let binary = env!("CARGO_BIN_EXE_dunnage-bridge");
        let mut command = if options.first {
            let mut command = Command::new("unshare");
            command.args(["--pid", "--fork", "--mount-proc", "--kill-child", binary]);
            command
        } else {
            Command::new(binary)
        };
        command
            .env("BRIDGE_SOCKET_PATH", dir.path().join("run/bridge.sock"))
            .env("BRIDGE_DATA_DIR", dir.path().join("data"))
            .env("BRIDGE_RUNTIME_DIR", dir.path().join("runtime"))
            .envs(options.env)
            .stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let socket = dir.path().join("run/bridge.sock");
        eventually("the agent listens", || {
            assert!(child.try_wait().unwrap().is_none(), "the agent ended");
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        let pid = if options.first {
            let children = format!("/proc/{0}/task/{0}/children", child.id());
            std::fs::read_to_string(children).unwrap().trim().parse().unwrap()
        } else {
            child.id()
        };
        Self { dir, child, pid }
    }

    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/bridge.sock")
    }

    async fn channel(&self) -> Channel {
        let socket = self.socket();
        Endpoint::from_static("http://bridge")
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME_SIZE)
            .connect_with_connector(tower::service_fn(move |_| {
                let socket = socket.clone();
                async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
            }))
            .await
            .unwrap()
    }

    pub async fn client(&self) -> Client {
        ContainerServiceClient::new(self.channel().await)
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE)
    }

    pub async fn v1(&self) -> BridgeClient<Channel> {
        BridgeClient::new(self.channel().await)
    }

    /// Sends a signal to the agent itself.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid.to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the agent's end; returns its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the agent ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    /// Resident memory in KiB.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The `stat` lines of the agent's children, each of which belongs to the thread that started it.
    pub fn children(&self) -> Vec<String> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap().flatten();
        // A thread may end meanwhile.
        let pids = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        let pids = pids.collect::<String>();
        let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        pids.split_ascii_whitespace().filter_map(stat).collect()
    }

    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Commands are ended in order; a namespace goes as a whole.
        let _ = Command::new("kill").args(["-TERM", &self.pid.to_string()]).stderr(Stdio::null()).status();
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a slow machine may take for anything that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < until, "it never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What comes although something beside it never ends.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it waits for what never ends")
}

/// Processes of the machine whose command line holds `text`.
pub fn processes(text: &str) -> usize {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter(|entry| {
        let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        let line = || std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        is_process && line().split(|byte| *byte == 0).any(|arg| arg == text.as_bytes())
    })
    .count()
}

/// A number of seconds that no other test sleeps, to find a `sleep` by.
pub fn unique_sleep() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{:03}", 100_000 + std::process::id() % 100_000, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A command under way.
pub struct Exec {
    /// Dropped to close the sending side.
    pub input: Option<mpsc::Sender<ExecInput>>,
    pub output: Streaming<ExecOutput>,
}

/// What a command did.
#[derive(Debug, Default)]
pub struct Done {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub code: Option<i32>,
}

impl Done {
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

pub fn command(command: &str) -> ExecInput {
    ExecInput { command: command.to_owned(), ..Default::default() }
}

pub fn stdin(data: impl Into<prost::bytes::Bytes>) -> ExecInput {
    ExecInput { stdin_data: data.into(), ..Default::default() }
}

pub fn resize(cols: u32, rows: u32) -> ExecInput {
    ExecInput { resize: Some(TerminalSize { cols, rows }), ..Default::default() }
}

impl Exec {
    pub async fn start(client: &mut Client, first: ExecInput) -> Result<Self, Status> {
        let (input, frames) = mpsc::channel(16);
        input.send(first).await.unwrap();
        let output = client.exec(ReceiverStream::new(frames)).await?.into_inner();
        Ok(Self { input: Some(input), output })
    }

    pub async fn send(&self, frame: ExecInput) {
        self.input.as_ref().unwrap().send(frame).await.unwrap();
    }

    pub fn close(&mut self) {
        self.input = None;
    }

    /// Everything to the end; checks that the exit is last and comes once.
    pub async fn finish(mut self) -> Done {
        self.close();
        let mut done = Done::default();
        while let Some(frame) = self.output.message().await.unwrap() {
            assert!(done.code.is_none(), "a frame after the exit: {frame:?}");
            match frame.stream() {
                Kind::Stdout => done.stdout.extend_from_slice(&frame.data),
                Kind::Stderr => done.stderr.extend_from_slice(&frame.data),
                Kind::Exit => done.code = Some(frame.exit_code),
            }
        }
        assert!(done.code.is_some(), "no exit");
        done
    }

    /// Output until it holds `text`.
    pub async fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let next = tokio::time::timeout(Duration::from_secs(8), self.output.message()).await;
            let frame = next.unwrap_or_else(|_| panic!("{text:?} never came, only {seen:?}")).unwrap();
            let frame = frame.unwrap_or_else(|| panic!("the end before {text:?}: {seen:?}"));
            seen.push_str(&String::from_utf8_lossy(&frame.data));
        }
        seen
    }
}

/// Runs a command whose input is closed at once.
pub async fn run(client: &mut Client, first: ExecInput) -> Done {
    let exec = Exec::start(client, first).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), exec.finish()).await.expect("the command hangs")
}

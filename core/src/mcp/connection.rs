//! One server: its process, and what is under way.

use super::lines::Lines;
use super::notices::{McpNotifications, Notices};
use super::pending::{Message, Pending};
use super::protocol::{self, Hello};
use crate::bridge::{Process, StreamKind};
use crate::error::{Error, Result};
use crate::types::{ExitStatus, McpConnection, McpNotification};
use bytes::Bytes;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The most requests under way.
const MOST_PENDING: usize = 1024;
/// Messages that wait for a server to read.
const QUEUE: usize = 64;
/// How much of a server's stderr is kept, in bytes.
const STDERR: usize = 64 << 10;
/// How long a server may take to end once its stdin is closed.
const GRACE: Duration = Duration::from_secs(2);
/// The most tools that are told of a server.
const MOST_TOOLS: usize = 10_000;

/// A server in a workspace. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: String,
    name: String,
    connected_at: String,
    shared: Arc<Shared>,
    hello: OnceLock<(Hello, Vec<Message>)>,
    _ends: DropGuard,
}

/// What the connection and its tasks hold together.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Changes with every notification and with the end.
    heard: watch::Sender<()>,
    out: mpsc::Sender<Bytes>,
    /// Asks the tasks to end; ended by them when the process does.
    stop: CancellationToken,
    done: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    pending: Pending,
    notices: Notices,
    stderr: VecDeque<u8>,
    exit: Option<ExitStatus>,
    ended: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message on its way.
    async fn post(&self, message: &Message) -> Result<()> {
        let line = line(message)?;
        self.out.send(line).await.map_err(|_| self.gone())
    }

    /// As [`Shared::post`], for what nobody waits for: it is left out when the server reads too slowly.
    fn drop_in(&self, message: &Message) {
        if let Ok(line) = line(message) {
            let _ = self.out.try_send(line);
        }
    }

    fn gone(&self) -> Error {
        let state = self.lock();
        let why = state.ended.as_deref().unwrap_or("it was closed");
        Error::unavailable(format!("the server does not run any more: {why}"))
    }

    fn end(&self, why: String, exit: Option<ExitStatus>) {
        let mut state = self.lock();
        state.ended.get_or_insert(why);
        state.exit = state.exit.take().or(exit);
        state.pending.clear();
        drop(state);
        self.heard.send_replace(());
        self.done.cancel();
    }

    /// The notification at a place, once it is there. None after the last one of a server that has ended.
    async fn notice(&self, place: u64) -> Option<(McpNotification, u64)> {
        let mut heard = self.heard.subscribe();
        loop {
            {
                let state = self.lock();
                match state.notices.at(place) {
                    Some(found) => return Some(found),
                    None if state.ended.is_some() => return None,
                    None => {}
                }
            }
            heard.changed().await.ok()?;
        }
    }
}

fn line(message: &Message) -> Result<Bytes> {
    let mut line = serde_json::to_vec(message)
        .map_err(|why| Error::invalid_argument("the message cannot be written as JSON").caused_by(why))?;
    if line.len() > super::lines::LONGEST {
        return Err(Error::invalid_argument("the message is over 32 MiB"));
    }
    line.push(b'\n');
    Ok(line.into())
}

/// A request under way. Dropped before its answer, it tells the server that nobody waits any more.
struct Waiting<'a> {
    shared: &'a Shared,
    wire: u64,
    reason: &'static str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.shared.lock().pending.remove(self.wire).is_some() {
            self.shared.drop_in(&protocol::cancelled(self.wire, self.reason));
        }
    }
}

impl Connection {
    /// Begins to speak with a server that was just started.
    pub(super) fn new(id: String, name: String, process: Process) -> Self {
        let (out, lines) = mpsc::channel(QUEUE);
        let (stop, done) = (CancellationToken::new(), CancellationToken::new());
        let heard = watch::Sender::default();
        let shared = Arc::new(Shared { state: Mutex::default(), heard, out, stop: stop.clone(), done });
        let process = Arc::new(process);
        tokio::spawn(write(Arc::clone(&process), lines, shared.done.clone()));
        tokio::spawn(read(process, Arc::clone(&shared)));
        let connected_at = jiff::Timestamp::now().to_string();
        Self { id, name, connected_at, shared, hello: OnceLock::new(), _ends: stop.drop_guard() }
    }

    /// Begins the session and asks for the tools.
    pub(super) async fn begin(&self) -> Result<()> {
        let hello = protocol::hello(self.request("", protocol::initialize()).await?)?;
        self.shared.post(&protocol::initialized()).await?;
        let mut tools = Vec::new();
        let mut cursor: Option<String> = None;
        while hello.capabilities.contains_key("tools") {
            let page = self.request("", protocol::list_tools(cursor.as_deref())).await?;
            let (some, next) = protocol::tools(page)?;
            let came = some.len();
            tools.extend(some);
            // A server that never comes to an end is not asked for ever.
            if next.is_none() || came == 0 || tools.len() >= MOST_TOOLS {
                break;
            }
            cursor = next;
        }
        let _ = self.hello.set((hello, tools));
        Ok(())
    }

    /// What the server has said of itself, by its own words and its stderr, for an error that its beginning met.
    pub(super) fn explain(&self, error: Error) -> Error {
        let (exit, stderr) = {
            let state = self.shared.lock();
            (state.exit.clone(), shown(&state.stderr))
        };
        let error = match exit {
            Some(exit) => {
                let message =
                    format!("the server ended with exit code {} before it had begun", exit.exit_code);
                Error::failed_precondition(message).caused_by(error)
            }
            None => error,
        };
        let last: Vec<&str> = stderr.trim_end().lines().rev().take(10).collect();
        if last.is_empty() {
            return error;
        }
        let last: Vec<&str> = last.into_iter().rev().collect();
        error.with("stderr", last.join("\n"))
    }

    /// Passes on a message of a caller, and gives what answers it.
    pub(super) async fn send(
        &self,
        caller: &str,
        mut message: Message,
        limit: Option<Duration>,
    ) -> Result<Option<Message>> {
        check(&message)?;
        message.insert("jsonrpc".to_owned(), "2.0".into());
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(id) = message.get("id").cloned() else {
            self.notify(caller, &method, message).await?;
            return Ok(None);
        };
        // The session has begun: every caller is told how.
        if method == "initialize"
            && let Some((hello, _)) = self.hello.get()
        {
            return Ok(Some(protocol::begun(&id, hello)));
        }
        let asked = self.request(caller, message);
        let answer = match limit {
            Some(limit) => tokio::time::timeout(limit, asked).await.map_err(|_| late(limit))??,
            None => asked.await?,
        };
        Ok(Some(answer))
    }

    async fn notify(&self, caller: &str, method: &str, mut message: Message) -> Result<()> {
        match method {
            "notifications/initialized" => return Ok(()),
            "notifications/cancelled" => {
                let asked = message.get_mut("params").and_then(|params| params.get_mut("requestId"));
                let Some(asked) = asked else {
                    return Err(Error::invalid_argument("notifications/cancelled has no params.requestId")
                        .with("field", "message"));
                };
                let wire = self.shared.lock().pending.wire_of(caller, asked);
                // It is answered already.
                let Some(wire) = wire else { return Ok(()) };
                *asked = wire.into();
            }
            _ => {}
        }
        self.shared.post(&message).await
    }

    async fn request(&self, caller: &str, mut message: Message) -> Result<Message> {
        let (wire, answer) = {
            let mut state = self.shared.lock();
            if state.ended.is_some() {
                drop(state);
                return Err(self.shared.gone());
            }
            if state.pending.len() >= MOST_PENDING {
                return Err(Error::resource_exhausted(
                    "the server has 1024 requests to answer; wait for some",
                ));
            }
            state.pending.add(caller, &mut message)
        };
        let _waiting = Waiting { shared: &self.shared, wire, reason: "the caller has gone" };
        self.shared.post(&message).await?;
        answer.await.map_err(|_| self.shared.gone())
    }

    /// What the server says without being asked.
    pub(super) fn notifications(&self) -> McpNotifications {
        let shared = Arc::clone(&self.shared);
        McpNotifications::new(move |place| {
            let shared = Arc::clone(&shared);
            async move { shared.notice(place).await }
        })
    }

    /// Lets the server end by itself, for a while, then ends it.
    pub(super) async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.done.cancelled().await;
    }

    pub(super) fn is_running(&self) -> bool {
        self.shared.lock().ended.is_none()
    }

    /// All that is known of it. None before it has begun.
    pub(super) fn describe(&self) -> Option<McpConnection> {
        let (hello, tools) = self.hello.get()?;
        let state = self.shared.lock();
        Some(McpConnection {
            connection_id: self.id.clone(),
            name: self.name.clone(),
            protocol_version: hello.protocol_version.clone(),
            server_name: hello.server_name.clone(),
            server_version: hello.server_version.clone(),
            instructions: hello.instructions.clone(),
            capabilities: fields(&hello.capabilities),
            tools: tools.iter().map(fields).collect(),
            connected_at: self.connected_at.clone(),
            running: state.ended.is_none(),
            exit: state.exit.clone(),
            ended_because: state.ended.clone(),
            stderr: shown(&state.stderr),
            pending: state.pending.len() as u64,
        })
    }
}

fn fields(message: &Message) -> BTreeMap<String, Value> {
    message.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn shown(bytes: &VecDeque<u8>) -> String {
    let (front, back) = bytes.as_slices();
    String::from_utf8_lossy(&[front, back].concat()).into_owned()
}

fn late(limit: Duration) -> Error {
    Error::timeout(format!(
        "the server did not answer within {} ms, and was told to leave it",
        limit.as_millis()
    ))
}

/// A caller sends requests and notifications; what a server asks is answered here.
fn check(message: &Message) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid_argument(why).with("field", "message"));
    if !message.get("method").is_some_and(Value::is_string) {
        return refuse("a message has a method, by its name");
    }
    match message.get("id") {
        None | Some(Value::Number(_) | Value::String(_)) => {}
        Some(_) => return refuse("the id of a request is a number or a string"),
    }
    match message.get("params") {
        None | Some(Value::Object(_)) => Ok(()),
        Some(_) => refuse("params is an object"),
    }
}

async fn write(process: Arc<Process>, mut lines: mpsc::Receiver<Bytes>, done: CancellationToken) {
    loop {
        let line = tokio::select! {
            () = done.cancelled() => return,
            line = lines.recv() => line,
        };
        let Some(line) = line else { return };
        let written = tokio::select! {
            () = done.cancelled() => return,
            written = process.write_stdin(line) => written,
        };
        // It has ended: whoever reads tells why.
        if written.is_err() {
            return;
        }
    }
}

async fn read(process: Arc<Process>, shared: Arc<Shared>) {
    let why = tokio::select! {
        why = listen(&process, &shared) => why,
        () = shared.stop.cancelled() => {
            // Its output is still taken, so that it can end. A message that it does not read keeps its stdin from being closed.
            let ends = async { tokio::join!(process.close_stdin(), listen(&process, &shared)) };
            let _ = tokio::time::timeout(GRACE, ends).await;
            "it was closed".to_owned()
        }
    };
    let exit = tokio::time::timeout(Duration::ZERO, process.wait()).await;
    shared.end(why, exit.ok().and_then(Result::ok));
}

/// Takes what the server says until it ends, and says why it did.
async fn listen(process: &Process, shared: &Shared) -> String {
    let mut lines = Lines::default();
    loop {
        match process.next_output().await {
            Ok(Some((StreamKind::Stderr, bytes))) => keep(&mut shared.lock().stderr, &bytes),
            Ok(Some((StreamKind::Stdout, bytes))) => {
                let Ok(lines) = lines.add(&bytes) else {
                    return "it sent a message of over 32 MiB".to_owned();
                };
                for line in lines {
                    hear(shared, &line);
                }
            }
            Ok(None) => return "its process has exited".to_owned(),
            Err(error) => return error.message().to_owned(),
        }
    }
}

fn keep(stderr: &mut VecDeque<u8>, bytes: &[u8]) {
    let bytes = bytes.get(bytes.len().saturating_sub(STDERR)..).unwrap_or_default();
    let over = (stderr.len() + bytes.len()).saturating_sub(STDERR);
    stderr.drain(..over);
    stderr.extend(bytes);
}

/// Takes a line of the server: a message, or several in a list.
fn hear(shared: &Shared, line: &[u8]) {
    match serde_json::from_slice(line) {
        Ok(Value::Object(message)) => take(shared, message, line.len()),
        Ok(Value::Array(messages)) => {
            for message in messages {
                if let Value::Object(message) = message {
                    take(shared, message, line.len());
                }
            }
        }
        // Many a server prints something else; it is kept where people look for that.
        _ => {
            let mut state = shared.lock();
            keep(&mut state.stderr, line);
            keep(&mut state.stderr, b"\n");
        }
    }
}

fn take(shared: &Shared, message: Message, length: usize) {
    match (message.get("method").and_then(Value::as_str), message.get("id")) {
        (Some(method), Some(id)) => shared.drop_in(&protocol::answer(id, method)),
        (Some(_), None) => {
            let mut state = shared.lock();
            let State { pending, notices, .. } = &mut *state;
            notices.add(message, length, pending);
            drop(state);
            shared.heard.send_replace(());
        }
        (None, _) => drop(shared.lock().pending.answer(message)),
    }
}

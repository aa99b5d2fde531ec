//! Commands where no agent runs: the backend starts them, and what an agent would do for them is done here.

use super::input::{InputStream, Piece};
use super::launch::Launch;
use super::stream::Frame;
use crate::backend::{Backend, GuestCommand, GuestPipes, GuestProcess};
use crate::error::{Error, ErrorKind, Result};
use crate::types::ExitStatus;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

/// Most bytes of one piece of output.
const CHUNK: usize = 64 << 10;
/// Pieces of output that wait for their reader here.
const QUEUE: usize = 4;
/// Pieces of input that are taken ahead of a command that does not read, so that signals overtake them.
const AHEAD: usize = 5;
/// What a command has to end by itself, when it is told to, before it is killed.
const TERM_GRACE: Duration = Duration::from_millis(200);
/// How long no output may come after a command's end, before what others still hold of its pipes is not waited for.
const QUIET: Duration = Duration::from_millis(200);
/// What is typed on a terminal to end the input.
const END_OF_INPUT: Bytes = Bytes::from_static(b"\x04");

const SIGHUP: i32 = 1;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Runs commands in one container, by the backend.
#[derive(Debug, Clone)]
pub(crate) struct GuestCommands {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) container: String,
    /// Where the container's files are, by which users are found.
    pub(crate) snapshotter: String,
    pub(crate) snapshot_key: String,
    /// Where directories for pipes are made.
    pub(crate) pipes: PathBuf,
    /// Ends what runs when the engine closes.
    pub(crate) closing: CancellationToken,
}

/// A running command's output. Dropping it ends the command.
pub(super) struct GuestStream {
    frames: mpsc::Receiver<Result<Frame>>,
}

impl GuestCommands {
    /// Starts a command. Returns its output, and its process id inside.
    ///
    /// # Cancel safety
    /// Dropping it ends the command, also one that the backend is just starting.
    pub(super) async fn start(
        &self,
        launch: &Launch,
        input: InputStream,
    ) -> Result<(GuestStream, Option<i32>)> {
        let user = match launch.user() {
            "" => None,
            user => Some(self.user(user).await?),
        };
        let id = format!("dunnage-{}", uuid::Uuid::now_v7().simple());
        let pipes = self.pipes.join(&id);
        let command = launch.guest(self.container.clone(), id, user, pipes);
        let typed = (command.terminal.is_some() && !launch.takes_input()).then_some(END_OF_INPUT);
        let (total, idle) = (launch.timeout(), launch.idle_timeout());
        let (out, frames) = mpsc::channel(QUEUE);
        let (told, started) = oneshot::channel();
        let (backend, closing) = (Arc::clone(&self.backend), self.closing.clone());
        // On a task of its own, which sees to the end of whatever the backend has started.
        tokio::spawn(async move {
            let (process, pipes) = match begin(&*backend, &command).await {
                Ok(begun) => begun,
                Err(error) => return drop(told.send(Err(error))),
            };
            // Nobody to be told is nobody who reads either.
            let _ = told.send(Ok(process.pid()));
            let running = Running {
                pty: command.terminal.is_some(),
                process,
                total,
                idle,
                closing,
                sent: Mutex::default(),
                used: watch::Sender::new(Instant::now()),
            };
            running.serve(pipes, input, typed, out).await;
        });
        let pid =
            started.await.map_err(|e| Error::unexpected("starting a command broke off").caused_by(e))?;
        Ok((GuestStream { frames }, pid?))
    }

    async fn user(&self, user: &str) -> Result<crate::backend::ResolvedUser> {
        let found = self.backend.prepare_user(&self.snapshotter, &self.snapshot_key, user, None).await;
        found.map_err(|error| match error.kind() {
            ErrorKind::FailedPrecondition => {
                Error::invalid_argument("the workspace does not know this user; use a number, or another one")
                    .with("user", user.escape_debug())
                    .caused_by(error)
            }
            _ => error,
        })
    }
}

impl GuestStream {
    /// The next piece of output; the exit is the last.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Frame> {
        match self.frames.recv().await {
            Some(frame) => frame,
            None => Err(Error::unexpected("a command's output ended without its exit")),
        }
    }
}

/// Has the backend start a command, with a directory for its pipes that stays only when it has.
async fn begin(backend: &dyn Backend, command: &GuestCommand) -> Result<(Box<dyn GuestProcess>, GuestPipes)> {
    let pipes = &command.pipes;
    let made = tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(pipes).await;
    made.map_err(|e| Error::io(e, "cannot make a directory for pipes").with("path", pipes.display()))?;
    let begun = backend.exec(command).await;
    if begun.is_err() {
        // It may be gone already.
        let _ = tokio::fs::remove_dir_all(pipes).await;
    }
    begun
}

/// Why a command is ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    TimeLimit,
    NotUsed,
    NobodyReads,
    EngineCloses,
}

struct Running {
    process: Box<dyn GuestProcess>,
    pty: bool,
    total: Option<Duration>,
    idle: Option<Duration>,
    closing: CancellationToken,
    /// The signals that were sent.
    sent: Mutex<Vec<i32>>,
    /// When bytes last went either way.
    used: watch::Sender<Instant>,
}

impl Running {
    async fn serve(
        self,
        pipes: GuestPipes,
        input: InputStream,
        typed: Option<Bytes>,
        out: mpsc::Sender<Result<Frame>>,
    ) {
        let (exited, exit) = watch::channel(false);
        let read = |pipe, frame| read(pipe, frame, out.clone(), exit.clone(), self.used.clone());
        let stdout = tokio::spawn(read(pipes.stdout, Frame::Stdout));
        let stderr = pipes.stderr.map(|pipe| tokio::spawn(read(pipe, Frame::Stderr)));
        let (end, cause) = {
            let feeding = self.feed(pipes.stdin, input, typed);
            self.until_it_ends(feeding, &out).await
        };
        exited.send_replace(true);
        // What came before the end is told before it. A reader that is gone needs none of it.
        for reader in [Some(stdout), stderr].into_iter().flatten() {
            if matches!(cause, Some(Cause::NobodyReads | Cause::EngineCloses)) {
                reader.abort();
            }
            let _ = reader.await;
        }
        if let Err(error) = self.process.remove().await {
            tracing::debug!(%error, "a command that has ended is remembered by the backend");
        }
        let told = match end {
            _ if cause == Some(Cause::EngineCloses) => Err(Error::unavailable(
                "the engine was closed while the process ran; open one and start it again",
            )),
            Ok(code) => self.exit(code, cause).await.map(Frame::Exited),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(stopped().caused_by(error)),
            Err(error) => Err(error),
        };
        // Nobody may be there any more to be told.
        let _ = out.send(told).await;
    }

    /// Waits for the end, and brings it about when it is time.
    async fn until_it_ends(
        &self,
        feeding: impl Future<Output = ()>,
        out: &mpsc::Sender<Result<Frame>>,
    ) -> (Result<u32>, Option<Cause>) {
        let mut ended = self.process.wait();
        let mut feeding = std::pin::pin!(feeding);
        let mut used = self.used.subscribe();
        let limit = self.total.and_then(|limit| Instant::now().checked_add(limit));
        let (mut fed, mut cause, mut kill_at) = (false, None, None);
        loop {
            let idle_at = self.idle.and_then(|idle| used.borrow_and_update().checked_add(idle));
            let why = tokio::select! {
                exit = &mut ended => return (exit.map(|exit| exit.code), cause),
                () = &mut feeding, if !fed => {
                    fed = true;
                    continue;
                }
                () = at(kill_at) => {
                    self.send(SIGKILL).await;
                    // Until it is gone: a container that is frozen takes its time.
                    kill_at = Some(Instant::now() + TERM_GRACE);
                    continue;
                }
                () = out.closed(), if cause.is_none() => Cause::NobodyReads,
                () = self.closing.cancelled(), if cause.is_none() => Cause::EngineCloses,
                () = at(limit), if cause.is_none() => Cause::TimeLimit,
                () = at(idle_at), if cause.is_none() => Cause::NotUsed,
                _ = used.changed(), if idle_at.is_some() => continue,
            };
            cause = Some(why);
            self.send(if self.pty { SIGHUP } else { SIGTERM }).await;
            kill_at = Some(Instant::now() + TERM_GRACE);
        }
    }

    async fn send(&self, signal: i32) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(signal);
        if let Err(error) = self.process.signal(signal).await {
            tracing::debug!(%error, signal, "a command takes no signal");
        }
    }

    /// Passes input on. Completes when there is no more of any kind.
    async fn feed(&self, mut stdin: Option<pipe::Sender>, mut input: InputStream, typed: Option<Bytes>) {
        let mut queue: VecDeque<Bytes> = typed.into_iter().collect();
        let (mut ending, mut more) = (false, true);
        while more || !queue.is_empty() {
            let writing = async {
                match (&mut stdin, queue.front()) {
                    (Some(stdin), Some(bytes)) => stdin.write(bytes).await,
                    _ => pending().await,
                }
            };
            tokio::select! {
                biased;
                piece = input.next(), if more && queue.len() < AHEAD => match piece {
                    Some(Piece::Stdin(bytes)) => queue.push_back(bytes),
                    Some(Piece::Eof) if self.pty => queue.push_back(END_OF_INPUT),
                    Some(Piece::Eof) => ending = true,
                    Some(Piece::Resize(cols, rows)) => {
                        if let Err(error) = self.process.resize(cols, rows).await {
                            tracing::debug!(%error, "a terminal keeps its size");
                        }
                    }
                    Some(Piece::Signal(signal)) => self.send(signal).await,
                    None => more = false,
                },
                written = writing => {
                    self.used.send_replace(Instant::now());
                    match (written, queue.front_mut()) {
                        (Ok(written), Some(bytes)) if written < bytes.len() => bytes.advance(written),
                        (Ok(_), _) => drop(queue.pop_front()),
                        // It reads no more: what is left goes nowhere.
                        (Err(_), _) => stdin = None,
                    }
                }
            }
            if stdin.is_none() {
                queue.clear();
            }
            if ending && queue.is_empty() {
                ending = false;
                stdin = None;
                if let Err(error) = self.process.close_stdin().await {
                    tracing::debug!(%error, "the end of a command's input was not passed on");
                }
            }
        }
        // The host's end stays open until the command has ended, unless the input has.
        if stdin.is_some() {
            pending::<()>().await;
        }
    }

    async fn exit(&self, code: u32, cause: Option<Cause>) -> Result<ExitStatus> {
        if code > 128 && self.process.container_ends().await? {
            return Err(stopped());
        }
        let exit_code = i32::try_from(code).unwrap_or(i32::MAX);
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(ExitStatus {
            exit_code,
            // The backend tells only a number, which a program may choose as well.
            signal: sent.iter().copied().find(|signal| exit_code == 128 + signal),
            timed_out: cause == Some(Cause::TimeLimit),
            idle_timed_out: cause == Some(Cause::NotUsed),
            omitted_bytes: 0,
            session_id: None,
        })
    }
}

fn stopped() -> Error {
    Error::unavailable("the workspace stopped while the command ran; start it, then repeat")
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => pending().await,
    }
}

/// Passes output on until its end.
async fn read(
    mut pipe: pipe::Receiver,
    frame: fn(Bytes) -> Frame,
    out: mpsc::Sender<Result<Frame>>,
    mut exited: watch::Receiver<bool>,
    used: watch::Sender<Instant>,
) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let quiet = async {
            // An error means that the command is not served any more.
            let _ = exited.wait_for(|exited| *exited).await;
            sleep(QUIET).await;
        };
        let read = tokio::select! {
            biased;
            read = pipe.read_buf(&mut buffer) => read,
            () = quiet => return,
        };
        match read {
            Ok(1..) => {
                used.send_replace(Instant::now());
                if out.send(Ok(frame(buffer.split().freeze()))).await.is_err() {
                    return;
                }
            }
            Ok(0) | Err(_) => return,
        }
    }
}

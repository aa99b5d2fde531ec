use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, Connection, old, v1};
use super::super::failure;
use super::guest::GuestStream;
use super::input::InputStream;
use super::launch::Launch;
use super::sessions::{check, exit_status};
use crate::error::{Error, Result};
use crate::types::ExitStatus;
use bytes::Bytes;
use dunnage_bridge::TIMEOUT_EXIT_CODE;
use dunnage_bridge::bridgepb::exec_output::Stream as OldStream;
use dunnage_bridge::bridgepb::{ExecInput, ExecOutput};
use dunnage_bridge::v1::exec_request::Frame as V1Input;
use dunnage_bridge::v1::exec_response::Frame as V1Frame;
use dunnage_bridge::v1::{Attach, ExecRequest, ExecResponse, ExecStarted};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

/// What a running command says.
#[derive(Debug)]
pub(super) enum Frame {
    Stdout(Bytes),
    Stderr(Bytes),
    Exited(ExitStatus),
}

/// A running command's output, by either service. Dropping it ends the command, unless that is a session.
pub(super) struct ExecStream {
    frames: Frames,
    /// Its process id inside, where the agent tells.
    pub(super) pid: Option<i32>,
    /// Whether it has a terminal.
    pub(super) pty: bool,
    started: Instant,
    timeout: Option<Duration>,
    session: Option<String>,
    /// Bytes of a session's output that this reader was too slow for.
    omitted: u64,
}

enum Frames {
    V1(Streaming<ExecResponse>, Arc<Connection>),
    Old(Streaming<ExecOutput>, Arc<Connection>),
    /// Of a command that the backend runs.
    Guest(GuestStream),
}

impl ExecStream {
    /// Starts a command. `input` is asked for its input, once it surely is sent only once; it gets whether the agent
    /// takes all kinds of input.
    ///
    /// # Errors
    /// UNAVAILABLE when the agent cannot be reached; what the agent refuses to start it with.
    pub(super) async fn start(
        client: &BridgeClient,
        launch: &Launch,
        input: impl Fn() -> InputStream + Send + Sync,
    ) -> Result<Self> {
        let started = Instant::now();
        let (pty, timeout) = (launch.is_pty(), launch.timeout());
        let session = launch.session_id().map(str::to_owned);
        if let Some(commands) = &client.slot().commands {
            if session.is_some() {
                return Err(without_agent("sessions"));
            }
            let (frames, pid) = commands.start(launch, input()).await?;
            return Ok(Self {
                frames: Frames::Guest(frames),
                pid,
                pty,
                started,
                timeout,
                session,
                omitted: 0,
            });
        }
        let begin = async |connection: Arc<Connection>, lane| -> Result<_, Status> {
            let agent = connection.agent();
            if let Some(what) = launch.beyond(agent) {
                return Err(Status::unimplemented(too_old(what)));
            }
            if !agent.exec {
                let first = tokio_stream::once(launch.old());
                let requests = first.chain(input().map_while(Option::<ExecInput>::from));
                let frames = old(lane).exec(requests).await?.into_inner();
                return Ok((Frames::Old(frames, connection), None));
            }
            let requests = tokio_stream::once(launch.v1(agent)).chain(input().map(ExecRequest::from));
            let mut frames = v1(lane).exec(requests).await?.into_inner();
            let started = began(&mut frames).await?;
            Ok((Frames::V1(frames, connection), Some(started.pid)))
        };
        let ((frames, pid), _) = client.call(Class::Control, Repeat::IfUnsent, begin).await?;
        Ok(Self { frames, pid, pty, started, timeout, session, omitted: 0 })
    }

    /// Joins a session. `input` is as for [`ExecStream::start`].
    ///
    /// # Errors
    /// NOT_FOUND when there is no such session; UNSUPPORTED where the agent is too old; UNAVAILABLE when it cannot be
    /// reached.
    pub(super) async fn attach(
        client: &BridgeClient,
        asked: &Attach,
        input: impl Fn() -> InputStream + Send + Sync,
    ) -> Result<Self> {
        no_sessions(client)?;
        let begin = async |connection: Arc<Connection>, lane| -> Result<_, Status> {
            check(connection.agent())?;
            let first = ExecRequest { frame: Some(V1Input::Attach(asked.clone())) };
            let requests = tokio_stream::once(first).chain(input().map(ExecRequest::from));
            let mut frames = v1(lane).attach(requests).await?.into_inner();
            let started = began(&mut frames).await?;
            Ok((frames, started))
        };
        let ((frames, begun), connection) = client.call(Class::Control, Repeat::IfUnsent, begin).await?;
        let (frames, pid, pty) = (Frames::V1(frames, connection), Some(begun.pid), begun.pty);
        let session = Some(asked.session_id.clone());
        let started = Instant::now();
        Ok(Self { frames, pid, pty, started, timeout: None, session, omitted: 0 })
    }

    /// Whether the agent takes signals, and input after its end.
    pub(super) fn is_new(&self) -> bool {
        !matches!(self.frames, Frames::Old(..))
    }

    /// The next piece of output; the exit is the last.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub(super) async fn next(&mut self, client: &BridgeClient) -> Result<Frame> {
        loop {
            let (frame, connection) = match &mut self.frames {
                Frames::Guest(frames) => return frames.next().await.map_err(|e| client.at(e)),
                Frames::V1(frames, connection) => {
                    let frame = frames.message().await;
                    let (session, omitted) = (self.session.as_deref(), &mut self.omitted);
                    (frame.map(|f| f.map(|f| from_v1(f.frame, session, omitted))), connection)
                }
                Frames::Old(frames, connection) => {
                    let (elapsed, timeout) = (self.started.elapsed(), self.timeout);
                    let frame = frames.message().await;
                    (frame.map(|f| f.map(|f| Some(from_old(f, elapsed, timeout)))), connection)
                }
            };
            match frame {
                Ok(Some(Some(frame))) => return Ok(frame),
                // A kind of frame that came after this program: nothing to show.
                Ok(Some(None)) => {}
                Ok(None) => {
                    return Err(client.at(failure::protocol("a command's output ended without its exit")));
                }
                Err(status) => return Err(client.failed(connection, &status)),
            }
        }
    }
}

/// The first answer: the program runs.
async fn began(frames: &mut Streaming<ExecResponse>) -> Result<ExecStarted, Status> {
    match frames.message().await?.and_then(|response| response.frame) {
        Some(V1Frame::Started(started)) => Ok(started),
        _ => Err(Status::internal("the agent broke the protocol: a command has not started")),
    }
}

/// None for what is nothing to show.
fn from_v1(frame: Option<V1Frame>, session: Option<&str>, omitted: &mut u64) -> Option<Frame> {
    match frame? {
        V1Frame::Stdout(bytes) => Some(Frame::Stdout(bytes)),
        V1Frame::Stderr(bytes) => Some(Frame::Stderr(bytes)),
        V1Frame::Exited(exit) => Some(Frame::Exited(exit_status(&exit, *omitted, session))),
        V1Frame::Omitted(gap) => {
            *omitted = omitted.saturating_add(gap.bytes);
            None
        }
        V1Frame::Started(_) => None,
    }
}

/// The old service tells neither signals nor time limits: a limit is told by the clock.
fn from_old(output: ExecOutput, elapsed: Duration, timeout: Option<Duration>) -> Frame {
    match output.stream() {
        OldStream::Stdout => Frame::Stdout(output.data),
        OldStream::Stderr => Frame::Stderr(output.data),
        OldStream::Exit => {
            let ended_by_limit = [-1, TIMEOUT_EXIT_CODE, 128 + 9, 128 + 15].contains(&output.exit_code);
            let timed_out = ended_by_limit && timeout.is_some_and(|timeout| elapsed >= timeout);
            Frame::Exited(ExitStatus {
                exit_code: output.exit_code,
                signal: None,
                timed_out,
                idle_timed_out: false,
                omitted_bytes: 0,
                session_id: None,
            })
        }
    }
}

/// What takes an agent inside, where there is none.
pub(super) fn without_agent(what: &str) -> Error {
    Error::unsupported(format!(
        "this workspace has no agent inside, and {what} need one; make it without an entrypoint of its own"
    ))
}

/// UNSUPPORTED where no agent is there that could keep sessions.
pub(super) fn no_sessions(client: &BridgeClient) -> Result<()> {
    if client.slot().commands.is_some() { Err(without_agent("sessions")) } else { Ok(()) }
}

/// An agent that needs a feature it lacks.
pub(super) fn needs_new_agent(what: &str) -> Error {
    Error::unsupported(too_old(what))
}

/// Says that an agent lacks a feature.
pub(super) fn too_old(what: &str) -> String {
    format!("the workspace's agent is too old for {what}; restart the workspace to get a new one")
}

use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, Connection, old, v1};
use super::super::failure;
use super::input::InputStream;
use super::launch::Launch;
use crate::error::{Error, Result};
use crate::types::ExitStatus;
use bytes::Bytes;
use dunnage_bridge::TIMEOUT_EXIT_CODE;
use dunnage_bridge::bridgepb::exec_output::Stream as OldStream;
use dunnage_bridge::bridgepb::{ExecInput, ExecOutput};
use dunnage_bridge::v1::exec_response::Frame as V1Frame;
use dunnage_bridge::v1::{ExecRequest, ExecResponse};
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

/// A running command's output, by either service. Dropping it ends the command.
pub(super) struct ExecStream {
    frames: Frames,
    /// Its process id inside, where the agent tells.
    pub(super) pid: Option<i32>,
    pub(super) connection: Arc<Connection>,
    started: Instant,
    timeout: Option<Duration>,
}

enum Frames {
    V1(Streaming<ExecResponse>),
    Old(Streaming<ExecOutput>),
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
        let begin = async |connection: Arc<Connection>, lane| -> Result<_, Status> {
            if !connection.agent().exec {
                let first = tokio_stream::once(launch.old());
                let requests = first.chain(input().map_while(Option::<ExecInput>::from));
                let frames = old(lane).exec(requests).await?.into_inner();
                return Ok((Frames::Old(frames), None));
            }
            let requests = tokio_stream::once(launch.v1()).chain(input().map(ExecRequest::from));
            let mut frames = v1(lane).exec(requests).await?.into_inner();
            let first = frames.message().await?.and_then(|response| response.frame);
            match first {
                Some(V1Frame::Started(started)) => Ok((Frames::V1(frames), Some(started.pid))),
                _ => Err(Status::internal("the agent broke the protocol: a command has not started")),
            }
        };
        let ((frames, pid), connection) = client.call(Class::Control, Repeat::IfUnsent, begin).await?;
        Ok(Self { frames, pid, connection, started, timeout: launch.timeout() })
    }

    /// Whether the agent takes signals, and input after its end.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.frames, Frames::V1(_))
    }

    /// The next piece of output; the exit is the last.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub(super) async fn next(&mut self, client: &BridgeClient) -> Result<Frame> {
        loop {
            let frame = match &mut self.frames {
                Frames::V1(frames) => frames.message().await.map(|f| f.map(|f| from_v1(f.frame))),
                Frames::Old(frames) => {
                    let (elapsed, timeout) = (self.started.elapsed(), self.timeout);
                    frames.message().await.map(|f| f.map(|f| Some(from_old(f, elapsed, timeout))))
                }
            };
            match frame {
                Ok(Some(Some(frame))) => return Ok(frame),
                // A kind of frame that came after this program: nothing to show.
                Ok(Some(None)) => {}
                Ok(None) => {
                    return Err(client.at(failure::protocol("a command's output ended without its exit")));
                }
                Err(status) => return Err(client.failed(&self.connection, &status)),
            }
        }
    }
}

fn from_v1(frame: Option<V1Frame>) -> Option<Frame> {
    match frame? {
        V1Frame::Stdout(bytes) => Some(Frame::Stdout(bytes)),
        V1Frame::Stderr(bytes) => Some(Frame::Stderr(bytes)),
        V1Frame::Exited(exit) => Some(Frame::Exited(ExitStatus {
            exit_code: exit.code,
            signal: (exit.signal != 0).then_some(exit.signal),
            timed_out: exit.timed_out,
        })),
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
            Frame::Exited(ExitStatus { exit_code: output.exit_code, signal: None, timed_out })
        }
    }
}

/// An agent that needs a feature it lacks.
pub(super) fn needs_new_agent(what: &str) -> Error {
    Error::unsupported(format!(
        "the workspace's agent is too old for {what}; restart the workspace to get a new one"
    ))
}

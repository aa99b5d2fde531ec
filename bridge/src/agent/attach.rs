//! Clients of running programs, by `dunnage.bridge.v1`: the one that started it, or those attached to a session.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::stream::{self, Stream, StreamExt};
use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::feed::Input;
use super::held::{About, Held, Told};
use super::program::Program;
use super::pty::Size;
use super::replay::Kind;
use super::session::{self, Event, Exit};
use super::state::Agent;
use super::threads::starting;
use super::{launch, sessions, spawn, user};
use crate::v1::exec_request::Frame as In;
use crate::v1::exec_response::Frame as Out;
use crate::v1::{Attach, ExecExited, ExecRequest, ExecResponse, ExecStart, ExecStarted, Omitted, Session};

/// Pieces of input that may wait for a session's program.
const AHEAD: usize = 4;

/// What the client gets.
pub(crate) type Frames = Pin<Box<dyn Stream<Item = Result<ExecResponse, Status>> + Send>>;

/// Starts a program for its client.
///
/// # Errors
/// As [`launch::program`], [`spawn::spawn`] and, for a session, [`sessions::Sessions::reserve`].
///
/// # Cancel safety
/// A program that is being started while its client goes is ended like any other; a session stays.
pub(crate) async fn start(
    agent: &Arc<Agent>,
    start: ExecStart,
    frames: Streaming<ExecRequest>,
) -> Result<Frames, Status> {
    let agent = Arc::clone(agent);
    starting(move || start_now(&agent, start, frames)).await
}

fn start_now(agent: &Arc<Agent>, start: ExecStart, frames: Streaming<ExecRequest>) -> Result<Frames, Status> {
    agent.check_commands()?;
    let limits = launch::limits(&start)?;
    let counted = agent.enter();
    let reserve = |session: &Session| {
        agent.sessions.reserve(&session.id, session.replay_bytes).map(|room| (room, session.replay_bytes))
    };
    let reserved = start.session.as_ref().map(reserve).transpose()?;
    let program = launch::program(agent, &start)?;
    let running = spawn::spawn(&agent.reaper, &program, agent.nofile)?;
    let pty = program.pty.is_some();
    // A terminal has no pipe to close: one that takes no input is typed the end of it.
    let head = (!program.stdin && pty).then_some(Ok(Input::End));
    let started = Out::Started(ExecStarted { pid: running.pid.as_raw_nonzero().get(), pty });
    let (out, events) = mpsc::channel(session::QUEUE);
    let Some((reserved, replay_bytes)) = reserved else {
        let input = stream::iter(head).chain(frames.map(input));
        tokio::spawn(session::run(Arc::clone(agent), counted, running, limits, input, out));
        return Ok(answers(started, ReceiverStream::new(events).map(output)));
    };
    let about = About {
        id: reserved.id().to_owned(),
        command: launch::shown(&start, &program),
        pid: running.pid,
        user: shown_user(&program),
        started_at_ms: now_ms(),
        replay_bytes: usize::try_from(replay_bytes).unwrap_or(usize::MAX),
        pty,
    };
    let (pieces, queue) = mpsc::channel(AHEAD);
    let terminal = pty.then(|| Arc::clone(&running.stdout));
    let held = Held::new(about, pieces, Arc::clone(&running.gone), terminal);
    let reader = join(&held, true, frames);
    reserved.fill(Arc::clone(&held));
    let input = stream::iter(head).chain(ReceiverStream::new(queue).map(Ok));
    tokio::spawn(session::run(Arc::clone(agent), counted, running, limits, input, out));
    tokio::spawn(sessions::record(Arc::clone(agent), held, events));
    Ok(answers(started, reader))
}

/// Lets a client join a session.
///
/// # Errors
/// `NOT_FOUND` when there is none of this id.
pub(crate) fn attach(
    agent: &Agent,
    asked: &Attach,
    frames: Streaming<ExecRequest>,
) -> Result<Frames, Status> {
    let held = agent.sessions.find(&asked.session_id)?;
    let (pid, pty) = (held.about.pid.as_raw_nonzero().get(), held.about.pty);
    let reader = join(&held, asked.replay, frames);
    Ok(answers(Out::Started(ExecStarted { pid, pty }), reader))
}

/// Reads a session for a client and takes its input, until it goes.
fn join(held: &Arc<Held>, replay: bool, frames: Streaming<ExecRequest>) -> impl Stream<Item = Out> + use<> {
    let (present, gone) = oneshot::channel::<()>();
    let writes = write(Arc::clone(held), frames);
    tokio::spawn(async move {
        tokio::select! {
            () = writes => {}
            // Dropped with the answers.
            _ = gone => {}
        }
    });
    let reader = held.attach(replay);
    stream::unfold((reader, present), async |(mut reader, present)| {
        let told = reader.next().await?;
        Some((told_out(told), (reader, present)))
    })
}

/// Carries a client's input to a session. Only the client is held up while the program takes none.
async fn write(held: Arc<Held>, mut frames: Streaming<ExecRequest>) {
    while let Some(frame) = frames.next().await {
        match input(frame) {
            Ok(input @ (Input::Stdin(_) | Input::End)) => {
                // Fails once it has ended.
                let _ = held.input.send(input).await;
            }
            Ok(Input::Resize(size)) => held.resize(size),
            Ok(Input::Signal(signal)) => {
                // Refused once it has ended, which the client is told by the exit.
                let _ = sessions::signal(&held, signal.as_raw());
            }
            Ok(Input::Ignored) => {}
            Err(_) => return,
        }
    }
}

fn answers(started: Out, frames: impl Stream<Item = Out> + Send + 'static) -> Frames {
    let frames = stream::iter([started]).chain(frames);
    Box::pin(frames.map(|frame| Ok(ExecResponse { frame: Some(frame) })))
}

fn input(frame: Result<ExecRequest, Status>) -> Result<Input, Status> {
    match frame?.frame {
        Some(In::Stdin(data)) => Ok(Input::Stdin(data)),
        Some(In::StdinEof(_)) => Ok(Input::End),
        Some(In::Resize(size)) => {
            Ok(Size::checked(size.cols, size.rows).map_or(Input::Ignored, Input::Resize))
        }
        Some(In::Signal(signal)) => {
            Ok(Signal::from_named_raw(signal.number).map_or(Input::Ignored, Input::Signal))
        }
        // A frame of a later protocol.
        Some(In::Start(_) | In::Attach(_)) | None => Ok(Input::Ignored),
    }
}

fn output(event: Event) -> Out {
    match event {
        Event::Output(Kind::Stdout, data) => Out::Stdout(data),
        Event::Output(Kind::Stderr, data) => Out::Stderr(data),
        Event::Exited(exit) => Out::Exited(exited(exit)),
    }
}

fn told_out(told: Told) -> Out {
    match told {
        Told::Omitted(bytes) => Out::Omitted(Omitted { bytes }),
        Told::Output(kind, data) => output(Event::Output(kind, data)),
        Told::Exited(exit) => output(Event::Exited(exit)),
    }
}

/// How a program ended, on the wire.
pub(crate) fn exited(exit: Exit) -> ExecExited {
    ExecExited { code: exit.code, signal: exit.signal, timed_out: exit.timed_out, idle_timed_out: exit.idle }
}

fn shown_user(program: &Program) -> String {
    let own = || user::own().map(|own| own.shown()).unwrap_or_default();
    program.identity.as_ref().map_or_else(own, user::Identity::shown)
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

use super::super::client::BridgeClient;
use super::super::pool::Failure;
use super::input::{InputSender, PIECE, Piece};
use super::launch::check_size;
use super::sessions::exit_status;
use super::signal::Signal;
use super::stream::{ExecStream, Frame, needs_new_agent};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{ExitStatus, RunOptions};
use bytes::Bytes;
use dunnage_bridge::v1::ExecExited;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::AbortHandle;

/// Bytes of output that wait here for their reader. Past them the process waits, and nothing else does.
const WAITING_OUTPUT: usize = 1 << 20;
/// What a piece of output counts at least, for what it costs besides its bytes.
const LEAST_COST: usize = 256;
/// Pieces of input that an agent surely takes off the wire, even when the process reads none.
const SURE_PIECES: usize = 4;
/// How long a kill may take before the call is broken off.
const KILL_GRACE: Duration = Duration::from_secs(3);
const SIGKILL: i32 = 9;

/// Which output of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// Standard output; all output of a process on a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

type Waiting = (StreamKind, Bytes, OwnedSemaphorePermit);
type Ending = Option<Result<ExitStatus, Failure>>;

/// Sets the end of a process, at the latest when the task that reads it goes away.
struct EndGuard(Arc<watch::Sender<Ending>>);

impl EndGuard {
    fn set(&self, end: Result<ExitStatus, Failure>) {
        self.0.send_if_modified(|now| now.is_none() && now.replace(end).is_none());
    }

    fn lost() -> Failure {
        Failure::of(&Error::unavailable(
            "the engine was closed while the process ran; open one and start it again",
        ))
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.set(Err(Self::lost()));
    }
}

/// A running command with its streams.
///
/// All methods take `&self` and may be called from several tasks and threads at once, such as one that reads and one that
/// writes. Output that nobody reads stays where it is: about 3 MiB of it wait between here and the agent, then the process
/// waits when it writes; no other process or call is held up.
///
/// Dropping it ends the process with everything in its group and session: SIGTERM (SIGHUP on a terminal), then
/// SIGKILL after 200 ms. Of a detached one it is just one of those attached: it goes on without them, and does not wait
/// for their reading.
pub struct Process {
    client: BridgeClient,
    pid: Option<i32>,
    is_new: bool,
    pty: bool,
    session_id: Option<String>,
    output: Mutex<mpsc::UnboundedReceiver<Waiting>>,
    room: Arc<Semaphore>,
    control: mpsc::UnboundedSender<Piece>,
    /// None once closed. Held over a whole write, so that two writes never mix.
    stdin: Mutex<Option<mpsc::Sender<Bytes>>>,
    pieces: AtomicUsize,
    ending: Arc<watch::Sender<Ending>>,
    pump: AbortHandle,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The task holds the call; without it the call is reset, and the agent ends the process.
        self.pump.abort();
    }
}

impl Process {
    pub(super) fn new(
        client: BridgeClient,
        mut stream: ExecStream,
        input: InputSender,
        pty: bool,
        session_id: Option<String>,
    ) -> Self {
        let (waiting, output) = mpsc::unbounded_channel::<Waiting>();
        let ending = Arc::new(watch::Sender::new(None));
        let ended = EndGuard(Arc::clone(&ending));
        let room = Arc::new(Semaphore::new(WAITING_OUTPUT));
        let (pid, is_new) = (stream.pid, stream.is_new());
        let (reader, space) = (client.clone(), Arc::clone(&room));
        let pump = tokio::spawn(async move {
            let end = loop {
                let (kind, bytes) = match stream.next(&reader).await {
                    Ok(Frame::Stdout(bytes)) => (StreamKind::Stdout, bytes),
                    Ok(Frame::Stderr(bytes)) => (StreamKind::Stderr, bytes),
                    Ok(Frame::Exited(exit)) => break Ok(exit),
                    Err(error) => break Err(Failure::of(&error)),
                };
                let cost = u32::try_from(bytes.len().clamp(LEAST_COST, WAITING_OUTPUT)).unwrap_or(u32::MAX);
                // Closed once the output is not wanted any more: it is then thrown away.
                if let Ok(permit) = Arc::clone(&space).acquire_many_owned(cost).await
                    && !bytes.is_empty()
                {
                    let _ = waiting.send((kind, bytes, permit));
                }
            };
            // Before the end of the output, so that whoever sees that knows how it ended.
            ended.set(end);
        });
        Self {
            client,
            pid,
            is_new,
            pty,
            session_id,
            output: Mutex::new(output),
            room,
            control: input.control,
            stdin: Mutex::new(Some(input.stdin)),
            pieces: AtomicUsize::new(0),
            ending,
            pump: pump.abort_handle(),
        }
    }

    /// Its process id inside the workspace. None where the agent is too old to tell.
    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// The id by which it can be attached to, if it is a session.
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// Whether it has a terminal.
    pub fn is_pty(&self) -> bool {
        self.pty
    }

    /// The next piece of its output, of either stream, in the order in which the agent read them. None at the end, when
    /// it has exited and all its output was returned.
    ///
    /// # Errors
    /// UNAVAILABLE when the agent went away: what came before it was returned.
    ///
    /// # Cancel safety
    /// Safe: a piece is returned or stays.
    pub async fn next_output(&self) -> Result<Option<(StreamKind, Bytes)>> {
        if let Some((kind, bytes, _room)) = self.output.lock().await.recv().await {
            return Ok(Some((kind, bytes)));
        }
        match self.ended() {
            Some(Err(failure)) => Err(failure.error().in_operation("exec.spawn")),
            _ => Ok(None),
        }
    }

    /// Throws away the output from here on, so that the process never waits for a reader. What waits here already can
    /// still be read.
    pub fn discard_output(&self) {
        self.room.close();
    }

    /// Waits until it has exited. Does not read its output: a process that writes more than about 3 MiB waits for a
    /// reader ([`Process::next_output`]) or for [`Process::discard_output`].
    ///
    /// # Errors
    /// UNAVAILABLE when the agent went away; the process then went with it.
    ///
    /// # Cancel safety
    /// Safe; it can be called any number of times, also after the exit.
    pub async fn wait(&self) -> Result<ExitStatus> {
        let mut ending = self.ending.subscribe();
        let end = ending.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        match end.unwrap_or_else(|| Err(EndGuard::lost())) {
            Ok(exit) => Ok(exit),
            Err(failure) => Err(self.error(failure.error(), "exec.wait")),
        }
    }

    /// Writes to its standard input; returns once the bytes are on their way. Waits while the process does not read.
    /// Writes of several callers don't mix.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when the input was closed or the process has exited.
    ///
    /// # Cancel safety
    /// A write that is dropped may have written a part.
    pub async fn write_stdin(&self, bytes: impl Into<Bytes>) -> Result<()> {
        let mut bytes = bytes.into();
        let stdin = self.stdin.lock().await;
        let Some(sender) = stdin.as_ref() else {
            return Err(self.error(Error::failed_precondition("stdin was closed"), "exec.write_stdin"));
        };
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            let mut ending = self.ending.subscribe();
            let sent = tokio::select! {
                biased;
                _ = ending.wait_for(Option::is_some) => false,
                sent = sender.send(piece) => sent.is_ok(),
            };
            if !sent {
                let error = Error::failed_precondition("the process has exited and takes no input");
                return Err(self.error(error, "exec.write_stdin"));
            }
            self.pieces.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Ends its standard input, after what was written. On a terminal this types the end-of-input character. Closing
    /// twice is no error. Agents of the old protocol may not pass it on.
    ///
    /// # Cancel safety
    /// Safe; it waits only for a write under way.
    pub async fn close_stdin(&self) {
        *self.stdin.lock().await = None;
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// INVALID_ARGUMENT unless both are 1 to 65535; FAILED_PRECONDITION without a terminal.
    pub fn resize(&self, cols: u32, rows: u32) -> Result<()> {
        let resized = check_size(cols, rows).and_then(|()| {
            if !self.pty {
                return Err(Error::failed_precondition("the process has no terminal; spawn it with pty"));
            }
            // Fails once it has exited: there is nothing left to resize.
            let _ = self.control.send(Piece::Resize(cols, rows));
            Ok(())
        });
        resized.map_err(|e| self.error(e, "exec.resize"))
    }

    /// Sends a signal to its process group: by its number on Linux, or by a name such as `SIGTERM` or `TERM`. It reaches
    /// the group also while input waits that the process does not read. After the exit it is no error and does nothing.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a name that no signal has, and a number that is not 1 to 64; UNSUPPORTED where the agent is too
    /// old.
    ///
    /// # Cancel safety
    /// Dropping it may or may not send the signal.
    pub async fn signal(&self, signal: impl Into<Signal>) -> Result<()> {
        let send = async |signal: Signal| self.signal_inner(signal.number()?).await;
        send(signal.into()).await.map_err(|e| self.error(e, "exec.signal"))
    }

    async fn signal_inner(&self, number: i32) -> Result<()> {
        if !self.is_new {
            return Err(needs_new_agent("signals"));
        }
        if self.ended().is_some() {
            return Ok(());
        }
        if let Some(session_id) = &self.session_id {
            return match self.client.signal_of_session(session_id, number).await {
                // It has just ended, or was forgotten since.
                Err(error) if matches!(error.kind(), ErrorKind::FailedPrecondition | ErrorKind::NotFound) => {
                    Ok(())
                }
                other => other,
            };
        }
        match self.pid {
            // Input may fill the way to the agent: the signal takes another.
            Some(pid) if self.pieces.load(Ordering::Acquire) > SURE_PIECES => {
                let options = RunOptions::default().command(format!("kill -{number} -{pid}")).work_dir("/");
                let output = self.client.run(&options, Bytes::new()).await?;
                if output.result.exit_code != 0 && self.ended().is_none() {
                    tracing::debug!(pid, number, "no process of the group takes the signal");
                }
            }
            // Fails once the call has ended, and the process with it.
            _ => drop(self.control.send(Piece::Signal(number))),
        }
        Ok(())
    }

    /// Kills its process group with SIGKILL and waits for the exit, also that of a session. After the exit it returns that.
    ///
    /// Where the agent is too old for signals, or does not answer, the call is broken off, which makes the agent kill it;
    /// the status is then that of SIGKILL.
    ///
    /// # Errors
    /// As [`Process::wait`].
    ///
    /// # Cancel safety
    /// Dropping it leaves the process killed or not; it can be called again.
    pub async fn kill(&self) -> Result<ExitStatus> {
        // Whatever it still writes must not hold up its end.
        self.discard_output();
        if self.is_new {
            let killed = async {
                self.signal_inner(SIGKILL).await?;
                self.wait().await
            };
            match tokio::time::timeout(KILL_GRACE, killed).await {
                Ok(Ok(exit)) => return Ok(exit),
                Ok(Err(error)) if error.kind() == ErrorKind::Unavailable => {
                    return Err(self.error(error, "exec.kill"));
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
        if let Some(Ok(exit)) = self.ended() {
            return Ok(exit);
        }
        if self.session_id.is_some() {
            // Breaking off would leave it as it is.
            return Err(self.error(self.client.late(KILL_GRACE), "exec.kill"));
        }
        let killed = ExecExited { code: 128 + SIGKILL, signal: SIGKILL, ..ExecExited::default() };
        let exit = exit_status(&killed, 0, None);
        self.ending.send_if_modified(|end| end.is_none() && end.replace(Ok(exit.clone())).is_none());
        self.pump.abort();
        Ok(exit)
    }

    /// Lets go of a session: it goes on, and can be attached to again. What waits here already can still be read; then
    /// reading and waiting end with FAILED_PRECONDITION. After the exit it does nothing.
    ///
    /// # Errors
    /// FAILED_PRECONDITION for a process that is no session.
    pub fn detach(&self) -> Result<()> {
        if self.session_id.is_none() {
            let message = "the process is no session: spawn it with detach, or kill it";
            return Err(self.error(Error::failed_precondition(message), "exec.detach"));
        }
        let end = Failure::of(&Error::failed_precondition(
            "the session was let go of; attach to it again by its session_id",
        ));
        self.ending.send_if_modified(|now| now.is_none() && now.replace(Err(end)).is_none());
        self.pump.abort();
        Ok(())
    }

    /// What a host's object of it does when it is closed: a session is let go of, any other process killed.
    ///
    /// # Errors
    /// As [`Process::kill`].
    ///
    /// # Cancel safety
    /// As [`Process::kill`].
    pub async fn close(&self) -> Result<()> {
        if self.session_id.is_some() { self.detach() } else { self.kill().await.map(drop) }
    }

    fn ended(&self) -> Ending {
        self.ending.borrow().clone()
    }

    fn error(&self, error: Error, operation: &'static str) -> Error {
        self.client.at(error).in_operation(operation)
    }
}

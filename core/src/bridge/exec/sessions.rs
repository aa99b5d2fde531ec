use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{AgentInfo, Class, v1};
use super::super::failure;
use super::input::channel;
use super::process::Process;
use super::signal::Signal;
use super::stream::{ExecStream, no_sessions, too_old};
use crate::error::{Error, Result};
use crate::types::{
    AttachOptions, ExitStatus, SessionInfo, SessionList, SessionSignalOptions, SessionWaitOptions,
};
use dunnage_bridge::v1 as wire;
use jiff::Timestamp;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tonic::Status;

impl BridgeClient {
    /// The sessions, in the order in which they began.
    ///
    /// # Errors
    /// UNSUPPORTED where the agent is too old; UNAVAILABLE when it cannot be reached.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub(crate) async fn sessions(&self) -> Result<SessionList> {
        no_sessions(self).map_err(|e| self.at(e).in_operation("exec.sessions"))?;
        let list = self.call(Class::Control, Repeat::Always, async |connection, lane| {
            check(connection.agent())?;
            v1(lane).sessions(wire::SessionsRequest {}).await
        });
        let (list, _) = list.await.map_err(|e| e.in_operation("exec.sessions"))?;
        let sessions = list.into_inner().sessions.into_iter().map(session_info).collect();
        Ok(SessionList { sessions })
    }

    /// Joins a session.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed id; NOT_FOUND when there is no such session; as [`BridgeClient::sessions`].
    ///
    /// # Cancel safety
    /// Dropping it leaves the session as it is.
    pub(crate) async fn attach(&self, options: &AttachOptions) -> Result<Process> {
        self.attach_inner(options).await.map_err(|e| self.at(e).in_operation("exec.attach"))
    }

    async fn attach_inner(&self, options: &AttachOptions) -> Result<Process> {
        check_id(&options.session_id)?;
        let asked = wire::Attach { session_id: options.session_id.clone(), replay: options.replay };
        // A call that was not sent is made again, with an input of its own.
        let latest = Mutex::new(None);
        let stream = ExecStream::attach(self, &asked, || {
            let (sender, stream) = channel();
            *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
            stream
        })
        .await?;
        let sender = latest.into_inner().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.unwrap_or_else(|| channel().0);
        let pty = stream.pty;
        Ok(Process::new(self.clone(), stream, sender, pty, Some(options.session_id.clone())))
    }

    /// Waits until a session has ended.
    ///
    /// # Errors
    /// TIMEOUT when it still runs; as [`BridgeClient::attach`].
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub(crate) async fn wait_session(&self, options: &SessionWaitOptions) -> Result<ExitStatus> {
        self.wait_inner(options).await.map_err(|e| self.at(e).in_operation("exec.wait"))
    }

    async fn wait_inner(&self, options: &SessionWaitOptions) -> Result<ExitStatus> {
        check_id(&options.session_id)?;
        no_sessions(self)?;
        let session_id = options.session_id.clone();
        // The agent takes 0 for no limit.
        let timeout_ms = options.timeout_ms.map_or(0, |ms| ms.max(1));
        let limit = match options.timeout_ms {
            Some(ms) => Duration::from_millis(ms).saturating_add(self.slot().limits.call),
            None => Duration::MAX,
        };
        let ask = async |connection: std::sync::Arc<super::super::connection::Connection>, lane| {
            check(connection.agent())?;
            let request = wire::WaitSessionRequest { session_id: session_id.clone(), timeout_ms };
            v1(lane).wait_session(request).await
        };
        let (answer, _) = self.call_within(Class::Control, Repeat::IfUnsent, limit, ask).await?;
        match answer.into_inner().exited {
            Some(exit) => Ok(exit_status(&exit, 0, Some(&options.session_id))),
            None => Err(Error::timeout("the session still runs; wait longer, or send it a signal")
                .with("session_id", &options.session_id)),
        }
    }

    /// Sends a signal to the process group of a session.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed id or an unknown signal; FAILED_PRECONDITION when it has ended; as
    /// [`BridgeClient::attach`].
    ///
    /// # Cancel safety
    /// Dropping it may or may not send the signal.
    pub(crate) async fn signal_session(&self, options: &SessionSignalOptions) -> Result<()> {
        let signal = async {
            check_id(&options.session_id)?;
            let number = Signal::from(options.signal.as_str()).number()?;
            self.signal_of_session(&options.session_id, number).await
        };
        signal.await.map_err(|e| self.at(e).in_operation("exec.signal"))
    }

    /// [`BridgeClient::signal_session`], checked.
    pub(super) async fn signal_of_session(&self, session_id: &str, number: i32) -> Result<()> {
        no_sessions(self)?;
        let send = async |connection: std::sync::Arc<super::super::connection::Connection>, lane| {
            check(connection.agent())?;
            let request = wire::SignalSessionRequest { session_id: session_id.to_owned(), number };
            v1(lane).signal_session(request).await
        };
        self.call(Class::Control, Repeat::IfUnsent, send).await.map(drop)
    }
}

/// INVALID_ARGUMENT for what no session is called.
pub(super) fn check_id(id: &str) -> Result<()> {
    if dunnage_bridge::is_session_id(id) {
        return Ok(());
    }
    let message = "a session's id has 1 to 64 letters, digits, dots, hyphens and underscores of ASCII";
    Err(Error::invalid_argument(message).with("session_id", id.escape_debug()))
}

/// Refuses agents without sessions.
pub(super) fn check(agent: &AgentInfo) -> Result<(), Status> {
    if agent.sessions { Ok(()) } else { Err(Status::unimplemented(too_old("sessions"))) }
}

/// How a process ended, from the wire.
pub(super) fn exit_status(exit: &wire::ExecExited, omitted: u64, session: Option<&str>) -> ExitStatus {
    ExitStatus {
        exit_code: exit.code,
        signal: (exit.signal != 0).then_some(exit.signal),
        timed_out: exit.timed_out,
        idle_timed_out: exit.idle_timed_out,
        omitted_bytes: omitted,
        session_id: session.map(str::to_owned),
    }
}

/// What the agent says is text from inside: it is cleaned before it is shown.
fn session_info(info: wire::SessionInfo) -> SessionInfo {
    let started_at = Timestamp::from_millisecond(info.started_at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let exit = info.exited.as_ref().map(|exit| exit_status(exit, 0, None));
    SessionInfo {
        session_id: failure::clean(&info.session_id),
        command: failure::clean(&info.command),
        pid: info.pid,
        user: failure::clean(&info.user),
        started_at: started_at.to_string(),
        running: exit.is_none(),
        exit_code: exit.as_ref().map(|exit| exit.exit_code),
        signal: exit.as_ref().and_then(|exit| exit.signal),
        timed_out: exit.as_ref().is_some_and(|exit| exit.timed_out),
        idle_timed_out: exit.as_ref().is_some_and(|exit| exit.idle_timed_out),
        pty: info.pty,
        attached: info.attached,
        stdout_bytes: info.stdout_bytes,
        stderr_bytes: info.stderr_bytes,
        buffered_bytes: info.buffered_bytes,
    }
}

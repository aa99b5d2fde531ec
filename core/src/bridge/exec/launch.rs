use super::super::client::BridgeClient;
use super::super::connection::AgentInfo;
use super::program::{Program, check_environment};
use super::sessions::check_id;
use crate::backend::{GuestCommand, ResolvedUser};
use crate::error::{Error, Result};
use crate::types::{ExecOptions, RunOptions};
use bytes::Bytes;
use dunnage_bridge::{DEFAULT_REPLAY_BYTES, MAX_REPLAY_BYTES, bridgepb, v1};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Milliseconds a command that names no limit may take, when its output is collected.
const RUN_TIMEOUT_MS: u64 = 30_000;
/// "No limit" for agents that only know the old service and take 0 for their default: ten years, in seconds.
const ENDLESS_SECONDS: i32 = 315_360_000;
/// The most columns or rows of a terminal.
const MAX_SIDE: u32 = 65_535;
/// The longest name of a user and group.
const MAX_USER: usize = 256;

/// A command to start, checked.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    program: Program,
    user: String,
    work_dir: String,
    env: BTreeMap<String, String>,
    env_clear: bool,
    env_unset: Vec<String>,
    /// 0 for none.
    timeout_ms: u64,
    /// 0 for none.
    idle_timeout_ms: u64,
    pty: Option<(u32, u32)>,
    stdin: bool,
    session: Option<v1::Session>,
}

impl Launch {
    pub(super) fn of_run(client: &BridgeClient, options: &RunOptions, stdin: bool) -> Result<Self> {
        let program = Program::checked(&options.command, &options.args, false)?;
        check_environment(&program, &options.env, &options.env_unset)?;
        Ok(Self {
            program,
            user: checked_user(options.user.as_deref())?,
            work_dir: checked_dir(client, options.work_dir.as_deref())?,
            env: options.env.clone(),
            env_clear: options.env_clear,
            env_unset: options.env_unset.clone(),
            timeout_ms: options.timeout_ms.unwrap_or(RUN_TIMEOUT_MS),
            idle_timeout_ms: 0,
            pty: None,
            stdin,
            session: None,
        })
    }

    pub(super) fn of_exec(client: &BridgeClient, options: &ExecOptions) -> Result<Self> {
        let program = Program::checked(&options.command, &options.args, options.pty)?;
        check_environment(&program, &options.env, &options.env_unset)?;
        Ok(Self {
            program,
            user: checked_user(options.user.as_deref())?,
            work_dir: checked_dir(client, options.work_dir.as_deref())?,
            env: options.env.clone(),
            env_clear: options.env_clear,
            env_unset: options.env_unset.clone(),
            timeout_ms: options.timeout_ms,
            idle_timeout_ms: options.idle_timeout_ms,
            pty: checked_terminal(options)?,
            stdin: options.stdin,
            session: checked_session(options)?,
        })
    }

    /// Its time limit.
    pub(super) fn timeout(&self) -> Option<Duration> {
        (self.timeout_ms > 0).then(|| Duration::from_millis(self.timeout_ms))
    }

    /// How long its terminal may be left alone.
    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        (self.idle_timeout_ms > 0).then(|| Duration::from_millis(self.idle_timeout_ms))
    }

    /// Whose it is to be; empty for nobody else's.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn is_pty(&self) -> bool {
        self.pty.is_some()
    }

    /// Whether its standard input takes anything.
    pub(super) fn takes_input(&self) -> bool {
        self.stdin
    }

    /// The id of the session that it becomes.
    pub(super) fn session_id(&self) -> Option<&str> {
        self.session.as_ref().map(|session| session.id.as_str())
    }

    /// What of it this agent cannot do, if there is something.
    pub(super) fn beyond(&self, agent: &AgentInfo) -> Option<&'static str> {
        let wanted = [
            (!self.user.is_empty(), agent.exec, "another user"),
            (self.env_clear, agent.exec, "an empty environment"),
            (!self.env_unset.is_empty(), agent.env_unset, "taking variables out of the environment"),
            (self.idle_timeout_ms > 0, agent.idle_timeout, "idle time limits"),
            (self.session.is_some(), agent.sessions, "sessions"),
        ];
        wanted.into_iter().find(|(wanted, can, _)| *wanted && !can).map(|(_, _, what)| what)
    }

    pub(super) fn v1(&self, agent: &AgentInfo) -> v1::ExecRequest {
        let variable = |(name, value): (&String, &String)| v1::EnvVar {
            name: Bytes::copy_from_slice(name.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
        };
        let stdin = if self.stdin { v1::StdinMode::Open } else { v1::StdinMode::None };
        let start = v1::ExecStart {
            program: Some(self.program.v1(agent.shell)),
            env: self.env.iter().map(variable).collect(),
            env_clear: self.env_clear,
            work_dir: Bytes::copy_from_slice(self.work_dir.as_bytes()),
            user: self.user.clone(),
            pty: self.pty.map(|(cols, rows)| v1::TerminalSize { cols, rows }),
            timeout_ms: self.timeout_ms,
            stdin: stdin.into(),
            env_unset: self.env_unset.iter().map(|name| Bytes::copy_from_slice(name.as_bytes())).collect(),
            session: self.session.clone(),
            idle_timeout_ms: self.idle_timeout_ms,
        };
        v1::ExecRequest { frame: Some(v1::exec_request::Frame::Start(start)) }
    }

    /// For a backend that runs it by itself.
    pub(super) fn guest(
        &self,
        container: String,
        id: String,
        user: Option<ResolvedUser>,
        pipes: PathBuf,
    ) -> GuestCommand {
        GuestCommand {
            container,
            id,
            args: self.program.args(),
            env_clear: self.env_clear,
            env_unset: self.env_unset.clone(),
            env: self.env.clone().into_iter().collect(),
            work_dir: Some(self.work_dir.clone()).filter(|dir| !dir.is_empty()),
            user,
            terminal: self.pty,
            // A terminal is typed the end of its input.
            stdin: self.stdin || self.pty.is_some(),
            pipes,
        }
    }

    pub(super) fn old(&self) -> bridgepb::ExecInput {
        bridgepb::ExecInput {
            command: self.program.old(),
            work_dir: self.work_dir.clone(),
            env: self.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            timeout_seconds: match self.timeout_ms {
                0 => ENDLESS_SECONDS,
                ms => i32::try_from(ms.div_ceil(1000)).unwrap_or(ENDLESS_SECONDS).min(ENDLESS_SECONDS),
            },
            stdin_data: Bytes::new(),
            pty: self.pty.is_some(),
            resize: self.pty.map(|(cols, rows)| bridgepb::TerminalSize { cols, rows }),
        }
    }
}

/// INVALID_ARGUMENT for a size that no terminal has.
pub(super) fn check_size(cols: u32, rows: u32) -> Result<()> {
    if (1..=MAX_SIDE).contains(&cols) && (1..=MAX_SIDE).contains(&rows) {
        return Ok(());
    }
    Err(Error::invalid_argument("a terminal has 1 to 65535 columns and rows")
        .with("cols", cols)
        .with("rows", rows))
}

/// The user as the agent takes it; empty for its own.
///
/// # Errors
/// INVALID_ARGUMENT for what cannot name a user.
pub(super) fn checked_user(user: Option<&str>) -> Result<String> {
    let Some(user) = user else { return Ok(String::new()) };
    let refused = user.is_empty()
        || user.len() > MAX_USER
        || user.chars().any(char::is_control)
        || user.split(':').count() > 2
        || user.split(':').any(str::is_empty);
    if refused {
        let message = "a user is a name or a uid, with an optional colon and a group name or gid";
        return Err(Error::invalid_argument(message).with("user", user.escape_debug()));
    }
    Ok(user.to_owned())
}

fn checked_dir(client: &BridgeClient, dir: Option<&str>) -> Result<String> {
    Ok(dir.map(|dir| client.clean(dir)).transpose()?.unwrap_or_default())
}

fn checked_terminal(options: &ExecOptions) -> Result<Option<(u32, u32)>> {
    if !options.pty {
        if options.cols.is_some() || options.rows.is_some() {
            let message = "cols and rows are for a terminal; set pty too, or leave them out";
            return Err(Error::invalid_argument(message));
        }
        if options.idle_timeout_ms > 0 {
            let message = "idle_timeout_ms is for a terminal; set pty too, or leave it out";
            return Err(Error::invalid_argument(message));
        }
        return Ok(None);
    }
    let side = |value: Option<u32>, default: u16| value.unwrap_or(u32::from(default));
    let cols = side(options.cols, dunnage_bridge::DEFAULT_COLS);
    let rows = side(options.rows, dunnage_bridge::DEFAULT_ROWS);
    check_size(cols, rows)?;
    Ok(Some((cols, rows)))
}

fn checked_session(options: &ExecOptions) -> Result<Option<v1::Session>> {
    if !options.detach {
        if options.session_id.is_some() || options.replay_bytes.is_some() {
            let message = "session_id and replay_bytes are for a session; set detach too, or leave them out";
            return Err(Error::invalid_argument(message));
        }
        return Ok(None);
    }
    let id = match &options.session_id {
        Some(id) => {
            check_id(id)?;
            id.clone()
        }
        None => uuid::Uuid::now_v7().simple().to_string(),
    };
    let replay_bytes = options.replay_bytes.unwrap_or(DEFAULT_REPLAY_BYTES);
    if replay_bytes > MAX_REPLAY_BYTES {
        let message = "a session keeps at most 64 MiB of its output; write the rest to a file";
        return Err(Error::invalid_argument(message).with("replay_bytes", replay_bytes));
    }
    Ok(Some(v1::Session { id, replay_bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_a_name_and_perhaps_a_group() {
        for user in ["app", "1000", "app:video", "1000:44"] {
            assert_eq!(checked_user(Some(user)).unwrap(), user);
        }
        assert_eq!(checked_user(None).unwrap(), "");
        for user in ["", ":", "app:", ":video", "a:b:c", "a\0", "a\nb"] {
            assert!(checked_user(Some(user)).is_err(), "{user:?}");
        }
    }

    #[test]
    fn what_an_agent_cannot_do_is_named() {
        let client = crate::bridge::BridgePool::new(&crate::config::Config::default())
            .client("w", crate::bridge::BridgeTarget::Socket("/nowhere".into()));
        let old = AgentInfo::default();
        let plain = ExecOptions::default().command("x");
        let beyond = |options: ExecOptions, agent: &AgentInfo| {
            Launch::of_exec(&client, &options).unwrap().beyond(agent)
        };
        assert_eq!(beyond(plain.clone(), &old), None);
        assert_eq!(beyond(plain.clone().user("app"), &old), Some("another user"));
        let v1 = AgentInfo { exec: true, ..AgentInfo::default() };
        assert_eq!(beyond(plain.clone().user("app").env_clear(true), &v1), None);
        assert_eq!(beyond(plain.clone().detach(true), &v1), Some("sessions"));
        let unset = plain.clone().env_unset(vec!["A".to_owned()]);
        assert_eq!(beyond(unset, &v1), Some("taking variables out of the environment"));
        let idle = plain.pty(true).idle_timeout_ms(1_u64);
        assert_eq!(beyond(idle, &v1), Some("idle time limits"));
    }
}

use super::super::client::BridgeClient;
use crate::error::{Error, Result};
use crate::types::{ExecOptions, RunOptions};
use bytes::Bytes;
use dunnage_bridge::{bridgepb, v1};
use std::collections::BTreeMap;
use std::time::Duration;

/// Milliseconds a command that names no limit may take, when its output is collected.
const RUN_TIMEOUT_MS: u64 = 30_000;
/// "No limit" for agents that only know the old service and take 0 for their default: ten years, in seconds.
const ENDLESS_SECONDS: i32 = 315_360_000;
/// The most columns or rows of a terminal.
const MAX_SIDE: u32 = 65_535;
/// The longest single string the kernel passes to a program, less its NUL.
const MAX_STRING: usize = 128 * 1024 - 1;

/// A command to start, checked.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    command: Bytes,
    work_dir: String,
    env: BTreeMap<String, String>,
    /// 0 for none.
    timeout_ms: u64,
    pty: Option<(u32, u32)>,
    stdin: bool,
}

impl Launch {
    pub(super) fn of_run(client: &BridgeClient, options: &RunOptions, stdin: bool) -> Result<Self> {
        Self::checked(
            client,
            &options.command,
            options.work_dir.as_deref(),
            &options.env,
            options.timeout_ms.unwrap_or(RUN_TIMEOUT_MS),
            None,
            stdin,
        )
    }

    pub(super) fn of_exec(client: &BridgeClient, options: &ExecOptions) -> Result<Self> {
        if !options.pty && (options.cols.is_some() || options.rows.is_some()) {
            let message = "cols and rows are for a terminal; set pty too, or leave them out";
            return Err(Error::invalid_argument(message));
        }
        let side = |value: Option<u32>, default: u16| value.unwrap_or(u32::from(default));
        let pty = options.pty.then(|| {
            let (cols, rows) = (dunnage_bridge::DEFAULT_COLS, dunnage_bridge::DEFAULT_ROWS);
            (side(options.cols, cols), side(options.rows, rows))
        });
        if let Some((cols, rows)) = pty {
            check_size(cols, rows)?;
        }
        let work_dir = options.work_dir.as_deref();
        Self::checked(client, &options.command, work_dir, &options.env, options.timeout_ms, pty, true)
    }

    fn checked(
        client: &BridgeClient,
        command: &str,
        work_dir: Option<&str>,
        env: &BTreeMap<String, String>,
        timeout_ms: u64,
        pty: Option<(u32, u32)>,
        stdin: bool,
    ) -> Result<Self> {
        if command.is_empty() {
            return Err(Error::invalid_argument("the command is empty; give a command line"));
        }
        if command.contains('\0') {
            return Err(Error::invalid_argument("the command holds a NUL; leave it out"));
        }
        if command.len() > MAX_STRING {
            let message = "the command is over 128 KiB; write it to a file and run that";
            return Err(Error::invalid_argument(message).with("bytes", command.len()));
        }
        for (name, value) in env {
            check_variable(name, value)?;
        }
        let work_dir = work_dir.map(|dir| client.clean(dir)).transpose()?.unwrap_or_default();
        let command = Bytes::copy_from_slice(command.as_bytes());
        Ok(Self { command, work_dir, env: env.clone(), timeout_ms, pty, stdin })
    }

    /// Its time limit.
    pub(super) fn timeout(&self) -> Option<Duration> {
        (self.timeout_ms > 0).then(|| Duration::from_millis(self.timeout_ms))
    }

    pub(super) fn is_pty(&self) -> bool {
        self.pty.is_some()
    }

    pub(super) fn v1(&self) -> v1::ExecRequest {
        let variable = |(name, value): (&String, &String)| v1::EnvVar {
            name: Bytes::copy_from_slice(name.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
        };
        let stdin = if self.stdin { v1::StdinMode::Open } else { v1::StdinMode::None };
        let start = v1::ExecStart {
            program: Some(v1::exec_start::Program::Command(self.command.clone())),
            env: self.env.iter().map(variable).collect(),
            env_clear: false,
            work_dir: Bytes::copy_from_slice(self.work_dir.as_bytes()),
            user: String::new(),
            pty: self.pty.map(|(cols, rows)| v1::TerminalSize { cols, rows }),
            timeout_ms: self.timeout_ms,
            stdin: stdin.into(),
        };
        v1::ExecRequest { frame: Some(v1::exec_request::Frame::Start(start)) }
    }

    pub(super) fn old(&self) -> bridgepb::ExecInput {
        bridgepb::ExecInput {
            command: String::from_utf8_lossy(&self.command).into_owned(),
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

fn check_variable(name: &str, value: &str) -> Result<()> {
    let refuse = |message: &str| Err(Error::invalid_argument(message).with("env", name.escape_default()));
    if name.is_empty() || name.contains(['=', '\0']) {
        return refuse("an environment variable's name is empty or holds = or a NUL; rename it");
    }
    if value.contains('\0') {
        return refuse("an environment variable's value holds a NUL; leave it out");
    }
    if name.len() + value.len() + 1 > MAX_STRING {
        return refuse("an environment variable is over 128 KiB; pass it by a file");
    }
    Ok(())
}

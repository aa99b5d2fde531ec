//! From a `dunnage.bridge.v1` request to a program.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use tonic::Status;

use super::program::{self, Program};
use super::pty::Size;
use super::session::Limits;
use super::state::Agent;
use super::{shell, user};
use crate::v1::exec_start::Program as Asked;
use crate::v1::{ExecStart, StdinMode};

/// Most bytes of a command that are shown.
const SHOWN: usize = 1024;

/// The program that was asked for.
///
/// # Errors
/// `INVALID_ARGUMENT` for what no program can be started with, `FAILED_PRECONDITION` when there is no shell,
/// `UNAVAILABLE` when the agent is stopping.
pub(crate) fn program(agent: &Agent, start: &ExecStart) -> Result<Program, Status> {
    if agent.is_stopping() {
        return Err(Status::unavailable("the bridge is stopping"));
    }
    let identity = if start.user.is_empty() { None } else { Some(user::find(&start.user)?) };
    let asked = start.env.iter().map(|var| program::variable(&var.name, &var.value));
    let mut asked = asked.collect::<Result<Vec<_>, _>>()?;
    let unset = start.env_unset.iter().map(|name| program::variable_name(name));
    let unset = unset.collect::<Result<Vec<_>, _>>()?;
    let argv = match &start.program {
        Some(Asked::Command(command)) if !command.is_empty() => {
            program::no_nul("a command", command)?;
            program::shell(command)
        }
        Some(Asked::Argv(argv)) if argv.args.first().is_some_and(|name| !name.is_empty()) => {
            argv.args.iter().try_for_each(|arg| program::no_nul("an argument", arg))?;
            argv.args.iter().map(|arg| OsStr::from_bytes(arg).to_owned()).collect()
        }
        Some(Asked::Shell(_)) => {
            let found = shell::choose(identity.as_ref()).ok_or_else(|| {
                Status::failed_precondition("the workspace has no shell: give a program with arguments")
            })?;
            if !asked.iter().any(|(name, _)| name == "SHELL") {
                asked.push(("SHELL".into(), found.clone().into()));
            }
            shell::arguments(&found)
        }
        _ => return Err(Status::invalid_argument("a command or a program with arguments is required")),
    };
    let config = &agent.config;
    let pty = start.pty.map(|size| Size::or_default(size.cols, size.rows));
    let (clear, toolkit) = (start.env_clear, config.toolkit());
    let env = program::environment(clear, &unset, identity.as_ref(), pty.is_some(), asked, &toolkit);
    let work_dir = program::work_dir(&config.data_dir, &start.work_dir)?;
    let stdin = StdinMode::try_from(start.stdin) == Ok(StdinMode::Open);
    Ok(Program { argv, env, work_dir, identity, pty, stdin })
}

/// What ends it if it does not end by itself.
///
/// # Errors
/// `INVALID_ARGUMENT` when something else than a terminal is to end for not being used.
pub(crate) fn limits(start: &ExecStart) -> Result<Limits, Status> {
    if start.idle_timeout_ms > 0 && start.pty.is_none() {
        return Err(Status::invalid_argument("only a terminal can be ended for not being used"));
    }
    let limit = |ms: u64| (ms > 0).then(|| Duration::from_millis(ms));
    Ok(Limits { total: limit(start.timeout_ms), idle: limit(start.idle_timeout_ms) })
}

/// What was asked for, as one text to be shown.
pub(crate) fn shown(start: &ExecStart, program: &Program) -> String {
    let text = match &start.program {
        Some(Asked::Command(command)) => String::from_utf8_lossy(command).into_owned(),
        _ => {
            let args: Vec<_> = program.argv.iter().map(|arg| arg.to_string_lossy()).collect();
            args.join(" ")
        }
    };
    let end = (0..=SHOWN.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default().to_owned()
}

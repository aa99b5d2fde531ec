//! The test's side of the warden.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::protocol::{Request, Response};
use crate::error::{Context, Error, Result};
use crate::paths;

/// A running warden. Dropping it closes the pipe, upon which the warden cleans up and ends.
#[derive(Debug)]
pub(crate) struct Warden {
    home: PathBuf,
    pipes: Mutex<Pipes>,
}

#[derive(Debug)]
struct Pipes {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Warden {
    /// Starts a warden and waits until its directory exists.
    pub(crate) fn start() -> Result<Self> {
        let program = program()?;
        let mut child = Command::new(&program)
            .arg("warden")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its own process group: Ctrl-C reaches the test, and the warden through the closed pipe.
            .process_group(0)
            .spawn()
            .context(format_args!("cannot start {}", program.display()))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::new("the warden has no pipes"));
        };
        let mut pipes = Pipes { child, stdin: Some(stdin), stdout: BufReader::new(stdout) };
        match pipes.receive()? {
            Response::Ready { home } => Ok(Self { home, pipes: Mutex::new(pipes) }),
            other => Err(Error::new(format!("the warden did not start: {other:?}"))),
        }
    }

    /// The directory that the warden guards.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Starts a child of the warden and returns its process id.
    pub(crate) fn spawn(
        &self,
        argv: Vec<String>,
        env: BTreeMap<String, String>,
        dir: &Path,
        log: &Path,
    ) -> Result<i32> {
        let request = Request::Spawn { argv, env, dir: dir.to_owned(), log: log.to_owned() };
        match self.ask(&request)? {
            Response::Spawned { pid } => Ok(pid),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends `signal` to a child, if it still runs.
    pub(crate) fn signal(&self, pid: i32, signal: i32) -> Result<()> {
        match self.ask(&Request::Signal { pid, signal })? {
            Response::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// `None` while the child runs, else how it ended (exit code, or 128 + signal).
    pub(crate) fn exit_status(&self, pid: i32) -> Result<Option<i32>> {
        match self.ask(&Request::Status { pid })? {
            Response::Status { running: true, .. } => Ok(None),
            Response::Status { exit, .. } => Ok(Some(exit.unwrap_or(-1))),
            other => Err(unexpected(&other)),
        }
    }

    /// Kills what runs from `dir`, undoes what it did to the host and removes it.
    pub(crate) fn teardown(&self, dir: &Path) -> Result<()> {
        match self.ask(&Request::Teardown { dir: dir.to_owned() })? {
            Response::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&self, request: &Request) -> Result<Response> {
        let mut line = serde_json::to_string(request).context("cannot encode a request")?;
        line.push('\n');
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = pipes.stdin.as_mut().ok_or_else(|| Error::new("the warden was stopped"))?;
        stdin.write_all(line.as_bytes()).context("cannot reach the warden")?;
        match pipes.receive()? {
            Response::Failed { message } => Err(Error::new(message)),
            response => Ok(response),
        }
    }

    /// Closes the pipe and waits until the warden has cleaned up.
    pub(crate) fn finish(&self) -> Result<()> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        if pipes.stdin.take().is_none() {
            return Ok(());
        }
        let status = pipes.child.wait().context("cannot wait for the warden")?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::new(format!("the warden left something behind: {status}")))
        }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        // Nobody is left to report to; the warden itself says on stderr what it could not remove.
        let _ = self.finish();
    }
}

impl Pipes {
    fn receive(&mut self) -> Result<Response> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line).context("cannot read from the warden")?;
        if read == 0 {
            return Err(Error::new("the warden ended without a word: its stderr says why"));
        }
        serde_json::from_str(&line).context("cannot understand the warden")
    }
}

fn unexpected(response: &Response) -> Error {
    Error::new(format!("the warden gave an answer to another question: {response:?}"))
}

/// The program that can play warden: this one, `$DUNNAGE_HARNESS_BIN`, or the built `dunnage-harness`, which is
/// (re)built by cargo when it is missing or older than its source.
fn program() -> Result<PathBuf> {
    if let Some(named) = env::var_os("DUNNAGE_HARNESS_BIN").filter(|name| !name.is_empty()) {
        return Ok(PathBuf::from(named));
    }
    let me = env::current_exe().context("cannot find out which program this is")?;
    if me.file_name().is_some_and(|name| name == "dunnage-harness") {
        return Ok(me);
    }
    let built = paths::target_dir().join("debug/dunnage-harness");
    if !is_fresh(&built) {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["build", "--quiet", "-p", "dunnage-harness", "--bin", "dunnage-harness"])
            .arg("--target-dir")
            .arg(paths::target_dir())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .context("cannot run cargo to build dunnage-harness")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(format!("cargo could not build dunnage-harness: {said}")));
        }
    }
    Ok(built)
}

/// Whether the program is at least as new as every source file of this crate.
fn is_fresh(program: &Path) -> bool {
    let Ok(built) = program.metadata().and_then(|meta| meta.modified()) else { return false };
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(path) = pending.pop() {
        let Ok(meta) = path.metadata() else { return false };
        if meta.is_dir() {
            let Ok(entries) = path.read_dir() else { return false };
            pending.extend(entries.flatten().map(|entry| entry.path()));
        } else if meta.modified().unwrap_or_else(|_| SystemTime::now()) > built {
            return false;
        }
    }
    true
}

//! Commands in a container without an agent: `Tasks.Exec`, with named pipes that are made here and opened by the shim.

use super::client::Client;
use super::process::FirstProcess;
use super::{convert, process, tasks};
use crate::backend::{GuestCommand, GuestPipes, GuestProcess, ResolvedUser, TaskExit, TaskStatus};
use crate::error::{Error, ErrorKind, Result};
use async_trait::async_trait;
use containerd_client::services::v1::{
    CloseIoRequest, DeleteProcessRequest, ExecProcessRequest, GetContainerRequest, KillRequest,
    ResizePtyRequest, StartRequest, WaitRequest,
};
use prost_types::Any;
use rustix::fs::{CWD, FileType, Mode};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::time::Instant;

/// How containerd marks the part of a runtime specification that tells of a process.
const PROCESS_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// Of signal(7), the same on every architecture of Linux.
const SIGKILL: i32 = 9;

/// How long after a command's end its container's may be told, where that cannot be looked at.
const ORDER: Duration = Duration::from_millis(500);

/// A command that containerd has started.
struct Exec {
    client: Client,
    container: String,
    id: String,
    /// On the host; 0 when it is not told.
    host_pid: u32,
    pid: Option<i32>,
    /// The container's first process; none when it cannot be reached from here.
    first: Option<FirstProcess>,
    terminal: bool,
    pipes: PathBuf,
}

pub(super) async fn start(
    client: &Client,
    command: &GuestCommand,
) -> Result<(Box<dyn GuestProcess>, GuestPipes)> {
    let spec = process_spec(client, command).await?;
    let names = Names::of(command);
    let made = Pipes::make(&names);
    let (pipes, ours) = match made {
        Ok(made) => made,
        Err(error) => {
            names.remove();
            return Err(
                Error::io(error, "cannot make the pipes of a command").with("path", command.pipes.display())
            );
        }
    };
    let mut exec = Exec {
        client: client.clone(),
        container: command.container.clone(),
        id: command.id.clone(),
        host_pid: 0,
        pid: None,
        first: None,
        terminal: command.terminal.is_some(),
        pipes: command.pipes.clone(),
    };
    match exec.begin(command, &names, spec).await {
        Ok(()) => {
            // The shim has opened its ends by now: what was held so that none of them had to wait can go.
            drop(ours);
            names.remove();
            exec.first = exec.first_process().await;
            if let Some((cols, rows)) = command.terminal {
                // A program that has ended at once has no terminal any more.
                let _ = exec.resize(cols, rows).await;
            }
            Ok((Box::new(exec), pipes))
        }
        Err(error) => {
            names.remove();
            Err(error)
        }
    }
}

impl Exec {
    /// None when it is gone, too.
    async fn first_process(&self) -> Option<FirstProcess> {
        let task = tasks::get(&self.client, &self.container).await.ok().flatten()?;
        FirstProcess::hold(task.pid, &self.container)
    }

    async fn begin(&mut self, command: &GuestCommand, names: &Names, spec: Any) -> Result<()> {
        let text = |path: &Path| path.display().to_string();
        let request = self.client.request(ExecProcessRequest {
            container_id: self.container.clone(),
            exec_id: self.id.clone(),
            stdin: names.stdin.as_deref().map(text).unwrap_or_default(),
            stdout: text(&names.stdout),
            stderr: names.stderr.as_deref().map(text).unwrap_or_default(),
            terminal: command.terminal.is_some(),
            spec: Some(spec),
        });
        let mut service = self.client.tasks();
        let added = self.client.call("run a command", service.exec(request)).await;
        added.map_err(|e| not_running(e).with("container", &self.container))?;
        let request = self
            .client
            .request(StartRequest { container_id: self.container.clone(), exec_id: self.id.clone() });
        match self.client.call("run a command", service.start(request)).await {
            Ok(started) => {
                self.host_pid = started.pid;
                self.pid = inner_pid(started.pid);
                Ok(())
            }
            Err(error) => {
                // Nothing of it runs, but the shim remembers it.
                let _ = self.remove().await;
                Err(refused(error).with("container", &self.container))
            }
        }
    }
}

#[async_trait]
impl GuestProcess for Exec {
    fn pid(&self) -> Option<i32> {
        self.pid
    }

    async fn wait(&self) -> Result<TaskExit> {
        let mut patience = self.client.patience();
        loop {
            let request = WaitRequest { container_id: self.container.clone(), exec_id: self.id.clone() };
            let mut service = self.client.tasks();
            let waited =
                self.client.call_unbounded("wait for a command", service.wait(self.client.request(request)));
            match waited.await {
                Ok(reply) => return Ok(convert::task_exit(reply.exit_status, reply.exited_at)),
                Err(error) if patience.allows(&error).await => {}
                Err(error) => return Err(error.with("container", &self.container)),
            }
        }
    }

    async fn container_ends(&self) -> Result<bool> {
        if let Some(first) = &self.first {
            return Ok(first.ends());
        }
        // The daemon learns of the two ends in any order.
        let deadline = Instant::now() + ORDER;
        loop {
            let status = tasks::get(&self.client, &self.container).await?.map(|task| task.status);
            if !matches!(status, Some(TaskStatus::Running | TaskStatus::Paused)) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(ORDER / 20).await;
        }
    }

    async fn signal(&self, signal: i32) -> Result<()> {
        if process::signal_group(self.host_pid, &self.container, signal) {
            return Ok(());
        }
        let request = self.client.request(KillRequest {
            container_id: self.container.clone(),
            exec_id: self.id.clone(),
            signal: u32::try_from(signal).unwrap_or(SIGKILL.unsigned_abs()),
            all: false,
        });
        let mut service = self.client.tasks();
        match self.client.call("signal a command", service.kill(request)).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.with("container", &self.container)),
        }
    }

    async fn resize(&self, cols: u32, rows: u32) -> Result<()> {
        let request = self.client.request(ResizePtyRequest {
            container_id: self.container.clone(),
            exec_id: self.id.clone(),
            width: cols,
            height: rows,
        });
        let mut service = self.client.tasks();
        let resized = self.client.call("resize a terminal", service.resize_pty(request)).await;
        resized.map_err(|e| e.with("container", &self.container))
    }

    async fn close_stdin(&self) -> Result<()> {
        if self.terminal {
            return Ok(());
        }
        let request = self.client.request(CloseIoRequest {
            container_id: self.container.clone(),
            exec_id: self.id.clone(),
            stdin: true,
        });
        let mut service = self.client.tasks();
        match self.client.call("end a command's input", service.close_io(request)).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.with("container", &self.container)),
        }
    }

    async fn remove(&self) -> Result<()> {
        let request = self
            .client
            .request(DeleteProcessRequest { container_id: self.container.clone(), exec_id: self.id.clone() });
        let mut service = self.client.tasks();
        let removed = self.client.call("forget a command", service.delete_process(request)).await;
        // Empty by now, unless the command could not even be started.
        let _ = std::fs::remove_dir(&self.pipes);
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error.with("container", &self.container))
            }
            _ => Ok(()),
        }
    }
}

/// What the pipes are called.
struct Names {
    dir: PathBuf,
    stdin: Option<PathBuf>,
    stdout: PathBuf,
    stderr: Option<PathBuf>,
}

impl Names {
    fn of(command: &GuestCommand) -> Self {
        let dir = command.pipes.clone();
        let name = |name: &str| dir.join(name);
        Self {
            stdin: command.stdin.then(|| name("stdin")),
            stdout: name("stdout"),
            stderr: command.terminal.is_none().then(|| name("stderr")),
            dir,
        }
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.stdin.iter().chain([&self.stdout]).chain(&self.stderr)
    }

    /// Removes them: whoever has opened them needs their names no more.
    fn remove(&self) {
        for name in self.all() {
            let _ = std::fs::remove_file(name);
        }
        let _ = std::fs::remove_dir(&self.dir);
    }
}

struct Pipes;

impl Pipes {
    /// Makes them and opens the host's ends. The other ends that come back keep those from ending before the shim has
    /// opened its own.
    fn make(names: &Names) -> std::io::Result<(GuestPipes, Vec<pipe::Sender>)> {
        for name in names.all() {
            rustix::fs::mknodat(CWD, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        }
        let mut held = Vec::new();
        let mut reader = |name: &Path| -> std::io::Result<pipe::Receiver> {
            let receiver = pipe::OpenOptions::new().open_receiver(name)?;
            held.push(pipe::OpenOptions::new().open_sender(name)?);
            Ok(receiver)
        };
        let stdout = reader(&names.stdout)?;
        let stderr = names.stderr.as_deref().map(&mut reader).transpose()?;
        // For reading too: no reader is there yet, and the shim's may come late.
        let stdin =
            names.stdin.as_deref().map(|name| pipe::OpenOptions::new().read_write(true).open_sender(name));
        Ok((GuestPipes { stdin: stdin.transpose()?, stdout, stderr }, held))
    }
}

/// What the container's specification says of its first process, changed as the command wants it.
async fn process_spec(client: &Client, command: &GuestCommand) -> Result<Any> {
    let reply = client
        .read("read the container", || {
            let request = client.request(GetContainerRequest { id: command.container.clone() });
            let mut service = client.containers();
            async move { service.get(request).await }
        })
        .await
        .map_err(|e| e.with("container", &command.container))?;
    let spec = reply.container.and_then(|container| container.spec).unwrap_or_default();
    let spec: Value = serde_json::from_slice(&spec.value).unwrap_or_default();
    let Some(Value::Object(mut process)) = spec.get("process").cloned() else {
        return Err(Error::failed_precondition("the container's specification does not tell of its process")
            .with("container", &command.container));
    };
    adapt(&mut process, command);
    let value = serde_json::to_vec(&Value::Object(process))
        .map_err(|e| Error::unexpected("cannot write the specification of a process").caused_by(e))?;
    Ok(Any { type_url: PROCESS_URL.to_owned(), value })
}

fn adapt(process: &mut Map<String, Value>, command: &GuestCommand) {
    let mut set = |name: &str, value: Value| drop(process.insert(name.to_owned(), value));
    set("args", json!(command.args));
    set("terminal", json!(command.terminal.is_some()));
    if let Some((width, height)) = command.terminal {
        set("consoleSize", json!({"width": width, "height": height}));
    }
    if let Some(dir) = &command.work_dir {
        set("cwd", json!(dir));
    }
    if let Some(ResolvedUser { uid, gid, additional_gids }) = &command.user {
        set("user", json!({"uid": uid, "gid": gid, "additionalGids": additional_gids}));
    }
    let own: Vec<String> = match process.get("env") {
        Some(Value::Array(env)) if !command.env_clear => {
            env.iter().filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    process.insert("env".to_owned(), json!(environment(own, command)));
}

/// The first process's variables, less those that are unset, and with those that are set.
fn environment(own: Vec<String>, command: &GuestCommand) -> Vec<String> {
    let given = |name: &str| command.env.iter().any(|(other, _)| other == name);
    let mut env: Vec<String> = own
        .into_iter()
        .filter(|entry| {
            let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
            // Another user has another home, which the runtime looks up.
            let others = command.user.is_some() && name == "HOME";
            !others && !given(name) && !command.env_unset.iter().any(|unset| unset == name)
        })
        .collect();
    env.extend(command.env.iter().map(|(name, value)| format!("{name}={value}")));
    if command.terminal.is_some() && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm-256color".to_owned());
    }
    env
}

/// A process's id in the innermost namespace that it is in (`NSpid` of proc(5)).
fn inner_pid(pid: u32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// A container that does not run can run no command either.
fn not_running(error: Error) -> Error {
    let says = |words: &str| error.message().contains(words);
    if error.kind() == ErrorKind::NotFound || says("stopped") || says("not running") {
        return Error::unavailable("the workspace does not run: start it").caused_by(error);
    }
    error
}

/// Why a runtime could not start a command, from its own words.
fn refused(error: Error) -> Error {
    let says = |words: &str| error.message().contains(words);
    let (kind, what) = if says("chdir to cwd") {
        (ErrorKind::NotFound, "the working directory is not there, or may not be entered")
    } else if says("executable file not found") || says("no such file or directory") {
        (ErrorKind::NotFound, "there is no such program")
    } else if says("permission denied") {
        (ErrorKind::PermissionDenied, "the program may not be run")
    } else if says("exec format error") {
        (ErrorKind::FailedPrecondition, "the program is not for this machine")
    } else {
        return not_running(error);
    };
    Error::new(kind, what).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> GuestCommand {
        GuestCommand {
            container: "c".into(),
            id: "x".into(),
            args: vec!["ls".into()],
            env_clear: false,
            env_unset: vec![],
            env: vec![],
            work_dir: None,
            user: None,
            terminal: None,
            stdin: false,
            pipes: "/p".into(),
        }
    }

    #[test]
    fn a_command_differs_from_the_first_process_in_what_it_asks_for() {
        let spec = json!({"args": ["init"], "env": ["PATH=/bin", "A=1", "HOME=/root"], "cwd": "/srv",
            "user": {"uid": 5, "gid": 5}, "noNewPrivileges": true, "capabilities": {"bounding": ["CAP_KILL"]}});
        let adapted = |command: &GuestCommand| {
            let mut process = spec.as_object().unwrap().clone();
            adapt(&mut process, command);
            Value::Object(process)
        };
        let same = adapted(&command());
        assert_eq!(same["args"], json!(["ls"]));
        assert_eq!((&same["env"], &same["cwd"], &same["user"]), (&spec["env"], &spec["cwd"], &spec["user"]));
        assert_eq!(same["capabilities"], spec["capabilities"]);
        let other = adapted(&GuestCommand {
            env_unset: vec!["PATH".into()],
            env: vec![("A".into(), "2".into())],
            work_dir: Some("/tmp".into()),
            user: Some(ResolvedUser { uid: 7, gid: 8, additional_gids: vec![9] }),
            terminal: Some((80, 24)),
            ..command()
        });
        assert_eq!(other["env"], json!(["A=2", "TERM=xterm-256color"]));
        assert_eq!(other["user"], json!({"uid": 7, "gid": 8, "additionalGids": [9]}));
        assert_eq!((&other["cwd"], &other["terminal"]), (&json!("/tmp"), &json!(true)));
        let clear = adapted(&GuestCommand { env_clear: true, ..command() });
        assert_eq!(clear["env"], json!([]));
    }

    #[test]
    fn runtimes_words_become_kinds() {
        let kind = |text: &str| refused(Error::unexpected(text)).kind();
        assert_eq!(
            kind("OCI runtime exec failed: exec: \"nope\": executable file not found in $PATH: unknown"),
            ErrorKind::NotFound
        );
        assert_eq!(kind("chdir to cwd (\"/nope\") set in config.json failed"), ErrorKind::NotFound);
        assert_eq!(kind("exec: \"/etc/passwd\": permission denied"), ErrorKind::PermissionDenied);
        assert_eq!(kind("cannot exec in a stopped state"), ErrorKind::Unavailable);
        assert_eq!(kind("whatever"), ErrorKind::Unexpected);
    }

    #[test]
    fn this_process_has_an_id_inside() {
        assert_eq!(inner_pid(std::process::id()).map(i32::unsigned_abs), Some(std::process::id()));
        assert_eq!(inner_pid(u32::MAX), None);
    }
}

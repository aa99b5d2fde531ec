//! Tasks: a container's first process, made, started, signalled, awaited and removed.

use super::client::Client;
use super::{bundle, convert, process, snapshots};
use crate::backend::{Container, Task, TaskExit, TaskRoot, TaskStatus};
use crate::error::{Error, ErrorKind, Result};
use containerd_client::services::v1::{
    CreateTaskRequest, DeleteTaskRequest, GetRequest, KillRequest, ListTasksRequest, PauseTaskRequest,
    ResumeTaskRequest, StartRequest, WaitRequest,
};
use std::time::{Duration, Instant};

/// A wait that broke after less than this broke because the daemon is in trouble, not because it restarted.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// How long what a dead caller has left may be in the way of a new task, and how often it is looked at.
const LEFTOVERS: Duration = Duration::from_secs(10);
const BREATH: Duration = Duration::from_millis(50);

/// Of signal(7), the same on every architecture of Linux.
const SIGKILL: i32 = 9;

pub(super) async fn create(client: &Client, container: &Container) -> Result<Task> {
    let rootfs = snapshots::mounts(client, &container.snapshotter, &container.snapshot_key).await?;
    // With neither stdout nor stderr the shim makes no FIFOs: the agent speaks over its socket. One without the other
    // hangs containerd.
    let request =
        CreateTaskRequest { container_id: container.id.clone(), rootfs, ..CreateTaskRequest::default() };
    let call = async || {
        let mut service = client.tasks();
        let made = client.call("create the task", service.create(client.request(request.clone()))).await;
        made.map_err(|e| e.with("container", &container.id))
    };
    let deadline = Instant::now() + LEFTOVERS;
    let reply = loop {
        match call().await {
            Err(error) if in_the_way(&error) && Instant::now() < deadline => {
                if !clear(client, &container.id).await? {
                    return Err(error);
                }
                if !discard(client, &container.id, error).await? {
                    tokio::time::sleep(BREATH).await;
                }
            }
            other => break other?,
        }
    };
    check_id(&reply.container_id, &container.id)?;
    Ok(Task { container: container.id.clone(), pid: reply.pid, status: TaskStatus::Created, exit: None })
}

/// Whether a creation failed for what an earlier one or a deletion, cut short by the death of its caller or of the
/// daemon, has left: a task, or the directory of one that the daemon is taking back, by now or from under the new one,
/// whose shim then has nowhere to be, or to mount its root.
fn in_the_way(error: &Error) -> bool {
    let says = |words: &[&str]| words.iter().any(|words| error.message().contains(words));
    let directory =
        || says(&["io.containerd.runtime.v2.task/", "failed to mount rootfs component", "getwd: "]);
    let there_or_gone = || says(&["file exists", "no such file"]);
    error.kind() == ErrorKind::AlreadyExists || (directory() && there_or_gone())
}

/// Takes such a task away, as far as it goes now. False when it runs: then it is nobody's leftover.
///
/// One that was deleted half shows in no look; deleting it once more ends it.
async fn clear(client: &Client, container: &str) -> Result<bool> {
    match get(client, container).await?.map(|task| task.status) {
        Some(TaskStatus::Running | TaskStatus::Paused) => return Ok(false),
        Some(TaskStatus::Created) => drop(kill(client, container, SIGKILL, true).await?),
        _ => {}
    }
    match delete(client, container).await {
        // Its process is not gone yet.
        Err(error) if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => Ok(true),
        other => other.map(|_| true),
    }
}

/// Takes away the directory of a task that never came to be, if that is what the creation failed for.
async fn discard(client: &Client, container: &str, failure: Error) -> Result<bool> {
    if get(client, container).await?.is_some() {
        return Ok(false);
    }
    let (socket, namespace) = (client.address().to_owned(), client.namespace().to_owned());
    let container = container.to_owned();
    let look = move || bundle::discard(&failure, &socket, &namespace, &container);
    Ok(tokio::task::spawn_blocking(look).await.unwrap_or(false))
}

pub(super) async fn start(client: &Client, container: &str) -> Result<()> {
    let request = client.request(StartRequest { container_id: container.to_owned(), exec_id: String::new() });
    let mut service = client.tasks();
    client
        .call("start the task", service.start(request))
        .await
        .map(|_| ())
        .map_err(|e| e.with("container", container))
}

pub(super) async fn get(client: &Client, container: &str) -> Result<Option<Task>> {
    let reply = client
        .read("read the task", || {
            let request =
                client.request(GetRequest { container_id: container.to_owned(), exec_id: String::new() });
            let mut service = client.tasks();
            async move { service.get(request).await }
        })
        .await;
    match reply {
        Ok(reply) => {
            let Some(process) = reply.process else {
                return Err(Error::unexpected("cannot read the task: containerd's reply does not hold it")
                    .with("container", container));
            };
            let task = convert::task(process);
            check_id(&task.container, container)?;
            Ok(Some(task))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.with("container", container)),
    }
}

pub(super) async fn list(client: &Client) -> Result<Vec<Task>> {
    let reply = client
        .read("list tasks", || {
            let request = client.request(ListTasksRequest::default());
            let mut service = client.tasks();
            async move { service.list(request).await }
        })
        .await?;
    Ok(reply.tasks.into_iter().map(convert::task).collect())
}

pub(super) async fn kill(client: &Client, container: &str, signal: i32, all: bool) -> Result<bool> {
    let number = signal;
    let Some(signal) = u32::try_from(number).ok().filter(|signal| (1..=64).contains(signal)) else {
        return Err(Error::invalid_argument("malformed signal: use a number from 1 to 64")
            .with("signal", signal)
            .with("container", container));
    };
    // 1.6 says yes to a signal for all processes of a task that has ended. It has none left: they end with the first one.
    let Some(task) = get(client, container).await?.filter(|task| task.exit.is_none()) else {
        return Ok(false);
    };
    if !all
        && task.status == TaskStatus::Running
        && process::signal(task.pid, client.namespace(), container, number)
    {
        return Ok(true);
    }
    let request = client.request(KillRequest {
        container_id: container.to_owned(),
        exec_id: String::new(),
        signal,
        all,
    });
    let mut service = client.tasks();
    match client.call("signal the task", service.kill(request)).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        // runc's words for a process that ended between the look and the signal.
        Err(error) if error.message().contains("container not running") => Ok(false),
        Err(error) => Err(error.with("container", container)),
    }
}

pub(super) async fn pause(client: &Client, container: &str) -> Result<()> {
    let request = client.request(PauseTaskRequest { container_id: container.to_owned() });
    let mut service = client.tasks();
    let paused = client.call("freeze the task", service.pause(request)).await;
    paused.map_err(|e| e.with("container", container))
}

/// containerd says no to one that is not frozen, in words of its runtime's.
pub(super) async fn resume(client: &Client, container: &str) -> Result<()> {
    let request = client.request(ResumeTaskRequest { container_id: container.to_owned() });
    let mut service = client.tasks();
    let Err(error) = client.call("let the task go on", service.resume(request)).await else { return Ok(()) };
    let status = get(client, container).await?.map(|task| task.status);
    if status == Some(TaskStatus::Paused) { Err(error.with("container", container)) } else { Ok(()) }
}

pub(super) async fn root(client: &Client, container: &str) -> Result<TaskRoot> {
    let running = |task: &Task| matches!(task.status, TaskStatus::Running | TaskStatus::Paused);
    let stopped =
        || Error::failed_precondition("the workspace does not run: start it").with("container", container);
    let task = get(client, container).await?.filter(running).ok_or_else(stopped)?;
    match process::root(task.pid, container) {
        Some(root) => Ok(root),
        None if get(client, container).await?.is_some_and(|now| running(&now) && now.pid == task.pid) => {
            Err(Error::unsupported(
                "the workspace's processes cannot be seen from here: run in the host's PID namespace",
            )
            .with("container", container)
            .with("pid", task.pid))
        }
        None => Err(stopped()),
    }
}

/// Waits across restarts of the daemon: its shims go on without it, and it finds them again.
pub(super) async fn wait(client: &Client, container: &str) -> Result<TaskExit> {
    let mut patience = client.patience();
    loop {
        let begun = Instant::now();
        let request =
            client.request(WaitRequest { container_id: container.to_owned(), exec_id: String::new() });
        let mut service = client.tasks();
        let error = match client.call_unbounded("wait for the task", service.wait(request)).await {
            Ok(reply) => return Ok(convert::task_exit(reply.exit_status, reply.exited_at)),
            Err(error) => error,
        };
        if begun.elapsed() > SHORT_WAIT {
            patience = client.patience();
        }
        if !patience.allows(&error).await {
            return Err(error.with("container", container));
        }
    }
}

pub(super) async fn delete(client: &Client, container: &str) -> Result<Option<TaskExit>> {
    let request = client.request(DeleteTaskRequest { container_id: container.to_owned() });
    let mut service = client.tasks();
    match client.call("delete the task", service.delete(request)).await {
        Ok(reply) => Ok(Some(convert::task_exit(reply.exit_status, reply.exited_at))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.with("container", container)),
    }
}

/// Another container's task was once returned for this one; acting on it would stop the wrong workspace.
fn check_id(replied: &str, asked: &str) -> Result<()> {
    if replied == asked {
        return Ok(());
    }
    Err(Error::unexpected("containerd replied with the task of another container; please report it")
        .with("container", asked)
        .with("replied", replied))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restart_leaves_is_told_from_what_is_wrong() {
        let failed = |message: &str| in_the_way(&Error::failed_precondition(message));
        for left in [
            "cannot create the task: mkdir /run/containerd/io.containerd.runtime.v2.task/ns/a: file exists",
            "cannot create the task: open /run/containerd/io.containerd.runtime.v2.task/ns/a/config.json: no such file or directory",
            "cannot create the task: failed to create shim task: failed to mount rootfs component &{overlay overlay []}: no such file or directory: unknown",
            "cannot create the task: failed to start shim: start failed: io.containerd.runc.v2: getwd: no such file or directory: exit status 1",
        ] {
            assert!(failed(left), "{left}");
        }
        for wrong in [
            "cannot create the task: exec: \"/opt/memoh/bridge\": stat /opt/memoh/bridge: no such file or directory: unknown",
            "cannot create the task: failed to mount rootfs component &{overlay overlay []}: invalid argument",
        ] {
            assert!(!failed(wrong), "{wrong}");
        }
        assert!(in_the_way(&Error::already_exists("task a: already exists")));
    }
}

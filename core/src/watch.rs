//! What all tasks do, kept up to date by what the backend tells: asking for a hundred takes the backend as many calls.

use crate::backend::{Backend, Task, TaskChange, TaskEvent, TaskStatus};
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a broken watch waits before it is set up again: the first time, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Follows the tasks of a backend in a background task, until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct TaskWatch {
    table: Table,
    follower: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    _stopped_with_this: DropGuard,
}

/// The tasks by container; none while they are not followed.
type Table = Arc<Mutex<Option<HashMap<String, Task>>>>;

impl TaskWatch {
    /// Begins to follow. Must be called in a tokio runtime.
    pub(crate) fn start(backend: Arc<dyn Backend>) -> Self {
        let table = Table::default();
        let stop = CancellationToken::new();
        let follower = tokio::spawn({
            let (table, stop) = (table.clone(), stop.clone());
            async move {
                stop.run_until_cancelled(follow(backend.as_ref(), &table)).await;
                *lock(&table) = None;
            }
        });
        Self {
            table,
            follower: Mutex::new(Some(follower)),
            _stopped_with_this: stop.clone().drop_guard(),
            stop,
        }
    }

    /// The tasks by container, as far as they are known here; none while they are not followed.
    ///
    /// What is told may come late, so this may lag behind by moments: a task that is missing here, or does not run, may
    /// have been started by another process just now.
    pub(crate) fn tasks(&self) -> Option<HashMap<String, Task>> {
        lock(&self.table).clone()
    }

    /// Stops to follow, and waits until nothing of it runs.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let follower = lock(&self.follower).take();
        if let Some(follower) = follower {
            // It ends by itself, or with a panic that has been reported.
            let _ = follower.await;
        }
    }
}

/// Follows, again after every break.
async fn follow(backend: &dyn Backend, table: &Table) {
    let mut pause = FIRST_PAUSE;
    loop {
        // What happens while the list is read is in the stream: applied after it, nothing is missed.
        let begun = match backend.watch().await {
            Ok(events) => backend.tasks().await.map(|tasks| (events, tasks)),
            Err(error) => Err(error),
        };
        match begun {
            Ok((mut events, tasks)) => {
                pause = FIRST_PAUSE;
                *lock(table) = Some(tasks.into_iter().map(|task| (task.container.clone(), task)).collect());
                while let Some(event) = events.next().await {
                    if let Some(tasks) = lock(table).as_mut() {
                        apply(tasks, event);
                    }
                }
                *lock(table) = None;
            }
            Err(error) => tracing::debug!(%error, "the tasks cannot be followed now"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Writes down what an event tells. One that is older than what is known of the same process changes nothing.
fn apply(tasks: &mut HashMap<String, Task>, event: TaskEvent) {
    let TaskEvent { container, pid, change } = event;
    let known = tasks.get_mut(&container);
    let same = known.as_ref().is_some_and(|task| task.pid == pid);
    match (change, known) {
        (TaskChange::Created, _) if !same => {
            let task = Task { container: container.clone(), pid, status: TaskStatus::Created, exit: None };
            tasks.insert(container, task);
        }
        (TaskChange::Started, Some(task)) if same && task.status == TaskStatus::Created => {
            task.status = TaskStatus::Running;
        }
        // The creation was told before the watch began.
        (TaskChange::Started, None) => {
            let task = Task { container: container.clone(), pid, status: TaskStatus::Running, exit: None };
            tasks.insert(container, task);
        }
        (TaskChange::Paused, Some(task)) if task.exit.is_none() => task.status = TaskStatus::Paused,
        (TaskChange::Resumed, Some(task)) if task.status == TaskStatus::Paused => {
            task.status = TaskStatus::Running;
        }
        (TaskChange::Exited(exit), Some(task)) if same => {
            task.status = TaskStatus::Stopped;
            task.exit = Some(exit);
        }
        (TaskChange::Deleted, Some(_)) if same => {
            tasks.remove(&container);
        }
        _ => {}
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::TaskExit;
    use jiff::Timestamp;

    fn told(changes: &[(u32, TaskChange)]) -> Option<(u32, TaskStatus)> {
        let mut tasks = HashMap::new();
        for (pid, change) in changes {
            apply(&mut tasks, TaskEvent { container: "c".to_owned(), pid: *pid, change: *change });
        }
        tasks.get("c").map(|task| (task.pid, task.status))
    }

    fn exited() -> TaskChange {
        TaskChange::Exited(TaskExit { code: 0, at: Timestamp::UNIX_EPOCH })
    }

    #[test]
    fn a_life_is_followed() {
        use TaskChange::{Created, Deleted, OutOfMemory, Paused, Resumed, Started};
        let life = [
            (7, Created, Some((7, TaskStatus::Created))),
            (7, Started, Some((7, TaskStatus::Running))),
            (0, OutOfMemory, Some((7, TaskStatus::Running))),
            (0, Paused, Some((7, TaskStatus::Paused))),
            (0, Resumed, Some((7, TaskStatus::Running))),
            (7, exited(), Some((7, TaskStatus::Stopped))),
            (7, Deleted, None),
            (8, Created, Some((8, TaskStatus::Created))),
        ];
        for end in 1..=life.len() {
            let changes: Vec<_> = life[..end].iter().map(|(pid, change, _)| (*pid, *change)).collect();
            assert_eq!(told(&changes), life[end - 1].2, "{changes:?}");
        }
    }

    #[test]
    fn what_comes_late_changes_nothing() {
        use TaskChange::{Created, Deleted, Paused, Started};
        // Of the same process, and of the one before it.
        let running = [(7, Created), (7, Started)];
        for late in [(7, Created), (7, Started), (6, exited()), (6, Deleted)] {
            assert_eq!(told(&[running[0], running[1], late]), Some((7, TaskStatus::Running)), "{late:?}");
        }
        for late in [(7, Created), (7, Started), (0, Paused)] {
            let over = [running[0], running[1], (7, exited()), late];
            assert_eq!(told(&over), Some((7, TaskStatus::Stopped)), "{late:?}");
        }
        assert_eq!(told(&[(7, exited())]), None);
        assert_eq!(told(&[(7, Started)]), Some((7, TaskStatus::Running)));
    }
}

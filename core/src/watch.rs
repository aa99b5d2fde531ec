//! What all containers and tasks are, kept up to date by what the backend tells: asking for a hundred takes it as many looks.

use crate::backend::{
    Backend, BackendEvent, Container, ContainerFilter, Task, TaskChange, TaskEvent, TaskExit, TaskStatus,
};
use crate::error::{Error, Result};
use futures::StreamExt;
use futures::stream::{self, BoxStream, TryStreamExt};
use jiff::Timestamp;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a broken watch waits before it is set up again: the first time, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How long a mark may take to come back before the backend is asked itself.
const MARK_LIMIT: Duration = Duration::from_millis(500);

/// How many containers may have changed unread. Where nobody looks, changes would gather without end: beyond this many the
/// watch begins anew, which reads them all at once.
const MOST_CHANGED: usize = 1000;

/// How a process ends that SIGKILL has ended (signal(7)): 128 and the signal's number.
const KILLED: u32 = 128 + 9;

/// How many containers are asked for at a time.
const AT_ONCE: usize = 8;

/// Follows containers and tasks of a backend in a background task, until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    followed: Followed,
    /// Which containers are kept.
    filters: Arc<[ContainerFilter]>,
    /// Held while what has changed is read: an older answer must not replace a newer one.
    refreshing: tokio::sync::Mutex<()>,
    follower: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    _stopped_with_this: DropGuard,
}

/// Containers and tasks, by the container's id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) containers: HashMap<String, Container>,
    /// As far as they are known here, which may be moments ago: a task that is missing, or does not run, may have been
    /// started by another process just now.
    pub(crate) tasks: HashMap<String, Task>,
}

/// What became of a container's processes, for those who tell of it. The same may be told again, above all after a break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TaskEnd {
    /// The first process has ended.
    Exited {
        container: String,
        pid: u32,
        exit: TaskExit,
        /// Whether it was killed after some process of the container was, for want of memory, since it began; the order of the
        /// two is not certain, so that it may have been so also where this is false.
        out_of_memory: bool,
    },
    /// Some process was killed for want of memory.
    OutOfMemory { container: String, at: Timestamp },
}

/// Where ends are told.
pub(crate) type Ends = mpsc::UnboundedSender<TaskEnd>;

/// What the follower writes down; none while it does not follow.
type Followed = Arc<Mutex<Option<State>>>;

#[derive(Debug)]
struct State {
    /// Which of several watches, one after the other, this is from.
    watch: u64,
    known: Known,
    /// The containers that have changed since they were read, each with the number of its last change.
    changed: HashMap<String, u64>,
    changes: u64,
    /// Who waits for which mark.
    marks: HashMap<String, oneshot::Sender<()>>,
    /// The containers of which some process was killed for want of memory, since their tasks were made.
    starved: HashSet<String>,
}

impl Watch {
    /// Begins to follow the tasks and those containers that any of the filters lets through, and to tell of the ends of
    /// these containers' processes. Must be called in a tokio runtime.
    pub(crate) fn start(backend: Arc<dyn Backend>, filters: Vec<ContainerFilter>, ends: Ends) -> Self {
        let followed = Followed::default();
        let filters: Arc<[ContainerFilter]> = filters.into();
        let stop = CancellationToken::new();
        let follower = tokio::spawn({
            let (followed, filters, stop) = (followed.clone(), filters.clone(), stop.clone());
            async move {
                stop.run_until_cancelled(follow(backend.as_ref(), &filters, &followed, &ends)).await;
                *lock(&followed) = None;
            }
        });
        Self {
            followed,
            filters,
            refreshing: tokio::sync::Mutex::default(),
            follower: Mutex::new(Some(follower)),
            _stopped_with_this: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Containers and tasks as they are now: every change of a container that was complete before this call is seen. None
    /// while nothing is followed; then the backend itself is to be asked.
    ///
    /// # Errors
    /// Those of reading a container.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn look(&self, backend: &dyn Backend) -> Result<Option<Known>> {
        // Before the lock: a daemon that does not answer must not make those who look wait one after another.
        if !self.caught_up(backend).await {
            return Ok(None);
        }
        let _alone = self.refreshing.lock().await;
        let Some((watch, changed)) =
            lock(&self.followed).as_ref().map(|state| (state.watch, state.changed.clone()))
        else {
            return Ok(None);
        };
        let read = changed.into_iter().map(|(id, change)| async move {
            let container = backend.container(&id).await?;
            Ok::<_, Error>((id, change, container))
        });
        let read: Vec<_> = stream::iter(read).buffer_unordered(AT_ONCE).try_collect().await?;
        let mut followed = lock(&self.followed);
        let Some(state) = followed.as_mut().filter(|state| state.watch == watch) else { return Ok(None) };
        for (id, change, container) in read {
            // One that has changed again while it was read is read once more by the next look.
            if state.changed.get(&id) == Some(&change) {
                state.changed.remove(&id);
            }
            let container = container.filter(|c| self.filters.iter().any(|filter| filter.passes(c)));
            match container {
                Some(container) => state.known.containers.insert(id, container),
                None => state.known.containers.remove(&id),
            };
        }
        Ok(Some(state.known.clone()))
    }

    /// Waits until all that was complete before this call has been told. False when that cannot be known.
    async fn caught_up(&self, backend: &dyn Backend) -> bool {
        let mark = uuid::Uuid::now_v7().to_string();
        let (tell, told) = oneshot::channel();
        match lock(&self.followed).as_mut() {
            Some(state) => state.marks.insert(mark.clone(), tell),
            None => return false,
        };
        let told = async {
            backend.mark(&mark).await.map_err(drop)?;
            told.await.map_err(drop)
        };
        let caught_up = matches!(tokio::time::timeout(MARK_LIMIT, told).await, Ok(Ok(())));
        if let Some(state) = lock(&self.followed).as_mut() {
            state.marks.remove(&mark);
        }
        caught_up
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
async fn follow(backend: &dyn Backend, filters: &[ContainerFilter], followed: &Followed, ends: &Ends) {
    let mut pause = FIRST_PAUSE;
    for watch in 0.. {
        match begin(backend, filters, watch).await {
            Ok((mut events, state)) => {
                pause = FIRST_PAUSE;
                for end in state.ends() {
                    // Who listened may have gone.
                    let _ = ends.send(end);
                }
                *lock(followed) = Some(state);
                while let Some(event) = events.next().await {
                    if let Some(state) = lock(followed).as_mut() {
                        if let Some(end) = state.end(&event) {
                            let _ = ends.send(end);
                        }
                        state.apply(event);
                        if state.changed.len() > MOST_CHANGED {
                            break;
                        }
                    }
                }
                *lock(followed) = None;
            }
            Err(error) => tracing::debug!(%error, "containers and tasks cannot be followed now"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Sets a watch, and reads what there is. What happens meanwhile is in the stream: applied afterwards, nothing is missed.
async fn begin(
    backend: &dyn Backend,
    filters: &[ContainerFilter],
    watch: u64,
) -> Result<(BoxStream<'static, BackendEvent>, State)> {
    let events = backend.watch().await?;
    let (containers, tasks) = tokio::try_join!(backend.containers(filters), backend.tasks())?;
    let known = Known {
        containers: containers.into_iter().map(|container| (container.id.clone(), container)).collect(),
        tasks: tasks.into_iter().map(|task| (task.container.clone(), task)).collect(),
    };
    let state = State {
        watch,
        known,
        changed: HashMap::new(),
        changes: 0,
        marks: HashMap::new(),
        starved: HashSet::new(),
    };
    Ok((events, state))
}

impl State {
    /// The ends that were there before the watch.
    fn ends(&self) -> Vec<TaskEnd> {
        let of_ours = self.known.tasks.values().filter(|task| self.is_ours(&task.container));
        let end = |task: &Task| {
            let exit = task.exit?;
            let container = task.container.clone();
            Some(TaskEnd::Exited { container, pid: task.pid, exit, out_of_memory: false })
        };
        of_ours.filter_map(end).collect()
    }

    /// The end that an event tells, if it is one of a process that ran in one of our containers.
    fn end(&self, event: &BackendEvent) -> Option<TaskEnd> {
        let BackendEvent::Task(TaskEvent { container, pid, change }) = event else { return None };
        if !self.is_ours(container) {
            return None;
        }
        match *change {
            TaskChange::Exited(exit) => {
                let task = self.known.tasks.get(container).filter(|task| task.pid == *pid);
                // One that was made and never let go has not run.
                let ran = task.is_none_or(|task| task.status != TaskStatus::Created);
                let out_of_memory = exit.code == KILLED && self.starved.contains(container);
                ran.then(|| TaskEnd::Exited { container: container.clone(), pid: *pid, exit, out_of_memory })
            }
            TaskChange::OutOfMemory(at) => Some(TaskEnd::OutOfMemory { container: container.clone(), at }),
            _ => None,
        }
    }

    /// Whether a container may be one of those that are followed: a record that has changed is not read yet.
    fn is_ours(&self, container: &str) -> bool {
        self.known.containers.contains_key(container) || self.changed.contains_key(container)
    }

    fn apply(&mut self, event: BackendEvent) {
        match event {
            BackendEvent::Task(event) => {
                match event.change {
                    TaskChange::OutOfMemory(_) if self.is_ours(&event.container) => {
                        self.starved.insert(event.container.clone());
                    }
                    TaskChange::Created | TaskChange::Deleted => {
                        self.starved.remove(&event.container);
                    }
                    _ => {}
                }
                apply(&mut self.known.tasks, event);
            }
            BackendEvent::Container(id) => {
                self.changes += 1;
                self.changed.insert(id, self.changes);
            }
            BackendEvent::Mark(mark) => {
                if let Some(waits) = self.marks.remove(&mark) {
                    // Who waited may have gone.
                    let _ = waits.send(());
                }
            }
        }
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
    use crate::backend::NetworkNamespace;
    use crate::backend::fake::FakeBackend;

    fn container(id: String) -> Container {
        Container {
            id,
            image: "docker.io/library/x:1".to_owned(),
            snapshotter: "overlayfs".to_owned(),
            snapshot_key: String::new(),
            labels: Default::default(),
            mounts: Vec::new(),
            network: NetworkNamespace::Host,
            user: Default::default(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    /// A watch that stands, on a backend in memory.
    async fn watched() -> (Arc<FakeBackend>, Watch) {
        let fake = Arc::new(FakeBackend::new());
        let watch = Watch::start(fake.clone(), vec![ContainerFilter::default()], mpsc::unbounded_channel().0);
        seen(&watch, &fake).await;
        (fake, watch)
    }

    /// How many containers a watch shows, once it stands.
    async fn seen(watch: &Watch, fake: &FakeBackend) -> usize {
        loop {
            match watch.look(fake).await.unwrap() {
                Some(known) => return known.containers.len(),
                None => tokio::task::yield_now().await,
            }
        }
    }

    #[tokio::test]
    async fn changes_that_nobody_looks_at_do_not_gather() {
        let (fake, watch) = watched().await;
        for number in 0..2 * MOST_CHANGED {
            fake.adopt(container(format!("c{number}")));
        }
        // They are told with the next mark.
        fake.mark("told").await.unwrap();
        while watches_so_far(&fake) < 2 {
            let unread = lock(&watch.followed).as_ref().map_or(0, |state| state.changed.len());
            assert!(unread <= MOST_CHANGED + 1, "{unread}");
            tokio::time::sleep(FIRST_PAUSE).await;
        }
        assert_eq!(seen(&watch, &fake).await, 2 * MOST_CHANGED);
        watch.stop().await;
    }

    fn watches_so_far(fake: &FakeBackend) -> usize {
        fake.calls().iter().filter(|call| call.starts_with("watch")).count()
    }

    #[tokio::test]
    async fn nobody_waits_for_the_mark_of_another() {
        let (fake, watch) = watched().await;
        // Somebody else reads what has changed; the mark of this look is set all the same.
        let reading = watch.refreshing.lock().await;
        let mut gate = fake.hold("mark");
        let both = async {
            tokio::join!(watch.look(fake.as_ref()), async {
                gate.reached().await;
                gate.open();
                drop(reading);
            })
        };
        let (known, ()) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
        assert!(known.is_ok());
        watch.stop().await;
    }

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
            (0, OutOfMemory(Timestamp::UNIX_EPOCH), Some((7, TaskStatus::Running))),
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
    fn an_end_for_want_of_memory_is_told_as_one() {
        use TaskChange::{Created, Exited, OutOfMemory, Started};
        let killed = |code| Exited(TaskExit { code, at: Timestamp::UNIX_EPOCH });
        let starved = OutOfMemory(Timestamp::UNIX_EPOCH);
        for (life, wanted) in [
            (vec![Created, Started, starved, killed(137)], true),
            // Somebody else's process was killed, and this one ended by itself.
            (vec![Created, Started, starved, killed(1)], false),
            (vec![Created, Started, killed(137)], false),
            // It was in another life.
            (vec![Created, starved, Created, Started, killed(137)], false),
        ] {
            let mut state = State {
                watch: 1,
                known: Known::default(),
                changed: HashMap::from([("c".to_owned(), 1)]),
                changes: 1,
                marks: HashMap::new(),
                starved: HashSet::new(),
            };
            let mut told = None;
            for change in life.iter().copied() {
                let event = BackendEvent::Task(TaskEvent { container: "c".to_owned(), pid: 7, change });
                if let Some(TaskEnd::Exited { out_of_memory, .. }) = state.end(&event) {
                    told = Some(out_of_memory);
                }
                state.apply(event);
            }
            assert_eq!(told, Some(wanted), "{life:?}");
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

//! The lifecycle on the backend in memory: every call fails once, every reply is lost once, and the backend dies at every point.

use crate::backend::fake::{FakeBackend, FakeImage};
use crate::backend::{Container, NetworkNamespace};
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::operation::OperationStatus;
use crate::types::{
    CreateOptions, EventType, NetworkMode, PullPolicy, StartOutcome, StopOptions, StopOutcome,
    WorkspaceStatus,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::wrappers::UnixListenerStream;

const SNAPSHOTTER: &str = "overlayfs";

/// An engine on the backend in memory, with something that answers like an agent in every workspace.
pub(super) struct Bench {
    pub(super) fake: Arc<FakeBackend>,
    pub(super) dir: tempfile::TempDir,
    agents: tokio::task::JoinHandle<()>,
    /// From how many layers on a line is made short.
    pub(super) flatten_at: u32,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.agents.abort();
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::in_dir(tempfile::tempdir().unwrap())
    }

    /// One whose files are in memory, where there is such a place: for tests of many writes.
    pub(super) fn in_memory() -> Self {
        Self::in_dir(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn in_dir(dir: tempfile::TempDir) -> Self {
        std::fs::create_dir(dir.path().join("runtime")).unwrap();
        std::fs::write(dir.path().join("runtime/bridge"), "").unwrap();
        let run = dir.path().join("data/run");
        let agents = tokio::spawn(answer_everywhere(run));
        Self { fake: Arc::new(FakeBackend::new()), dir, agents, flatten_at: Config::default().flatten_at }
    }

    fn config(&self) -> Config {
        let mut config = Config::default()
            .data_root(self.dir.path().join("data"))
            .runtime_dir(self.dir.path().join("runtime"));
        config.flatten_at = self.flatten_at;
        config.network.mode = NetworkMode::None;
        config.time_limits.ready_ms = 3_000;
        config.time_limits.stop_ms = 200;
        config.time_limits.settle_ms = 1;
        config
    }

    pub(super) async fn engine(&self) -> Engine {
        Engine::assemble(self.config(), self.fake.clone()).await.unwrap()
    }

    /// An engine on the same backend with a data root of its own, always a new one.
    async fn other_engine(&self) -> Engine {
        let root = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        Engine::assemble(self.config().data_root(root), self.fake.clone()).await.unwrap()
    }

    /// Removes the database, as somebody may who has run out of space or patience. No engine may be open.
    pub(super) fn lose_database(&self) {
        for file in ["dunnage.db", "dunnage.db-wal", "dunnage.db-shm"] {
            let _ = std::fs::remove_file(self.dir.path().join("data").join(file));
        }
    }

    /// What of workspaces is left: containers' calls aside, the keys of writable snapshots.
    pub(super) fn active_snapshots(&self) -> Vec<String> {
        let keys = self.fake.snapshot_keys(SNAPSHOTTER);
        keys.into_iter().filter(|key| key.contains("-active-")).collect()
    }
}

/// Serves a gRPC server that has no service on the socket of every workspace that has a directory: to a client, an agent that is old.
async fn answer_everywhere(run: std::path::PathBuf) {
    loop {
        for entry in std::fs::read_dir(&run).into_iter().flatten().flatten() {
            let socket = entry.path().join("bridge.sock");
            if socket.exists() || !entry.path().is_dir() {
                continue;
            }
            if let Ok(listener) = tokio::net::UnixListener::bind(&socket) {
                let deaf = tower::service_fn(async |_: http::Request<tonic::body::Body>| {
                    let answer =
                        tonic::Status::unimplemented("an old agent").into_http::<tonic::body::Body>();
                    Ok::<_, std::convert::Infallible>(answer)
                });
                let server = tonic::transport::Server::builder();
                tokio::spawn(async move {
                    server.serve_with_incoming(deaf, UnixListenerStream::new(listener)).await
                });
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn stopped() -> CreateOptions {
    CreateOptions::default().start(false)
}

#[tokio::test]
async fn a_workspace_lives_its_whole_life() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let workspace = engine.workspace("a").unwrap();

    let mut create = workspace.create(CreateOptions::default());
    let mut kinds = Vec::new();
    let mut events = create.events().unwrap();
    while let Some(event) = events.next().await {
        assert_eq!(event.operation_id, create.id());
        kinds.push(event.kind);
    }
    let created = create.await.unwrap();
    assert!(created.created && created.started);
    kinds.dedup();
    use EventType::*;
    assert_eq!(kinds, [Pulling, PullProgress, Creating, Starting, Complete]);

    let again = workspace.create(CreateOptions::default().image("other:1")).await.unwrap();
    assert!(!again.created && again.started);
    assert_eq!(again.image, created.image, "an existing workspace is left as it is");

    let info = workspace.info().await.unwrap();
    assert_eq!((info.status, info.task_running), (WorkspaceStatus::Running, true));
    assert_eq!(info.labels["memoh.bot_id"], "a");
    let start = workspace.start(Default::default()).await.unwrap();
    assert_eq!(start.outcome, StartOutcome::AlreadyRunning);

    assert_eq!(workspace.stop(Default::default()).await.unwrap().outcome, StopOutcome::Stopped);
    assert_eq!(workspace.stop(Default::default()).await.unwrap().outcome, StopOutcome::NotRunning);
    let snapshots = bench.active_snapshots();
    assert_eq!(workspace.start(Default::default()).await.unwrap().outcome, StartOutcome::Started);
    assert_eq!(bench.active_snapshots(), snapshots, "the data is the same");

    assert!(workspace.delete(Default::default()).await.unwrap().deleted);
    assert!(!workspace.delete(Default::default()).await.unwrap().deleted);
    assert_eq!(workspace.info().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(bench.active_snapshots().is_empty());
    assert!(!bench.dir.path().join("data/run/a").exists());
}

#[tokio::test]
async fn sigkill_comes_after_the_grace() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let workspace = engine.workspace("a").unwrap();
    workspace.create(CreateOptions::default()).await.unwrap();
    bench.fake.heed_sigterm(false);
    let stop = workspace.stop(StopOptions::default().grace_ms(20u64)).await.unwrap();
    assert_eq!(stop.outcome, StopOutcome::Killed);
}

#[tokio::test]
async fn a_missing_container_is_rebuilt_with_its_options() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let workspace = engine.workspace("a").unwrap();
    assert_eq!(workspace.start(Default::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
    let options = CreateOptions::default().hostname("kept");
    let created = workspace.create(options).await.unwrap();
    // Somebody else removes the container and its task.
    bench.fake.reboot();
    let backend: &dyn crate::backend::Backend = &*bench.fake;
    backend.delete_container(&created.container_id).await.unwrap();
    let started = workspace.ensure_running(Default::default()).await.unwrap();
    assert_eq!(started.outcome, StartOutcome::Rebuilt);
    assert_eq!(bench.fake.made(&created.container_id).unwrap().hostname, "kept");
}

#[tokio::test]
async fn a_failed_call_anywhere_is_undone() {
    for start in [false, true] {
        let mut failures = 0;
        for calls in 0.. {
            let bench = Bench::in_memory();
            let engine = bench.engine().await;
            let workspace = engine.workspace("a").unwrap();
            bench.fake.fail_after(calls);
            let result = workspace.create(CreateOptions::default().start(start)).await;
            bench.fake.revive();
            let journal = engine.inner.store.unfinished_workspaces().await.unwrap();
            match result {
                Err(error) => {
                    failures += 1;
                    // A fault after the record was written leaves a whole workspace behind a failed reply.
                    if workspace.info().await.is_err() {
                        assert!(bench.active_snapshots().is_empty(), "call {calls}: {error}");
                    }
                }
                Ok(_) => {
                    let expected = if start { 8 } else { 6 };
                    assert!(failures >= expected, "only {failures} calls were seen to fail");
                    break;
                }
            }
            assert!(journal.is_empty(), "call {calls} left the journal open");
            let again = workspace.create(CreateOptions::default().start(start)).await.unwrap();
            assert_eq!(again.started, start, "call {calls}");
        }
    }
}

#[tokio::test]
async fn a_backend_that_dies_anywhere_is_recovered_from() {
    for (deleting, lost) in [(false, false), (false, true), (true, false), (true, true)] {
        for calls in 0.. {
            let bench = Bench::in_memory();
            let engine = bench.engine().await;
            let workspace = engine.workspace("a").unwrap();
            if deleting {
                workspace.create(stopped()).await.unwrap();
            }
            bench.fake.die_after(calls);
            let result: Result<(), Error> = if deleting {
                workspace.delete(Default::default()).await.map(drop)
            } else {
                workspace.create(stopped()).await.map(drop)
            };
            engine.close().await;
            bench.fake.revive();
            if lost {
                bench.lose_database();
            }
            if result.is_ok() {
                assert!(calls >= 4, "only {calls} deaths were seen");
                break;
            }
            // A new process: opening recovers.
            let engine = bench.engine().await;
            assert!(
                engine.inner.store.unfinished_workspaces().await.unwrap().is_empty(),
                "after {calls} calls"
            );
            let workspace = engine.workspace("a").unwrap();
            match workspace.info().await {
                Ok(info) => assert_eq!(bench.active_snapshots(), [info.snapshot_key], "after {calls} calls"),
                Err(_) => assert!(bench.active_snapshots().is_empty(), "after {calls} calls"),
            }
            assert!(workspace.create(stopped()).await.is_ok());
            workspace.delete(Default::default()).await.unwrap();
            assert!(bench.active_snapshots().is_empty());
        }
    }
}

#[tokio::test]
async fn a_new_data_root_leaves_others_alone() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let workspace = engine.workspace("a").unwrap();
    // Held where the snapshot is there and the container is not, and where the deletion is marked and not done.
    let mut gate = bench.fake.hold("create_container");
    let create = workspace.create(stopped());
    gate.reached().await;
    let other = bench.other_engine().await;
    gate.open();
    create.await.unwrap();
    let key = workspace.info().await.unwrap().snapshot_key;
    assert_eq!(bench.active_snapshots(), [key]);
    let mut gate = bench.fake.hold("remove_snapshot");
    let delete = workspace.delete(Default::default());
    gate.reached().await;
    other.close().await;
    let other = bench.other_engine().await;
    assert_eq!(bench.active_snapshots().len(), 1, "it is for the one who has begun to remove it");
    gate.open();
    assert!(delete.await.unwrap().deleted);
    other.close().await;
}

#[tokio::test]
async fn a_lost_reply_leaves_nothing_behind() {
    for method in ["prepare_snapshot", "create_container", "create_task", "start_task"] {
        let bench = Bench::new();
        let engine = bench.engine().await;
        let workspace = engine.workspace("a").unwrap();
        bench.fake.lose_reply(method);
        let error = workspace.create(CreateOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{method}");
        assert!(bench.active_snapshots().is_empty(), "{method}");
        assert_eq!(workspace.info().await.unwrap_err().kind(), ErrorKind::NotFound, "{method}");
    }
}

#[tokio::test]
async fn cancelling_undoes_and_tells() {
    for method in ["pull", "prepare_snapshot", "create_container", "create_task"] {
        let bench = Bench::new();
        let engine = bench.engine().await;
        let workspace = engine.workspace("a").unwrap();
        let gate = bench.fake.hold(method);
        let mut create = workspace.create(CreateOptions::default());
        let events = create.events().unwrap();
        let reached = async {
            while !bench.fake.calls().iter().any(|call| call.starts_with(method)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), reached).await.expect(method);
        assert_eq!(create.status(), OperationStatus::Running);
        create.cancel();
        gate.open();
        let error = create.await.expect_err(method);
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{method}: {error}");
        assert!(bench.active_snapshots().is_empty(), "{method}");
        let kinds: Vec<_> = futures::StreamExt::collect::<Vec<_>>(events).await;
        let terminal = kinds.iter().filter(|event| event.kind.is_terminal()).count();
        assert_eq!((terminal, kinds.last().unwrap().code.as_deref()), (1, Some("CANCELLED")), "{method}");
    }
}

#[tokio::test]
async fn a_pull_that_never_begins_names_its_image() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let image = |error: &Error| error.context().find(|(key, _)| *key == "image").map(|(_, v)| v.to_owned());
    let options = || crate::types::PullOptions::default().image("fixtures/none");
    // Nothing of it has run yet: this test and the engine share one thread.
    let pull = engine.image().pull(options());
    pull.cancel();
    let error = pull.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert_eq!(image(&error).as_deref(), Some("docker.io/fixtures/none:latest"), "{error}");
    assert!(!bench.fake.calls().iter().any(|call| call.starts_with("pull")), "{:?}", bench.fake.calls());
    engine.close().await;
    let error = engine.image().pull(options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert_eq!(image(&error).as_deref(), Some("docker.io/fixtures/none:latest"), "{error}");
}

#[tokio::test]
async fn closing_cancels_what_is_under_way_and_refuses_what_comes() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let gate = bench.fake.hold("create_container");
    let create = engine.workspace("a").unwrap().create(CreateOptions::default());
    tokio::time::sleep(Duration::from_millis(20)).await;
    let closing = tokio::spawn({
        let engine = engine.clone();
        async move { engine.close().await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    gate.open();
    closing.await.unwrap();
    assert_eq!(create.await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(bench.active_snapshots().is_empty());
    let late = engine.workspace("b").unwrap();
    assert_eq!(late.create(stopped()).await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    assert_eq!(late.info().await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
}

#[tokio::test]
async fn bad_options_are_refused_before_anything_is_touched() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let workspace = engine.workspace("a").unwrap();
    bench.fake.clear_calls();
    for options in [
        CreateOptions::default().image("BAD"),
        CreateOptions::default().hostname("-"),
        CreateOptions::default().snapshotter("../x"),
    ] {
        assert_eq!(workspace.create(options).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    std::fs::remove_file(bench.dir.path().join("runtime/bridge")).unwrap();
    let error = workspace.create(CreateOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains("runtime/bridge"), "{error}");
    assert!(bench.fake.calls().is_empty(), "{:?}", bench.fake.calls());
}

#[tokio::test]
async fn two_engines_on_one_data_root_make_one_container() {
    let bench = Bench::new();
    let engines = [bench.engine().await, bench.engine().await];
    let creates = (0..16).map(|n| engines[n % 2].workspace("a").unwrap().create(CreateOptions::default()));
    let results = futures::future::join_all(creates.map(|create| create.wait())).await;
    let created = results.iter().filter(|result| result.as_ref().unwrap().created).count();
    assert_eq!(created, 1);
    assert_eq!(bench.active_snapshots().len(), 1);
}

#[tokio::test]
async fn a_container_of_an_older_implementation_is_adopted() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let container = Container {
        id: "mcp-old".to_owned(),
        image: "docker.io/library/old:1".to_owned(),
        snapshotter: SNAPSHOTTER.to_owned(),
        snapshot_key: "mcp-old".to_owned(),
        labels: Default::default(),
        mounts: Vec::new(),
        network: NetworkNamespace::Host,
        user: Default::default(),
        created_at: jiff::Timestamp::now(),
        updated_at: jiff::Timestamp::now(),
    };
    bench.fake.adopt(container);
    let workspace = engine.workspace("old").unwrap();
    let info = workspace.info().await.unwrap();
    assert_eq!((info.container_id.as_str(), info.legacy), ("mcp-old", true));
    let again = workspace.create(stopped()).await.unwrap();
    assert_eq!((again.container_id.as_str(), again.created), ("mcp-old", false));
    assert_eq!(engine.list(Default::default()).await.unwrap().workspaces.len(), 1);
    assert!(workspace.delete(Default::default()).await.unwrap().deleted);
}

#[tokio::test]
async fn the_images_user_owns_the_data_and_a_dead_workspace_starts_again() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let mut image = FakeImage::new("docker.io/library/app:1", &[10]);
    image.user = "1000:1000".to_owned();
    bench.fake.install(image, SNAPSHOTTER);
    let workspace = engine.workspace("a").unwrap();
    let options = CreateOptions::default().image("app:1").pull_policy(PullPolicy::Never);
    let created = workspace.create(options).await.unwrap();
    let key = workspace.info().await.unwrap().snapshot_key;
    assert_eq!(bench.fake.owner_of_data(SNAPSHOTTER, &key).map(|user| user.uid), Some(1000));
    bench.fake.exit(&created.container_id, 3);
    let info = workspace.info().await.unwrap();
    assert_eq!((info.status, info.exit_code), (WorkspaceStatus::Stopped, Some(3)));
    assert_eq!(workspace.ensure_running(Default::default()).await.unwrap().outcome, StartOutcome::Started);
}

#[tokio::test]
async fn a_fault_of_the_backend_is_never_not_found() {
    let bench = Bench::new();
    let engine = bench.engine().await;
    let workspace = engine.workspace("a").unwrap();
    for method in ["container", "containers"] {
        bench.fake.fail_next(method, ErrorKind::Unavailable);
        assert_eq!(workspace.info().await.unwrap_err().kind(), ErrorKind::Unavailable, "{method}");
        bench.fake.fail_next(method, ErrorKind::Unavailable);
        assert_eq!(workspace.create(stopped()).await.unwrap_err().kind(), ErrorKind::Unavailable, "{method}");
        assert!(!Path::new(&engine.config().run_dir(&workspace.id)).exists());
    }
}

/// Waits until the engine follows the tasks.
async fn followed(engine: &Engine) {
    while engine.inner.watch.look(engine.inner.backend.as_ref()).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}

async fn listed(engine: &Engine) -> Vec<(String, WorkspaceStatus)> {
    let list = engine.list(Default::default()).await.unwrap();
    list.workspaces.into_iter().map(|w| (w.workspace_id, w.status)).collect()
}

#[tokio::test]
async fn lists_are_right_whether_the_tasks_are_followed_or_not() {
    use WorkspaceStatus::{Created, Running, Stopped};
    let bench = Bench::new();
    let (engine, other) = (bench.engine().await, bench.engine().await);
    for (id, started) in [("a", false), ("b", true), ("c", true)] {
        engine.workspace(id).unwrap().create(CreateOptions::default().start(started)).await.unwrap();
    }
    let stopped = |id: &str| other.workspace(id).unwrap().stop(Default::default());
    stopped("c").await.unwrap();
    let state = |b, c| vec![("a".to_owned(), Created), ("b".to_owned(), b), ("c".to_owned(), c)];
    for engine in [&engine, &other] {
        followed(engine).await;
        bench.fake.clear_calls();
        assert_eq!(listed(engine).await, state(Running, Stopped));
        // The tasks of the others are known; this one's process is not to be seen from here.
        let mut asked = bench.fake.calls();
        asked.retain(|call| call != "mark");
        assert_eq!(asked, ["task workspace-b"]);
    }
    // What another engine has just done shows at once.
    for _ in 0..50 {
        other.workspace("c").unwrap().start(Default::default()).await.unwrap();
        stopped("b").await.unwrap();
        assert_eq!(listed(&engine).await, state(Stopped, Running));
        other.workspace("b").unwrap().start(Default::default()).await.unwrap();
        stopped("c").await.unwrap();
        assert_eq!(listed(&engine).await, state(Running, Stopped));
    }
    for _ in 0..50 {
        let brief = other.workspace("z").unwrap();
        brief.create(CreateOptions::default().start(false)).await.unwrap();
        assert_eq!(listed(&engine).await.last().unwrap(), &("z".to_owned(), Created));
        brief.delete(Default::default()).await.unwrap();
        assert_eq!(listed(&engine).await, state(Running, Stopped));
    }
    // Without a watch, and with a new one.
    let held = bench.fake.hold("watch");
    bench.fake.break_watches();
    bench.fake.exit("workspace-b", 1);
    assert_eq!(listed(&engine).await, state(Stopped, Stopped));
    drop(held);
    followed(&engine).await;
    assert_eq!(listed(&engine).await, state(Stopped, Stopped));
    engine.close().await;
    let closed = engine.inner.watch.look(engine.inner.backend.as_ref()).await.unwrap();
    assert!(closed.is_none());
}

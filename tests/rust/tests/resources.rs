//! Limits, on a real kernel: changed while a workspace runs and while it does not, kept, refused, and run into.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use common::{Rig, kill, said, sh};
use dunnage::types::{
    CreateOptions, EventsOptions, LifecycleKind, LimitInfo, LimitName, LimitState, Limits, MetricsOptions,
    RecreateOptions, SetLimitsOptions, SnapshotCreateOptions, SnapshotForkOptions, SnapshotRollbackOptions,
    StartOptions, StopOptions,
};
use dunnage::{ErrorKind, Workspace};

const MIB: i64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(30);

fn set(limits: Limits) -> SetLimitsOptions {
    SetLimitsOptions::default().limits(limits)
}

/// The text of a file of the workspace's control groups: of the controller's group in version 1, or of the one in version 2.
async fn kernel(workspace: &Workspace, one: (&str, &str), two: &str) -> String {
    let pid = workspace.info().await.unwrap().pid;
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let group = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        parts.next().unwrap().split(',').any(|name| name == one.0).then(|| parts.next().unwrap().to_owned())
    });
    let path = match group {
        Some(group) => format!("/sys/fs/cgroup/{}{group}/{}", one.0, one.1),
        None => {
            let group = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
            format!("/sys/fs/cgroup{group}/{two}")
        }
    };
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

async fn quota(workspace: &Workspace) -> String {
    let text = kernel(workspace, ("cpu", "cpu.cfs_quota_us"), "cpu.max").await;
    text.split(' ').next().unwrap().replace("max", "-1")
}

async fn memory(workspace: &Workspace) -> String {
    kernel(workspace, ("memory", "memory.limit_in_bytes"), "memory.max").await
}

async fn pids(workspace: &Workspace) -> String {
    kernel(workspace, ("pids", "pids.max"), "pids.max").await
}

/// Name, wish and state of each.
fn brief(limits: &[LimitInfo]) -> Vec<(LimitName, Option<f64>, LimitState)> {
    limits.iter().map(|limit| (limit.name, limit.wanted, limit.state)).collect()
}

#[track_caller]
fn in_force(limits: &[LimitInfo]) {
    for limit in limits {
        assert_eq!((limit.state, limit.reason.as_deref()), (LimitState::Applied, None), "{limits:#?}");
        assert_eq!(limit.wanted, limit.effective, "{limits:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_held_to_new_limits_at_once() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let workspace = engine.workspace("live").unwrap();
    let made = workspace.create(CreateOptions::default().image(&image)).await.unwrap();
    assert_eq!(made.limits, []);
    let pid = workspace.info().await.unwrap().pid;
    let limits = Limits::default().cpus(0.25).cpu_weight(200).memory_bytes(64 * MIB).pids(24);
    let done = workspace.set_limits(set(limits)).await.unwrap();
    in_force(&done.limits);
    let names = [LimitName::Cpus, LimitName::CpuWeight, LimitName::MemoryBytes, LimitName::Pids];
    assert_eq!(done.limits.iter().map(|limit| limit.name).collect::<Vec<_>>(), names);
    assert_eq!(quota(&workspace).await, "25000");
    assert_eq!(memory(&workspace).await, (64 * MIB).to_string());
    assert_eq!(pids(&workspace).await, "24");
    let weight = kernel(&workspace, ("cpu", "cpu.shares"), "cpu.weight").await;
    assert!(weight == "2048" || weight == "200", "{weight}");
    // More processes than there may be: the kernel says to try again later (EAGAIN).
    let (_, output, errors) = sh(&workspace, "for i in $(seq 40); do sleep 3 & done; wait").await;
    assert!(format!("{output}{errors}").contains("Resource temporarily unavailable"), "{output} {errors}");
    // One of them is changed, one lifted, and the others stay.
    let change = set(Limits::default().pids(200)).clear(vec![LimitName::Cpus]);
    let done = workspace.set_limits(change).await.unwrap();
    assert_eq!(done.limits[0].name, LimitName::Cpus);
    assert_eq!((done.limits[0].wanted, done.limits[0].effective), (None, None), "{:#?}", done.limits);
    in_force(&done.limits);
    assert_eq!(quota(&workspace).await, "-1");
    assert_eq!(memory(&workspace).await, (64 * MIB).to_string());
    assert_eq!(pids(&workspace).await, "200");
    said(sh(&workspace, "for i in $(seq 40); do sleep 0.1 & done; wait").await);
    let info = workspace.info().await.unwrap();
    assert_eq!((info.pid, info.limits.len()), (pid, 3), "{:#?}", info.limits);
    in_force(&info.limits);
    let all = vec![LimitName::CpuWeight, LimitName::MemoryBytes, LimitName::Pids];
    let done = workspace.set_limits(SetLimitsOptions::default().clear(all)).await.unwrap();
    assert!(done.limits.iter().all(|limit| limit.state == LimitState::Applied), "{:#?}", done.limits);
    assert_eq!((pids(&workspace).await.as_str(), workspace.info().await.unwrap().limits.len()), ("max", 0));
    assert_eq!(workspace.metrics(MetricsOptions::default()).await.unwrap().memory.unwrap().limit_bytes, None);
    workspace.delete(kill()).await.unwrap();
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_ended_for_a_lower_limit_of_memory() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let workspace = common::running(&engine, "holds", &rig.add("busybox")).await;
    said(sh(&workspace, "head -c 50000000 /dev/zero > /dev/shm/held").await);
    let lower = || set(Limits::default().memory_bytes(32 * MIB).pids(100));
    let done = workspace.set_limits(lower()).await.unwrap();
    let wanted = [
        (LimitName::MemoryBytes, Some((32 * MIB) as f64), LimitState::PendingRestart),
        (LimitName::Pids, Some(100.0), LimitState::Applied),
    ];
    assert_eq!(brief(&done.limits), wanted);
    let reason = done.limits[0].reason.as_deref().unwrap();
    assert!(reason.contains("bytes of memory"), "{reason}");
    assert_eq!(said(sh(&workspace, "wc -c < /dev/shm/held").await).trim(), "50000000");
    // Once there is room, what is pending is tried again.
    said(sh(&workspace, "rm /dev/shm/held").await);
    in_force(&workspace.set_limits(SetLimitsOptions::default()).await.unwrap().limits);
    assert_eq!(memory(&workspace).await, (32 * MIB).to_string());
    workspace.delete(kill()).await.unwrap();
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_stay_whatever_becomes_of_the_workspace() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let workspace = common::running(&engine, "kept", &image).await;
    workspace.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
    let done = workspace.set_limits(set(Limits::default().memory_bytes(48 * MIB).pids(50))).await.unwrap();
    let wanted = |state| {
        [(LimitName::MemoryBytes, Some((48 * MIB) as f64), state), (LimitName::Pids, Some(50.0), state)]
    };
    assert_eq!(brief(&done.limits), wanted(LimitState::PendingRestart));
    assert!(done.limits.iter().all(|limit| limit.effective.is_none() && limit.reason.is_some()));
    workspace.start(StartOptions::default()).await.unwrap();
    let held = async |workspace: &Workspace, what: &str| {
        let info = workspace.info().await.unwrap();
        assert_eq!(brief(&info.limits), wanted(LimitState::Applied), "{what}");
        let files = (memory(workspace).await, pids(workspace).await);
        assert_eq!(files, ((48 * MIB).to_string(), "50".to_owned()), "{what}");
    };
    held(&workspace, "start").await;
    workspace.snapshots().create(SnapshotCreateOptions::default().grace_ms(0u64)).await.unwrap();
    held(&workspace, "version").await;
    workspace.recreate(RecreateOptions::default().grace_ms(0u64)).await.unwrap();
    held(&workspace, "recreate").await;
    let back = SnapshotRollbackOptions::default().version(1u64).discard(true).grace_ms(0u64);
    workspace.snapshots().rollback(back).await.unwrap();
    held(&workspace, "rollback").await;
    let fork = SnapshotForkOptions::default().version(1u64).new_id("kept-fork");
    workspace.snapshots().fork(fork).await.unwrap();
    let fork = engine.workspace("kept-fork").unwrap();
    held(&fork, "fork").await;
    fork.delete(kill()).await.unwrap();
    // Somebody takes the container away.
    workspace.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
    rig.ctr(&["containers", "rm", "--keep-snapshot", "workspace-kept"]);
    workspace.ensure_running(StartOptions::default()).await.unwrap();
    held(&workspace, "made anew").await;
    workspace.delete(kill()).await.unwrap();
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_cannot_do_is_told_and_hinders_nothing() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let workspace = engine.workspace("beyond").unwrap();
    let limits = Limits::default().pids(60).io_read_bytes_per_second(8 * MIB).storage_bytes(256 * MIB);
    let made = workspace.create(CreateOptions::default().image(&image).limits(limits)).await.unwrap();
    assert!(made.started);
    let of = |limits: &[LimitInfo], name| limits.iter().find(|limit| limit.name == name).unwrap().clone();
    let storage = of(&made.limits, LimitName::StorageBytes);
    assert_eq!((storage.state, storage.effective), (LimitState::Unsupported, None));
    assert!(storage.reason.unwrap().contains("file system"));
    assert_eq!(of(&made.limits, LimitName::Pids).state, LimitState::Applied);
    // File systems without a disk of their own have devices of major number 0.
    let device = std::fs::metadata(rig.containerd.data_root()).unwrap().dev();
    let on_disk = rustix::fs::major(device) != 0;
    let read = of(&made.limits, LimitName::IoReadBytesPerSecond);
    if on_disk {
        assert_eq!((read.state, read.effective), (LimitState::Applied, read.wanted), "{read:?}");
        let change =
            Limits::default().io_read_bytes_per_second(4 * MIB).io_write_ops_per_second(500).pids(61);
        let done = workspace.set_limits(set(change)).await.unwrap().limits;
        for name in [LimitName::IoReadBytesPerSecond, LimitName::IoWriteOpsPerSecond] {
            let one = of(&done, name);
            assert_eq!((one.state, one.effective), (LimitState::Applied, one.wanted), "{one:?}");
        }
        let text = kernel(&workspace, ("blkio", "blkio.throttle.read_bps_device"), "io.max").await;
        assert!(text.contains("4194304"), "{text}");
        // An update of other limits leaves them.
        let done = workspace.set_limits(set(Limits::default().cpus(0.5))).await.unwrap().limits;
        assert_eq!(of(&done, LimitName::IoReadBytesPerSecond).effective, Some((4 * MIB) as f64), "{done:?}");
        workspace.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
        workspace.start(StartOptions::default()).await.unwrap();
        let told = workspace.info().await.unwrap().limits;
        assert_eq!(of(&told, LimitName::IoWriteOpsPerSecond).effective, Some(500.0), "{told:?}");
        let clear = vec![LimitName::IoReadBytesPerSecond, LimitName::IoWriteOpsPerSecond];
        let done = workspace.set_limits(SetLimitsOptions::default().clear(clear)).await.unwrap().limits;
        let read = of(&done, LimitName::IoReadBytesPerSecond);
        assert_eq!((read.state, read.effective), (LimitState::Applied, None), "{read:?}");
        // What was lifted, and what the task began with, does not come back with an update.
        workspace.set_limits(set(Limits::default().pids(62))).await.unwrap();
        let text = kernel(&workspace, ("blkio", "blkio.throttle.read_bps_device"), "io.max").await;
        assert_eq!(text, "");
    } else {
        assert_eq!(read.state, LimitState::Unsupported, "{read:?}");
    }
    let both = set(Limits::default().pids(5)).clear(vec![LimitName::Pids]);
    let error = workspace.set_limits(both).await.unwrap_err();
    assert_eq!(
        (error.kind(), common::context(&error, "limit").as_str()),
        (ErrorKind::InvalidArgument, "pids")
    );
    let error = workspace.set_limits(set(Limits::default().cpu_weight(0))).await.unwrap_err();
    assert_eq!(common::context(&error, "field"), "limits.cpu_weight");
    workspace.delete(kill()).await.unwrap();
    let gone = workspace.set_limits(set(Limits::default().pids(5))).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn want_of_memory_is_told_and_the_agent_outlives_it() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.add("busybox");
    let workspace = engine.workspace("hungry").unwrap();
    let mut events = engine.events(EventsOptions::default().workspace("hungry")).await.unwrap();
    let limits = Limits::default().memory_bytes(32 * MIB);
    workspace.create(CreateOptions::default().image(&image).limits(limits)).await.unwrap();
    let pid = workspace.info().await.unwrap().pid;
    // It keeps all that it reads, for its last line.
    let (done, ..) = sh(&workspace, "head -c 200000000 /dev/zero | tail").await;
    assert_ne!(done.exit_code, 0);
    let oom = tokio::time::timeout(LIMIT, async {
        loop {
            let event = events.next().await.unwrap().unwrap();
            assert_ne!(event.kind, LifecycleKind::Exit, "{event:?}");
            if event.kind == LifecycleKind::Oom {
                return event;
            }
        }
    });
    let oom = oom.await.expect("nothing was told of it");
    assert_eq!(oom.container_id.as_deref(), Some("workspace-hungry"));
    let info = workspace.info().await.unwrap();
    assert_eq!((info.task_running, info.pid), (true, pid));
    let memory = workspace.metrics(MetricsOptions::default()).await.unwrap().memory.unwrap();
    assert!(memory.oom_kills > 0, "{memory:?}");
    assert_eq!(said(sh(&workspace, "echo lives").await).trim(), "lives");
    workspace.delete(kill()).await.unwrap();
    engine.close().await;
}

//! Putting workspaces in order: after a restart of the host nothing runs, and some are to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::{Rig, kill, running, said, sh, until, watched};
use dunnage::types::{
    EventType, ListOptions, ReconcileOptions, ReconcileOutcome, StopOptions, WorkspaceStatus,
};
use dunnage::{Engine, Workspace};

/// Ends a workspace's processes as a restart of the host does.
fn power_off(rig: &Rig, workspace: &Workspace) {
    rig.ctr(&["task", "delete", "--force", &format!("workspace-{}", workspace.id())]);
}

async fn states(engine: &Engine) -> BTreeMap<String, WorkspaceStatus> {
    let list = engine.list(ListOptions::default()).await.unwrap().workspaces;
    list.into_iter().map(|workspace| (workspace.workspace_id, workspace.status)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_an_engine_puts_workspaces_in_order_when_told_to() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let runs = running(&engine, "runs", &image).await;
    let stopped = running(&engine, "stopped", &image).await;
    let lost = running(&engine, "lost", &image).await;
    said(sh(&lost, "echo kept > /data/word").await);
    stopped.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
    power_off(&rig, &runs);
    power_off(&rig, &lost);
    rig.ctr(&["container", "rm", "--keep-snapshot", "workspace-lost"]);
    engine.close().await;

    let mut config = rig.config();
    let engine = Engine::open(config.clone()).await.unwrap();
    assert_ne!(states(&engine).await["runs"], WorkspaceStatus::Running, "it was not told to");
    engine.close().await;
    config.reconcile_on_open = true;
    let engine = Engine::open(config).await.unwrap();
    let now = states(&engine).await;
    assert_eq!(now["runs"], WorkspaceStatus::Running);
    assert_ne!(now["stopped"], WorkspaceStatus::Running, "its user has stopped it");
    assert_eq!(now["lost"], WorkspaceStatus::Running);
    assert_eq!(said(sh(&engine.workspace("lost").unwrap(), "cat /data/word").await), "kept");
    for id in ["runs", "stopped", "lost"] {
        engine.workspace(id).unwrap().delete(kill()).await.unwrap();
    }
    rig.settle(&before);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_cannot_be_put_in_order_stops_no_other() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let mut all = Vec::new();
    for id in ["a", "b", "c", "d"] {
        all.push(running(&engine, id, &image).await);
    }
    for workspace in &all {
        power_off(&rig, workspace);
    }
    // Where the directory of its socket was is a file.
    let run_dir = rig.config().data_root.join("run/b");
    std::fs::remove_dir_all(&run_dir).unwrap();
    std::fs::write(&run_dir, "").unwrap();
    let (done, events) = watched(engine.reconcile(ReconcileOptions::default().parallelism(2u32))).await;
    let done = done.unwrap();
    assert_eq!(done.failed, 1, "{done:?}");
    for workspace in &done.workspaces {
        let failed = workspace.workspace_id == "b";
        let wanted = if failed { ReconcileOutcome::Failed } else { ReconcileOutcome::Started };
        assert_eq!(workspace.outcome, wanted, "{workspace:?}");
        assert_eq!(
            (workspace.code.is_some(), workspace.message.is_some()),
            (failed, failed),
            "{workspace:?}"
        );
    }
    let told: Vec<_> = events.iter().filter(|event| event.kind == EventType::Reconciled).collect();
    let counts: Vec<_> = told.iter().map(|event| (event.done, event.total)).collect();
    assert_eq!(counts, (1..=4).map(|n| (Some(n), Some(4))).collect::<Vec<_>>());

    std::fs::remove_file(&run_dir).unwrap();
    let again = engine.reconcile(ReconcileOptions::default()).await.unwrap();
    assert_eq!(again.failed, 0, "{again:?}");
    until("all of them run", async || {
        states(&engine).await.values().all(|status| *status == WorkspaceStatus::Running)
    })
    .await;
    for workspace in &all {
        workspace.delete(kill()).await.unwrap();
    }
    rig.settle(&before);
    engine.close().await;
}

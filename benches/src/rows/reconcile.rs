//! A hundred workspaces whose processes are gone, put in order.

use super::list::{COUNT, fill, remove};
use crate::Failure;
use crate::bed::Bed;
use crate::report::{Bar, Row};
use crate::sample::Series;
use dunnage::Engine;
use dunnage::types::{
    ListOptions, PullOptions, ReconcileOptions, StartOptions, WorkspaceStatus, WorkspaceSummary,
};
use rustix::process::{Pid, Signal};
use std::time::{Duration, Instant};

pub(super) async fn hundred(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let (engine, _) = bed.another_engine().await?;
    engine.image().pull(PullOptions::default().image(&bed.image)).await?;
    let measured = measure(bed, &engine).await;
    let removed = remove(&engine).await;
    engine.close().await;
    let row = measured?;
    removed?;
    Ok(vec![row])
}

async fn measure(bed: &Bed, engine: &Engine) -> Result<Row, Failure> {
    fill(bed, engine).await?;
    let mut row = Row {
        name: "reconcile_100".into(),
        about: "engine.reconcile of 100 workspaces whose processes were killed → all answer; peer: each started, one after another"
            .into(),
        unit: "ms",
        bars: vec![Bar::TimesPeer(0.6)],
        ..Row::default()
    };
    let mut serial = Series::default();
    for turn in 0..=bed.rounds {
        let ours = reconciled(engine).await?;
        let theirs = started(engine).await?;
        if turn > 0 {
            row.ours.push_time(ours);
            serial.push_time(theirs);
        }
    }
    row.peer = Some(serial);
    Ok(row)
}

async fn reconciled(engine: &Engine) -> Result<Duration, Failure> {
    kill_all(engine).await?;
    let began = Instant::now();
    let done = engine.reconcile(ReconcileOptions::default()).await?;
    let took = began.elapsed();
    if done.failed > 0 || running(engine).await?.len() != COUNT {
        return Err(format!("{done:?}").into());
    }
    Ok(took)
}

async fn started(engine: &Engine) -> Result<Duration, Failure> {
    kill_all(engine).await?;
    let began = Instant::now();
    for number in 0..COUNT {
        engine.workspace(format!("w{number}"))?.start(StartOptions::default()).await?;
    }
    Ok(began.elapsed())
}

async fn running(engine: &Engine) -> Result<Vec<WorkspaceSummary>, Failure> {
    let mut all = engine.list(ListOptions::default()).await?.workspaces;
    all.retain(|workspace| workspace.status == WorkspaceStatus::Running);
    Ok(all)
}

/// Kills the first process of each workspace, as nobody has asked for, and waits until that is known.
async fn kill_all(engine: &Engine) -> Result<(), Failure> {
    for workspace in running(engine).await? {
        let pid = Pid::from_raw(engine.workspace(&workspace.workspace_id)?.info().await?.pid.try_into()?);
        let pid = pid.ok_or_else(|| format!("{} runs without a process", workspace.workspace_id))?;
        rustix::process::kill_process(pid, Signal::KILL)?;
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while !running(engine).await?.is_empty() {
        if Instant::now() > deadline {
            return Err("killed workspaces run on".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The daemon and the shims have taken note of it all.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

//! A command that does nothing, through the agent and through containerd.

use crate::Failure;
use crate::bed::Bed;
use crate::report::{Bar, Row};
use crate::sample::Series;
use dunnage::types::RunOptions;
use std::time::Instant;

/// Runs of ours for each of the peer's, which takes ten times as long.
const OURS_PER_TURN: usize = 5;

pub(super) async fn command(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let workspace = bed.workspace("exec").await?;
    let container = workspace.info().await?.container_id;
    let mut row = Row {
        name: "exec_true".into(),
        about: "`true` by a shell through the agent; peer: ctr task exec of `true` without a shell".into(),
        unit: "ms",
        bars: vec![Bar::AtMost(2.0), Bar::TimesPeer(0.15)],
        ..Row::default()
    };
    let mut peer = Series::default();
    for turn in 0..=bed.rounds {
        for _ in 0..OURS_PER_TURN {
            let began = Instant::now();
            let output = workspace.exec().run(RunOptions::default().command("true"), "").await?;
            let took = began.elapsed();
            if output.result.exit_code != 0 {
                return Err(format!("true ended with {}", output.result.exit_code).into());
            }
            if turn > 0 {
                row.ours.push_time(took);
            }
        }
        let theirs = bed.peer(&["task", "exec", "--exec-id", &bed.name("e"), &container, "true"])?;
        if turn > 0 {
            peer.push_time(theirs);
        }
    }
    row.peer = Some(peer);
    bed.delete(&workspace).await?;
    Ok(vec![row])
}

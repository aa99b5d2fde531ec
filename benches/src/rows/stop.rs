//! A running workspace stopped and started again. No peer does the same; these rows inform.

use crate::Failure;
use crate::bed::Bed;
use crate::report::Row;
use dunnage::types::{StopOptions, StopOutcome};
use std::collections::BTreeMap;
use std::time::Instant;

pub(super) async fn stop_start(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let row = |name: &str, about: &str| Row {
        name: name.into(),
        about: about.into(),
        unit: "ms",
        ..Row::default()
    };
    let mut stop = row("stop", "SIGTERM → agent ended, task removed");
    let mut start = row("start", "stopped workspace → agent answers");
    let mut delete = row("delete", "running workspace → nothing left, without grace");
    let (mut stop_calls, mut start_calls) = (BTreeMap::new(), BTreeMap::new());
    let mut delete_calls = BTreeMap::new();
    let workspace = bed.workspace("stop").await?;
    for turn in 0..=bed.rounds {
        bed.calls.clear();
        let began = Instant::now();
        let stopped = workspace.stop(StopOptions::default()).await?;
        let took = began.elapsed();
        if stopped.outcome != StopOutcome::Stopped {
            return Err(format!("the stop was {:?}", stopped.outcome).into());
        }
        if turn > 0 {
            bed.calls.take_into(&mut stop_calls);
            stop.ours.push_time(took);
        }
        bed.calls.clear();
        let began = Instant::now();
        workspace.start(Default::default()).await?;
        let took = began.elapsed();
        if turn > 0 {
            bed.calls.take_into(&mut start_calls);
            start.ours.push_time(took);
        }
        let other = bed.workspace("gone").await?;
        bed.calls.clear();
        let began = Instant::now();
        bed.delete(&other).await?;
        let took = began.elapsed();
        if turn > 0 {
            bed.calls.take_into(&mut delete_calls);
            delete.ours.push_time(took);
        }
    }
    bed.delete(&workspace).await?;
    stop.add_calls(stop_calls);
    start.add_calls(start_calls);
    delete.add_calls(delete_calls);
    Ok(vec![stop, start, delete])
}

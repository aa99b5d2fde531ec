//! A list of a hundred running workspaces.

use crate::Failure;
use crate::bed::Bed;
use crate::report::{Bar, Row};
use crate::sample::Series;
use dunnage::Engine;
use dunnage::types::{DeleteOptions, ListOptions, PullOptions};
use std::collections::BTreeMap;
use std::time::Instant;

/// How many there are.
pub(super) const COUNT: usize = 100;
/// How many are made or removed at a time.
const AT_ONCE: usize = 10;

pub(super) async fn hundred(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let (engine, namespace) = bed.another_engine().await?;
    engine.image().pull(PullOptions::default().image(&bed.image)).await?;
    let measured = measure(bed, &engine, &namespace).await;
    let removed = remove(&engine).await;
    engine.close().await;
    let row = measured?;
    removed?;
    Ok(vec![row])
}

async fn measure(bed: &Bed, engine: &Engine, namespace: &str) -> Result<Row, Failure> {
    fill(bed, engine).await?;
    let mut row = Row {
        name: "list_100".into(),
        about: "engine.list of 100 running workspaces; peer: ctr containers ls and ctr tasks ls".into(),
        unit: "ms",
        bars: vec![Bar::AtMost(10.0)],
        ..Row::default()
    };
    let (mut peer, mut calls) = (Series::default(), BTreeMap::new());
    for turn in 0..=bed.rounds {
        bed.calls.clear();
        let began = Instant::now();
        let list = engine.list(ListOptions::default()).await?;
        let took = began.elapsed();
        if list.workspaces.len() != COUNT {
            return Err(format!("{} workspaces are listed", list.workspaces.len()).into());
        }
        let theirs =
            bed.peer_in(namespace, &["containers", "ls"])? + bed.peer_in(namespace, &["tasks", "ls"])?;
        if turn > 0 {
            bed.calls.take_into(&mut calls);
            row.ours.push_time(took);
            peer.push_time(theirs);
        }
    }
    row.peer = Some(peer);
    row.add_calls(calls);
    Ok(row)
}

/// Makes a hundred workspaces that run.
pub(super) async fn fill(bed: &Bed, engine: &Engine) -> Result<(), Failure> {
    for first in (0..COUNT).step_by(AT_ONCE) {
        let made: Vec<_> = (first..first + AT_ONCE)
            .map(|number| Ok(engine.workspace(format!("w{number}"))?.create(bed.plain())))
            .collect::<Result<_, Failure>>()?;
        for create in made {
            create.await?;
        }
    }
    Ok(())
}

/// Removes all workspaces.
pub(super) async fn remove(engine: &Engine) -> Result<(), Failure> {
    let names: Vec<String> =
        engine.list(ListOptions::default()).await?.workspaces.into_iter().map(|w| w.workspace_id).collect();
    for names in names.chunks(AT_ONCE) {
        let gone: Vec<_> = names
            .iter()
            .map(|name| Ok(engine.workspace(name)?.delete(DeleteOptions::default().grace_ms(0u64))))
            .collect::<Result<_, Failure>>()?;
        for delete in gone {
            delete.await?;
        }
    }
    Ok(())
}

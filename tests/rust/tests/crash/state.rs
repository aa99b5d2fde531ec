//! Making a workspace hold something, and finding out what it holds.

use std::collections::HashMap;

use common::older::Older;
use common::{kill, said, sh};
use dunnage::types::{
    CreateOptions, DataDiscardOptions, LimitName, LimitState, PreservedOptions, SnapshotCreateOptions,
    SnapshotListOptions, SnapshotRollbackOptions, StartOptions, StopOptions,
};
use dunnage::{Config, Engine, ErrorKind, Workspace};

use crate::common;
use crate::operations::{DATA_OF_TWO, FORK, LIMITED_PIDS, Operation, State};

/// Which word the fingerprint of a workspace's files stands for.
pub(crate) struct Words(HashMap<String, String>);

impl Words {
    /// Learns them from a workspace that holds one after the other.
    pub(crate) async fn learn(engine: &Engine, image: &str) -> Self {
        let workspace = engine.workspace("words").unwrap();
        workspace.create(CreateOptions::default().image(image)).await.unwrap();
        let mut words = HashMap::from([(fingerprint(&workspace).await, String::new())]);
        for word in ["one", "two"] {
            write(&workspace, word).await;
            words.insert(fingerprint(&workspace).await, word.to_owned());
        }
        said(sh(&workspace, "rm /srv/word").await);
        words.insert(fingerprint(&workspace).await, DATA_OF_TWO.to_owned());
        workspace.delete(kill()).await.unwrap();
        assert_eq!(words.len(), 4, "{words:?}");
        Self(words)
    }

    fn of(&self, fingerprint: String) -> String {
        self.0.get(&fingerprint).cloned().unwrap_or(fingerprint)
    }
}

/// Makes a workspace hold this word, in the data directory and beside it, and nothing else.
async fn write(workspace: &Workspace, word: &str) {
    let command = format!(
        "rm -rf /data/* && mkdir -p /data/deep /srv && echo {word} > /srv/word && yes {word} | head -c 65536 > /data/bulk \
         && ln -s ../bulk /data/deep/{word}"
    );
    said(sh(workspace, &command).await);
}

/// What tells one content from another: names, links and all bytes.
async fn fingerprint(workspace: &Workspace) -> String {
    let command = "mkdir -p /data /srv; find /data /srv -type l -o -type f | sort > /tmp/f; \
                   xargs md5sum < /tmp/f 2>&1; cat /tmp/f; rm /tmp/f";
    sh(workspace, command).await.1
}

/// Makes a workspace as the operation expects it.
pub(crate) async fn set_up(config: &Config, id: &str, image: &str, operation: &Operation) {
    let State::Holds { content, versions } = &operation.before else { return };
    let engine = Engine::open(config.clone()).await.unwrap();
    let workspace = engine.workspace(id).unwrap();
    workspace.create(CreateOptions::default().image(image).network(operation.network)).await.unwrap();
    for (_, word) in versions {
        write(&workspace, word).await;
        if operation.older {
            workspace.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
            Older::connect(config).await.version(&format!("workspace-{id}"), "v").await;
            workspace.start(StartOptions::default()).await.unwrap();
        } else {
            workspace.snapshots().create(SnapshotCreateOptions::default().grace_ms(0u64)).await.unwrap();
        }
    }
    write(&workspace, content).await;
    if !operation.running {
        workspace.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
    }
    engine.close().await;
}

/// What a workspace holds, found out by using it: it is started, and gone back to each of its versions.
///
/// A fork of it is whole or is not there, and is removed.
pub(crate) async fn observe(
    engine: &Engine,
    id: &str,
    words: &Words,
    operation: &Operation,
) -> Result<State, String> {
    let workspace = engine.workspace(id).unwrap();
    let fork = engine.workspace(format!("{id}{FORK}")).unwrap();
    if fork.info().await.is_ok() {
        fork.ensure_running(StartOptions::default())
            .await
            .map_err(|e| format!("the fork does not run: {e}"))?;
        let word = words.of(fingerprint(&fork).await);
        if word != "one" {
            return Err(format!("the fork holds {word}"));
        }
        fork.delete(kill()).await.map_err(|e| format!("the fork cannot be deleted: {e}"))?;
    }
    if operation.lost {
        let again = workspace.ensure_running(StartOptions::default()).await;
        again.map_err(|e| format!("it is not made anew: {e}"))?;
    }
    match workspace.info().await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if operation.preserves {
                preserved(engine, &workspace, words).await?;
            }
            forget_preserved(&workspace).await?;
            return Ok(State::Absent);
        }
        other => other.map_err(|e| format!("info: {e}"))?,
    };
    workspace.ensure_running(StartOptions::default()).await.map_err(|e| format!("it does not run: {e}"))?;
    limits_agree(&workspace).await?;
    let content = words.of(fingerprint(&workspace).await);
    let numbers = numbers(&workspace).await?;
    let mut versions = Vec::new();
    for number in numbers {
        let back = SnapshotRollbackOptions::default().version(number).discard(true).grace_ms(0u64);
        let back = workspace.snapshots().rollback(back).await;
        back.map_err(|e| format!("version {number} cannot be gone back to: {e}"))?;
        versions.push((number, words.of(fingerprint(&workspace).await)));
    }
    forget_preserved(&workspace).await?;
    Ok(State::Holds { content, versions })
}

/// The limits that a workspace is said to have are all there or none is; the kernel holds it to them now, and again after its
/// next start.
async fn limits_agree(workspace: &Workspace) -> Result<(), String> {
    let told = async || {
        let info = workspace.info().await.map_err(|e| format!("info: {e}"))?;
        let wrong = info.limits.iter().find(|limit| limit.state != LimitState::Applied);
        if let Some(limit) = wrong {
            return Err(format!("a limit is said to be there and is not: {limit:?}"));
        }
        Ok(info.limits)
    };
    let before = told().await?;
    if before.is_empty() {
        return Ok(());
    }
    let pids = before.iter().find(|limit| limit.name == LimitName::Pids);
    if before.len() != 2 || pids.and_then(|pids| pids.effective) != Some(LIMITED_PIDS as f64) {
        return Err(format!("half of the limits are there: {before:?}"));
    }
    let stopped = workspace.stop(StopOptions::default().grace_ms(0u64)).await;
    stopped.map_err(|e| format!("it does not stop: {e}"))?;
    let started = workspace.start(StartOptions::default()).await;
    started.map_err(|e| format!("it does not start: {e}"))?;
    let after = told().await?;
    if after == before { Ok(()) } else { Err(format!("limits changed with a start: {before:?}, {after:?}")) }
}

/// A workspace that is gone can be made with the data that it had.
async fn preserved(engine: &Engine, workspace: &Workspace, words: &Words) -> Result<(), String> {
    let image = workspace.data().preserved(PreservedOptions::default()).await;
    let image = image.map_err(|e| format!("what is preserved cannot be listed: {e}"))?;
    let image = image.preserved.first().ok_or("its data is nowhere")?.image.clone();
    let made = workspace.create(CreateOptions::default().image(image).restore_data(true)).await;
    made.map_err(|e| format!("its data cannot be restored: {e}"))?;
    let word = words.of(fingerprint(workspace).await);
    if word != DATA_OF_TWO {
        return Err(format!("what was preserved is {word}"));
    }
    let again = engine.workspace(workspace.id()).unwrap();
    again.delete(kill()).await.map_err(|e| format!("it cannot be deleted again: {e}"))?;
    Ok(())
}

/// Discards all that is preserved, and what was half made of it.
async fn forget_preserved(workspace: &Workspace) -> Result<(), String> {
    let data = workspace.data();
    let list = data.preserved(PreservedOptions::default()).await;
    let list = list.map_err(|e| format!("what is preserved cannot be listed: {e}"))?;
    // One more than there are: looking for it clears up.
    let numbers = list.preserved.iter().map(|one| one.generation);
    for number in numbers.chain([u64::MAX]) {
        match data.discard(DataDiscardOptions::default().generation(number)).await {
            Err(error) if number == u64::MAX && error.kind() == ErrorKind::NotFound => {}
            done => drop(done.map_err(|e| format!("what is preserved cannot be discarded: {e}"))?),
        }
    }
    Ok(())
}

/// The numbers of a workspace's versions.
async fn numbers(workspace: &Workspace) -> Result<Vec<u64>, String> {
    let list = workspace.snapshots().list(SnapshotListOptions::default()).await;
    let list = list.map_err(|e| format!("its versions cannot be listed: {e}"))?;
    let mut numbers: Vec<u64> = list.snapshots.iter().filter_map(|snapshot| snapshot.version).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A workspace goes on after the fault: its next version gets the next number, and an absent one can be made.
pub(crate) async fn go_on(
    engine: &Engine,
    id: &str,
    image: &str,
    before: &State,
    state: &State,
) -> Result<(), String> {
    let workspace = engine.workspace(id).unwrap();
    match state {
        State::Absent => {
            let made = workspace.create(CreateOptions::default().image(image)).await;
            let made = made.map_err(|e| format!("it cannot be created: {e}"))?;
            if !made.created {
                return Err("a workspace that is not there was there".to_owned());
            }
            if !numbers(&workspace).await?.is_empty() {
                return Err("a new workspace has versions".to_owned());
            }
        }
        State::Holds { versions, .. } => {
            let next = workspace.snapshots().create(SnapshotCreateOptions::default().grace_ms(0u64)).await;
            let next = next.map_err(|e| format!("no version can be made: {e}"))?;
            // No number is given twice, also after its version was removed.
            let highest = |versions: &[(u64, String)]| versions.last().map_or(0, |(number, _)| *number);
            let given = match before {
                State::Absent => 0,
                State::Holds { versions, .. } => highest(versions),
            };
            let last = highest(versions).max(given);
            if next.version != last + 1 {
                return Err(format!("version {} comes after {last}", next.version));
            }
        }
    }
    Ok(())
}

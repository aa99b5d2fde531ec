//! Random lives of workspaces on the backend in memory, compared step by step with a model of what has to come of them.
//!
//! A new kind of step goes into the model, [`dunnage_harness::model`], and into [`Life::step`].

use crate::config::Config;
use crate::engine::{Engine, Workspace};
use crate::error::{ErrorKind, Result};
use crate::lifecycle::tests::Bench;
use crate::types::{
    CreateOptions, DeleteOptions, SnapshotCreateOptions, SnapshotDeleteOptions, SnapshotForkOptions,
    SnapshotListOptions, SnapshotPruneOptions, SnapshotRollbackOptions, StartOptions, StopOptions,
};
use dunnage_harness::model::{Content, Ends, Model, PLACES, Step};
use proptest::prelude::*;
use std::collections::BTreeMap;

const SNAPSHOTTER: &str = "overlayfs";
/// No line of these lives has more layers.
const LONGEST: u32 = 60;

/// The ids at the model's places.
const IDS: [&str; PLACES] = ["a", "b", "c"];

fn container(at: usize) -> String {
    format!("workspace-{}", IDS[at])
}

fn words(text: &str) -> Content {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Workspaces that are compared with the model.
struct Life {
    bench: Bench,
    engine: Engine,
    model: Model,
}

impl Life {
    fn workspace(&self, at: usize) -> Workspace {
        self.engine.workspace(IDS[at]).unwrap()
    }

    /// Does a step in both, and compares how it ends and what there is then.
    async fn step(&mut self, at: usize, step: &Step) {
        let asks_who_stands = matches!(step, Step::Remove { squash: false, .. });
        if !self.model.takes(at, step) || (asks_who_stands && self.is_made_short()) {
            return;
        }
        let wanted = self.model.apply(at, step);
        let done = self.done(at, step).await;
        let ends = match &done {
            Ok(version) => Ends::Well(*version),
            Err(error) => match error.kind() {
                ErrorKind::NotFound => Ends::NotFound,
                ErrorKind::AlreadyExists => Ends::AlreadyExists,
                ErrorKind::FailedPrecondition => Ends::Refused,
                _ => panic!("{error}"),
            },
        };
        assert_eq!(ends, wanted, "{step:?} of {at}: {done:?}");
        for at in 0..PLACES {
            self.compare(at).await;
        }
        let keys = self.bench.fake.snapshot_keys(SNAPSHOTTER);
        let ours: Vec<&String> = keys.iter().filter(|key| !key.starts_with("sha256:")).collect();
        let (there, wanted) = (ours.len(), self.model.snapshots());
        let right = if self.is_made_short() { wanted > 0 || there == 0 } else { there == wanted };
        assert!(right, "{step:?} of {at}: {wanted} wanted, {ours:?}");
    }

    /// Whether there are snapshots between versions that the model does not know of.
    fn is_made_short(&self) -> bool {
        self.bench.flatten_at <= LONGEST
    }

    async fn done(&mut self, at: usize, step: &Step) -> Result<Option<u64>> {
        let workspace = self.workspace(at);
        match step {
            Step::Create => workspace.create(CreateOptions::default()).await.map(|_| None),
            Step::Write(word) => {
                self.bench.fake.write(&container(at), word);
                Ok(None)
            }
            Step::Snapshot => {
                let options = SnapshotCreateOptions::default().grace_ms(0u64);
                workspace.snapshots().create(options).await.map(|made| Some(made.version))
            }
            Step::Rollback { version, discard } => {
                let options =
                    SnapshotRollbackOptions::default().version(*version).discard(*discard).grace_ms(0u64);
                workspace.snapshots().rollback(options).await.map(|back| back.kept_version)
            }
            Step::Fork { version, to } => {
                let options = SnapshotForkOptions::default().version(*version).new_id(IDS[*to]);
                workspace.snapshots().fork(options).await.map(|_| None)
            }
            Step::Remove { version, squash } => {
                let options =
                    SnapshotDeleteOptions::default().version(*version).squash(*squash).grace_ms(0u64);
                workspace.snapshots().delete(options).await.map(|_| None)
            }
            Step::Prune { keep_last } => {
                let options = SnapshotPruneOptions::default().keep_last(*keep_last).grace_ms(0u64);
                workspace.snapshots().prune(options).await.map(|_| None)
            }
            Step::Stop => workspace.stop(StopOptions::default().grace_ms(0u64)).await.map(|_| None),
            Step::Start => workspace.start(StartOptions::default()).await.map(|_| None),
            Step::Delete => workspace.delete(DeleteOptions::default().grace_ms(0u64)).await.map(|_| None),
            Step::Reopen { lost } => {
                self.engine.close().await;
                if *lost {
                    self.bench.lose_database();
                }
                self.engine = self.bench.engine().await;
                Ok(None)
            }
        }
    }

    async fn compare(&self, at: usize) {
        let info = self.workspace(at).info().await;
        let Some(held) = self.model.held(at) else {
            assert_eq!(info.unwrap_err().kind(), ErrorKind::NotFound);
            return;
        };
        let info = info.unwrap();
        assert_eq!(info.task_running, held.running);
        let mut active = self.bench.active_snapshots();
        active.retain(|key| key.starts_with(&container(at)));
        assert_eq!(active, [info.snapshot_key], "only one can be written to");
        assert_eq!(words(&self.bench.fake.words(&container(at)).unwrap()), held.content);
        let list = self.workspace(at).snapshots().list(SnapshotListOptions::default()).await.unwrap();
        let versions = list.snapshots.into_iter().filter_map(|made| Some((made.version?, made)));
        let versions: BTreeMap<u64, _> = versions
            .map(|(version, made)| {
                let content = self.bench.fake.words_of(SNAPSHOTTER, &made.runtime_snapshot_name);
                (version, words(&content.unwrap()))
            })
            .collect();
        assert_eq!(versions, held.versions());
    }
}

/// Lives a life, and deletes all that is left at its end.
async fn live(flatten_at: u32, steps: impl IntoIterator<Item = (usize, Step)>) {
    let mut bench = Bench::in_memory();
    bench.flatten_at = flatten_at;
    let engine = bench.engine().await;
    let mut life = Life { bench, engine, model: Model::default() };
    life.step(0, &Step::Create).await;
    for (at, step) in steps {
        life.step(at, &step).await;
    }
    for at in 0..PLACES {
        life.step(at, &Step::Delete).await;
    }
    life.engine.close().await;
}

fn run(life: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(life);
}

/// Two removals in a row: what the first has put below the workspace stands on what the second removes.
#[test]
fn what_a_removal_has_made_goes_with_the_next() {
    let kept = [Step::Snapshot, Step::Snapshot, Step::Snapshot];
    let remove = |version| Step::Remove { version, squash: true };
    for (first, second) in [(1, 3), (1, 2), (2, 3), (2, 1), (3, 2), (3, 1)] {
        let steps = kept.iter().cloned().chain([remove(first), remove(second)]).map(|step| (0, step));
        run(live(Config::default().flatten_at, steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_life_is_as_the_model_says(steps in prop::collection::vec(any::<(u8, u8, u8)>(), 1..32)) {
        run(live(Config::default().flatten_at, steps.into_iter().map(Step::of)));
    }

    #[test]
    fn a_line_that_is_always_too_long_is_as_the_model_says(
        flatten_at in 2..5u32,
        steps in prop::collection::vec(any::<(u8, u8, u8)>(), 1..32),
    ) {
        run(live(flatten_at, steps.into_iter().map(Step::of)));
    }
}

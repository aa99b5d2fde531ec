//! Random lives of a workspace on the backend in memory, compared step by step with a model of what has to come of them.
//!
//! A new kind of step goes into the model, [`dunnage_harness::model`], and into [`Life::step`].

use crate::engine::{Engine, Workspace};
use crate::error::{ErrorKind, Result};
use crate::lifecycle::tests::Bench;
use crate::types::{
    CreateOptions, DeleteOptions, SnapshotCreateOptions, SnapshotListOptions, SnapshotRollbackOptions,
    StartOptions, StopOptions,
};
use dunnage_harness::model::{Ends, Model, Step};
use proptest::prelude::*;
use std::collections::BTreeMap;

const SNAPSHOTTER: &str = "overlayfs";
const CONTAINER: &str = "workspace-a";

/// A workspace that is compared with the model.
struct Life {
    bench: Bench,
    engine: Engine,
    model: Model,
}

impl Life {
    fn workspace(&self) -> Workspace {
        self.engine.workspace("a").unwrap()
    }

    /// Does a step in both, and compares how it ends and what there is then.
    async fn step(&mut self, step: &Step) {
        if !self.model.takes(step) {
            return;
        }
        let wanted = self.model.apply(step);
        let done = self.done(step).await;
        let ends = match &done {
            Ok(version) => Ends::Well(*version),
            Err(error) if error.kind() == ErrorKind::NotFound => Ends::NotFound,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(ends, wanted, "{done:?}");
        self.compare().await;
    }

    async fn done(&mut self, step: &Step) -> Result<Option<u64>> {
        let workspace = self.workspace();
        match step {
            Step::Create => workspace.create(CreateOptions::default()).await.map(|_| None),
            Step::Write(word) => {
                self.bench.fake.write(CONTAINER, word);
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
            Step::Stop => workspace.stop(StopOptions::default().grace_ms(0u64)).await.map(|_| None),
            Step::Start => workspace.start(StartOptions::default()).await.map(|_| None),
            Step::Delete => workspace.delete(DeleteOptions::default().grace_ms(0u64)).await.map(|_| None),
            Step::Reopen => {
                self.engine.close().await;
                self.engine = self.bench.engine().await;
                Ok(None)
            }
        }
    }

    async fn compare(&self) {
        let info = self.workspace().info().await;
        let Some(held) = self.model.held() else {
            assert_eq!(info.unwrap_err().kind(), ErrorKind::NotFound);
            let left = self.bench.fake.snapshot_keys(SNAPSHOTTER);
            assert!(left.iter().all(|key| key.starts_with("sha256:")), "{left:?}");
            return;
        };
        let info = info.unwrap();
        assert_eq!(info.task_running, held.running);
        assert_eq!(self.bench.active_snapshots(), [info.snapshot_key], "only one can be written to");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let content: std::collections::BTreeSet<String> = words(&self.bench.fake.words(CONTAINER).unwrap());
        assert_eq!(content, held.content);
        let list = self.workspace().snapshots().list(SnapshotListOptions::default()).await.unwrap();
        let versions = list.snapshots.into_iter().filter_map(|made| Some((made.version?, made)));
        let versions: BTreeMap<u64, _> = versions
            .map(|(version, made)| {
                let content = self.bench.fake.words_of(SNAPSHOTTER, &made.runtime_snapshot_name);
                (version, words(&content.unwrap()))
            })
            .collect();
        assert_eq!(versions, held.versions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_life_is_as_the_model_says(steps in prop::collection::vec(any::<(u8, u8)>(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::in_memory();
            let engine = bench.engine().await;
            let mut life = Life { bench, engine, model: Model::default() };
            life.step(&Step::Create).await;
            for (kind, number) in steps {
                life.step(&Step::of(kind, number)).await;
            }
            life.engine.close().await;
        });
    }
}

//! What breaks, and that it is mended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::helper::write_config;
use common::{Rig, kill, names, runtime_dir};
use dunnage::failpoints::{Side, unfinished};
use dunnage::types::NetworkMode;
use dunnage::{Config, Engine};
use dunnage_harness::Leaks;
use futures::StreamExt;

use crate::common;
use crate::host::{Deed, End, Host, Place};
use crate::operations::{Operation, State};
use crate::state::{Words, go_on, observe, set_up};

/// How many workspaces are worked on at a time.
const AT_ONCE: usize = 4;

/// What breaks at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is killed.
    Kill,
    /// The process is killed, and its database is gone.
    Database,
    /// containerd is killed, and started again; the process goes on.
    Containerd,
    /// The disk below data and containerd is full until the operation has ended.
    Full,
}

impl Fault {
    /// Which sides of a step are worth it. Between two steps nothing changes, so a process that dies after one is as one that
    /// dies before the next: one fault tries both sides, the others each step once.
    fn sides(self, index: usize, last: bool) -> Vec<Side> {
        match self {
            Self::Kill => vec![Side::Before, Side::After],
            Self::Database if last => vec![Side::Before, Side::After],
            Self::Database => vec![Side::Before],
            Self::Containerd | Self::Full if index % 2 == 0 => vec![Side::Before],
            Self::Containerd | Self::Full => vec![Side::After],
        }
    }
}

/// A daemon on which faults are met.
pub(crate) struct Bench {
    rig: Rig,
    config: Config,
    image: String,
    words: Words,
    before: Leaks,
    /// The small disk, when it is on one.
    disk: Option<PathBuf>,
    made: usize,
}

/// A workspace, and where the operation on it meets the fault.
struct Case {
    id: String,
    place: Place,
    /// What went wrong.
    faults: Vec<String>,
}

/// What came of some faults.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) met: usize,
    pub(crate) recovered: usize,
}

impl Bench {
    /// Starts one, on a small disk of its own where that is to be filled.
    pub(crate) async fn start(small: bool) -> Self {
        let mut rig = Rig::start();
        let disk = small.then(|| rig.containerd.dir().join("root"));
        if let Some(disk) = &disk {
            rig.containerd.kill9().unwrap();
            std::fs::create_dir_all(disk).unwrap();
            let mount = ["-t", "tmpfs", "-o", "size=96m,mode=0755", "dunnage-test"];
            common::run(Command::new("mount").args(mount).arg(disk));
            rig.containerd.restart().unwrap();
        }
        let mut config = rig.config().runtime_dir(runtime_dir());
        if let Some(disk) = &disk {
            config = config.data_root(disk.join("w"));
        }
        config.time_limits.settle_ms = 3_000;
        let engine = Engine::open(config.clone()).await.unwrap();
        let image = rig.pulled(&engine, "busybox").await;
        let words = Words::learn(&engine, &image).await;
        engine.close().await;
        let before = rig.count();
        Self { rig, config, image, words, before, disk, made: 0 }
    }

    /// A name that no workspace here has had.
    fn fresh(&mut self) -> String {
        self.made += 1;
        format!("crash-{}", self.made)
    }

    /// An engine's configuration, in memory and as a file for hosts.
    fn config(&self, operation: &Operation) -> (Config, PathBuf) {
        let mut config = self.config.clone();
        config.network.mode = operation.network;
        if operation.network == NetworkMode::None {
            // No two requests are under way at a time, so none takes effect late.
            config.time_limits.settle_ms = 20;
        }
        let file = write_config(&self.rig, &config);
        (config, file)
    }

    /// Runs an operation without a fault and returns its steps.
    pub(crate) async fn steps(&mut self, index: usize, operation: &Operation) -> Vec<String> {
        let id = self.fresh();
        let (config, file) = self.config(operation);
        let engine = Engine::open(config).await.unwrap();
        set_up(&engine, &id, &self.image, operation).await;
        let host = Host::start(&file, &self.image, &id, index, &Deed::Record);
        let (end, steps) = host.end();
        assert!(matches!(end, End::Done), "{}: {end:?}", operation.name);
        let seen = observe(&engine, &id, &self.words).await.unwrap();
        assert_eq!(seen, operation.after, "{}", operation.name);
        engine.workspace(&id).unwrap().delete(kill()).await.unwrap();
        engine.close().await;
        steps
    }

    /// Lets the operation meet the fault at each of its steps.
    pub(crate) async fn meet(
        &mut self,
        index: usize,
        operation: &Operation,
        steps: &[String],
        fault: Fault,
    ) -> Tally {
        let mut cases = self.cases(steps, fault);
        let (config, file) = self.config(operation);
        let engine = Engine::open(config.clone()).await.unwrap();
        each(&cases, async |case: &Case| set_up(&engine, &case.id, &self.image, operation).await).await;
        engine.close().await;
        let ends = self.strike(&file, index, &cases, fault).await;
        for (case, why) in cases.iter_mut().zip(ends) {
            case.faults.extend(why);
        }
        if fault == Fault::Database {
            for name in ["dunnage.db", "dunnage.db-wal", "dunnage.db-shm"] {
                let _ = std::fs::remove_file(config.data_root.join(name));
            }
        }
        match Engine::open(config).await {
            Ok(engine) => {
                self.look(&engine, operation, &mut cases).await;
                engine.close().await;
            }
            Err(error) => cases.iter_mut().for_each(|case| case.faults.push(format!("no engine: {error}"))),
        }
        if let Err(left) = self.nothing_left() {
            println!("FAIL {} with {fault:?}: {left}", operation.name);
            // Whoever left it, the batch is not whole.
            cases.iter_mut().take(1).for_each(|case| case.faults.push("something is left".to_owned()));
            self.before = self.rig.count();
        }
        for case in &cases {
            for why in &case.faults {
                println!("FAIL {} with {fault:?} {}: {why} ({})", operation.name, case.place, case.id);
            }
        }
        let recovered = cases.iter().filter(|case| case.faults.is_empty()).count();
        Tally { met: cases.len(), recovered }
    }

    fn cases(&mut self, steps: &[String], fault: Fault) -> Vec<Case> {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut cases = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let nth = seen.entry(step).or_default();
            *nth += 1;
            for side in fault.sides(index, index + 1 == steps.len()) {
                let place = Place { step: step.clone(), nth: *nth, side };
                cases.push(Case { id: self.fresh(), place, faults: Vec::new() });
            }
        }
        cases
    }

    /// Starts all hosts and breaks what is to break. Returns of each what is wrong with its end.
    async fn strike(
        &mut self,
        file: &Path,
        index: usize,
        cases: &[Case],
        fault: Fault,
    ) -> Vec<Option<String>> {
        let start = |case: &Case, deed: Deed| Host::start(file, &self.image, &case.id, index, &deed);
        if matches!(fault, Fault::Kill | Fault::Database) {
            return each(cases, async |case: &Case| {
                let host = start(case, Deed::Die(case.place.clone()));
                let end = tokio::task::spawn_blocking(move || host.end().0).await.unwrap();
                (!matches!(end, End::Killed)).then(|| format!("it never came there: {end:?}"))
            })
            .await;
        }
        let mut waiting = each(cases, async |case: &Case| {
            let mut host = start(case, Deed::Wait(case.place.clone()));
            tokio::task::spawn_blocking(move || (host.waits(), host)).await.unwrap()
        })
        .await;
        let mut filler = None;
        match &self.disk {
            Some(disk) if fault == Fault::Full => filler = Some(fill(disk)),
            _ => self.rig.containerd.kill9().unwrap(),
        }
        waiting.iter_mut().for_each(|(_, host)| host.go_on());
        if fault == Fault::Containerd {
            self.rig.containerd.restart().unwrap();
        }
        let ends = waiting.into_iter().map(|(waited, host)| async move {
            let end = tokio::task::spawn_blocking(move || host.end().0).await.unwrap();
            match end {
                _ if !waited => Some(format!("it never came there: {end:?}")),
                End::Done => None,
                End::Failed(error) if clear(&error, fault) => None,
                end => Some(format!("its end is not clear: {end:?}")),
            }
        });
        let ends = futures::future::join_all(ends).await;
        if let Some(filler) = filler {
            std::fs::remove_file(filler).unwrap();
        }
        ends
    }

    /// Looks at each workspace, and removes it.
    async fn look(&self, engine: &Engine, operation: &Operation, cases: &mut [Case]) {
        let deadline = Instant::now() + Duration::from_secs(15);
        let mut left = unfinished(engine).await.unwrap();
        while !left.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
            left = unfinished(engine).await.unwrap();
        }
        let states = each(cases, async |case: &Case| {
            let seen = observe(engine, &case.id, &self.words).await?;
            if seen != operation.before && seen != operation.after {
                return Err(format!("between before and after: {seen:?}"));
            }
            Ok(seen)
        })
        .await;
        let snapshots = self.snapshots();
        for (case, state) in cases.iter_mut().zip(&states) {
            let unfinished = left.iter().filter(|entry| entry.ends_with(&format!(" {}", case.id)));
            case.faults.extend(unfinished.map(|entry| format!("it stays in the journal: {entry}")));
            case.faults.extend(state.as_ref().err().cloned());
            let Ok(state) = state else { continue };
            let wanted = match state {
                State::Absent => 0,
                State::Holds { versions, .. } => versions.len() + 1,
            };
            let prefix = format!("workspace-{}-", case.id);
            let its: Vec<_> = snapshots.iter().filter(|key| key.starts_with(&prefix)).collect();
            if its.len() != wanted {
                case.faults.push(format!("{wanted} snapshots of it should be there: {its:?}"));
            }
        }
        let rest = each(cases, async |case: &Case| {
            let Ok(state) = observe_again(&states, cases, case) else { return None };
            go_on(engine, &case.id, &self.image, state).await.err()
        })
        .await;
        let deleted = each(cases, async |case: &Case| {
            let deleted = engine.workspace(&case.id).unwrap().delete(kill()).await;
            deleted.err().map(|error| format!("it cannot be deleted: {error}"))
        })
        .await;
        for (case, faults) in cases.iter_mut().zip(rest.into_iter().zip(deleted)) {
            case.faults.extend(faults.0);
            case.faults.extend(faults.1);
        }
    }

    /// The names of all snapshots.
    fn snapshots(&self) -> Vec<String> {
        let listed = self.rig.ctr(&["snapshots", "ls"]);
        listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }

    /// Waits until all is as it was.
    fn nothing_left(&self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let now = self.rig.count();
            // See `Rig::settle_but_shims`.
            let counts = |counts: &Leaks| Leaks { shims: 0, processes: 0, ..counts.clone() };
            let files: Vec<String> = ["run", "etc", "netns", "network"]
                .iter()
                .flat_map(|dir| names(&self.config.data_root.join(dir)))
                .filter(|name| name.contains("crash-"))
                .collect();
            if counts(&now) == counts(&self.before) && files.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let snapshots: Vec<_> =
                    self.snapshots().into_iter().filter(|key| key.starts_with("workspace-")).collect();
                let before = &self.before;
                return Err(format!(
                    "before {before:?}\nnow    {now:?}\nfiles {files:?}, snapshots {snapshots:?}"
                ));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The state that was seen of a case.
fn observe_again<'a>(
    states: &'a [Result<State, String>],
    cases: &[Case],
    case: &Case,
) -> Result<&'a State, &'a String> {
    let index = cases.iter().position(|other| other.id == case.id).unwrap_or_default();
    states[index].as_ref()
}

/// Does something with each case, some at a time, and returns what came of each, in order.
async fn each<T>(cases: &[Case], work: impl AsyncFn(&Case) -> T) -> Vec<T> {
    futures::stream::iter(cases).map(|case| work(case)).buffered(AT_ONCE).collect().await
}

/// Whether an error says what it is about.
fn clear(error: &str, fault: Fault) -> bool {
    let wanted: &[&str] = match fault {
        Fault::Full => &["RESOURCE_EXHAUSTED"],
        _ => &["UNAVAILABLE", "TIMEOUT"],
    };
    wanted.iter().any(|code| error.contains(&format!("\"{code}\"")))
}

/// Fills a disk to the last byte.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [1 << 20, 4096, 1] {
        let zeros = vec![0u8; size];
        while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
    }
    path
}

//! What breaks, and that it is mended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Rig, kill, lose_database, names, runtime_dir};
use dunnage::failpoints::{Side, unfinished};
use dunnage::types::{GcOptions, NetworkMode};
use dunnage::{Config, Engine};
use dunnage_harness::Leaks;
use futures::StreamExt;

use crate::common;
use crate::host::{Deed, End, Host, Place};
use crate::operations::{FLATTENING, Operation, State, operations};
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
    /// containerd is killed, and started again; the process goes on. Before a step it has no patience and ends while
    /// containerd is away; after a step it waits for it.
    Containerd,
    /// The disk below data and containerd is full until the operation has ended.
    Full,
}

impl Fault {
    /// Which sides of a step are worth it. Between two steps nothing changes, so a process that dies after one is as one that
    /// dies before the next.
    fn sides(self, index: usize, last: bool) -> Vec<Side> {
        match self {
            Self::Kill | Self::Database if last => vec![Side::Before, Side::After],
            Self::Kill | Self::Database => vec![Side::Before],
            Self::Containerd if index % 2 == 1 => vec![Side::Before, Side::After],
            Self::Containerd => vec![Side::Before],
            Self::Full if index.is_multiple_of(2) => vec![Side::Before],
            Self::Full => vec![Side::After],
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
    /// The disk below data and containerd.
    disk: PathBuf,
    made: usize,
}

/// A workspace, and where the operation on it meets the fault.
struct Case {
    id: String,
    place: Place,
    /// Of the engines for it alone, in memory and as a file for hosts.
    config: Config,
    file: PathBuf,
    /// What went wrong.
    faults: Vec<String>,
}

/// What came of some faults.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) met: usize,
    /// How many operations ended in an error, their process having gone on.
    pub(crate) refused: usize,
    pub(crate) recovered: usize,
}

impl Bench {
    /// Starts one on a disk of its own, in memory: what is killed loses nothing that it has written, and nobody waits for a
    /// real disk. Where it is to be filled it is small.
    pub(crate) async fn start(small: bool) -> Self {
        let mut rig = Rig::start();
        let disk = rig.containerd.dir().join("root");
        rig.containerd.kill9().unwrap();
        std::fs::create_dir_all(&disk).unwrap();
        let size = if small { "size=96m,mode=0755" } else { "size=1g,mode=0755" };
        common::run(Command::new("mount").args(["-t", "tmpfs", "-o", size, "crash-disk"]).arg(&disk));
        rig.containerd.restart().unwrap();
        let mut config = rig.config().runtime_dir(runtime_dir()).data_root(disk.join("w"));
        std::fs::create_dir(disk.join("w")).unwrap();
        config.time_limits.settle_ms = 3_000;
        let engine = Engine::open(config.clone()).await.unwrap();
        let image = rig.pulled(&engine, "busybox").await;
        let words = Words::learn(&engine, &image).await;
        engine.close().await;
        let before = rig.count();
        Self { rig, config, image, words, before, disk, made: 0 }
    }

    /// A case with a workspace of a name, and a data root, that nothing here has had.
    fn case(&mut self, operation: &Operation, place: Place, fault: Option<Fault>) -> Case {
        self.made += 1;
        let id = format!("crash-{}", self.made);
        let mut config = self.config.clone();
        config.data_root = self.config.data_root.join(&id);
        config.network.mode = operation.network;
        if operation.name == FLATTENING {
            config.flatten_at = 2;
        }
        if operation.network == NetworkMode::None {
            // No two requests are under way at a time, so none takes effect late.
            config.time_limits.settle_ms = 1;
        }
        let mut hosts = config.clone();
        if fault == Some(Fault::Containerd) {
            hosts.time_limits.connect_ms = if place.side == Side::Before { 1_500 } else { 60_000 };
        }
        let file = self.config.data_root.join(format!("{id}.json"));
        std::fs::write(&file, serde_json::to_string(&hosts).unwrap()).unwrap();
        Case { id, place, config, file, faults: Vec::new() }
    }

    /// Runs an operation without a fault and returns its steps.
    pub(crate) async fn steps(&mut self, index: usize, operation: &Operation) -> Vec<String> {
        let case = self.case(operation, Place { step: "-".to_owned(), nth: 0, side: Side::Before }, None);
        self.prepare(&case, operation).await;
        let (end, steps) = Host::start(&case.file, &self.image, &case.id, index, &Deed::Record).end();
        assert!(matches!(end, End::Done), "{}: {end:?}", operation.name);
        let engine = Engine::open(case.config).await.unwrap();
        let seen = observe(&engine, &case.id, &self.words, operation).await.unwrap();
        let fine = seen == operation.after || (operation.broken.is_some() && seen == operation.before);
        assert!(fine, "{}: {seen:?}", operation.name);
        engine.workspace(&case.id).unwrap().delete(kill()).await.unwrap();
        engine.close().await;
        steps
    }

    /// Makes the workspace, and breaks what is to be broken before.
    async fn prepare(&self, case: &Case, operation: &Operation) {
        set_up(&case.config, &case.id, &self.image, operation).await;
        if operation.lost {
            let container = format!("workspace-{}", case.id);
            self.rig.ctr(&["tasks", "rm", "-f", &container]);
            self.rig.ctr(&["containers", "rm", "--keep-snapshot", &container]);
        }
        let Some((broken, place)) = &operation.broken else { return };
        let index = operations().iter().position(|operation| operation.name == *broken).unwrap();
        let host = Host::start(&case.file, &self.image, &case.id, index, &Deed::Die(place.clone()));
        let end = tokio::task::spawn_blocking(move || host.end().0).await.unwrap();
        assert!(matches!(end, End::Killed), "{broken} was to be broken: {end:?}");
    }

    /// Lets the operation meet the fault at each of its steps.
    pub(crate) async fn meet(
        &mut self,
        index: usize,
        operation: &Operation,
        steps: &[String],
        fault: Fault,
    ) -> Tally {
        let mut cases = self.cases(operation, steps, fault);
        each(&cases, async |case: &Case| self.prepare(case, operation).await).await;
        let ends = self.strike(index, &cases, fault).await;
        let mut refused = 0;
        for (case, end) in cases.iter_mut().zip(ends) {
            match end {
                Ok(error) => refused += usize::from(error),
                Err(why) => case.faults.push(why),
            }
        }
        self.look(operation, &mut cases, fault).await;
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
        Tally { met: cases.len(), refused, recovered }
    }

    fn cases(&mut self, operation: &Operation, steps: &[String], fault: Fault) -> Vec<Case> {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut cases = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let nth = seen.entry(step).or_default();
            *nth += 1;
            for side in fault.sides(index, index + 1 == steps.len()) {
                cases.push(self.case(operation, Place { step: step.clone(), nth: *nth, side }, Some(fault)));
            }
        }
        cases
    }

    /// Starts all hosts and breaks what is to break. Returns of each whether it ended in an error, or what is wrong
    /// with its end.
    async fn strike(&mut self, index: usize, cases: &[Case], fault: Fault) -> Vec<Result<bool, String>> {
        let start = |case: &Case, deed: Deed| Host::start(&case.file, &self.image, &case.id, index, &deed);
        if matches!(fault, Fault::Kill | Fault::Database) {
            return each(cases, async |case: &Case| {
                let host = start(case, Deed::Die(case.place.clone()));
                let end = tokio::task::spawn_blocking(move || host.end().0).await.unwrap();
                if fault == Fault::Database {
                    lose_database(&case.config);
                }
                match end {
                    End::Killed => Ok(false),
                    end => Err(format!("it never came there: {end:?}")),
                }
            })
            .await;
        }
        let mut waiting = each(cases, async |case: &Case| {
            let mut host = start(case, Deed::Wait(case.place.clone()));
            tokio::task::spawn_blocking(move || (host.waits(), host)).await.unwrap()
        })
        .await;
        let mut filler = None;
        if fault == Fault::Full {
            filler = Some(fill(&self.disk));
        } else {
            self.rig.containerd.kill9().unwrap();
        }
        waiting.iter_mut().for_each(|(_, host)| host.go_on());
        let ends = waiting.into_iter().map(|(waited, host)| {
            tokio::task::spawn_blocking(move || match host.end().0 {
                end if !waited => Err(format!("it never came there: {end:?}")),
                End::Done => Ok(false),
                End::Failed(error) if clear(&error, fault) => Ok(true),
                end => Err(format!("its end is not clear: {end:?}")),
            })
        });
        let mut ends: Vec<_> = ends.collect();
        if fault == Fault::Containerd {
            for (case, end) in cases.iter().zip(&mut ends) {
                if case.place.side == Side::Before {
                    let ended = (&mut *end).await.unwrap();
                    *end = tokio::spawn(async { ended });
                }
            }
            self.rig.containerd.restart().unwrap();
        }
        let ends = futures::future::join_all(ends).await.into_iter().map(Result::unwrap).collect();
        if let Some(filler) = filler {
            std::fs::remove_file(filler).unwrap();
        }
        ends
    }

    /// Looks at each workspace with a new engine, and removes it.
    async fn look(&self, operation: &Operation, cases: &mut [Case], fault: Fault) {
        let seen = each(cases, async |case: &Case| {
            let engine = Engine::open(case.config.clone()).await.map_err(|e| format!("no engine: {e}"))?;
            mended(&engine).await?;
            let state = observe(&engine, &case.id, &self.words, operation).await?;
            let between = operation.between.as_ref().filter(|_| fault == Fault::Database);
            if state != operation.before && state != operation.after && Some(&state) != between {
                return Err(format!("between before and after: {state:?}"));
            }
            // Copies that were made or about to be made of versions may be left, and are known for what they are.
            let collected =
                engine.gc(GcOptions::default()).await.map_err(|e| format!("nothing is collected: {e}"))?;
            if !collected.problems.is_empty() {
                return Err(format!("not all is collected: {:?}", collected.problems));
            }
            Ok((engine, state))
        })
        .await;
        let snapshots = self.snapshots();
        for (case, seen) in cases.iter_mut().zip(&seen) {
            let Ok((_, state)) = seen else { continue };
            let wanted = match state {
                State::Absent => 0,
                State::Holds { versions, .. } => versions.len() + 1,
            };
            let prefix = format!("workspace-{}-", case.id);
            let its: Vec<_> = snapshots.iter().filter(|key| key.starts_with(&prefix)).collect();
            if !(wanted..=wanted + operation.bases).contains(&its.len()) {
                case.faults.push(format!("{wanted} snapshots of it should be there: {its:?}"));
            }
        }
        let work = futures::stream::iter(cases.iter_mut().zip(seen)).map(async |(case, seen)| {
            let gone_on = async {
                let (engine, state) = seen?;
                go_on(&engine, &case.id, &self.image, &operation.before, &state).await?;
                let deleted = engine.workspace(&case.id).unwrap().delete(kill()).await;
                deleted.map_err(|error| format!("it cannot be deleted: {error}"))?;
                engine.close().await;
                Ok(())
            };
            let why: Result<(), String> = gone_on.await;
            case.faults.extend(why.err());
        });
        work.buffered(AT_ONCE).collect::<Vec<()>>().await;
    }

    /// The names of all snapshots.
    fn snapshots(&self) -> Vec<String> {
        let listed = self.rig.ctr(&["snapshots", "ls"]);
        listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }

    /// The files of workspaces in all data roots.
    fn files(&self) -> Vec<String> {
        let root = &self.config.data_root;
        let dirs = names(root)
            .into_iter()
            .flat_map(|id| ["run", "etc", "netns", "network"].map(|dir| root.join(&id).join(dir)));
        dirs.flat_map(|dir| names(&dir)).filter(|name| name.contains("crash-")).collect()
    }

    /// Waits until all is as it was.
    fn nothing_left(&self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let now = self.rig.count();
            // See `Rig::settle_but_shims`.
            let counts = |counts: &Leaks| Leaks { shims: 0, processes: 0, ..counts.clone() };
            let files = self.files();
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

/// Waits until the journal is empty.
async fn mended(engine: &Engine) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let left = unfinished(engine).await.map_err(|e| format!("the journal: {e}"))?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("it stays in the journal: {left:?}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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

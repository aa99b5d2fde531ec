//! A host program for tests that need one to kill, to run twice, to run as somebody else, or to count.
//!
//! ```text
//! dunnage-faults open  CONFIG                        open an engine, say `ok` or the error as JSON
//! dunnage-faults once  CONFIG create|delete|stop|start ID IMAGE   say `begin`, do it, say `ok` or the error
//! dunnage-faults pull  CONFIG IMAGE                  say `begin`, pull, say `ok` or the error
//! dunnage-faults events CONFIG ID                   say `begin`, then each event, until that workspace is removed
//! dunnage-faults streams CONFIG ID STOPPED           open a stream of every kind, say `begin`, wait for its death
//! dunnage-faults churn CONFIG IMAGE SEED COUNT ID…   COUNT random operations on each id at once, say what came of each
//! dunnage-faults hammer CONFIG ID SEED COUNT         COUNT random operations on versions from each of 8 tasks, say what came of each
//! dunnage-faults census CONFIG IMAGE ROUNDS          descriptors and threads before and after whole lives, as JSON
//! ```
//! CONFIG is a file of the library's own format.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its result")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use dunnage::types::{
    AttachOptions, CreateOptions, DeleteOptions, EventsOptions, ExecOptions, LifecycleKind, OpenReadOptions,
    PullOptions, RunOptions, SnapshotCreateOptions, SnapshotListOptions, SnapshotRollbackOptions,
    StartOptions, StopOptions, WatchOptions, WriteOptions,
};
use dunnage::{Config, Engine, Error, ErrorKind, Workspace};
use serde_json::json;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Library(error)) => {
            println!("{}", error.to_json());
            ExitCode::from(3)
        }
        Err(Failure::Other(message)) => {
            eprintln!("dunnage-faults: {message}");
            ExitCode::from(2)
        }
    }
}

/// Why it did not work: the library said so, or something around it.
enum Failure {
    Library(Error),
    Other(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

fn run(words: &[&str]) -> Result<(), Failure> {
    let [command, config, rest @ ..] = words else { return Err(other("say a command and a configuration")) };
    let config = Config::from_file(config)?;
    match (*command, rest) {
        ("open", []) => runtime()?.block_on(async {
            Engine::open(config).await?.close().await;
            println!("ok");
            Ok(())
        }),
        ("once", [operation, id, image]) => runtime()?.block_on(once(config, operation, id, image)),
        ("events", [until]) => runtime()?.block_on(events(config, until)),
        ("pull", [image]) => runtime()?.block_on(pull(config, image)),
        ("streams", [id, stopped]) => runtime()?.block_on(streams(config, id, stopped)),
        ("churn", [image, seed, count, ids @ ..]) => {
            let (seed, count) = (seed.parse().map_err(other)?, count.parse().map_err(other)?);
            runtime()?.block_on(churn(config, image, seed, count, ids))
        }
        ("hammer", [id, seed, count]) => {
            let (seed, count) = (seed.parse().map_err(other)?, count.parse().map_err(other)?);
            threads(8)?.block_on(hammer(config, id, seed, count))
        }
        ("census", [image, rounds]) => census(&config, image, rounds.parse().map_err(other)?),
        _ => Err(other("unknown command")),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    threads(2)
}

fn threads(count: usize) -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(count).enable_all().build().map_err(other)
}

/// The numbers that a seed gives.
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(stream) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 33
    }
}

async fn once(config: Config, operation: &str, id: &str, image: &str) -> Result<(), Failure> {
    let engine = Engine::open(config).await?;
    let workspace = engine.workspace(id)?;
    println!("begin");
    match operation {
        "create" => workspace.create(CreateOptions::default().image(image)).await.map(drop)?,
        "delete" => workspace.delete(DeleteOptions::default().grace_ms(0u64)).await.map(drop)?,
        "stop" => workspace.stop(StopOptions::default().grace_ms(0u64)).await.map(drop)?,
        "start" => workspace.start(StartOptions::default()).await.map(drop)?,
        _ => return Err(other("unknown operation")),
    }
    println!("ok");
    engine.close().await;
    Ok(())
}

async fn pull(config: Config, image: &str) -> Result<(), Failure> {
    let engine = Engine::open(config).await?;
    println!("begin");
    engine.image().pull(PullOptions::default().image(image)).await?;
    println!("ok");
    engine.close().await;
    Ok(())
}

/// Follows the events, each a line, until a workspace of this id is removed.
async fn events(config: Config, until: &str) -> Result<(), Failure> {
    let engine = Engine::open(config).await?;
    let mut events = engine.events(EventsOptions::default()).await?;
    println!("begin");
    while let Some(event) = events.next().await {
        let event = event?;
        println!("{}", serde_json::to_string(&event).map_err(other)?);
        if event.kind == LifecycleKind::Delete && event.workspace_id.as_deref() == Some(until) {
            break;
        }
    }
    engine.close().await;
    Ok(())
}

/// Opens a stream of every kind in a workspace that runs, and a file in one that does not, and never ends.
async fn streams(config: Config, id: &str, stopped: &str) -> Result<(), Failure> {
    let engine = Engine::open(config).await?;
    let (workspace, rests) = (engine.workspace(id)?, engine.workspace(stopped)?);
    let command = |line: &str| ExecOptions::default().command(line);
    let fs = workspace.fs();
    let silent = workspace.exec().spawn(command("sleep 5000 & sleep 5000").stdin(true)).await?;
    // Its output waits for a reader that never comes.
    let loud = workspace.exec().spawn(command("yes 5000")).await?;
    let terminal = workspace.exec().spawn(command("sleep 5000").pty(true)).await?;
    let session = workspace.exec().spawn(command("cat").stdin(true).detach(true).session_id("long")).await;
    let attached = match session {
        // The host before it has left it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            workspace.exec().attach(AttachOptions::default().session_id("long")).await?
        }
        session => session?,
    };
    let reader = fs.open_read(OpenReadOptions::default().path("big")).await?;
    reader.next_chunk().await?;
    let writer = fs.open_write(WriteOptions::default().path("half")).await?;
    writer.write("half of it").await?;
    let changes = fs.watch(WatchOptions::default().path("/data")).await?;
    let resting = rests.fs().open_write(WriteOptions::default().path("half")).await?;
    resting.write("half of it").await?;
    println!("begin");
    std::future::pending::<()>().await;
    drop((silent, loud, terminal, attached, reader, writer, changes, resting));
    Ok(())
}

/// Random operations on all ids at once; each prints `<operation> <id> <outcome>`.
async fn churn(config: Config, image: &str, seed: u64, count: u32, ids: &[&str]) -> Result<(), Failure> {
    let engine = Engine::open(config).await?;
    let tasks: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| {
            let (engine, id, image) = (engine.clone(), (*id).to_owned(), image.to_owned());
            tokio::spawn(async move {
                let mut random = Random::new(seed, n as u64);
                for _ in 0..count {
                    let (operation, result) = step(&engine, &id, &image, random.next()).await;
                    let outcome = match result {
                        Ok(()) => "OK".to_owned(),
                        Err(error) => format!("{} {error}", error.kind().as_str()),
                    };
                    println!("{operation} {id} {outcome}");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(other)?;
    }
    engine.close().await;
    Ok(())
}

/// Random operations on one workspace's versions, from 8 tasks at once; each prints `<operation> <outcome> <version made, or ->`.
async fn hammer(config: Config, id: &str, seed: u64, count: u32) -> Result<(), Failure> {
    let engine = Engine::open(config).await?;
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let workspace = engine.workspace(id)?;
            Ok(tokio::spawn(async move {
                let mut random = Random::new(seed, n);
                for _ in 0..count {
                    let (operation, result) = strike(&workspace, random.next()).await;
                    match result {
                        Ok(Some(version)) => println!("{operation} OK {version}"),
                        Ok(None) => println!("{operation} OK -"),
                        Err(error) => println!("{operation} {} {error}", error.kind().as_str()),
                    }
                }
            }))
        })
        .collect::<Result<_, Error>>()?;
    for task in tasks {
        task.await.map_err(other)?;
    }
    engine.close().await;
    Ok(())
}

async fn strike(workspace: &Workspace, random: u64) -> (&'static str, Result<Option<u64>, Error>) {
    let snapshots = workspace.snapshots();
    match random % 6 {
        0 | 1 => {
            let options = SnapshotCreateOptions::default().grace_ms(0u64);
            ("create", snapshots.create(options).await.map(|made| Some(made.version)))
        }
        2 => {
            let options = SnapshotRollbackOptions::default().version(1u64).grace_ms(0u64);
            let options = options.discard(random & 64 == 0);
            ("rollback", snapshots.rollback(options).await.map(|back| back.kept_version))
        }
        3 | 4 => ("list", snapshots.list(SnapshotListOptions::default()).await.map(|_| None)),
        _ => {
            let options = RunOptions::default().command("cat /data/w/first");
            ("exec", workspace.exec().run(options, "").await.map(|_| None))
        }
    }
}

async fn step(engine: &Engine, id: &str, image: &str, random: u64) -> (&'static str, Result<(), Error>) {
    let workspace = match engine.workspace(id) {
        Ok(workspace) => workspace,
        Err(error) => return ("workspace", Err(error)),
    };
    match random % 8 {
        0..=2 => ("create", workspace.create(CreateOptions::default().image(image)).await.map(drop)),
        3 => ("start", workspace.start(StartOptions::default()).await.map(drop)),
        4 => ("ensure", workspace.ensure_running(StartOptions::default()).await.map(drop)),
        5 => ("stop", workspace.stop(StopOptions::default().grace_ms(0u64)).await.map(drop)),
        6 => ("delete", workspace.delete(DeleteOptions::default().grace_ms(0u64)).await.map(drop)),
        _ => ("info", workspace.info().await.map(drop)),
    }
}

/// Whole lives in a process that does nothing else, so that what stays is the library's.
fn census(config: &Config, image: &str, rounds: u32) -> Result<(), Failure> {
    // What the first runtime sets up for the whole process is nobody's leak.
    runtime()?.block_on(async { tokio::task::yield_now().await });
    let before = (count("/proc/self/fd")?, count("/proc/self/task")?);
    let mut after_each = Vec::new();
    for round in 0..rounds {
        let runtime = runtime()?;
        runtime.block_on(async {
            let engine = Engine::open(config.clone()).await?;
            let workspace = engine.workspace(format!("census-{round}"))?;
            workspace.create(CreateOptions::default().image(image)).await?;
            workspace.fs().write(WriteOptions::default().path("a/b"), "bytes").await?;
            for _ in 0..5 {
                workspace.exec().run(RunOptions::default().command("cat a/b"), "").await?;
            }
            workspace.stop(StopOptions::default().grace_ms(0u64)).await?;
            workspace.start(StartOptions::default()).await?;
            workspace.delete(DeleteOptions::default().grace_ms(0u64)).await?;
            engine.close().await;
            Ok::<(), Failure>(())
        })?;
        drop(runtime);
        // The kernel lists a thread for a moment after it has been joined.
        let patience = Instant::now();
        while count("/proc/self/task")? > before.1 && patience.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
        after_each.push(json!({ "fds": count("/proc/self/fd")?, "threads": count("/proc/self/task")? }));
    }
    println!("{}", json!({ "before": { "fds": before.0, "threads": before.1 }, "after": after_each }));
    Ok(())
}

fn count(dir: &str) -> Result<usize, Failure> {
    Ok(std::fs::read_dir(dir).map_err(other)?.count())
}

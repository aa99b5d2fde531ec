//! The process that meets the fault: this program again, told by its environment what to do.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use dunnage::failpoints::{Side, on_step};
use dunnage::{Config, Engine, Error};

use crate::operations::operations;

/// What it is to do, as words with spaces: the variable that makes this program a host.
const ORDER: &str = "DUNNAGE_CRASH_ORDER";

/// A place in an operation: the `nth` step of this name, from 1, and a side of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) step: String,
    pub(crate) nth: usize,
    pub(crate) side: Side,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = if self.side == Side::Before { "before" } else { "after" };
        write!(f, "{side} {}", self.step)?;
        if self.nth > 1 { write!(f, " {}", self.nth) } else { Ok(()) }
    }
}

/// What a host does where it is told to.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// Prints every step and goes on.
    Record,
    /// Ends like by SIGKILL.
    Die(Place),
    /// Says so and waits until it is told to go on.
    Wait(Place),
}

/// A running host. It is ended at the latest when this is dropped.
pub(crate) struct Host {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// How a host ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By SIGKILL.
    Killed,
    /// With success.
    Done,
    /// With this error, as JSON.
    Failed(String),
}

impl Host {
    /// Starts one that does operation `index` on the workspace.
    pub(crate) fn start(config: &Path, image: &str, id: &str, index: usize, deed: &Deed) -> Self {
        let (deed, place) = match deed {
            Deed::Record => ("record", None),
            Deed::Die(place) => ("die", Some(place)),
            Deed::Wait(place) => ("wait", Some(place)),
        };
        let place = place.map_or_else(
            || "- 0 -".to_owned(),
            |place| {
                let side = if place.side == Side::Before { "before" } else { "after" };
                format!("{} {} {side}", place.step, place.nth)
            },
        );
        let order = format!("{} {image} {id} {index} {deed} {place}", config.display());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(ORDER, order)
            // What it leaves there when it dies goes with the daemon's directory.
            .env("TMPDIR", config.parent().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until it is where it was to wait. False when it ended before.
    pub(crate) fn waits(&mut self) -> bool {
        self.lines.by_ref().map_while(Result::ok).any(|line| line == "waiting")
    }

    /// Tells it to go on.
    pub(crate) fn go_on(&mut self) {
        // It may have died meanwhile, which its end tells.
        let _ = self.child.stdin.take().map(|mut to| to.write_all(b"go\n"));
    }

    /// Waits for its end. Returns its steps too, if it was to tell them.
    pub(crate) fn end(mut self) -> (End, Vec<String>) {
        let lines: Vec<String> = self.lines.by_ref().map_while(Result::ok).collect();
        let status = self.child.wait().unwrap();
        let steps = lines.iter().filter_map(|line| line.strip_prefix("step ")).map(str::to_owned).collect();
        let end = if status.signal() == Some(9) {
            End::Killed
        } else if lines.iter().any(|line| line == "ok") {
            End::Done
        } else {
            End::Failed(lines.last().cloned().unwrap_or_else(|| status.to_string()))
        };
        (end, steps)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the host, if this process is to be one.
pub(crate) fn be_one() -> Option<()> {
    let order = std::env::var(ORDER).ok()?;
    let words: Vec<&str> = order.split(' ').collect();
    let [config, image, id, index, deed, step, nth, side] = words[..] else {
        panic!("malformed order: {order}")
    };
    let operation = operations().swap_remove(index.parse().unwrap());
    let config = Config::from_file(config).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let done: Result<(), Error> = runtime.block_on(async {
        let side = if side == "before" { Side::Before } else { Side::After };
        let place = Place { step: step.to_owned(), nth: nth.parse().unwrap(), side };
        let image = image.to_owned();
        // In tasks: where this thread drives the runtime, it could not be held without holding all others.
        let engine = if let Some(run) = operation.run {
            let engine = Engine::open(config).await?;
            let workspace = engine.workspace(id)?;
            arm(deed, place);
            tokio::spawn(run(engine.clone(), workspace, image)).await.unwrap()?;
            engine
        } else {
            arm(deed, place);
            tokio::spawn(Engine::open(config)).await.unwrap()?
        };
        // What comes after the operation is no step of it.
        on_step(|_, _| ());
        engine.close().await;
        Ok(())
    });
    match done {
        Ok(()) => println!("ok"),
        Err(error) => println!("{}", error.to_json()),
    }
    Some(())
}

/// Waits for the place, and does the deed there.
fn arm(deed: &str, place: Place) {
    let deed = deed.to_owned();
    let counts: Mutex<HashMap<(&'static str, bool), usize>> = Mutex::default();
    on_step(move |step, side| {
        let nth = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry((step, side == Side::Before)).or_default();
            *count += 1;
            *count
        };
        if deed == "record" && side == Side::Before {
            println!("step {step}");
        }
        if (step, nth, side) != (place.step.as_str(), place.nth, place.side) {
            return;
        }
        let die = || {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        };
        if deed == "die" {
            die();
        }
        tokio::task::block_in_place(|| {
            println!("waiting");
            // Without a word, the test is gone: nobody would see what comes of this.
            if std::io::stdin().lock().read_line(&mut String::new()).unwrap_or_default() == 0 {
                die();
            }
        });
    });
}

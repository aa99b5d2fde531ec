//! The warden's own process.

use std::fs::{self, DirBuilder, File};
use std::io::{BufRead, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{SignalKind, signal};

use super::children::Children;
use super::protocol::{Request, Response};
use super::sweep;
use crate::error::{Context, Error, Result};
use crate::paths;
use crate::teardown;

/// Plays the warden until standard input ends or a signal arrives, then removes everything it guarded.
///
/// For the program `dunnage-harness warden`; no test calls it.
///
/// # Errors
/// When its directory cannot be made, or something could not be removed.
pub fn run() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("cannot adopt orphans")?;
    let children = Arc::new(Children::default());
    let reaper = Arc::clone(&children);
    thread::spawn(move || reaper.reap_for_ever());

    let base = paths::base_dir()?;
    sweep::remove_ownerless(&base, &children);
    let home = make_home()?;
    let keeper = Arc::new(Keeper { home, children, done: Mutex::new(false) });
    end_on_signal(Arc::clone(&keeper))?;

    let mut out = std::io::stdout();
    answer(&mut out, &Response::Ready { home: keeper.home.path.clone() })?;
    for line in std::io::stdin().lock().lines() {
        // A broken pipe is the owner's end like any other.
        let Ok(line) = line else { break };
        let response = match serde_json::from_str(&line) {
            Ok(request) => keeper.serve(request),
            Err(error) => Response::Failed { message: format!("cannot understand a request: {error}") },
        };
        if answer(&mut out, &response).is_err() {
            break;
        }
    }
    keeper.end()
}

fn answer(out: &mut impl Write, response: &Response) -> Result<()> {
    let mut line = serde_json::to_string(response).context("cannot encode an answer")?;
    line.push('\n');
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("the owner is gone")
}

/// A directory and the lock that says it has an owner.
struct Home {
    path: PathBuf,
    _lock: File,
}

fn make_home() -> Result<Home> {
    let mut tries = 0;
    let path = loop {
        let path = paths::base_dir()?.join(paths::random_hex(4)?);
        match DirBuilder::new().mode(0o711).create(&path) {
            Ok(()) => break path,
            // Another warden found the base empty and removed it.
            Err(error) if error.kind() == ErrorKind::NotFound && tries < 100 => tries += 1,
            Err(error) => return Err(error).context(format_args!("cannot make {}", path.display())),
        }
    };
    let lock = File::create(path.join(sweep::LOCK)).context("cannot make the lock")?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).context("cannot take the lock")?;
    Ok(Home { path, _lock: lock })
}

/// Everything the warden answers for.
struct Keeper {
    home: Home,
    children: Arc<Children>,
    done: Mutex<bool>,
}

impl Keeper {
    fn serve(&self, request: Request) -> Response {
        match self.try_serve(request) {
            Ok(response) => response,
            Err(error) => Response::Failed { message: error.to_string() },
        }
    }

    fn try_serve(&self, request: Request) -> Result<Response> {
        match request {
            Request::Spawn { argv, env, dir, log } => {
                Ok(Response::Spawned { pid: self.children.spawn(&argv, &env, &dir, &log)? })
            }
            Request::Signal { pid, signal } => self.children.signal(pid, signal).map(|()| Response::Done),
            Request::Status { pid } => match self.children.status(pid) {
                Some(exit) => Ok(Response::Status { running: exit.is_none(), exit }),
                None => Err(Error::new(format!("process {pid} was not started here"))),
            },
            Request::Teardown { dir } => {
                if dir.parent() != Some(&self.home.path) {
                    return Err(Error::new(format!("{} is not ours to remove", dir.display())));
                }
                teardown::remove(&dir, &self.children).map(|()| Response::Done)
            }
        }
    }

    /// Removes everything, once.
    fn end(&self) -> Result<()> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *done, true) {
            return Ok(());
        }
        let mut first = Ok(());
        for entry in fs::read_dir(&self.home.path).context("cannot list the directory")?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let removed = teardown::remove(&entry.path(), &self.children);
                first = first.and(removed);
            }
        }
        teardown::kill_descendants_of(std::process::id());
        let removed = teardown::remove(&self.home.path, &self.children);
        // Other wardens may live beside us; the last one takes the base away, and what they all shared.
        if self.home.path.parent().is_some_and(|base| fs::remove_dir(base).is_ok()) {
            teardown::remove_idle_chains(&self.children);
        }
        removed.and(first)
    }
}

/// A terminated warden cleans up first.
fn end_on_signal(keeper: Arc<Keeper>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot listen for signals")?;
    let (mut interrupt, mut terminate, mut hangup) = runtime
        .block_on(async {
            Ok::<_, std::io::Error>((
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ))
        })
        .context("cannot listen for signals")?;
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} _ = hangup.recv() => {} }
        });
        let code = i32::from(keeper.end().is_err()) + 128 + 15;
        // The main thread is blocked in a read that nothing else can end.
        #[expect(clippy::disallowed_methods, reason = "this is the warden's own process, not a host's")]
        std::process::exit(code);
    });
    Ok(())
}

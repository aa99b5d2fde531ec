//! The agent's process: limits, runtime, and what happens before it serves.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, set_child_subreaper, setrlimit, umask};

use super::config::Config;
use super::server::{self, Sockets};
use super::state::Agent;
use super::tree::Tree;
use super::{channel, memory, own_fds, seed, threads};
use crate::consts::FILES;

/// How long a thread for calls that may wait stays when there is nothing to do.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Runs the agent until it is told to stop; the whole of the binary.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("cannot serve: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> std::io::Result<()> {
    memory::tune();
    umask(Mode::from_raw_mode(0o022));
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|arg| arg == FILES) {
        return run_files(args);
    }
    // As process 1 it inherits orphans anyway.
    if let Err(error) = set_child_subreaper(rustix::process::Pid::from_raw(1)) {
        complain(&format!("orphans will not be reaped: {error}"));
    }
    own_fds::keep();
    let nofile = raise_nofile();
    let config = Config::from_env();
    if let Err(error) = seed::seed(&config.templates(), &config.data_dir) {
        // Files elsewhere and commands still work.
        complain(&format!("cannot make {}: {error}", config.data_dir.display()));
    }
    block_on(server::run(Arc::new(Agent::new(config, nofile))))
}

/// Serves a tree of files that the host has opened; see [`tree`].
fn run_files(args: impl Iterator<Item = OsString>) -> std::io::Result<()> {
    let tree = Tree::take(args)?;
    let config = Config { files_only: true, ..Config::from_env() };
    let sockets = Sockets::bind(&config)?;
    tree.enter()?;
    let nofile = raise_nofile();
    block_on(async {
        let host = channel::register(tree.host)?;
        let follow = tree.follow.map(channel::register).transpose()?;
        let serving = server::run_until(Arc::new(Agent::new(config, nofile)), sockets, async {
            let followed = async {
                match &follow {
                    Some(process) => drop(process.readable().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The host never writes: its end was closed.
                _ = host.readable() => {}
                () = followed => {}
            }
        });
        // One byte tells that connections are taken: they wait in the sockets' queues.
        rustix::io::write(&host, b"\n")?;
        serving.await
    })
}

fn block_on(work: impl Future<Output = std::io::Result<()>>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(threads::MOST)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .build()?;
    let result = runtime.block_on(work);
    // A system call that hangs in a thread does not keep the workspace from stopping.
    runtime.shutdown_background();
    result
}

/// Lets the agent itself have as many descriptors as it may; returns the limit that commands start with.
fn raise_nofile() -> Option<Rlimit> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).ok().map(|()| limit)
}

/// One line for the container's log.
fn complain(message: &str) {
    // There is nowhere to report that the log is closed.
    let _ = writeln!(std::io::stderr(), "dunnage-bridge: {message}");
}

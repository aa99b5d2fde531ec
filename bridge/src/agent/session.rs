//! A running command: its output out, its input in, and one way to end it.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::Stream;
use prost::bytes::Bytes;
use rustix::process::{Signal, WaitStatus};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::feed::{self, End, Input};
use super::kill;
use super::pump;
use super::spawn::Running;
use super::state::Agent;

/// Pieces of output that may wait for a client.
pub(crate) const QUEUE: usize = 8;
/// How long a command has to end by itself after it was asked to.
const POLITE: Duration = Duration::from_millis(200);
/// How long a killed command may take to be gone: the kernel can hold one up in the middle of a system call.
const STUCK: Duration = Duration::from_secs(2);

/// What a session tells its client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Standard output, or a terminal's output.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// The last event.
    Exited(Exit),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// The exit code, or 128 + signal.
    pub(crate) code: i32,
    /// The signal, or 0.
    pub(crate) signal: i32,
    /// The time limit ended it.
    pub(crate) timed_out: bool,
}

impl Exit {
    fn new(status: Option<WaitStatus>, timed_out: bool) -> Self {
        // Without a status it was killed and has not gone yet.
        let signal = status.map_or(Some(Signal::KILL.as_raw()), WaitStatus::terminating_signal);
        let code = status.and_then(WaitStatus::exit_status);
        match (signal, code) {
            (Some(signal), _) => Self { code: 128 + signal, signal, timed_out },
            (None, code) => Self { code: code.unwrap_or_default(), signal: 0, timed_out },
        }
    }
}

/// Runs a session to its end. Every session is a task of its own, which a client that goes away does not tear down: it
/// ends the command first.
///
/// The command is ended (SIGTERM, or SIGHUP on a terminal; SIGKILL 200 ms later; to its whole session) when `limit`
/// passes, when the client goes away, and when the agent stops.
pub(crate) async fn run<S>(
    agent: Arc<Agent>,
    running: Running,
    limit: Option<Duration>,
    input: S,
    out: mpsc::Sender<Event>,
) where
    S: Stream<Item = Result<Input, tonic::Status>> + Unpin,
{
    let _counted = agent.enter();
    let Running { pid, mut exit, stdin, stdout, stderr, terminal } = running;
    let (mut timed_out, mut is_ending) = (false, false);
    let status = {
        let mut output = pin!(async {
            tokio::join!(pump::run(&stdout, &out, Event::Stdout), async {
                if let Some(stderr) = &stderr {
                    pump::run(stderr, &out, Event::Stderr).await;
                }
            });
        });
        let tty = terminal.then(|| Arc::clone(&stdout));
        let mut feed = pin!(feed::run(input, stdin, tty, pid));
        let mut stopped = pin!(agent.stopped());
        let mut limit = pin!(after(limit));
        let mut ending = pin!(end(pid, terminal));
        let (mut output_done, mut feed_done) = (false, false);
        loop {
            tokio::select! {
                biased;
                status = &mut exit => break status.ok(),
                () = &mut limit, if !is_ending => (is_ending, timed_out) = (true, true),
                () = out.closed(), if !is_ending => is_ending = true,
                () = &mut stopped, if !is_ending => is_ending = true,
                () = &mut ending, if is_ending => break None,
                reason = &mut feed, if !feed_done => {
                    feed_done = true;
                    is_ending |= reason == End::Broken;
                }
                () = &mut output, if !output_done => output_done = true,
            }
        }
    };
    if is_ending {
        // What it started is ended too, and has the same time for it.
        finish(pid).await;
    }
    let (out_ended, err_ended) = tokio::join!(pump::drain(&stdout, &out, Event::Stdout), async {
        match &stderr {
            Some(stderr) => pump::drain(stderr, &out, Event::Stderr).await,
            None => true,
        }
    });
    // Fails when nobody listens any more, which is the same in the end.
    let _ = out.send(Event::Exited(Exit::new(status, timed_out))).await;
    drop(out);
    if !out_ended && !terminal {
        tokio::spawn(pump::discard(stdout));
    }
    if let (Some(stderr), false) = (stderr, err_ended) {
        tokio::spawn(pump::discard(stderr));
    }
}

async fn after(limit: Option<Duration>) {
    // A limit past the end of the clock is none.
    match limit.and_then(|limit| Instant::now().checked_add(limit)) {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Ends the session of `pid`; completes when it has been given up on.
async fn end(pid: rustix::process::Pid, terminal: bool) {
    kill::session(pid, if terminal { Signal::HUP } else { Signal::TERM });
    // A stopped process takes no signal but these.
    kill::session(pid, Signal::CONT);
    tokio::time::sleep(POLITE).await;
    kill::session(pid, Signal::KILL);
    tokio::time::sleep(STUCK).await;
}

/// Waits for the rest of an ended session, and kills what stays.
async fn finish(pid: rustix::process::Pid) {
    let until = Instant::now() + POLITE;
    while Instant::now() < until {
        if !kill::lives(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    kill::session(pid, Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_be_waited_for_counts_as_killed() {
        assert_eq!(Exit::new(None, true), Exit { code: 137, signal: 9, timed_out: true });
    }
}

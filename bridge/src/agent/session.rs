//! A running command: its output out, its input in, and one way to end it.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{Stream, StreamExt};
use prost::bytes::Bytes;
use rustix::process::{Signal, WaitStatus};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::activity::Activity;
use super::feed::{self, End, Input};
use super::kill;
use super::pump;
use super::replay::Kind;
use super::spawn::Running;
use super::state::{Agent, RunningGuard};

/// Pieces of output that may wait for a client.
pub(crate) const QUEUE: usize = 8;
/// How long a command has to end by itself after it was asked to.
const POLITE: Duration = Duration::from_millis(200);
/// How long a killed command may take to be gone: the kernel can hold one up in the middle of a system call.
const STUCK: Duration = Duration::from_secs(2);

/// What a session tells its client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Output; all of a terminal's is standard output.
    Output(Kind, Bytes),
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
    /// It was a terminal that nobody used for too long.
    pub(crate) idle: bool,
}

/// What ends a command that does not end by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// How long it may take.
    pub(crate) total: Option<Duration>,
    /// How long it may neither take input nor give output.
    pub(crate) idle: Option<Duration>,
}

/// Why a command is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    TimeLimit,
    Idle,
    /// Its client has gone, or the agent stops.
    Unwanted,
}

impl Exit {
    /// Of a command that was killed and has not gone yet.
    pub(crate) const LOST: Self = Self {
        code: 128 + Signal::KILL.as_raw(),
        signal: Signal::KILL.as_raw(),
        timed_out: false,
        idle: false,
    };

    fn new(status: Option<WaitStatus>, reason: Option<Reason>) -> Self {
        let (timed_out, idle) = (reason == Some(Reason::TimeLimit), reason == Some(Reason::Idle));
        let Some(status) = status else { return Self { timed_out, idle, ..Self::LOST } };
        match status.terminating_signal() {
            Some(signal) => Self { code: 128 + signal, signal, timed_out, idle },
            None => Self { code: status.exit_status().unwrap_or_default(), signal: 0, timed_out, idle },
        }
    }
}

/// Runs a session to its end. Every session is a task of its own, which a client that goes away does not tear down: it
/// ends the command first.
///
/// The command is ended (SIGTERM, or SIGHUP on a terminal; SIGKILL 200 ms later; to its whole session) when one of its
/// limits passes, when the client goes away, and when the agent stops.
pub(crate) async fn run<S>(
    agent: Arc<Agent>,
    _counted: RunningGuard,
    running: Running,
    limits: Limits,
    input: S,
    out: mpsc::Sender<Event>,
) where
    S: Stream<Item = Result<Input, tonic::Status>> + Unpin,
{
    let Running { pid, mut exit, stdin, stdout, stderr, terminal, gone } = running;
    let mut reason = None;
    let activity = Activity::new();
    let told = |kind: Kind| {
        let activity = &activity;
        move |bytes: Bytes| {
            activity.touch();
            Event::Output(kind, bytes)
        }
    };
    let status = {
        let mut output = pin!(async {
            tokio::join!(pump::run(&stdout, &out, told(Kind::Stdout)), async {
                if let Some(stderr) = &stderr {
                    pump::run(stderr, &out, told(Kind::Stderr)).await;
                }
            });
        });
        let tty = terminal.then(|| Arc::clone(&stdout));
        let input = input.inspect(|frame| {
            if let Ok(Input::Stdin(_)) = frame {
                activity.touch();
            }
        });
        let mut feed = pin!(feed::run(input, stdin, tty, pid));
        let mut stopped = pin!(agent.stopped());
        let mut limit = pin!(after(limits.total));
        let mut idle = pin!(activity.idle(limits.idle));
        let mut ending = pin!(end(pid, terminal));
        let (mut output_done, mut feed_done) = (false, false);
        loop {
            let is_ending = reason.is_some();
            tokio::select! {
                biased;
                status = &mut exit => break status.ok(),
                () = &mut limit, if !is_ending => reason = Some(Reason::TimeLimit),
                () = &mut idle, if !is_ending => reason = Some(Reason::Idle),
                () = out.closed(), if !is_ending => reason = Some(Reason::Unwanted),
                () = &mut stopped, if !is_ending => reason = Some(Reason::Unwanted),
                () = &mut ending, if is_ending => break None,
                end = &mut feed, if !feed_done => {
                    feed_done = true;
                    if end == End::Broken {
                        reason = reason.or(Some(Reason::Unwanted));
                    }
                }
                () = &mut output, if !output_done => output_done = true,
            }
        }
    };
    gone.store(true, Ordering::Relaxed);
    if reason.is_some() {
        // What it started is ended too, and has the same time for it.
        finish(pid).await;
    }
    let (out_ended, err_ended) = tokio::join!(pump::drain(&stdout, &out, told(Kind::Stdout)), async {
        match &stderr {
            Some(stderr) => pump::drain(stderr, &out, told(Kind::Stderr)).await,
            None => true,
        }
    });
    // Fails when nobody listens any more, which is the same in the end.
    let _ = out.send(Event::Exited(Exit::new(status, reason))).await;
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
        let expected = Exit { code: 137, signal: 9, timed_out: true, idle: false };
        assert_eq!(Exit::new(None, Some(Reason::TimeLimit)), expected);
    }
}

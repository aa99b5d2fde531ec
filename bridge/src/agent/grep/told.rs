//! What goes to the caller, within its limits.

use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Status;

use super::super::long::Gone;
use crate::v1::{GrepMatch, GrepResponse, ListProblem};

/// Bytes of what was found after which the search ends.
const MAX_BYTES: usize = 16 << 20;
/// Bytes of one message.
const MESSAGE: usize = 256 << 10;
/// How long what was found waits for more.
const WAIT: Duration = Duration::from_millis(200);
/// Most problems that are told; more say nothing new.
const MAX_PROBLEMS: usize = 1000;

type Out = mpsc::Sender<Result<GrepResponse, Status>>;

/// Whether the search is to end: there is enough, or nobody waits.
#[derive(Clone)]
pub(super) struct Stop {
    enough: Gone,
    out: Out,
}

impl Stop {
    pub(super) fn new(out: Out) -> Self {
        Self { enough: Gone::default(), out }
    }

    pub(super) fn is_so(&self) -> bool {
        self.enough.is_so() || self.out.is_closed()
    }

    fn say(&self) {
        self.enough.say();
    }
}

/// What was found in one file.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) path: Bytes,
    pub(super) matches: Vec<GrepMatch>,
    /// What the matches take in memory.
    pub(super) bytes: usize,
    /// There was more in it than is kept of one file.
    pub(super) more: bool,
    pub(super) searched: bool,
    pub(super) problem: Option<String>,
}

impl Found {
    pub(super) fn new(path: Bytes) -> Self {
        Self { path, ..Self::default() }
    }
}

/// Tells the caller, file after file.
pub(super) struct Told {
    stop: Stop,
    left: usize,
    bytes_left: usize,
    problems: usize,
    message: GrepResponse,
    size: usize,
    sent: Instant,
}

impl Told {
    pub(super) fn new(stop: Stop, max_matches: usize) -> Self {
        Self {
            stop,
            left: max_matches,
            bytes_left: MAX_BYTES,
            problems: 0,
            message: GrepResponse::default(),
            size: 0,
            sent: Instant::now(),
        }
    }

    /// Adds a file. Once there is enough, what follows is not told.
    pub(super) fn tell(&mut self, mut found: Found) {
        if self.message.truncated || self.stop.is_so() {
            return;
        }
        self.message.files_searched += u64::from(found.searched);
        self.message.files_matched += u64::from(!found.matches.is_empty());
        if let Some(message) = found.problem.take() {
            self.problem(ListProblem { path: found.path.clone(), message });
        }
        let many = found.matches.len() > self.left || found.bytes > self.bytes_left;
        found.matches.truncate(self.left);
        self.left -= found.matches.len();
        self.bytes_left = self.bytes_left.saturating_sub(found.bytes);
        self.size += found.bytes;
        self.message.matches.append(&mut found.matches);
        if many || found.more {
            self.message.truncated = true;
            self.stop.say();
            return;
        }
        if self.size > MESSAGE || (self.size > 0 && self.sent.elapsed() > WAIT) {
            self.send();
        }
    }

    /// Adds a place that could not be read.
    pub(super) fn problem(&mut self, problem: ListProblem) {
        if self.problems < MAX_PROBLEMS {
            self.problems += 1;
            self.size += problem.path.len() + problem.message.len();
            self.message.problems.push(problem);
        }
    }

    /// Sends what is left; nothing follows.
    pub(super) fn end(&mut self) {
        self.send();
    }

    fn send(&mut self) {
        let message = std::mem::take(&mut self.message);
        self.size = 0;
        self.sent = Instant::now();
        // It waits for a slow caller, and fails when that has gone.
        if self.stop.out.blocking_send(Ok(message)).is_err() {
            self.stop.say();
        }
    }
}

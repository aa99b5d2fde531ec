//! Several batches of files at once, told in their order.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::told::{Found, Stop};

/// Bytes that may wait for their turn before those that wait stop searching.
const MAX_HELD: usize = 4 << 20;
/// How often a thread that waits looks whether the search has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Whose turn it is.
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    stop: Stop,
}

#[derive(Default)]
struct State {
    /// The batch whose turn it is.
    next: usize,
    /// Bytes that wait for theirs.
    held: usize,
}

impl Turns {
    pub(super) fn new(stop: Stop) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), stop }
    }

    /// What was found in a batch, until its turn has come.
    pub(super) fn hold(&self, number: usize) -> Held<'_> {
        Held { turns: self, number, found: Vec::new(), bytes: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is so, or the search has ended.
    fn wait(&self, is_so: impl Fn(&State) -> bool) {
        let mut state = self.lock();
        while !is_so(&state) && !self.stop.is_so() {
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What was found in one batch.
pub(super) struct Held<'a> {
    turns: &'a Turns,
    number: usize,
    found: Vec<Found>,
    bytes: usize,
}

impl Held<'_> {
    /// Waits while too much waits, unless it is this batch's turn. False when the search has ended.
    pub(super) fn wait_for_room(&self) -> bool {
        self.turns.wait(|state| state.next == self.number || state.held < MAX_HELD);
        !self.turns.stop.is_so()
    }

    pub(super) fn is_turn(&self) -> bool {
        self.turns.lock().next == self.number
    }

    /// Keeps what was found in a file.
    pub(super) fn push(&mut self, found: Found) {
        self.turns.lock().held += found.bytes;
        self.bytes += found.bytes;
        self.found.push(found);
    }

    /// What is kept.
    pub(super) fn take(&mut self) -> Vec<Found> {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > 0 {
            self.turns.lock().held -= bytes;
            self.turns.changed.notify_all();
        }
        std::mem::take(&mut self.found)
    }

    /// What is kept, once it is this batch's turn; when the search has ended, at once.
    pub(super) fn wait_for_turn(&mut self) -> Vec<Found> {
        self.turns.wait(|state| state.next == self.number);
        self.take()
    }

    /// Gives the turn to the next batch.
    pub(super) fn done(self) {
        let mut state = self.turns.lock();
        if state.next == self.number {
            state.next += 1;
        }
        drop(state);
        self.turns.changed.notify_all();
    }
}

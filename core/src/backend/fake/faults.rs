//! Where the fake backend fails or waits, and what it was asked.

use crate::error::{Error, ErrorKind, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

#[derive(Debug, Default)]
pub(super) struct Faults {
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    calls: Vec<String>,
    before: HashMap<&'static str, VecDeque<ErrorKind>>,
    after: HashMap<&'static str, usize>,
    fail_in: Option<usize>,
    die_in: Option<usize>,
    holds: HashMap<&'static str, VecDeque<Hold>>,
}

#[derive(Debug)]
struct Hold {
    reached: oneshot::Sender<()>,
    opened: oneshot::Receiver<()>,
}

/// A call that is held. Dropping it lets the call go on.
#[derive(Debug)]
pub(crate) struct Gate {
    reached: Option<oneshot::Receiver<()>>,
    open: Option<oneshot::Sender<()>>,
}

impl Gate {
    /// Waits until the call has come.
    pub(crate) async fn reached(&mut self) {
        if let Some(reached) = self.reached.take() {
            // An error says that the plan was cleared: nothing to wait for.
            let _ = reached.await;
        }
    }

    /// Lets the call go on.
    pub(crate) fn open(mut self) {
        drop(self.open.take());
    }
}

impl Faults {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail_next(&self, method: &'static str, kind: ErrorKind) {
        self.plan().before.entry(method).or_default().push_back(kind);
    }

    pub(super) fn lose_reply(&self, method: &'static str) {
        *self.plan().after.entry(method).or_default() += 1;
    }

    pub(super) fn fail_after(&self, calls: usize) {
        self.plan().fail_in = Some(calls);
    }

    pub(super) fn die_after(&self, calls: usize) {
        self.plan().die_in = Some(calls);
    }

    pub(super) fn clear(&self) {
        let mut plan = self.plan();
        let calls = std::mem::take(&mut plan.calls);
        *plan = Plan { calls, ..Plan::default() };
    }

    pub(super) fn hold(&self, method: &'static str) -> Gate {
        let (reached, has_reached) = oneshot::channel();
        let (open, opened) = oneshot::channel();
        self.plan().holds.entry(method).or_default().push_back(Hold { reached, opened });
        Gate { reached: Some(has_reached), open: Some(open) }
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.plan().calls.clone()
    }

    pub(super) fn clear_calls(&self) {
        self.plan().calls.clear();
    }

    /// Logs a call, holds it where a gate is, and fails it where a fault is.
    pub(super) async fn enter(&self, method: &'static str, subject: &str) -> Result<()> {
        let hold = {
            let mut plan = self.plan();
            plan.calls.push(format!("{method} {subject}").trim_end().to_owned());
            plan.holds.get_mut(method).and_then(VecDeque::pop_front)
        };
        if let Some(hold) = hold {
            let _ = hold.reached.send(());
            // Opened or dropped is the same: the call goes on.
            let _ = hold.opened.await;
        }
        match self.plan().strike(method) {
            None => Ok(()),
            Some(kind) => Err(Error::new(kind, "the test told the backend to fail").with("method", method)),
        }
    }

    /// Loses the reply of a call that took effect, where that is planned.
    pub(super) fn leave(&self, method: &'static str) -> Result<()> {
        let mut plan = self.plan();
        match plan.after.get_mut(method) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(Error::unavailable("the test told the backend to lose the reply").with("method", method))
            }
            _ => Ok(()),
        }
    }
}

impl Plan {
    fn strike(&mut self, method: &'static str) -> Option<ErrorKind> {
        // Who follows the backend calls these when it likes: they are not counted.
        if matches!(method, "watch" | "tasks" | "mark") && self.die_in != Some(0) {
            return self.before.get_mut(method).and_then(VecDeque::pop_front);
        }
        match &mut self.die_in {
            Some(0) => return Some(ErrorKind::Unavailable),
            Some(left) => *left -= 1,
            None => {}
        }
        match self.fail_in {
            Some(0) => {
                self.fail_in = None;
                return Some(ErrorKind::Unexpected);
            }
            Some(left) => self.fail_in = Some(left - 1),
            None => {}
        }
        self.before.get_mut(method).and_then(VecDeque::pop_front)
    }
}

//! Sessions: programs that live on without a client, and keep their latest output for the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, kill_process_group};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use super::held::{About, Held};
use super::session::{Event, Exit};
use super::state::Agent;
use crate::consts::{
    ENDED_SESSION_AGE, MAX_ENDED_REPLAY, MAX_ENDED_SESSIONS, MAX_REPLAY_BYTES, MAX_REPLAY_TOTAL,
    MAX_SESSIONS, is_session_id,
};

/// All sessions, in the order in which they began: those that run, and the last ones that have ended.
#[derive(Default)]
pub(crate) struct Sessions {
    all: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    list: Vec<Arc<Held>>,
    /// Those whose program is being started: their ids, and how much output each will keep.
    starting: Vec<(String, u64)>,
    /// Whether a task waits for ended ones to be old enough.
    tidying: bool,
}

/// Room for a session while its program is being started; given back when dropped.
pub(crate) struct Reserved<'a> {
    sessions: &'a Sessions,
    id: String,
}

impl Reserved<'_> {
    /// The session's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Takes in the session, whose program has started; one that has ended under the same id is forgotten.
    pub(crate) fn fill(self, held: Arc<Held>) {
        self.sessions.add(held);
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.sessions.lock().starting.retain(|(id, _)| *id != self.id);
    }
}

impl Sessions {
    /// Reserves room for a session, before its program is started.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed id or too much to keep, `ALREADY_EXISTS` when one that runs or starts has the id,
    /// `RESOURCE_EXHAUSTED` when there are too many.
    pub(crate) fn reserve(&self, id: &str, replay_bytes: u64) -> Result<Reserved<'_>, Status> {
        if !is_session_id(id) {
            return Err(Status::invalid_argument(
                "a session's id has 1 to 64 letters, digits, dots, hyphens and underscores",
            ));
        }
        if replay_bytes > MAX_REPLAY_BYTES {
            return Err(Status::invalid_argument(format!(
                "a session keeps at most {MAX_REPLAY_BYTES} bytes of output"
            )));
        }
        let mut all = self.lock();
        let taken = || {
            let running = all.list.iter().filter(|held| held.exit().is_none());
            let running = running.map(|held| (held.about.id.as_str(), held.about.replay_bytes as u64));
            running.chain(all.starting.iter().map(|(id, bytes)| (id.as_str(), *bytes)))
        };
        if taken().any(|(other, _)| other == id) {
            return Err(Status::already_exists(format!("there is a session {id} already")));
        }
        let kept: u64 = taken().map(|(_, bytes)| bytes).sum();
        if taken().count() >= MAX_SESSIONS || kept + replay_bytes > MAX_REPLAY_TOTAL {
            return Err(Status::resource_exhausted(
                "too many sessions run, or they keep too much: end some, or keep less of their output",
            ));
        }
        all.starting.push((id.to_owned(), replay_bytes));
        Ok(Reserved { sessions: self, id: id.to_owned() })
    }

    fn add(&self, held: Arc<Held>) {
        let mut all = self.lock();
        all.list.retain(|other| other.about.id != held.about.id);
        all.list.push(held);
    }

    /// The session of this id.
    ///
    /// # Errors
    /// `NOT_FOUND` when there is none.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Held>, Status> {
        self.tidy(Instant::now());
        let found = self.lock().list.iter().find(|held| held.about.id == id).cloned();
        found.ok_or_else(|| Status::not_found(format!("there is no session {}", id.escape_debug())))
    }

    /// All of them, in the order in which they began.
    pub(crate) fn list(&self) -> Vec<Arc<Held>> {
        self.tidy(Instant::now());
        self.lock().list.clone()
    }

    /// Forgets ended sessions that are too old or too many, and their output where that is too much. Returns when the next
    /// one will be too old.
    fn tidy(&self, now: Instant) -> Option<Instant> {
        let mut all = self.lock();
        let too_old = |held: &Arc<Held>| {
            held.ended_at().is_some_and(|at| now.saturating_duration_since(at) >= ENDED_SESSION_AGE)
        };
        all.list.retain(|held| !too_old(held));
        let mut ended: Vec<_> =
            all.list.iter().filter_map(|held| Some((held.ended_at()?, Arc::clone(held)))).collect();
        // The latest first.
        ended.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let mut kept = 0;
        for (place, (_, held)) in ended.iter().enumerate() {
            kept += held.buffered() as u64;
            if place >= MAX_ENDED_SESSIONS {
                all.list.retain(|other| !Arc::ptr_eq(other, held));
            } else if kept > MAX_ENDED_REPLAY {
                kept -= held.forget_output() as u64;
            }
        }
        ended.iter().map(|(at, _)| *at + ENDED_SESSION_AGE).min()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a session's output until it has ended, and sees to it that it is forgotten in time.
pub(crate) async fn record(agent: Arc<Agent>, held: Arc<Held>, mut events: mpsc::Receiver<Event>) {
    let mut exit = Exit::LOST;
    while let Some(event) = events.recv().await {
        match event {
            Event::Output(kind, bytes) => held.push(kind, &bytes),
            Event::Exited(how) => exit = how,
        }
    }
    held.finish(exit);
    agent.sessions.tidy(Instant::now());
    if !std::mem::replace(&mut agent.sessions.lock().tidying, true) {
        tokio::spawn(tidy_in_time(agent));
    }
}

/// Forgets ended sessions as they get too old, until there are none.
async fn tidy_in_time(agent: Arc<Agent>) {
    loop {
        let next = agent.sessions.tidy(Instant::now());
        let Some(next) = next else {
            agent.sessions.lock().tidying = false;
            super::memory::settle_later();
            return;
        };
        tokio::time::sleep_until(next + Duration::from_millis(1)).await;
    }
}

/// Sends a signal to the process group of a session.
///
/// # Errors
/// `FAILED_PRECONDITION` once it has ended, `INVALID_ARGUMENT` for what is no signal.
pub(crate) fn signal(held: &Held, number: i32) -> Result<(), Status> {
    let signal = Signal::from_named_raw(number)
        .ok_or_else(|| Status::invalid_argument(format!("{number} is not a signal that can be sent")))?;
    if held.is_gone() {
        return Err(ended(&held.about));
    }
    // Fails when the group is gone, which its end will tell.
    let _ = kill_process_group(held.about.pid, signal);
    Ok(())
}

fn ended(about: &About) -> Status {
    Status::failed_precondition(format!("the session {} has ended", about.id))
}

#[cfg(test)]
mod tests {
    use super::super::replay::Kind;
    use super::*;
    use tonic::Code;

    fn held(id: &str, replay_bytes: usize) -> Arc<Held> {
        Held::of_test(id, replay_bytes)
    }

    #[test]
    fn ids_are_taken_only_while_they_run() {
        let sessions = Sessions::default();
        let first = held("a", 10);
        sessions.add(Arc::clone(&first));
        assert_eq!(sessions.reserve("a", 1).err().unwrap().code(), Code::AlreadyExists);
        for id in ["", "a/b", "é", &"x".repeat(65)] {
            assert_eq!(sessions.reserve(id, 1).err().unwrap().code(), Code::InvalidArgument, "{id}");
        }
        assert_eq!(sessions.reserve("b", MAX_REPLAY_BYTES + 1).err().unwrap().code(), Code::InvalidArgument);
        first.finish(Exit::LOST);
        let reserved = sessions.reserve("a", 1).unwrap();
        assert_eq!(sessions.reserve("a", 1).err().unwrap().code(), Code::AlreadyExists);
        drop(reserved);
        drop(sessions.reserve("a", 1).unwrap());
        let second = held("a", 10);
        sessions.add(Arc::clone(&second));
        assert!(Arc::ptr_eq(&sessions.find("a").unwrap(), &second));
        assert_eq!(sessions.list().len(), 1);
        assert_eq!(sessions.find("c").err().unwrap().code(), Code::NotFound);
    }

    #[test]
    fn too_many_and_too_much_are_refused() {
        let sessions = Sessions::default();
        for number in 0..4 {
            sessions.add(held(&format!("s{number}"), MAX_REPLAY_BYTES as usize));
        }
        assert_eq!(sessions.reserve("more", 1).err().unwrap().code(), Code::ResourceExhausted);
        drop(sessions.reserve("none", 0).unwrap());
        let sessions = Sessions::default();
        for number in 0..MAX_SESSIONS {
            sessions.add(held(&format!("s{number}"), 0));
        }
        assert_eq!(sessions.reserve("more", 0).err().unwrap().code(), Code::ResourceExhausted);
    }

    #[test]
    fn ended_ones_go_by_age_number_and_size() {
        let sessions = Sessions::default();
        let running = held("running", 10);
        sessions.add(Arc::clone(&running));
        for number in 0..MAX_ENDED_SESSIONS + 3 {
            let one = held(&format!("s{number}"), 2 << 20);
            one.push(Kind::Stdout, &vec![1; 2 << 20]);
            sessions.add(Arc::clone(&one));
            one.finish(Exit::LOST);
        }
        let list = sessions.list();
        assert_eq!(list.len(), MAX_ENDED_SESSIONS + 1);
        let kept: u64 = list.iter().map(|held| held.buffered() as u64).sum();
        assert!(kept <= MAX_ENDED_REPLAY, "{kept}");
        assert_eq!(list.last().map(|held| held.buffered()), Some(2 << 20));
        let next = sessions.tidy(Instant::now()).unwrap();
        assert_eq!(sessions.tidy(next + ENDED_SESSION_AGE), None);
        assert_eq!(sessions.list().len(), 1);
    }

    #[test]
    fn an_ended_session_takes_no_signal() {
        let one = held("a", 1);
        assert_eq!(signal(&one, 0).unwrap_err().code(), Code::InvalidArgument);
        one.finish(Exit::LOST);
        assert_eq!(signal(&one, 15).unwrap_err().code(), Code::FailedPrecondition);
    }
}

//! A backend in memory, for unit tests of what stands on the trait: it keeps the rules of a real one (parents, ids that
//! are taken, running tasks) and fails where it is told to.

mod answers;
mod faults;
mod state;

pub(crate) use faults::Gate;
pub(crate) use state::FakeImage;

use super::{Container, NewContainer, ResolvedUser, TaskChange, TaskEvent};
use crate::backend::BackendEvent;
use crate::error::{ErrorKind, Result};
use faults::Faults;
use jiff::Timestamp;
use state::State;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::watch;

/// The backend in memory. Share it as `Arc<FakeBackend>`: its state can be looked at and changed while it is used.
#[derive(Debug)]
pub(crate) struct FakeBackend {
    state: Mutex<State>,
    faults: Faults,
    /// Raised whenever a task changes, for those who wait.
    changed: watch::Sender<u64>,
}

impl Default for FakeBackend {
    fn default() -> Self {
        Self { state: Mutex::default(), faults: Faults::default(), changed: watch::channel(0).0 }
    }
}

impl FakeBackend {
    /// A backend whose registry offers `docker.io/library/debian:bookworm-slim`, with two layers of 1000 and 2000 bytes.
    pub(crate) fn new() -> Self {
        let fake = Self::default();
        fake.offer(FakeImage::new("docker.io/library/debian:bookworm-slim", &[1000, 2000]));
        fake
    }

    /// Lets the registry offer an image.
    pub(crate) fn offer(&self, image: FakeImage) {
        self.state().registry.insert(image.name.clone(), image);
    }

    /// Puts an image here, unpacked, as if it had been pulled before.
    pub(crate) fn install(&self, image: FakeImage, snapshotter: &str) {
        self.state().install(image, snapshotter);
    }

    /// Puts a container here as another implementation would have, without checks.
    pub(crate) fn adopt(&self, container: Container) {
        self.state().containers.insert(container.id.clone(), container);
    }

    /// Puts a container here as an older implementation would have: on committed snapshots of these names, one on the other
    /// and the first on `base`, of which each holds its name as a word, and on the writable one `active`.
    pub(crate) fn keep_foreign(&self, id: &str, base: &str, committed: &[&str], active: &str) {
        let mut state = self.state();
        state.stack("overlayfs", base, committed, active);
        let now = Timestamp::now();
        let container = Container {
            id: id.to_owned(),
            image: "docker.io/library/debian:bookworm-slim".to_owned(),
            snapshotter: "overlayfs".to_owned(),
            snapshot_key: active.to_owned(),
            labels: BTreeMap::new(),
            mounts: Vec::new(),
            network: super::NetworkNamespace::Private,
            user: super::ResolvedUser::default(),
            created_at: now,
            updated_at: now,
        };
        state.containers.insert(id.to_owned(), container);
    }

    /// Removes a container and its task, and nothing else, as somebody else may.
    pub(crate) fn lose_container(&self, id: &str) {
        let mut state = self.state();
        state.tasks.remove(id);
        state.containers.remove(id);
    }

    /// Fails the next call of this method with this kind, before it has any effect. Repeat for the calls after it.
    pub(crate) fn fail_next(&self, method: &'static str, kind: ErrorKind) {
        self.faults.fail_next(method, kind);
    }

    /// Lets the next call of this method take effect and then fail with UNAVAILABLE, as when the reply is lost.
    pub(crate) fn lose_reply(&self, method: &'static str) {
        self.faults.lose_reply(method);
    }

    /// Lets `calls` more calls through and fails the one after them with UNEXPECTED, once.
    pub(crate) fn fail_after(&self, calls: usize) {
        self.faults.fail_after(calls);
    }

    /// Lets `calls` more calls through; all after them fail with UNAVAILABLE until [`FakeBackend::revive`].
    pub(crate) fn die_after(&self, calls: usize) {
        self.faults.die_after(calls);
    }

    /// Answers again, and forgets every fault that has not struck yet.
    pub(crate) fn revive(&self) {
        self.faults.clear();
    }

    /// Holds the next call of this method, before it has any effect, until the gate is opened or dropped.
    pub(crate) fn hold(&self, method: &'static str) -> Gate {
        self.faults.hold(method)
    }

    /// The calls so far, as `method subject`.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.faults.calls()
    }

    /// Forgets the calls so far.
    pub(crate) fn clear_calls(&self) {
        self.faults.clear_calls();
    }

    /// Whether tasks end on SIGTERM, which they do by default; SIGKILL always ends them.
    pub(crate) fn heed_sigterm(&self, heed: bool) {
        self.state().ignore_sigterm = !heed;
    }

    /// Ends a task as if its first process had exited. Does nothing when none runs.
    pub(crate) fn exit(&self, container: &str, code: u32) {
        self.state().end_task(container, code);
        self.wake();
    }

    /// Has a process of a container killed for want of memory.
    pub(crate) fn run_out_of_memory(&self, container: &str) {
        let change = TaskChange::OutOfMemory(Timestamp::now());
        let event = TaskEvent { container: container.to_owned(), pid: 0, change };
        self.state().send(&BackendEvent::Task(event));
    }

    /// Drops every task, as a restart of the host does, and every watch with them.
    pub(crate) fn reboot(&self) {
        self.break_watches();
        self.state().tasks.clear();
        self.wake();
    }

    /// Ends every watch, as a broken connection does.
    pub(crate) fn break_watches(&self) {
        self.state().watchers.clear();
    }

    /// What the container was made of.
    pub(crate) fn made(&self, container: &str) -> Option<NewContainer> {
        self.state().made.get(container).cloned()
    }

    /// The keys of all snapshots of a snapshotter, committed ones too.
    pub(crate) fn snapshot_keys(&self, snapshotter: &str) -> Vec<String> {
        let state = self.state();
        state.snapshots.keys().filter(|(s, _)| s == snapshotter).map(|(_, key)| key.clone()).collect()
    }

    /// Puts a snapshot here without checks, even on a parent that is not there.
    pub(crate) fn plant(&self, snapshotter: &str, key: &str, parent: &str, committed: bool) {
        self.state().plant(snapshotter, key, parent, committed);
    }

    /// Writes a word into a container, as something inside would.
    pub(crate) fn write(&self, container: &str, word: &str) {
        let mut state = self.state();
        let container = &state.containers[container];
        let name = (container.snapshotter.clone(), container.snapshot_key.clone());
        state.snapshots.get_mut(&name).map(|snapshot| snapshot.content.insert(word.to_owned()));
    }

    /// All words that were written into a container, or into what its snapshot stands on before; none when its
    /// snapshot is not there.
    pub(crate) fn words(&self, container: &str) -> Option<String> {
        let state = self.state();
        let container = state.containers.get(container)?;
        let name = (container.snapshotter.clone(), container.snapshot_key.clone());
        let words = &state.snapshots.get(&name)?.content;
        Some(words.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
    }

    /// How many directories are staged, in all snapshots.
    pub(crate) fn staged(&self) -> usize {
        self.state().staged.len()
    }

    /// All words that are in a snapshot; none when it is not there.
    pub(crate) fn words_of(&self, snapshotter: &str, key: &str) -> Option<String> {
        let state = self.state();
        let words = &state.snapshots.get(&(snapshotter.to_owned(), key.to_owned()))?.content;
        Some(words.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
    }

    /// The data directory that was given to a user in a snapshot.
    pub(crate) fn owner_of_data(&self, snapshotter: &str, key: &str) -> Option<ResolvedUser> {
        self.state().snapshots.get(&(snapshotter.to_owned(), key.to_owned()))?.data_owner.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wake(&self) {
        self.state().tell();
        self.changed.send_modify(|n| *n += 1);
    }

    /// One call: its fault or gate first, then its effect, then the loss of its reply.
    async fn call<T>(
        &self,
        method: &'static str,
        subject: &str,
        effect: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        self.faults.enter(method, subject).await?;
        let done = effect(&mut self.state())?;
        self.faults.leave(method)?;
        Ok(done)
    }
}

#[cfg(test)]
mod tests;

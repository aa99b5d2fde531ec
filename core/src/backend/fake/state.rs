//! What the fake backend holds, and the rules of a real one.

use crate::backend::{
    BackendEvent, Change, ChangesRequest, Container, Graft, Grafted, NewContainer, NewSnapshot, OpenDir,
    ResolvedUser, Snapshot, SnapshotDir, SnapshotKind, SnapshotUsage, Squash, Task, TaskChange, TaskEvent,
    TaskExit, TaskStatus, TreeEntry, UnpackedImage,
};
use crate::error::{Error, Result};
use crate::limits::BlockDevice;
use crate::types::{EntryKind, ImageInfo, Limits};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) registry: BTreeMap<String, FakeImage>,
    pub(super) images: BTreeMap<String, FakeImage>,
    pub(super) snapshots: BTreeMap<(String, String), Kept>,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) made: BTreeMap<String, NewContainer>,
    pub(super) tasks: BTreeMap<String, Task>,
    pub(super) ignore_sigterm: bool,
    /// Data directories that were opened.
    opened: Vec<tempfile::TempDir>,
    /// What is staged, by the snapshot's key and the stage's name: each word is a file.
    pub(super) staged: BTreeMap<(String, String), tempfile::TempDir>,
    pub(super) watchers: Vec<mpsc::UnboundedSender<BackendEvent>>,
    /// The containers and tasks as the watchers know them.
    told: (BTreeMap<String, Container>, BTreeMap<String, Task>),
    last_pid: u32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    parent: String,
    committed: bool,
    labels: BTreeMap<String, String>,
    /// What was written.
    pub(super) content: BTreeSet<String>,
    at: Timestamp,
    pub(super) data_owner: Option<ResolvedUser>,
}

/// An image that the fake backend can pull or have.
#[derive(Debug, Clone)]
pub(crate) struct FakeImage {
    /// Its full name.
    pub(crate) name: String,
    /// Its layers' digests and compressed lengths.
    pub(crate) layers: Vec<(String, u64)>,
    /// `NAME=value`, as its configuration has them.
    pub(crate) env: Vec<String>,
    /// Its user; empty for root.
    pub(crate) user: String,
    /// Its working directory; empty for `/`.
    pub(crate) working_dir: String,
}

impl FakeImage {
    /// An image of layers of these lengths.
    pub(crate) fn new(name: &str, layers: &[u64]) -> Self {
        let layer = |(index, total): (usize, &u64)| (format!("sha256:{index:064x}"), *total);
        Self {
            name: name.to_owned(),
            layers: layers.iter().enumerate().map(layer).collect(),
            env: vec!["PATH=/usr/bin:/bin".to_owned()],
            user: String::new(),
            working_dir: String::new(),
        }
    }

    pub(super) fn info(&self) -> ImageInfo {
        ImageInfo {
            name: self.name.clone(),
            digest: format!("sha256:{:064x}", self.name.len()),
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            platform: "linux/amd64".to_owned(),
            size: self.layers.iter().map(|(_, total)| total).sum(),
            created_at: Timestamp::UNIX_EPOCH.to_string(),
            updated_at: Timestamp::UNIX_EPOCH.to_string(),
        }
    }

    pub(super) fn unpacked(&self) -> UnpackedImage {
        UnpackedImage {
            name: self.name.clone(),
            top_snapshot: self.layers.last().map(|(digest, _)| digest.clone()).unwrap_or_default(),
            env: self.env.clone(),
            user: self.user.clone(),
            working_dir: self.working_dir.clone(),
            command: vec!["/bin/sh".to_owned()],
        }
    }
}

fn broken(error: std::io::Error) -> Error {
    Error::io(error, "cannot work on a file of the fake backend")
}

impl State {
    pub(super) fn install(&mut self, image: FakeImage, snapshotter: &str) {
        self.unpack(&image, snapshotter);
        self.images.insert(image.name.clone(), image);
    }

    pub(super) fn unpack(&mut self, image: &FakeImage, snapshotter: &str) {
        let mut parent = String::new();
        for (digest, _) in &image.layers {
            let snapshot = Kept { parent, committed: true, ..Kept::default() };
            self.snapshots.entry((snapshotter.to_owned(), digest.clone())).or_insert(snapshot);
            parent = digest.clone();
        }
    }

    pub(super) fn plant(&mut self, snapshotter: &str, key: &str, parent: &str, committed: bool) {
        let kept = Kept { parent: parent.to_owned(), committed, at: Timestamp::now(), ..Kept::default() };
        self.snapshots.insert((snapshotter.to_owned(), key.to_owned()), kept);
    }

    pub(super) fn prepare(&mut self, new: &NewSnapshot) -> Result<()> {
        let name = |key: &str| (new.snapshotter.clone(), key.to_owned());
        if self.snapshots.contains_key(&name(&new.key)) {
            return Err(Error::already_exists("the snapshot is there already").with("snapshot", &new.key));
        }
        if !new.parent.is_empty() && !self.snapshots.get(&name(&new.parent)).is_some_and(|s| s.committed) {
            return Err(Error::not_found("the parent snapshot is not there").with("snapshot", &new.parent));
        }
        let (parent, labels) = (new.parent.clone(), new.labels.clone());
        let below = self.snapshots.get(&name(&new.parent)).cloned().unwrap_or_default();
        let (content, data_owner) = (below.content, below.data_owner);
        let snapshot = Kept { parent, labels, content, data_owner, at: Timestamp::now(), committed: false };
        self.snapshots.insert(name(&new.key), snapshot);
        Ok(())
    }

    /// Puts committed snapshots one on the other, each with its name as a word, and a writable one on them. No labels.
    pub(super) fn stack(&mut self, snapshotter: &str, base: &str, committed: &[&str], active: &str) {
        let mut below = (base.to_owned(), BTreeSet::new());
        for key in committed.iter().chain([&active]) {
            let mut content = below.1.clone();
            if *key != active {
                content.insert((*key).to_owned());
            }
            let kept = Kept {
                parent: below.0,
                committed: *key != active,
                content: content.clone(),
                at: Timestamp::now(),
                ..Kept::default()
            };
            self.snapshots.insert((snapshotter.to_owned(), (*key).to_owned()), kept);
            below = ((*key).to_owned(), content);
        }
    }

    pub(super) fn remove_snapshot(&mut self, snapshotter: &str, key: &str) -> Result<bool> {
        let stands_on =
            |((s, _), snapshot): (&(String, String), &Kept)| s == snapshotter && snapshot.parent == key;
        if self.snapshots.iter().any(stands_on) {
            return Err(Error::failed_precondition("other snapshots stand on this one").with("snapshot", key));
        }
        // What is staged lies in the snapshot's own directory.
        self.staged.retain(|(staged, _), _| staged != key);
        Ok(self.snapshots.remove(&(snapshotter.to_owned(), key.to_owned())).is_some())
    }

    pub(super) fn snapshot(&self, snapshotter: &str, key: &str) -> Option<Snapshot> {
        let kept = self.snapshots.get(&(snapshotter.to_owned(), key.to_owned()))?;
        Some(Snapshot {
            key: key.to_owned(),
            parent: kept.parent.clone(),
            kind: if kept.committed { SnapshotKind::Committed } else { SnapshotKind::Active },
            labels: kept.labels.clone(),
            created_at: kept.at,
            updated_at: kept.at,
        })
    }

    pub(super) fn commit(
        &mut self,
        snapshotter: &str,
        key: &str,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        let in_it = |key: &str| (snapshotter.to_owned(), key.to_owned());
        if self.snapshots.contains_key(&in_it(name)) {
            return Err(Error::already_exists("the snapshot is there already").with("snapshot", name));
        }
        let writes = |(id, task): (&String, &Task)| {
            task.exit.is_none() && self.containers.get(id).is_some_and(|c| c.snapshot_key == key)
        };
        assert!(!self.tasks.iter().any(writes), "{key} is committed while it is written to");
        let Some(kept) = self.snapshots.get(&in_it(key)).filter(|kept| !kept.committed).cloned() else {
            return Err(Error::not_found("the snapshot is not there").with("snapshot", key));
        };
        self.snapshots.remove(&in_it(key));
        let committed = Kept { committed: true, labels: labels.clone(), at: Timestamp::now(), ..kept };
        self.snapshots.insert(in_it(name), committed);
        Ok(())
    }

    pub(super) fn usage(&self, snapshotter: &str, key: &str) -> Result<SnapshotUsage> {
        let kept = self.kept(snapshotter, key)?;
        let below = self.snapshots.get(&(snapshotter.to_owned(), kept.parent.clone()));
        let below = below.map(|below| below.content.clone()).unwrap_or_default();
        let own = kept.content.difference(&below).count() as u64;
        Ok(SnapshotUsage { bytes: own * 4096, inodes: own + 1 })
    }

    pub(super) fn label(
        &mut self,
        snapshotter: &str,
        key: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        self.kept(snapshotter, key)?;
        if let Some(kept) = self.snapshots.get_mut(&(snapshotter.to_owned(), key.to_owned())) {
            kept.labels.clone_from(labels);
        }
        Ok(())
    }

    /// The layers between must be there, and what they say is in the topmost.
    pub(super) fn squash(&mut self, squash: &Squash) -> Result<()> {
        let in_it = |key: &str| (squash.snapshotter.clone(), key.to_owned());
        if self.snapshots.contains_key(&in_it(&squash.name)) {
            return Err(Error::already_exists("the snapshot is there already").with("snapshot", &squash.name));
        }
        let top = self.kept(&squash.snapshotter, &squash.top)?.clone();
        assert!(top.committed, "only committed snapshots are made one");
        let mut lowest = &top;
        for _ in 1..squash.layers {
            lowest = self.kept(&squash.snapshotter, &lowest.parent)?;
        }
        let content =
            |key: &str| self.snapshots.get(&in_it(key)).map(|s| s.content.clone()).unwrap_or_default();
        assert_eq!(content(&lowest.parent), content(&squash.parent), "it must stand on the same content");
        let (parent, labels) = (squash.parent.clone(), squash.labels.clone());
        let kept = Kept { parent, labels, committed: true, at: Timestamp::now(), ..top };
        self.snapshots.insert(in_it(&squash.name), kept);
        Ok(())
    }

    /// The words are the files of the data directory.
    pub(super) fn graft(&mut self, graft: &Graft) -> Result<Option<Grafted>> {
        let in_it = |key: &str| (graft.snapshotter.clone(), key.to_owned());
        if self.snapshots.contains_key(&in_it(&graft.name)) {
            return Err(Error::already_exists("the snapshot is there already").with("snapshot", &graft.name));
        }
        let from = self.kept(&graft.snapshotter, &graft.from)?;
        assert!(from.committed, "only what nobody writes to is taken along");
        let content = from.content.clone();
        if !graft.parent.is_empty() {
            self.kept(&graft.snapshotter, &graft.parent)?;
        }
        if content.is_empty() {
            return Ok(None);
        }
        let grafted = Grafted { entries: 1 + content.len() as u64, bytes: content.len() as u64 };
        let (parent, labels) = (graft.parent.clone(), graft.labels.clone());
        let kept = Kept { parent, labels, content, committed: true, at: Timestamp::now(), data_owner: None };
        self.snapshots.insert(in_it(&graft.name), kept);
        Ok(Some(grafted))
    }

    fn data(&self, dir: &SnapshotDir, words: bool) -> Result<tempfile::TempDir> {
        let kept = self.kept(&dir.snapshotter, &dir.key)?;
        let made = tempfile::tempdir().map_err(broken)?;
        for word in kept.content.iter().filter(|_| words) {
            std::fs::write(made.path().join(word), "w").map_err(broken)?;
        }
        Ok(made)
    }

    pub(super) fn open_dir(&mut self, dir: &SnapshotDir) -> Result<Option<OpenDir>> {
        let data = self.data(dir, true)?;
        if self.kept(&dir.snapshotter, &dir.key)?.content.is_empty() {
            return Ok(None);
        }
        let opened = std::fs::File::open(data.path()).map_err(broken)?;
        // The files have to be there as long as somebody may read them.
        self.opened.push(data);
        Ok(Some(OpenDir::new(opened.into(), None)))
    }

    pub(super) fn stage_dir(&mut self, dir: &SnapshotDir, stage: &str, merge: bool) -> Result<OpenDir> {
        let data = self.data(dir, merge)?;
        let opened = std::fs::File::open(data.path()).map_err(broken)?;
        let before = self.staged.insert((dir.key.clone(), stage.to_owned()), data);
        assert!(before.is_none(), "{stage} is staged twice");
        Ok(OpenDir::new(opened.into(), None))
    }

    pub(super) fn swap_dir(&mut self, dir: &SnapshotDir, stage: &str) -> Result<()> {
        let runs = |(id, task): (&String, &Task)| {
            task.exit.is_none() && self.containers.get(id).is_some_and(|c| c.snapshot_key == dir.key)
        };
        assert!(!self.tasks.iter().any(runs), "{} is changed while it is used", dir.key);
        let staged = self.staged.get(&(dir.key.clone(), stage.to_owned()));
        let staged = staged.ok_or_else(|| Error::not_found("nothing is staged"))?;
        let mut content = BTreeSet::new();
        for entry in std::fs::read_dir(staged.path()).map_err(broken)? {
            content.insert(entry.map_err(broken)?.file_name().to_string_lossy().into_owned());
        }
        self.kept(&dir.snapshotter, &dir.key)?;
        let kept = self.snapshots.get_mut(&(dir.snapshotter.clone(), dir.key.clone()));
        if let Some(kept) = kept {
            kept.content = content;
        }
        Ok(())
    }

    pub(super) fn changes(&self, request: &ChangesRequest) -> Result<Vec<Change>> {
        let before = match request.from.as_str() {
            "" => BTreeSet::new(),
            from => self.kept(&request.snapshotter, from)?.content.clone(),
        };
        let after = &self.kept(&request.snapshotter, &request.to)?.content;
        let entry = |there: bool| there.then_some(TreeEntry { kind: EntryKind::File, size: 1 });
        let changes = before.symmetric_difference(after).filter(|word| word.as_bytes() > &request.after[..]);
        let change = |word: &String| Change {
            path: word.clone().into_bytes(),
            before: entry(before.contains(word)),
            after: entry(after.contains(word)),
            aspects: Vec::new(),
        };
        Ok(changes.take(request.limit).map(change).collect())
    }

    fn kept(&self, snapshotter: &str, key: &str) -> Result<&Kept> {
        self.snapshots
            .get(&(snapshotter.to_owned(), key.to_owned()))
            .ok_or_else(|| Error::not_found("the snapshot is not there").with("snapshot", key))
    }

    pub(super) fn move_container(&mut self, id: &str, snapshot_key: &str) -> Result<Container> {
        let Some(container) = self.containers.get_mut(id) else {
            return Err(Error::not_found("the container is not there").with("container", id));
        };
        container.snapshot_key = snapshot_key.to_owned();
        container.updated_at = Timestamp::now();
        Ok(container.clone())
    }

    pub(super) fn renew_container(&mut self, new: &NewContainer) -> Result<Container> {
        self.move_container(&new.id, &new.snapshot_key)?;
        self.made.insert(new.id.clone(), new.clone());
        let container = self.containers.get_mut(&new.id).map(|container| {
            container.image.clone_from(&new.image);
            container.mounts.clone_from(&new.mounts);
            container.network.clone_from(&new.network);
            container.user.clone_from(&new.user);
            container.clone()
        });
        container.ok_or_else(|| Error::not_found("the container is not there"))
    }

    pub(super) fn limit_container(
        &mut self,
        id: &str,
        limits: &Limits,
        device: Option<BlockDevice>,
    ) -> Result<()> {
        let (Some(container), Some(made)) = (self.containers.get_mut(id), self.made.get_mut(id)) else {
            return Err(Error::not_found("the container is not there").with("container", id));
        };
        (made.limits, made.io_device) = (limits.clone(), device);
        container.updated_at = Timestamp::now();
        Ok(())
    }

    pub(super) fn mark_container(&mut self, id: &str, label: &str, value: &str) -> Result<()> {
        let Some(container) = self.containers.get_mut(id) else {
            return Err(Error::not_found("the container is not there").with("container", id));
        };
        container.labels.insert(label.to_owned(), value.to_owned());
        container.updated_at = Timestamp::now();
        Ok(())
    }

    /// Whether nothing was written into a writable snapshot beyond what it stands on.
    pub(super) fn is_untouched(&self, snapshotter: &str, key: &str) -> bool {
        let kept = |key: &str| self.snapshots.get(&(snapshotter.to_owned(), key.to_owned()));
        let Some(snapshot) = kept(key).filter(|snapshot| !snapshot.committed) else { return false };
        let below = kept(&snapshot.parent).map(|below| below.content.clone()).unwrap_or_default();
        snapshot.content == below
    }

    pub(super) fn prepare_user(&mut self, snapshotter: &str, key: &str, user: &str) -> Result<ResolvedUser> {
        let name = (snapshotter.to_owned(), key.to_owned());
        let Some(snapshot) = self.snapshots.get_mut(&name) else {
            return Err(Error::not_found("the snapshot is not there").with("snapshot", key));
        };
        let number = |text: &str| match text {
            "" | "root" => Ok(0),
            "node" => Ok(1000),
            text => text.parse().map_err(|_| {
                Error::failed_precondition("the image has no such user or group").with("user", user)
            }),
        };
        let (uid, gid) = match user.split_once(':') {
            Some((uid, gid)) => (number(uid)?, number(gid)?),
            None if user == "node" => (1000, 1000),
            None => (number(user)?, 0),
        };
        let resolved = ResolvedUser { uid, gid, additional_gids: Vec::new() };
        if uid != 0 {
            snapshot.data_owner = Some(resolved.clone());
        }
        Ok(resolved)
    }

    pub(super) fn create_container(&mut self, new: &NewContainer) -> Result<Container> {
        if self.containers.contains_key(&new.id) {
            return Err(Error::already_exists("the container is there already").with("container", &new.id));
        }
        let now = Timestamp::now();
        let container = Container {
            id: new.id.clone(),
            image: new.image.clone(),
            snapshotter: new.snapshotter.clone(),
            snapshot_key: new.snapshot_key.clone(),
            labels: new.labels.clone(),
            mounts: new.mounts.clone(),
            network: new.network.clone(),
            user: new.user.clone(),
            created_at: now,
            updated_at: now,
        };
        self.made.insert(new.id.clone(), new.clone());
        self.containers.insert(new.id.clone(), container.clone());
        Ok(container)
    }

    pub(super) fn create_task(&mut self, container: &Container) -> Result<Task> {
        let id = &container.id;
        if !self.containers.contains_key(id) {
            return Err(Error::not_found("the container is not there").with("container", id));
        }
        if self.tasks.contains_key(id) {
            return Err(Error::already_exists("the container has a task already").with("container", id));
        }
        let name = (container.snapshotter.clone(), container.snapshot_key.clone());
        if !self.snapshots.contains_key(&name) {
            return Err(Error::not_found("the snapshot is not there").with("snapshot", name.1));
        }
        self.last_pid += 1;
        let task = Task {
            container: id.clone(),
            // No process has a number above 2^22 (PID_MAX_LIMIT, proc(5)).
            pid: (1 << 22) + self.last_pid,
            status: TaskStatus::Created,
            exit: None,
        };
        self.tasks.insert(id.clone(), task.clone());
        Ok(task)
    }

    pub(super) fn task(&mut self, container: &str) -> Result<&mut Task> {
        self.tasks
            .get_mut(container)
            .ok_or_else(|| Error::not_found("the container has no task").with("container", container))
    }

    pub(super) fn watch(&mut self) -> mpsc::UnboundedReceiver<BackendEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.watchers.push(sender);
        receiver
    }

    /// Tells the watchers what has changed since they were told last.
    pub(super) fn tell(&mut self) {
        let (containers, tasks) =
            std::mem::replace(&mut self.told, (self.containers.clone(), self.tasks.clone()));
        let ids: BTreeSet<String> = containers.keys().chain(self.containers.keys()).cloned().collect();
        for id in ids {
            if containers.get(&id) != self.containers.get(&id) {
                self.send(&BackendEvent::Container(id));
            }
        }
        let ids: BTreeSet<String> = tasks.keys().chain(self.tasks.keys()).cloned().collect();
        for container in ids {
            let (old, new) = (tasks.get(&container), self.tasks.get(&container));
            let mut changes = Vec::new();
            let known = old.filter(|old| new.is_some_and(|new| new.pid == old.pid));
            if let (Some(old), None) = (old, known) {
                changes.push((old.pid, TaskChange::Deleted));
            }
            if let Some(new) = new {
                if known.is_none() {
                    changes.push((new.pid, TaskChange::Created));
                }
                match new.exit {
                    Some(exit) if known.is_none_or(|old| old.exit.is_none()) => {
                        changes.push((new.pid, TaskChange::Exited(exit)));
                    }
                    None if new.status == TaskStatus::Running
                        && known.is_none_or(|old| old.status == TaskStatus::Created) =>
                    {
                        changes.push((new.pid, TaskChange::Started));
                    }
                    _ => {}
                }
            }
            for (pid, change) in changes {
                self.send(&BackendEvent::Task(TaskEvent { container: container.clone(), pid, change }));
            }
        }
    }

    /// Tells the watchers one thing.
    pub(super) fn send(&mut self, event: &BackendEvent) {
        self.watchers.retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    /// Delivers a signal. Returns whether a process was there to take it.
    pub(super) fn signal(&mut self, container: &str, signal: i32) -> bool {
        let live = self.tasks.get(container).is_some_and(|task| task.exit.is_none());
        let ends = signal == SIGKILL || (signal == SIGTERM && !self.ignore_sigterm);
        if live && ends {
            self.end_task(container, 128 + signal.unsigned_abs());
        }
        live
    }

    pub(super) fn end_task(&mut self, container: &str, code: u32) {
        if let Some(task) = self.tasks.get_mut(container)
            && task.exit.is_none()
        {
            task.status = TaskStatus::Stopped;
            task.exit = Some(TaskExit { code, at: Timestamp::now() });
        }
    }
}

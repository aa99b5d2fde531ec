//! The backend against real daemons. Which version, `$DUNNAGE_TEST_CONTAINERD` says.

mod daemon;
mod round;

use super::*;
use crate::backend::{GuestMount, NetworkNamespace, SnapshotKind, TaskChange, TaskStatus, UnpackedImage};
use crate::error::ErrorKind;
use crate::names::ImageRef;
use crate::types::{Limits, PullPolicy};
use dunnage_harness::{Containerd as Daemon, ContainerdOptions, Version, fixtures};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

/// A daemon with one namespace, its images, and the backend on it.
struct Bench {
    daemon: Daemon,
    namespace: String,
    backend: Containerd,
}

impl Bench {
    /// Starts a daemon and connects; `images` are fixtures to import.
    async fn new(images: &[&str]) -> Self {
        Self::with(images, |_| {}).await
    }

    async fn with(images: &[&str], adjust: impl FnOnce(&mut Config)) -> Self {
        let version = Version::from_env().unwrap();
        let daemon = Daemon::start(ContainerdOptions { version, ..Default::default() }).unwrap();
        let namespace = daemon.namespace();
        for image in images {
            import(&daemon, &namespace, image);
        }
        let mut config =
            Config::default().containerd_address(daemon.socket().display().to_string()).namespace(&namespace);
        config.backend = BackendKind::Containerd;
        adjust(&mut config);
        let backend = Containerd::connect(&config).await.unwrap();
        Self { daemon, namespace, backend }
    }

    /// What `ctr` prints.
    fn ctr(&self, arguments: &[&str]) -> String {
        run(self.daemon.ctr(&self.namespace).args(arguments))
    }

    /// What a container of a fixture that is here starts from.
    async fn unpacked(&self, image: &str) -> UnpackedImage {
        let request = PullRequest {
            image: ImageRef::parse(&name(image)).unwrap(),
            policy: PullPolicy::Never,
            platform: None,
            snapshotter: "overlayfs".to_owned(),
            credential: None,
        };
        let pulled = self.backend.pull(&request, &PullTracker::default(), &CancellationToken::new()).await;
        pulled.unwrap().unpacked
    }

    /// Makes snapshot and container, as the lifecycle does.
    async fn create(&self, image: &str, new: NewContainer) -> Container {
        let unpacked = self.unpacked(image).await;
        let snapshot = NewSnapshot {
            snapshotter: "overlayfs".to_owned(),
            key: new.snapshot_key.clone(),
            parent: unpacked.top_snapshot,
            labels: BTreeMap::from([("dunnage.test".to_owned(), "1".to_owned())]),
        };
        self.backend.prepare_snapshot(&snapshot).await.unwrap();
        let user = self
            .backend
            .prepare_user("overlayfs", &snapshot.key, &unpacked.user, Some(Path::new("/data")))
            .await
            .unwrap();
        self.backend.create_container(&NewContainer { user, ..new }).await.unwrap()
    }

    /// Creates and starts.
    async fn start(&self, image: &str, new: NewContainer) -> Container {
        let container = self.create(image, new).await;
        self.backend.create_task(&container).await.unwrap();
        self.backend.start_task(&container.id).await.unwrap();
        container
    }

    /// Removes what [`Bench::start`] made, whatever it does.
    async fn remove(&self, container: &Container) {
        let id = &container.id;
        if self.backend.kill_task(id, 9, true).await.unwrap() {
            self.backend.wait_task(id).await.unwrap();
        }
        self.backend.delete_task(id).await.unwrap();
        self.backend.delete_container(id).await.unwrap();
        self.backend.remove_snapshot(&container.snapshotter, &container.snapshot_key).await.unwrap();
    }

    /// Runs a script to its end and returns what it wrote to `/run/out/said`.
    async fn output(&self, image: &str, new: NewContainer, script: &str) -> String {
        let dir = self.daemon.data_root().join(format!("out-{}", new.id));
        std::fs::create_dir(&dir).unwrap();
        // For workspaces that do not run as root.
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let out = GuestMount { source: dir.clone(), target: "/run/out".into(), read_only: false };
        let mut new = NewContainer {
            args: ["/bin/sh", "-c", &format!("{{ {script}; }} >/run/out/said 2>&1")]
                .map(str::to_owned)
                .to_vec(),
            ..new
        };
        new.mounts.push(out);
        let container = self.start(image, new).await;
        let waited = tokio::time::timeout(Duration::from_secs(20), self.backend.wait_task(&container.id));
        waited.await.unwrap().unwrap();
        self.remove(&container).await;
        std::fs::read_to_string(dir.join("said")).unwrap()
    }
}

/// A container of this id that runs a script.
fn new_container(id: &str, script: &str) -> NewContainer {
    NewContainer {
        id: id.to_owned(),
        image: name("busybox"),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: format!("{id}-active-1"),
        labels: BTreeMap::from([("memoh.bot_id".to_owned(), id.to_owned())]),
        args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        working_dir: String::new(),
        user: ResolvedUser::default(),
        hostname: id.to_owned(),
        mounts: Vec::new(),
        network: NetworkNamespace::Private,
        limits: Limits::default(),
        io_device: None,
    }
}

/// A script that heeds SIGTERM, as the first process of a container must by itself.
const HEEDS_TERM: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

fn name(fixture: &str) -> String {
    format!("docker.io/library/fixture:{fixture}")
}

fn import(daemon: &Daemon, namespace: &str, fixture: &str) {
    let image = fixtures::image(fixture).unwrap();
    // Not through a pipe: who reads an archive may stop before its padding, and `tar` would call that a failure.
    let archive = tempfile::NamedTempFile::new().unwrap();
    run(Command::new("tar").arg("-C").arg(image.dir()).arg("-cf").arg(archive.path()).arg("."));
    let arguments = ["image", "import", "--base-name", "docker.io/library/fixture"];
    run(daemon.ctr(namespace).args(arguments).arg(archive.path()));
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

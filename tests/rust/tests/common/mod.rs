//! What all tests against real daemons share: a daemon, a registry, an engine on them, and counts of what is left.
#![allow(dead_code, reason = "each test program uses some of it")]

pub(crate) mod data;
pub(crate) mod disk;
pub(crate) mod helper;
pub(crate) mod log;
pub(crate) mod older;
pub(crate) mod random;
pub(crate) mod terminal;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use dunnage::types::{
    CreateOptions, DeleteOptions, Event, ExecResult, ImageName, NetworkMode, PullOptions, PullResult,
    RunOptions,
};
use dunnage::{Config, Engine, Error, ErrorKind, Operation, Workspace};
use dunnage_harness::{
    Containerd, ContainerdOptions, Fault, FaultProxy, Leaks, PLUGIN_DIR, Registry, RegistryOptions, Version,
    fixtures, repository, target_dir,
};

/// A containerd of the version that `$DUNNAGE_TEST_CONTAINERD` names, an open registry, and one namespace.
pub(crate) struct Rig {
    pub(crate) containerd: Containerd,
    pub(crate) registry: Registry,
    pub(crate) namespace: String,
}

impl Rig {
    /// Starts both.
    pub(crate) fn start() -> Self {
        let version = Version::from_env().unwrap();
        let containerd = Containerd::start(ContainerdOptions { version, ..Default::default() }).unwrap();
        let registry = Registry::start(RegistryOptions::default()).unwrap();
        let namespace = containerd.namespace();
        Self { containerd, registry, namespace }
    }

    /// A configuration in which nothing of this host's own is used.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default()
            .data_root(self.containerd.data_root())
            .runtime_dir(runtime_dir())
            .containerd_address(self.containerd.socket().display().to_string())
            .namespace(&self.namespace);
        config.backend = dunnage::config::BackendKind::Containerd;
        config.network.mode = NetworkMode::None;
        config.network.config_dir = self.containerd.cni_conf_dir();
        config.network.plugin_dirs = vec![PathBuf::from(PLUGIN_DIR)];
        config.registry.hosts_dir = self.hosts_dir();
        config.registry.docker_config = Some(self.containerd.dir().join("no-docker-config.json"));
        config
    }

    /// The directory of `hosts.toml` files; there are none until a test writes one.
    pub(crate) fn hosts_dir(&self) -> PathBuf {
        self.containerd.dir().join("certs.d")
    }

    /// An engine on [`Rig::config`].
    pub(crate) async fn engine(&self) -> Engine {
        Engine::open(self.config()).await.unwrap()
    }

    /// Puts a fixture into the registry; returns its reference.
    pub(crate) fn add(&self, fixture: &str) -> String {
        self.registry.add(&fixtures::image(fixture).unwrap()).unwrap()
    }

    /// Puts a fixture into the registry and pulls it; returns its reference.
    pub(crate) async fn pulled(&self, engine: &Engine, fixture: &str) -> String {
        let image = self.add(fixture);
        engine.image().pull(PullOptions::default().image(&image)).await.unwrap();
        image
    }

    /// A proxy before the registry.
    pub(crate) fn proxy(&self, faults: &str) -> FaultProxy {
        let faults = Fault::parse_all(faults).unwrap();
        let address = self.registry.address();
        // It blocks on a runtime of its own, which is not allowed on a thread that drives another.
        std::thread::spawn(move || FaultProxy::start(address, faults)).join().unwrap().unwrap()
    }

    /// What `ctr` prints; it must succeed.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> String {
        run(self.containerd.ctr(&self.namespace).args(arguments))
    }

    /// How many snapshots there are of workspaces whose ids begin with this and a hyphen.
    pub(crate) fn snapshots_of(&self, id: &str) -> usize {
        let prefix = format!("workspace-{id}-");
        self.ctr(&["snapshots", "ls"]).lines().filter(|line| line.starts_with(&prefix)).count()
    }

    /// Counts what is there. Pinned network namespaces are counted as mounts below the harness's own directory; those
    /// of the whole host belong to others as well.
    pub(crate) fn count(&self) -> Leaks {
        Leaks { netns: 0, ..self.containerd.leaks().unwrap() }
    }

    /// Waits until everything is as it was, and fails with both counts when it does not come to that.
    #[track_caller]
    pub(crate) fn settle(&self, before: &Leaks) {
        self.settle_counts(before, |counts| counts);
    }

    /// As [`Rig::settle`], but shims do not count: containerd can lose sight of the shim of a task whose creation it was
    /// asked for by a process that died meanwhile. No request reaches such a shim; containerd's next start ends it.
    #[track_caller]
    pub(crate) fn settle_but_shims(&self, before: &Leaks) {
        self.settle_counts(before, |counts| Leaks { shims: 0, processes: 0, ..counts });
    }

    #[track_caller]
    fn settle_counts(&self, before: &Leaks, what: impl Fn(Leaks) -> Leaks) {
        let before = &what(before.clone());
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let now = what(self.count());
            if now == *before {
                return;
            }
            assert!(Instant::now() < deadline, "left behind:\nbefore {before:?}\nnow    {now:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The counts of a daemon that keeps its images and nothing else.
    #[track_caller]
    pub(crate) fn expect_only_images(&self, snapshots: u64) {
        let now = self.count();
        let wanted = Leaks {
            snapshots,
            images: now.images,
            // containerd itself.
            processes: now.processes,
            ..Leaks::default()
        };
        assert_eq!(Leaks { processes: wanted.processes, ..now }, wanted);
    }

    /// Nothing is kept in the daemon: no image, lease, upload or snapshot. Content without a lease may wait for the
    /// collector.
    #[track_caller]
    pub(crate) fn nothing_kept(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let now = self.count();
            let kept = Leaks { processes: 0, mounts: 0, shims: 0, firewall_rules: 0, ..now.clone() };
            if kept == Leaks::default() {
                return;
            }
            assert!(Instant::now() < deadline, "kept: {now:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Lets the daemon remove the files of all that is removed: a lease that is deleted synchronously does that.
    pub(crate) fn collect(&self) {
        self.ctr(&["leases", "create", "--id", "collect"]);
        self.ctr(&["leases", "delete", "--sync", "collect"]);
    }

    /// Removes an image with its content and snapshots, so that the next pull starts anew.
    pub(crate) async fn forget(&self, engine: &Engine, image: &str) {
        assert!(engine.image().delete(ImageName::default().image(image)).await.unwrap().deleted);
        self.collect();
        self.nothing_kept();
        assert_eq!(self.ctr(&["content", "ls", "-q"]), "", "content is left");
    }

    /// No file of a workspace is left under the data root.
    #[track_caller]
    pub(crate) fn no_files_of(&self, id: &str) {
        let root = self.containerd.data_root();
        for dir in ["run", "etc", "netns", "network", "backups"] {
            let left: Vec<_> = names(&root.join(dir)).into_iter().filter(|name| name.contains(id)).collect();
            assert!(left.is_empty(), "{dir}: {left:?}");
        }
    }
}

/// The names in a directory; none when it is not there.
pub(crate) fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The database of an engine and what SQLite keeps beside it.
pub(crate) fn database(config: &Config) -> impl Iterator<Item = PathBuf> {
    let root = config.data_root.clone();
    names(&root).into_iter().filter(|name| name.starts_with("dunnage.db")).map(move |name| root.join(name))
}

/// Removes the database. No engine may be open.
pub(crate) fn lose_database(config: &Config) {
    assert!(database(config).map(|path| std::fs::remove_file(path).unwrap()).count() > 0);
}

/// The directory with the agent: `$DUNNAGE_RUNTIME_DIR`, else that of the build directory, built when it is missing.
pub(crate) fn runtime_dir() -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        if let Some(dir) = std::env::var_os("DUNNAGE_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
            return dir.into();
        }
        let dir = target_dir().join("runtime");
        if !dir.join("bridge").is_file() {
            run(Command::new(repository().join("scripts/build-agent")).env("CARGO_TARGET_DIR", target_dir()));
        }
        dir
    })
    .clone()
}

/// What a program prints; it must succeed.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// A workspace that runs.
pub(crate) async fn running(engine: &Engine, id: &str, image: &str) -> Workspace {
    let workspace = engine.workspace(id).unwrap();
    workspace.create(CreateOptions::default().image(image)).await.unwrap();
    workspace
}

/// Removes a workspace without waiting for its processes.
pub(crate) async fn remove(workspace: &Workspace) {
    workspace.delete(kill()).await.unwrap();
}

/// A deletion that does not wait.
pub(crate) fn kill() -> DeleteOptions {
    DeleteOptions::default().grace_ms(0u64)
}

/// Runs a command inside; returns how it ended and both outputs.
pub(crate) async fn sh(workspace: &Workspace, command: &str) -> (ExecResult, String, String) {
    let output = workspace.exec().run(RunOptions::default().command(command), "").await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.result, text(&output.stdout), text(&output.stderr))
}

/// Runs a command that must succeed inside; returns its stdout without the last line's end.
#[track_caller]
pub(crate) fn said(done: (ExecResult, String, String)) -> String {
    let (result, stdout, stderr) = done;
    assert_eq!(result.exit_code, 0, "{stdout}{stderr}");
    stdout.trim_end().to_owned()
}

/// The error of a call that must fail this way, checked for what every error has to be: it names its operation, speaks
/// in lower case without a full stop, and contains each of `words`.
#[track_caller]
pub(crate) fn fails<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind, words: &[&str]) -> Error {
    let error = match result {
        Ok(value) => panic!("it succeeded, expected {}: {value:?}", kind.as_str()),
        Err(error) => error,
    };
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(!error.message().ends_with('.'), "a full stop: {text}");
    // A word all in capitals is a name.
    let first = error.message().split(' ').next().unwrap_or_default();
    let named = first.len() > 1 && first.chars().all(char::is_uppercase);
    assert!(named || !first.starts_with(char::is_uppercase), "upper case: {text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    error
}

/// A value of an error's context.
#[track_caller]
pub(crate) fn context(error: &Error, key: &str) -> String {
    let found = error.context().find(|(name, _)| *name == key);
    found.unwrap_or_else(|| panic!("no {key} in the context of: {error}")).1.to_owned()
}

/// Waits for an operation and returns its events too.
pub(crate) async fn watched<T: Send + 'static>(
    mut operation: Operation<T>,
) -> (Result<T, Error>, Vec<Event>) {
    let mut stream = operation.events().unwrap();
    let watcher = tokio::spawn(async move {
        let mut events = Vec::new();
        while let Some(event) = stream.next().await {
            events.push(event);
        }
        events
    });
    let result = operation.await;
    (result, watcher.await.unwrap())
}

/// Pulls and returns the events too.
pub(crate) async fn pull(engine: &Engine, image: &str) -> (Result<PullResult, Error>, Vec<Event>) {
    watched(engine.image().pull(PullOptions::default().image(image))).await
}

/// What the events of any pull must keep: counts that never fall, all of them right, one end.
#[track_caller]
pub(crate) fn sane(events: &[Event]) {
    let ends = events.iter().filter(|event| event.kind.is_terminal()).count();
    assert_eq!(ends, 1, "{events:#?}");
    assert!(events.last().unwrap().kind.is_terminal(), "{events:#?}");
    assert!(events.windows(2).all(|two| two[0].elapsed_ms <= two[1].elapsed_ms), "{events:#?}");
    let progress: Vec<&Event> = events.iter().filter(|event| event.layers.is_some()).collect();
    for event in &progress {
        let layers = event.layers.as_ref().unwrap();
        assert!(layers.iter().all(|layer| layer.offset <= layer.total && layer.unpacked <= layer.total));
        assert_eq!(event.bytes, Some(layers.iter().map(|layer| layer.offset).sum()), "{event:?}");
        assert_eq!(event.total_bytes, Some(layers.iter().map(|layer| layer.total).sum()), "{event:?}");
    }
    for two in progress.windows(2) {
        assert_eq!(two[0].total_bytes, two[1].total_bytes, "the total changed");
        assert!(two[0].bytes <= two[1].bytes && two[0].unpacked_bytes <= two[1].unpacked_bytes, "{two:#?}");
        let (a, b) = (two[0].layers.as_ref().unwrap(), two[1].layers.as_ref().unwrap());
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert_eq!(a.reference, b.reference);
            assert!(a.offset <= b.offset && a.unpacked <= b.unpacked, "{a:?} then {b:?}");
        }
    }
}

/// Repeats a look until it is true; a minute is more than a slow machine takes.
pub(crate) async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !look().await {
        assert!(Instant::now() < deadline, "it never came true: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A TCP port of this host that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

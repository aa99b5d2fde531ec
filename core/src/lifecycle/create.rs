use super::boot::{boot, halt};
use super::delete::{UNDONE, mark};
use super::info::describe;
use super::journal::CreateIntent;
use super::limits::{self, Held};
use super::millis;
use super::options;
use super::recover::take;
use super::resolve::{Found, resolve};
use super::seed::{self, Restore, Seed};
use super::snapshots::{self, Orphans, Position};
use super::start::start_existing;
use crate::backend::{
    Container, GuestMount, NetworkNamespace, NewContainer, NewSnapshot, PullRequest, PullTracker,
    ResolvedUser, Task, UnpackedImage,
};
use crate::config::Config;
use crate::engine::EngineInner;
use crate::error::{Error, Result};
use crate::failpoints::step;
use crate::names::{ImageRef, WorkspaceId};
use crate::operation::OperationContext;
use crate::store::{JournalEntry, NewEvent, OperationKind, WorkspaceRecord};
use crate::types::{CreateOptions, CreateResult, EventType, LifecycleKind, LimitInfo, NetworkMode, Phases};
use jiff::Timestamp;
use rustix::fs::{Gid, Uid};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// PATH of a process whose image sets none, as containerd's `oci.WithDefaultPathEnv` has it.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes a workspace, or leaves the one that is there as it is.
pub(crate) async fn create(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: CreateOptions,
    context: &OperationContext,
) -> Result<CreateResult> {
    let began = Instant::now();
    options::check(&options, &inner.config)?;
    inner.config.container_id(id)?;
    check_agent(&inner.config)?;
    let network = options.network.unwrap_or(inner.config.network.mode);
    if network == NetworkMode::Cni {
        inner.network.check(&options.ports)?;
    }
    let _guard = take(inner, id, context).await?;

    let mut phases = Phases::default();
    if let Some(found) = resolve(inner, id).await? {
        let started = options.start && start_existing(inner, id, &found, context, &mut phases).await?;
        let task = inner.backend.task(&found.container.id).await?;
        let limits = limits::told(inner, &found, task.as_ref()).await;
        return Ok(finish(inner, id, &found, task, false, started, limits, phases, began, context));
    }
    let restore = if options.restore_data { Restore::Newest } else { Restore::No };
    let built = build(inner, id, options, network, None, restore, context, &mut phases).await?;
    let started = built.task.is_some();
    let limits = limits::told(inner, &built.found, built.task.as_ref()).await;
    let mut result =
        finish(inner, id, &built.found, built.task, true, started, limits, phases, began, context);
    result.data_restored = built.restored;
    Ok(result)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the one place where all that a creation found out comes together"
)]
fn finish(
    inner: &EngineInner,
    id: &WorkspaceId,
    found: &Found,
    task: Option<Task>,
    created: bool,
    started: bool,
    limits: Vec<LimitInfo>,
    mut phases: Phases,
    began: Instant,
    context: &OperationContext,
) -> CreateResult {
    let info = describe(inner, id, found, task.as_ref());
    phases.total = millis(began);
    let result = CreateResult {
        workspace_id: id.to_string(),
        container_id: info.container_id.clone(),
        image: info.image.clone(),
        snapshotter: info.snapshotter.clone(),
        created,
        started: started || info.task_running,
        data_restored: false,
        has_preserved_data: info.has_preserved_data,
        limits,
        phases_ms: phases,
    };
    context.complete_with(|event| event.container = Some(Box::new(info)));
    result
}

/// What a workspace begins with, other than its image.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The committed snapshot that its writable one is to stand on.
    pub(super) snapshot: String,
    pub(super) position: Position,
}

impl Origin {
    /// The workspace and version that it is forked from.
    fn forked_from(&self) -> Option<(String, u64)> {
        let (id, version) = self.position.forked_from.as_ref()?.rsplit_once('/')?;
        Some((id.to_owned(), version.parse().ok()?))
    }
}

/// A workspace that was made.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) found: Found,
    /// Its task, if it was started.
    pub(super) task: Option<Task>,
    /// Whether it begins with data that was there before.
    pub(super) restored: bool,
}

/// Makes a workspace that is not there. The caller holds its lock.
///
/// A writable snapshot that a lost container has left is what it goes on with, and any others are kept as versions. Only
/// where another image is asked for, the workspace begins with that, and all that was left is kept as versions; then, and
/// where nothing was left, its data directory is what `restore` says.
#[expect(clippy::too_many_arguments, reason = "all that its callers have found out")]
pub(super) async fn build(
    inner: &EngineInner,
    id: &WorkspaceId,
    mut options: CreateOptions,
    network: NetworkMode,
    origin: Option<Origin>,
    restore: Restore,
    context: &OperationContext,
    phases: &mut Phases,
) -> Result<Built> {
    // It is for this once.
    options.restore_data = false;
    let snapshotter =
        options.snapshotter.clone().unwrap_or_else(|| inner.config.containerd.snapshotter.clone());
    // What is left of it tells the image only where the caller does not.
    let left = match options.image {
        Some(_) => None,
        None => Some(snapshots::orphans(inner, id, &snapshotter).await?),
    };
    let image = choose_image(inner, id, &options, left.as_ref().and_then(Orphans::image)).await?;
    let name = image.to_string();
    let request = PullRequest {
        image,
        policy: options.pull_policy,
        platform: None,
        snapshotter: snapshotter.clone(),
        credential: None,
    };
    let tracker = PullTracker::default();
    let pull = inner.backend.pull(&request, &tracker, context.cancel_token());
    let pull = context.with_pull_progress(&name, &tracker, pull);
    let look = async {
        match left {
            Some(left) => Ok(left),
            None => snapshots::orphans(inner, id, &snapshotter).await,
        }
    };
    let (pulled, orphans) = tokio::join!(pull, look);
    let (mut pulled, orphans) = (pulled?, orphans?);
    (phases.pull, phases.unpack) = (pulled.pull_ms, pulled.unpack_ms);
    if !pulled.skipped {
        let mut event = NewEvent::new(LifecycleKind::Pull).image(&name).operation(context.id());
        event.workspace = Some(id.to_string());
        inner.store.tell(&event).await?;
    }
    context.check_cancelled()?;

    context.emit_kind(EventType::Creating);
    let container_id = inner.config.container_id(id)?;
    let anew = origin.is_some();
    let forked_from = origin.as_ref().and_then(Origin::forked_from);
    let adopted = snapshots::adopt(inner, id, &snapshotter, orphans, &container_id, &name, anew).await?;
    let seed = if anew || adopted.writable.is_some() {
        None
    } else {
        seed::find(inner, id, &container_id, restore, &adopted.kept).await?
    };
    let mut position = Position { image: Some(name.clone()), ..adopted.position };
    if let Some(origin) = origin {
        position =
            Position { last: position.last, stamp: position.stamp, image: position.image, ..origin.position };
        pulled.unpacked.top_snapshot = origin.snapshot;
    }
    let intent = CreateIntent {
        adopted: adopted.writable.is_some(),
        snapshot_key: adopted
            .writable
            .unwrap_or_else(|| format!("{container_id}-active-{}", Timestamp::now().as_nanosecond())),
        container_id,
        snapshotter,
        image: name.clone(),
        network: network == NetworkMode::Cni,
        options: options.clone(),
        seed: seed.as_ref().map(Seed::intent).unwrap_or_default(),
    };
    inner.store.begin(&JournalEntry::new(context.id(), OperationKind::Create, id, &intent)?).await?;
    let making =
        make(inner, id, &intent, &pulled.unpacked, position, network, seed.as_ref(), context, phases);
    match making.await {
        Ok((container, task)) => {
            let record = record(inner, id, &container, &options, options.start);
            let mut told = made(id, &record, context.id());
            if let Some((from, version)) = forked_from {
                let fork = NewEvent::of(LifecycleKind::Fork, id, &record.container_id);
                told.push(fork.operation(context.id()).version(version).message(from));
            }
            inner.store.finish(context.id(), Some(&record), &told).await?;
            seed::note(inner, id, &intent.seed).await;
            let found = Found { container, record: Some(record), legacy: false };
            Ok(Built { found, task, restored: seed.is_some() })
        }
        Err(error) => {
            // What cannot be undone now stays in the journal for the next who takes the lock.
            match undo(inner, id, &intent).await {
                Ok(()) => inner.store.finish(context.id(), None, &[]).await?,
                Err(undo) => return Err(error.with("not_undone", undo)),
            }
            Err(error)
        }
    }
}

/// The events of a creation.
pub(super) fn made(id: &WorkspaceId, record: &WorkspaceRecord, operation: &str) -> Vec<NewEvent> {
    let of = |kind| NewEvent::of(kind, id, &record.container_id).operation(operation);
    let start = record.started.then(|| of(LifecycleKind::Start));
    std::iter::once(of(LifecycleKind::Create).image(&record.image)).chain(start).collect()
}

/// Makes everything the intent names, in order.
#[expect(clippy::too_many_arguments, reason = "all that a creation has found out, used in one place")]
async fn make(
    inner: &EngineInner,
    id: &WorkspaceId,
    intent: &CreateIntent,
    image: &UnpackedImage,
    mut position: Position,
    network: NetworkMode,
    seed: Option<&Seed>,
    context: &OperationContext,
    phases: &mut Phases,
) -> Result<(Container, Option<Task>)> {
    let began = Instant::now();
    let mut parent = image.top_snapshot.clone();
    if let Some(seed) = seed {
        context.emit_kind(EventType::Restoring);
        let depth = position.depth + 1;
        if let Some(below) = seed::below(inner, id, seed, &intent.snapshotter, &parent, depth).await? {
            (parent, position.depth) = (below, depth);
        }
        context.check_cancelled()?;
    }
    let snapshot = NewSnapshot {
        snapshotter: intent.snapshotter.clone(),
        key: intent.snapshot_key.clone(),
        parent,
        labels: position.to_labels(&inner.config, id),
    };
    let prepare =
        async { if intent.adopted { Ok(()) } else { inner.backend.prepare_snapshot(&snapshot).await } };
    let netns = async {
        match network {
            NetworkMode::Cni => {
                inner.network.namespace(&intent.container_id).await.map(NetworkNamespace::Path)
            }
            NetworkMode::Host => Ok(NetworkNamespace::Host),
            NetworkMode::None => Ok(NetworkNamespace::Private),
        }
    };
    let (prepared, netns) = tokio::join!(prepare, netns);
    prepared?;
    let netns = netns?;
    let place = (intent.snapshotter.as_str(), intent.snapshot_key.as_str());
    let user = image_user(inner, place, image, seed.is_none()).await?;
    if let Some(seed) = seed {
        seed::fill(inner, seed, &intent.snapshotter, &intent.snapshot_key, context).await?;
        phases.restore = millis(began);
        context.check_cancelled()?;
    }
    let began = Instant::now();
    let held = limits::held(inner, place, &intent.options.limits).await;
    let new = describe_container(
        inner,
        id,
        &intent.container_id,
        place,
        image,
        &intent.options,
        held,
        netns,
        user,
    )?;
    let container = inner.backend.create_container(&new).await?;
    phases.create = millis(began);
    context.check_cancelled()?;
    let mut task = None;
    if intent.options.start {
        context.emit_kind(EventType::Starting);
        task = Some(boot(inner, id, &container, &intent.options.ports, false, context, phases).await?.task);
    }
    Ok((container, task))
}

/// All that a container's record says, and the host's files that it names. `place` is its snapshotter and writable snapshot.
#[expect(clippy::too_many_arguments, reason = "all that a container is made of")]
pub(super) fn describe_container(
    inner: &EngineInner,
    id: &WorkspaceId,
    container: &str,
    place: (&str, &str),
    image: &UnpackedImage,
    options: &CreateOptions,
    held: Held,
    network: NetworkNamespace,
    user: ResolvedUser,
) -> Result<NewContainer> {
    let hostname = options.hostname.clone().unwrap_or_else(|| options::default_hostname(id));
    let run_dir = inner.config.run_dir(id);
    make_run_dir(&run_dir, &user)?;
    let files = inner.network.write_guest_files(&inner.config.etc_dir(id), &hostname, None)?;
    let mut labels = labels(&inner.config, id);
    labels.extend(options.labels.clone());
    Ok(NewContainer {
        id: container.to_owned(),
        image: image.name.clone(),
        snapshotter: place.0.to_owned(),
        snapshot_key: place.1.to_owned(),
        labels,
        args: first_process(&inner.config, image, options)?,
        env: environment(&inner.config, image, options),
        working_dir: if image.working_dir.is_empty() { "/".to_owned() } else { image.working_dir.clone() },
        user,
        hostname,
        mounts: mounts(
            &inner.config,
            Some(run_dir).filter(|_| options.entrypoint.is_none()),
            files.resolv_conf,
            files.hosts,
        ),
        network,
        limits: held.limits,
        io_device: held.device,
    })
}

/// The user of an image, by numbers. In the writable snapshot the data directory is given to it, unless it has its owner.
pub(super) async fn image_user(
    inner: &EngineInner,
    place: (&str, &str),
    image: &UnpackedImage,
    give_data: bool,
) -> Result<ResolvedUser> {
    if matches!(image.user.as_str(), "" | "0" | "root" | "0:0" | "root:root") {
        return Ok(ResolvedUser::default());
    }
    let data_dir = Some(inner.config.guest.data_dir.as_path()).filter(|_| give_data);
    inner.backend.prepare_user(place.0, place.1, &image.user, data_dir).await
}

/// Removes whatever of an intent has come to be. Does nothing twice, and touches only what bears the intent's own
/// generated names: a container of the same name that stands on another snapshot is somebody else's.
pub(super) async fn undo(inner: &EngineInner, id: &WorkspaceId, intent: &CreateIntent) -> Result<()> {
    let container = inner.backend.container(&intent.container_id).await?;
    let ours = container.as_ref().is_none_or(|container| container.snapshot_key == intent.snapshot_key);
    if ours {
        // What was there before stays, whoever finds the mark.
        if !intent.adopted {
            mark(inner, container.as_ref(), UNDONE).await?;
        }
        halt(inner, id, &intent.container_id, Duration::ZERO).await?;
        if intent.network {
            inner.network.detach(&intent.container_id).await?;
        }
        remove_dirs(&inner.config, id)?;
    }
    if !intent.adopted {
        inner.backend.remove_snapshot(&intent.snapshotter, &intent.snapshot_key).await?;
        seed::undo(inner, &intent.snapshotter, &intent.seed).await?;
    }
    if ours {
        // After what it stands on, as when a workspace is deleted: its runtime has left files there.
        inner.backend.delete_container(&intent.container_id).await?;
    }
    Ok(())
}

/// Removes a workspace's directories of sockets and of mounted files.
pub(super) fn remove_dirs(config: &Config, id: &WorkspaceId) -> Result<()> {
    for dir in [config.run_dir(id), config.etc_dir(id)] {
        let _step = step("dir.remove");
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(
                    Error::io(e, "cannot remove the workspace's directory").with("path", dir.display())
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// The image of a workspace: the one asked for, else the one its record, what is left of it, or its id remembers, else
/// the default.
async fn choose_image(
    inner: &EngineInner,
    id: &WorkspaceId,
    options: &CreateOptions,
    left: Option<&str>,
) -> Result<ImageRef> {
    if let Some(image) = &options.image {
        return ImageRef::parse(image);
    }
    if let Some(record) = inner.store.workspace(id).await? {
        return ImageRef::parse(&record.image);
    }
    if let Some(image) = left {
        return ImageRef::parse(image);
    }
    match inner.store.image_preference(id).await? {
        Some(image) => ImageRef::parse(&image),
        None => ImageRef::parse(&inner.config.default_image),
    }
}

/// The record of a container.
pub(super) fn record(
    inner: &EngineInner,
    id: &WorkspaceId,
    container: &Container,
    options: &CreateOptions,
    started: bool,
) -> WorkspaceRecord {
    WorkspaceRecord {
        id: id.clone(),
        container_id: container.id.clone(),
        image: container.image.clone(),
        namespace: inner.backend.namespace(),
        snapshotter: container.snapshotter.clone(),
        snapshot_key: container.snapshot_key.clone(),
        container_path: inner.config.run_dir(id).display().to_string(),
        auto_start: started,
        started,
        options: options.clone(),
        created_at: container.created_at,
        updated_at: Timestamp::now(),
    }
}

pub(super) fn check_agent(config: &Config) -> Result<()> {
    let agent = config.agent();
    if agent.is_file() {
        return Ok(());
    }
    Err(Error::failed_precondition(
        "the agent is missing on this host: set runtime_dir to the directory that holds `bridge`",
    )
    .with("path", agent.display()))
}

/// The labels of everything that is a workspace's.
pub(super) fn labels(config: &Config, id: &WorkspaceId) -> std::collections::BTreeMap<String, String> {
    let mut labels = config.names.labels.clone();
    labels.insert(config.names.id_label.clone(), id.to_string());
    labels
}

/// On a writable snapshot and on a version: the data root whose workspace it is.
pub(super) const HOME: &str = "dunnage.home";

/// The labels of a workspace's writable snapshot.
pub(super) fn labels_of_writable(
    config: &Config,
    id: &WorkspaceId,
) -> std::collections::BTreeMap<String, String> {
    let mut labels = labels(config, id);
    labels.insert(HOME.to_owned(), config.home_mark());
    labels
}

/// Makes the directory of an agent's sockets and gives it to the agent's user.
pub(super) fn make_run_dir(dir: &Path, user: &ResolvedUser) -> Result<()> {
    let _step = step("dir.make");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Error::io(e, "cannot make the socket directory").with("path", dir.display()))?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::fs::chown(dir, Some(uid), Some(gid)).map_err(|e| {
        Error::io(e.into(), "cannot give the socket directory to the image's user")
            .with("path", dir.display())
    })
}

fn environment(config: &Config, image: &UnpackedImage, options: &CreateOptions) -> Vec<String> {
    let mut env = Vec::with_capacity(image.env.len() + options.env.len() + 3);
    if !image.env.iter().any(|entry| entry.starts_with("PATH=")) {
        env.push(DEFAULT_PATH.to_owned());
    }
    env.extend(image.env.iter().cloned());
    if let Some(zone) = &config.timezone {
        env.push(format!("TZ={zone}"));
    }
    env.extend(options.env.iter().map(|(name, value)| format!("{name}={value}")));
    if options.entrypoint.is_none() {
        let socket = config.guest.run_mount.join(super::layout::SOCKET);
        env.push(format!("BRIDGE_SOCKET_PATH={}", socket.display()));
    }
    env
}

/// What runs first: the agent, unless something else is asked for.
///
/// # Errors
/// INVALID_ARGUMENT when the image is to say, and does not.
fn first_process(config: &Config, image: &UnpackedImage, options: &CreateOptions) -> Result<Vec<String>> {
    let args = match &options.entrypoint {
        None => vec![config.guest.runtime_mount.join("bridge").display().to_string()],
        Some(given) if given.is_empty() => image.command.clone(),
        Some(given) => given.clone(),
    };
    if args.is_empty() {
        return Err(Error::invalid_argument("the image does not say what it runs: name it in entrypoint")
            .with("field", "entrypoint")
            .with("image", &image.name));
    }
    Ok(args)
}

/// `run_dir` holds an agent's sockets.
fn mounts(
    config: &Config,
    run_dir: Option<PathBuf>,
    resolv_conf: PathBuf,
    hosts: PathBuf,
) -> Vec<GuestMount> {
    let read_only =
        |source: PathBuf, target: &str| GuestMount { source, target: target.into(), read_only: true };
    let mut mounts = vec![
        GuestMount {
            source: config.runtime_dir.clone(),
            target: config.guest.runtime_mount.clone(),
            read_only: true,
        },
        read_only(resolv_conf, "/etc/resolv.conf"),
        read_only(hosts, "/etc/hosts"),
    ];
    if let Some(source) = run_dir {
        mounts.push(GuestMount { source, target: config.guest.run_mount.clone(), read_only: false });
    }
    let localtime = PathBuf::from("/etc/localtime");
    if localtime.exists() {
        mounts.push(read_only(localtime, "/etc/localtime"));
    }
    mounts
}

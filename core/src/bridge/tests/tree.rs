use super::super::{BridgePool, Hold, Tree, TreeServer};
use super::agent_program;
use crate::ErrorKind;
use crate::backend::ResolvedUser;
use crate::config::Config;
use crate::types::{ReadOptions, RunOptions, WriteOptions};
use bytes::Bytes;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;

pub(super) const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn tree(dir: &Path, hold: Hold) -> Tree {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Tree {
        agent: agent_program().to_owned(),
        sockets: dir.join("sockets"),
        data_dir: "/data".into(),
        root: rustix::fs::open(dir.join("root"), flags, Mode::empty()).unwrap(),
        user: ResolvedUser::default(),
        hold,
    }
}

pub(super) fn dirs() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("root/data")).unwrap();
    std::fs::write(dir.path().join("secret"), "outside").unwrap();
    dir
}

pub(super) fn lock(path: &Path) -> OwnedFd {
    std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap().into()
}

fn is_locked(path: &Path) -> bool {
    flock(lock(path), FlockOperation::NonBlockingLockExclusive).is_err()
}

/// Sets a flag when it is dropped.
struct Told(Arc<AtomicBool>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_served_and_nothing_beside_it() {
    let dir = dirs();
    let file = dir.path().join("lock");
    let held = lock(&file);
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let dropped = Arc::new(AtomicBool::new(false));
    let with = Box::new(Told(Arc::clone(&dropped)));
    let server = TreeServer::start(tree(dir.path(), Hold::Lock(held)), with, LIMIT).await.unwrap();
    assert!(!dir.path().join("sockets").exists(), "the sockets have no names any more");
    let client = BridgePool::new(&Config::default()).files("w", server);

    client.write(&WriteOptions::default().path("file"), Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(std::fs::read(dir.path().join("root/data/file")).unwrap(), b"x");
    symlink(dir.path().join("secret"), dir.path().join("root/link")).unwrap();
    symlink("../secret", dir.path().join("root/up")).unwrap();
    for path in ["/link", "/up", "../../secret", "/proc/self/root"] {
        let error = client.read(&ReadOptions::default().path(path)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{path}: {error}");
    }
    let error = client.run(&RunOptions::default().command("true"), Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");

    assert!(is_locked(&file) && !dropped.load(Ordering::Acquire));
    client.end_tree().await;
    assert!(!is_locked(&file) && dropped.load(Ordering::Acquire));
    assert_eq!(client.reach().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_ends_with_the_process_that_it_follows() {
    let dir = dirs();
    let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&process);
    let followed = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let server =
        TreeServer::start(tree(dir.path(), Hold::Process(followed)), Box::new(()), LIMIT).await.unwrap();
    assert!(server.0.is_running());
    process.kill().unwrap();
    process.wait().unwrap();
    let ended = async {
        while server.0.is_running() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, ended).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_serve_is_told() {
    let dir = dirs();
    let missing = Tree {
        agent: dir.path().join("none"),
        ..tree(dir.path(), Hold::Lock(lock(&dir.path().join("lock"))))
    };
    let error = TreeServer::start(missing, Box::new(()), LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    let ends =
        Tree { agent: "/bin/false".into(), ..tree(dir.path(), Hold::Lock(lock(&dir.path().join("lock")))) };
    let error = TreeServer::start(ends, Box::new(()), LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert!(!dir.path().join("sockets").exists() && !is_locked(&dir.path().join("lock")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_given_up_leaves_nothing() {
    let dir = dirs();
    let slow = dir.path().join("slow");
    // It never says that it is ready, and ends as soon as nobody waits for that.
    std::fs::write(&slow, "#!/bin/sh\necho $$ > ../pid.new; mv ../pid.new ../pid; exec cat <&1 >&2\n")
        .unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (file, pid) = (dir.path().join("lock"), dir.path().join("pid"));
    let held = lock(&file);
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let dropped = Arc::new(AtomicBool::new(false));
    let starting = TreeServer::start(
        Tree { agent: slow, ..tree(dir.path(), Hold::Lock(held)) },
        Box::new(Told(Arc::clone(&dropped))),
        LIMIT,
    );
    let runs = async {
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        started = starting => panic!("it is ready: {started:?}"),
        () = runs => {}
    }
    let gone = async {
        while !dropped.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.unwrap();
    let process = std::fs::read_to_string(&pid).unwrap();
    assert!(!Path::new("/proc").join(process.trim()).exists(), "it was waited for");
    assert!(!dir.path().join("sockets").exists() && !is_locked(&file));
}

use super::*;
use crate::backend::NetworkNamespace;
use crate::backend::{Backend, Container, NewSnapshot, PullRequest, PullTracker, TaskStatus};
use crate::names::ImageRef;
use crate::types::Limits;
use crate::types::PullPolicy;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

fn request(policy: PullPolicy) -> PullRequest {
    PullRequest {
        image: ImageRef::parse("debian:bookworm-slim").unwrap(),
        policy,
        platform: None,
        snapshotter: "overlayfs".to_owned(),
        credential: None,
    }
}

fn container(id: &str) -> NewContainer {
    NewContainer {
        id: id.to_owned(),
        image: "docker.io/library/debian:bookworm-slim".to_owned(),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: id.to_owned(),
        labels: BTreeMap::from([("memoh.bot_id".to_owned(), id.to_owned())]),
        args: vec!["/opt/memoh/bridge".to_owned()],
        env: Vec::new(),
        working_dir: "/".to_owned(),
        user: ResolvedUser::default(),
        hostname: id.to_owned(),
        mounts: Vec::new(),
        network: NetworkNamespace::Private,
        limits: Limits::default(),
        io_device: None,
    }
}

async fn running(fake: &FakeBackend, id: &str) -> Container {
    let token = CancellationToken::new();
    let pulled = fake.pull(&request(PullPolicy::IfNotPresent), &PullTracker::default(), &token).await;
    let snapshot = NewSnapshot {
        snapshotter: "overlayfs".to_owned(),
        key: id.to_owned(),
        parent: pulled.unwrap().unpacked.top_snapshot,
        labels: BTreeMap::new(),
    };
    fake.prepare_snapshot(&snapshot).await.unwrap();
    let made = fake.create_container(&container(id)).await.unwrap();
    fake.create_task(&made).await.unwrap();
    fake.start_task(id).await.unwrap();
    made
}

#[tokio::test]
async fn a_round_keeps_the_rules_of_a_real_backend() {
    let fake = Arc::new(FakeBackend::new());
    let made = running(&fake, "a").await;
    let again = fake.create_container(&container("a")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    assert_eq!(fake.create_task(&made).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fake.delete_task("a").await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    assert_eq!(fake.delete_container("a").await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    let parent = format!("sha256:{:064x}", 1);
    let held = fake.remove_snapshot("overlayfs", &parent).await.unwrap_err();
    assert_eq!(held.kind(), ErrorKind::FailedPrecondition);

    let waiter = tokio::spawn({
        let fake = fake.clone();
        async move { fake.wait_task("a").await }
    });
    tokio::task::yield_now().await;
    assert!(fake.kill_task("a", 15, false).await.unwrap());
    assert_eq!(waiter.await.unwrap().unwrap().code, 143);
    assert!(!fake.kill_task("a", 15, false).await.unwrap());
    assert_eq!(fake.delete_task("a").await.unwrap().unwrap().code, 143);
    assert_eq!(fake.delete_task("a").await.unwrap(), None);
    assert!(fake.delete_container("a").await.unwrap());
    assert!(!fake.delete_container("a").await.unwrap());
    assert!(fake.remove_snapshot("overlayfs", "a").await.unwrap());
    assert!(!fake.remove_snapshot("overlayfs", "a").await.unwrap());
}

#[tokio::test]
async fn a_task_that_ignores_sigterm_needs_sigkill() {
    let fake = FakeBackend::new();
    running(&fake, "a").await;
    fake.heed_sigterm(false);
    assert!(fake.kill_task("a", 15, false).await.unwrap());
    assert_eq!(fake.task("a").await.unwrap().unwrap().status, TaskStatus::Running);
    assert!(fake.kill_task("a", 9, true).await.unwrap());
    assert_eq!(fake.wait_task("a").await.unwrap().code, 137);
}

#[tokio::test]
async fn faults_strike_where_they_are_planned() {
    let fake = FakeBackend::new();
    fake.fail_next("version", ErrorKind::Timeout);
    assert_eq!(fake.version().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(fake.version().await.is_ok());
    fake.fail_after(1);
    assert!(fake.version().await.is_ok());
    assert_eq!(fake.image("x").await.unwrap_err().kind(), ErrorKind::Unexpected);
    assert!(fake.version().await.is_ok());
    fake.die_after(0);
    for _ in 0..2 {
        assert_eq!(fake.version().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    fake.revive();
    fake.lose_reply("create_container");
    assert!(fake.create_container(&container("a")).await.is_err());
    assert!(fake.container("a").await.unwrap().is_some(), "the call had taken effect");
    fake.clear_calls();
    fake.version().await.unwrap();
    assert!(!fake.kill_task("b", 9, true).await.unwrap());
    assert_eq!(fake.calls(), ["version", "kill_task b 9 all"]);
}

#[tokio::test]
async fn a_gate_holds_a_call_and_a_cancelled_pull_leaves_nothing() {
    let fake = Arc::new(FakeBackend::new());
    let token = CancellationToken::new();
    let mut gate = fake.hold("unpack");
    let pull = tokio::spawn({
        let (fake, token) = (fake.clone(), token.clone());
        async move { fake.pull(&request(PullPolicy::Always), &PullTracker::default(), &token).await }
    });
    gate.reached().await;
    token.cancel();
    gate.open();
    assert_eq!(pull.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(fake.images().await.unwrap().is_empty());
    assert!(fake.snapshot_keys("overlayfs").is_empty());
}

#[tokio::test]
async fn pull_policies_decide_whether_the_registry_is_asked() {
    let fake = FakeBackend::new();
    let token = CancellationToken::new();
    let tracker = PullTracker::default();
    let error = fake.pull(&request(PullPolicy::Never), &tracker, &token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let first = fake.pull(&request(PullPolicy::IfNotPresent), &tracker, &token).await.unwrap();
    assert_eq!((first.skipped, first.downloaded_bytes, tracker.asked()), (false, 3000, Some(true)));
    assert_eq!(tracker.event().unwrap().bytes, Some(3000));
    let tracker = PullTracker::default();
    let second = fake.pull(&request(PullPolicy::IfNotPresent), &tracker, &token).await.unwrap();
    assert_eq!((second.skipped, tracker.asked()), (true, Some(false)));
}

//! Daemons that crash, freeze and come back.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_daemon_heals_by_itself() {
    let mut bench = Bench::new(&["busybox"]).await;
    let container = bench.start("busybox", new_container("a", HEEDS_TERM)).await;
    let backend = std::sync::Arc::new(Containerd::connect(&config_of(&bench, 5_000)).await.unwrap());
    let waiter = tokio::spawn({
        let backend = backend.clone();
        async move { backend.wait_task("a").await }
    });
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    bench.daemon.kill9().unwrap();
    // A call made while nobody listens waits for the daemon.
    let during = tokio::spawn({
        let backend = backend.clone();
        async move { backend.container("a").await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    bench.daemon.restart().unwrap();
    assert_eq!(during.await.unwrap().unwrap().unwrap().id, "a");
    assert_eq!(backend.task("a").await.unwrap().unwrap().status, TaskStatus::Running);
    if waiter.is_finished() {
        panic!("the wait did not go on across the restart: {:?}", waiter.await);
    }
    assert!(backend.kill_task("a", 15, false).await.unwrap());
    let exit = tokio::time::timeout(Duration::from_secs(20), waiter).await.unwrap().unwrap().unwrap();
    assert_eq!(exit.code, 7);
    bench.remove(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_gone_is_unavailable() {
    let mut bench = Bench::with(&[], |config| config.time_limits.connect_ms = 400).await;
    // Far longer than this test may take: whoever waits for it fails.
    let patient = Containerd::connect(&config_of(&bench, 600_000)).await.unwrap();
    bench.daemon.kill9().unwrap();
    let error = bench.backend.containers(&[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(&bench.daemon.socket().display().to_string()), "{error}");
    // Health does not wait for anybody.
    let health = tokio::time::timeout(Duration::from_secs(60), patient.version());
    assert_eq!(health.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    bench.daemon.restart().unwrap();
    assert!(!bench.backend.version().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_daemon_times_out_and_thaws() {
    let bench = Bench::with(&[], |config| {
        config.time_limits.backend_ms = 500;
        config.time_limits.connect_ms = 500;
    })
    .await;
    bench.daemon.freeze().unwrap();
    let calls = (bench.backend.tasks().await, bench.backend.containers(&[]).await);
    let version = bench.backend.version().await;
    bench.daemon.thaw().unwrap();
    for error in [calls.0.unwrap_err(), calls.1.unwrap_err(), version.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.message().contains("within 500 ms"), "{error}");
    }
    assert!(bench.backend.tasks().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_a_dead_daemon_had_just_begun_is_in_nobodys_way() {
    let mut bench = Bench::new(&["busybox"]).await;
    let container = bench.create("busybox", new_container("a", HEEDS_TERM)).await;
    bench.daemon.kill9().unwrap();
    // What it makes first, and the shim has seen nothing of.
    let tasks = bench.daemon.dir().join("state/io.containerd.runtime.v2.task");
    let bundle = tasks.join(&bench.namespace).join("a");
    std::fs::create_dir_all(bundle.join("rootfs")).unwrap();
    std::fs::write(bundle.join("config.json"), "{}").unwrap();
    bench.daemon.restart().unwrap();
    bench.backend.create_task(&container).await.unwrap();
    bench.backend.start_task("a").await.unwrap();
    assert_eq!(bench.backend.task("a").await.unwrap().unwrap().status, TaskStatus::Running);
    bench.remove(&container).await;
}

fn config_of(bench: &Bench, connect_ms: u64) -> Config {
    let mut config = Config::default()
        .containerd_address(bench.daemon.socket().display().to_string())
        .namespace(&bench.namespace);
    config.time_limits.connect_ms = connect_ms;
    config
}

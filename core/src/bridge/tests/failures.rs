use super::*;
use crate::ErrorKind;
use crate::types::StatOptions;
use bytes::Bytes;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_is_noticed_at_once() {
    let mut fixture = Fixture::idle();
    agent_program();
    let client = fixture.client();
    // A socket that an agent of before left refuses, and is replaced.
    drop(UnixListener::bind(fixture.socket()).unwrap());
    let waiting = tokio::spawn(async move {
        client.wait_ready(Duration::from_secs(10), &CancellationToken::new()).await.map(|()| Instant::now())
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    fixture.start_agent();
    waiting.await.unwrap().unwrap();
    fixture.client().run(&sh("true"), Bytes::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_by_its_limit_and_by_its_token() {
    let fixture = Fixture::idle();
    let client = fixture.client();
    let error = client.wait_ready(Duration::from_millis(50), &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("socket is not there"), "{error}");
    let cancel = CancellationToken::new();
    let trigger = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        trigger.cancel();
    });
    let error = soon(client.wait_ready(Duration::from_secs(1000), &cancel)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_the_socket_of_another_workspace_is_not_followed() {
    let (victim, thief) = (Fixture::start().await, Fixture::idle());
    for name in ["bridge.sock", "bridge-fd.sock"] {
        symlink(victim.path("run").join(name), thief.path("run").join(name)).unwrap();
    }
    let error = thief.client().write(&write("stolen"), Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let error = thief.client().stat(&StatOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(!victim.data().join("stolen").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_place_of_the_descriptor_socket_is_not_followed() {
    let (victim, thief) = (Fixture::start().await, Fixture::start().await);
    let own = thief.path("run").join("bridge-fd.sock");
    std::fs::remove_file(&own).unwrap();
    symlink(victim.path("run").join("bridge-fd.sock"), &own).unwrap();
    std::fs::write(victim.data().join("secret"), "victim").unwrap();
    let content = Bytes::from(vec![b'x'; 1 << 20]);
    thief.client().write(&write("own"), content.clone()).await.unwrap();
    // It went over gRPC, into the right workspace.
    assert!(std::fs::read(thief.data().join("own")).unwrap() == content);
    assert!(!victim.data().join("own").exists());
    let error = thief.client().read(&read("secret")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_survive_a_restart_and_calls_under_way_do_not_hang() {
    let mut fixture = Fixture::start().await;
    let client = fixture.client();
    client.write(&write("f"), Bytes::from_static(b"kept")).await.unwrap();
    let process = client.spawn(&spawn("echo here; sleep 60")).await.unwrap();
    process.next_output().await.unwrap().unwrap();
    let runner = client.clone();
    let running = tokio::spawn(async move { runner.run(&sh("echo > began; sleep 60"), Bytes::new()).await });
    let began = fixture.data().join("began");
    eventually("the command runs", || began.exists()).await;
    fixture.kill_agent();

    let ended = soon(running).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Unavailable);
    let error = soon(process.wait()).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Unavailable, "exec.wait"));
    assert_eq!(process.next_output().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let error = client.read(&read("f")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    fixture.start_agent();
    fixture.ready().await;
    // The same client, without an eviction.
    assert_eq!(client.read(&read("f")).await.unwrap(), "kept");
    assert_eq!(client.run(&sh("exit 2"), Bytes::new()).await.unwrap().result.exit_code, 2);
    fixture.pool.evict("w");
    assert_eq!(client.run(&sh("exit 3"), Bytes::new()).await.unwrap().result.exit_code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_between_calls_is_never_seen() {
    let mut fixture = Fixture::start().await;
    let client = fixture.client();
    for round in 0..5 {
        client.run(&sh("true"), Bytes::new()).await.unwrap();
        fixture.kill_agent();
        fixture.start_agent();
        // Ready by another pool: this one's connection is the dead one's.
        let other = Fixture::idle();
        let target = BridgeTarget::Socket(fixture.socket());
        other
            .pool
            .client("o", target)
            .wait_ready(Duration::from_secs(10), &CancellationToken::new())
            .await
            .unwrap();
        let output = client.run(&sh("echo again"), Bytes::new()).await.unwrap();
        assert_eq!(output.stdout, "again\n", "round {round}");
        client.write(&write("f"), vec![1; 300_000].into()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_at_once() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let calls = (0..200).map(|i| {
        let client = client.clone();
        tokio::spawn(async move {
            match i % 4 {
                0 => {
                    let output =
                        client.run(&sh(&format!("echo {i}; sleep 0.2")), Bytes::new()).await.unwrap();
                    assert_eq!(output.stdout, format!("{i}\n"));
                }
                1 => {
                    let content = Bytes::from(vec![b'a' + (i % 26) as u8; 1000 * i]);
                    client.write(&write(&format!("f{i}")), content.clone()).await.unwrap();
                    assert!(client.read(&read(&format!("f{i}"))).await.unwrap() == content);
                }
                2 => {
                    client.stat(&StatOptions::default().path("/")).await.unwrap();
                }
                _ => {
                    let process = client.spawn(&spawn("cat")).await.unwrap();
                    process.write_stdin(format!("{i}")).await.unwrap();
                    process.close_stdin().await;
                    assert_eq!(process.next_output().await.unwrap().unwrap().1, format!("{i}"));
                    assert_eq!(process.wait().await.unwrap().exit_code, 0);
                }
            }
        })
    });
    for call in futures::future::join_all(calls).await {
        call.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_processes_never_use_up_the_way_for_short_calls() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let mut processes = Vec::new();
    for _ in 0..250 {
        processes.push(client.spawn(&spawn("exec sleep 1000")).await.unwrap());
    }
    soon(client.run(&sh("true"), Bytes::new())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_stall_hold_up_nobody_else() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    std::fs::remove_file(fixture.path("run").join("bridge-fd.sock")).unwrap();
    client.write(&write("big"), vec![7; 32 << 20].into()).await.unwrap();
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let process = client.spawn(&spawn("cat /dev/zero")).await.unwrap();
        process.next_output().await.unwrap().unwrap();
        let reader = client.open_read(&open("big")).await.unwrap();
        reader.next_chunk().await.unwrap().unwrap();
        stalled.push((process, reader));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..20 {
        soon(client.run(&sh("true"), Bytes::new())).await.unwrap();
    }
    assert_eq!(soon(client.read(&read("big"))).await.unwrap().len(), 32 << 20);
    // What stalled goes on where it was.
    let (_, reader) = stalled.pop().unwrap();
    let mut total = 0;
    while let Some(chunk) = reader.next_chunk().await.unwrap() {
        total += chunk.len();
    }
    assert!(total < 32 << 20 && total > 16 << 20, "{total}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_or_nonsense_is_unavailable() {
    let mut config = Config::default();
    config.time_limits.connect_ms = 300;
    let pool = BridgePool::new(&config);
    let root = tempfile::tempdir().unwrap();
    let silent = UnixListener::bind(root.path().join("silent")).unwrap();
    let client = Arc::new(pool.client("silent", BridgeTarget::Socket(root.path().join("silent"))));
    let calls = (0..20).map(|_| {
        let client = Arc::clone(&client);
        async move { client.run(&sh("true"), Bytes::new()).await.unwrap_err().kind() }
    });
    let kinds = futures::future::join_all(calls).await;
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::Unavailable), "{kinds:?}");
    // They waited together, not one after another.
    silent.set_nonblocking(true).unwrap();
    let connections = std::iter::from_fn(|| silent.accept().ok()).count();
    assert!((1..=4).contains(&connections), "{connections}");
    drop(silent);

    let rude = UnixListener::bind(root.path().join("rude")).unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        for stream in rude.incoming().take(3) {
            let _ = stream.and_then(|mut stream| stream.write_all(b"HTTP/1.1 400 no\r\n\r\n"));
        }
    });
    let client = pool.client("rude", BridgeTarget::Socket(root.path().join("rude")));
    let error = client.run(&sh("true"), Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

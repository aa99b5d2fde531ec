//! Containers of the time before sockets: named `mcp-<id>`, with an agent that listens on TCP port 9090 of an address
//! that they get with their task.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Rig, fails, remove, run, said, sh, until};
use dunnage::types::{
    CreateOptions, DeleteOptions, ListOptions, NetworkMode, ReadOptions, RunOptions, StartOptions,
    StartOutcome, StopOptions, StopOutcome, WorkspaceInfo, WorkspaceStatus, WriteOptions,
};
use dunnage::{Engine, ErrorKind, Workspace};
use dunnage_harness::PLUGIN_DIR;

/// Makes a container as the older implementation did, without starting it. What its agent needs of this host is mounted.
fn make(rig: &Rig, image: &str, id: &str) {
    let program = Path::new(env!("CARGO_BIN_EXE_dunnage-tcp-agent"));
    let mut ctr = rig.containerd.ctr(&rig.namespace);
    ctr.args(["container", "create", "--env", "BRIDGE_SOCKET_PATH=/var/agent/bridge.sock"]);
    let agent = (common::runtime_dir(), "/opt/memoh");
    let front = (program.parent().unwrap().to_owned(), "/opt/front");
    let libraries = ["/lib", "/lib64"].map(|dir| (dir.into(), dir));
    for (source, target) in [agent, front].into_iter().chain(libraries) {
        if source.exists() {
            let mount = format!("type=bind,src={},dst={target},options=rbind:ro", source.display());
            ctr.args(["--mount", &mount]);
        }
    }
    let front = format!("/opt/front/{}", program.file_name().unwrap().display());
    run(ctr.args([image, &format!("mcp-{id}"), &front, "9090", "/opt/memoh/bridge"]));
}

/// Starts its task as the older implementation did; returns the process.
fn start(rig: &Rig, id: &str) -> u32 {
    let container = format!("mcp-{id}");
    rig.ctr(&["task", "start", "--detach", "--null-io", &container]);
    let tasks = rig.ctr(&["task", "ls"]);
    let line = tasks.lines().find(|line| line.split_whitespace().next() == Some(&container));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_else(|| panic!("{tasks}"))
}

/// Ends its task behind the library's back.
fn end(rig: &Rig, id: &str) {
    rig.ctr(&["task", "delete", "--force", &format!("mcp-{id}")]);
}

/// Connects it, or frees its address, as the older implementation did; returns the address.
fn connect(rig: &Rig, verb: &str, name: &str, pid: Option<u32>) -> Option<String> {
    let list = std::fs::read_dir(rig.containerd.cni_conf_dir()).unwrap().next().unwrap().unwrap().path();
    let list: serde_json::Value = serde_json::from_slice(&std::fs::read(list).unwrap()).unwrap();
    let mut bridge = list["plugins"][0].clone();
    bridge["name"] = list["name"].clone();
    bridge["cniVersion"] = list["cniVersion"].clone();
    // Rules of the firewall would stay: it never took them down.
    bridge["ipMasq"] = false.into();
    let mut plugin = Command::new(Path::new(PLUGIN_DIR).join("bridge"))
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", name)
        .env("CNI_NETNS", pid.map_or(String::new(), |pid| format!("/proc/{pid}/ns/net")))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", PLUGIN_DIR)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    plugin.stdin.take().unwrap().write_all(bridge.to_string().as_bytes()).unwrap();
    let output = plugin.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    answer["ips"][0]["address"].as_str().map(str::to_owned)
}

/// What a workspace's address is; it has just one.
async fn address(workspace: &Workspace) -> String {
    let info: WorkspaceInfo = workspace.info().await.unwrap();
    assert!(info.legacy && info.task_running && info.network.mode == NetworkMode::Cni, "{info:?}");
    assert_eq!(info.network.addresses.len(), 1, "{info:?}");
    info.network.addresses[0].clone()
}

/// Waits for an agent that others started.
async fn answers(workspace: &Workspace) {
    until("its agent answers", async || {
        let run = RunOptions::default().command("true");
        workspace.exec().run(run, "").await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_on_tcp_serves_a_whole_life() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    // Another that keeps its own connections, as another process would.
    let other = Engine::open(rig.config()).await.unwrap();
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    make(&rig, &image, "tcp");
    let list = engine.list(ListOptions::default()).await.unwrap().workspaces;
    assert_eq!(list.len(), 1, "{list:?}");
    assert!(list[0].legacy && list[0].workspace_id == "tcp", "{list:?}");
    let workspace = engine.workspace("tcp").unwrap();
    let seen = other.workspace("tcp").unwrap();
    let info = workspace.info().await.unwrap();
    assert_eq!((info.container_id.as_str(), info.status), ("mcp-tcp", WorkspaceStatus::Created));
    assert!(info.network.addresses.is_empty(), "{info:?}");
    let asked = workspace.fs().read(ReadOptions::default().path("kept")).await;
    fails(asked, ErrorKind::NotFound, &["kept", "tcp"]);
    let created = workspace.create(CreateOptions::default().image(&image).start(false)).await.unwrap();
    assert!(!created.created && !created.started, "{created:?}");

    assert_eq!(workspace.start(StartOptions::default()).await.unwrap().outcome, StartOutcome::Started);
    let first = address(&workspace).await;
    let subnet = rig.containerd.network().subnet.rsplit_once('.').unwrap().0.to_owned();
    assert!(first.starts_with(&format!("{subnet}.")), "{first} in {subnet}");
    let bytes = bytes::Bytes::from((0..3_000_000u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
    workspace.fs().write(WriteOptions::default().path("kept"), bytes.clone()).await.unwrap();
    for workspace in [&workspace, &seen] {
        assert_eq!(said(sh(workspace, "test ! -e /run/memoh && wc -c < kept").await), "3000000");
        assert!(workspace.fs().read(ReadOptions::default().path("kept")).await.unwrap() == bytes);
        let (result, stdout, stderr) = sh(workspace, "echo out; echo err >&2; exit 7").await;
        assert_eq!((result.exit_code, stdout.as_str(), stderr.as_str()), (7, "out\n", "err\n"));
    }

    // It ends by the signal, and nobody waits for an agent that is gone.
    let stopped = workspace.stop(StopOptions::default()).await.unwrap();
    assert_eq!(stopped.outcome, StopOutcome::Stopped);
    for workspace in [&workspace, &seen] {
        assert!(!workspace.info().await.unwrap().task_running);
        let asked = workspace.exec().run(RunOptions::default().command("true"), "").await;
        fails(asked, ErrorKind::Unavailable, &["start it", "mcp-tcp"]);
        assert!(workspace.fs().read(ReadOptions::default().path("kept")).await.unwrap() == bytes);
    }

    // Its network goes with its task: it comes back with another address, and the old one is free.
    assert_eq!(workspace.start(StartOptions::default()).await.unwrap().outcome, StartOutcome::Started);
    let second = address(&workspace).await;
    assert_ne!(first, second, "this test is about an address that changes");
    assert_eq!(rig.count().addresses, before.addresses + 1);
    for workspace in [&workspace, &seen] {
        assert_eq!(address(workspace).await, second);
        assert!(workspace.fs().read(ReadOptions::default().path("kept")).await.unwrap() == bytes);
        assert_eq!(said(sh(workspace, "echo again").await), "again");
    }
    let again = workspace.ensure_running(StartOptions::default()).await.unwrap();
    assert_eq!(again.outcome, StartOutcome::AlreadyRunning);

    assert!(seen.delete(DeleteOptions::default()).await.unwrap().deleted);
    for workspace in [&workspace, &seen] {
        fails(workspace.info().await, ErrorKind::NotFound, &["tcp"]);
        let asked = workspace.fs().read(ReadOptions::default().path("kept")).await;
        fails(asked, ErrorKind::NotFound, &["tcp"]);
    }
    rig.settle(&before);
    rig.no_files_of("tcp");
    engine.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_runs_already_is_reached_where_it_is() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    make(&rig, &image, "old");
    let given = connect(&rig, "ADD", "theirs-1", Some(start(&rig, "old"))).unwrap();

    let workspace = engine.workspace("old").unwrap();
    assert_eq!(address(&workspace).await, given);
    answers(&workspace).await;
    workspace.fs().write(WriteOptions::default().path("kept"), "kept").await.unwrap();
    for outcome in [
        workspace.start(StartOptions::default()).await.unwrap().outcome,
        workspace.ensure_running(StartOptions::default()).await.unwrap().outcome,
    ] {
        assert_eq!(outcome, StartOutcome::AlreadyRunning);
    }
    assert_eq!(address(&workspace).await, given, "what works is left as it is");
    assert_eq!(said(sh(&workspace, "cat kept").await), "kept");

    // The library starts it, then the older implementation once more: it is reached where it is, not where it was.
    workspace.stop(StopOptions::default()).await.unwrap();
    workspace.start(StartOptions::default()).await.unwrap();
    let ours = address(&workspace).await;
    assert_ne!(ours, given);
    assert_eq!(said(sh(&workspace, "cat kept").await), "kept");
    end(&rig, "old");
    let given = connect(&rig, "ADD", "theirs-2", Some(start(&rig, "old"))).unwrap();
    assert_ne!(ours, given);
    assert_eq!(address(&workspace).await, given);
    answers(&workspace).await;
    assert_eq!(said(sh(&workspace, "cat kept").await), "kept");

    // One that runs without a network gets its network when it is to be ensured.
    end(&rig, "old");
    start(&rig, "old");
    let asked = workspace.fs().read(ReadOptions::default().path("kept")).await;
    fails(asked, ErrorKind::Unavailable, &["neither a socket nor an address"]);
    let ensured = workspace.ensure_running(StartOptions::default()).await.unwrap();
    assert_eq!(ensured.outcome, StartOutcome::AlreadyRunning);
    let last = address(&workspace).await;
    assert_ne!(last, given);
    answers(&workspace).await;

    remove(&workspace).await;
    for name in ["theirs-1", "theirs-2"] {
        connect(&rig, "DEL", name, None);
    }
    rig.settle(&before);
    rig.no_files_of("old");
    engine.close().await;
}

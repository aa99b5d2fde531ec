//! The whole life of a workspace on a real containerd, as it shows from inside and from the host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{Rig, context, fails, free_port, kill, run, running, said, sh, until, watched};
use dunnage::types::{
    CreateOptions, DeleteOptions, EventType, ExecOptions, Limits, ListOptions, NetworkMode, PortMapping,
    StartOptions, StartOutcome, StopOptions, StopOutcome, WorkspaceStatus, WriteOptions,
};
use dunnage::{Engine, ErrorKind};

/// What a server in the workspace answers on a port of this host.
fn ask(port: u16) -> std::io::Result<String> {
    let address = ([127, 0, 0, 1], port).into();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"hello\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_with_network_and_published_port() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let port = free_port();
    let workspace = engine.workspace("life").unwrap();
    let options = CreateOptions::default()
        .image(&image)
        .network(NetworkMode::Cni)
        .ports(vec![PortMapping::tcp(port, 7777)]);
    let (created, events) = watched(workspace.create(options.clone())).await;
    let created = created.unwrap();
    assert!(created.created && created.started, "{created:?}");
    assert!(created.phases_ms.network > 0 && created.phases_ms.start > 0, "{created:?}");
    let kinds: Vec<EventType> = events.iter().map(|event| event.kind).collect();
    let wanted = [EventType::PullSkipped, EventType::Creating, EventType::Starting, EventType::Complete];
    assert_eq!(kinds, wanted);
    assert_eq!(events[3].container.as_ref().unwrap().container_id, "workspace-life");

    let info = workspace.info().await.unwrap();
    assert!(info.task_running && info.pid > 0 && info.status == WorkspaceStatus::Running, "{info:?}");
    assert_eq!(info.labels["memoh.bot_id"], "life");
    assert_eq!(info.labels["memoh.workspace"], "v3");
    assert_eq!((info.network.addresses.len(), info.network.gateways.len()), (1, 1), "{:?}", info.network);
    assert_eq!(info.network.network, rig.containerd.network().name);
    let address = info.network.addresses[0].split('/').next().unwrap().to_owned();
    let inside = said(sh(&workspace, "ip -4 addr show eth0; ip route").await);
    assert!(inside.contains(&address), "{inside}");
    assert!(inside.contains(&format!("default via {}", info.network.gateways[0])), "{inside}");
    // The gateway is this host.
    said(sh(&workspace, &format!("ping -c1 -W2 {}", info.network.gateways[0])).await);

    // A server inside is reached by the published port, and again after a restart, at the same address.
    let serve = "while :; do echo answer | nc -l -p 7777; done";
    let server = workspace.exec().spawn(ExecOptions::default().command(serve)).await.unwrap();
    until("the server answers", async || ask(port).is_ok_and(|text| text == "answer\n")).await;
    workspace.fs().write(WriteOptions::default().path("kept"), "kept").await.unwrap();
    let stopped = workspace.stop(StopOptions::default()).await.unwrap();
    assert_eq!(stopped.outcome, StopOutcome::Stopped);
    assert!(stopped.phases_ms.stop < 2000, "the agent takes its time: {stopped:?}");
    assert!(server.wait().await.is_err() || server.wait().await.is_ok());
    drop(server);
    assert!(ask(port).is_err(), "a stopped workspace answers");
    assert_eq!(workspace.stop(StopOptions::default()).await.unwrap().outcome, StopOutcome::NotRunning);
    let down = workspace.info().await.unwrap();
    assert!(!down.task_running && down.pid == 0, "{down:?}");

    let started = workspace.start(StartOptions::default()).await.unwrap();
    assert_eq!(started.outcome, StartOutcome::Started);
    let again = workspace.start(StartOptions::default()).await.unwrap();
    assert_eq!(again.outcome, StartOutcome::AlreadyRunning);
    let info = workspace.info().await.unwrap();
    assert_eq!(info.network.addresses[0].split('/').next().unwrap(), address, "a restart keeps the address");
    assert_eq!(said(sh(&workspace, "cat kept").await), "kept");
    let server = workspace.exec().spawn(ExecOptions::default().command(serve)).await.unwrap();
    until("the server answers after a restart", async || ask(port).is_ok_and(|text| text == "answer\n"))
        .await;
    drop(server);

    // A second creation touches nothing.
    let same = workspace.create(options).await.unwrap();
    assert!(!same.created && same.started, "{same:?}");
    assert_eq!(said(sh(&workspace, "cat kept").await), "kept");

    // Another workspace cannot take the port, and leaves nothing.
    let other = engine.workspace("other").unwrap();
    let taken = CreateOptions::default()
        .image(&image)
        .network(NetworkMode::Cni)
        .ports(vec![PortMapping::tcp(port, 1)]);
    fails(other.create(taken).await, ErrorKind::FailedPrecondition, &[&port.to_string()]);
    fails(other.info().await, ErrorKind::NotFound, &["other"]);

    assert!(workspace.delete(DeleteOptions::default()).await.unwrap().deleted);
    assert!(!workspace.delete(DeleteOptions::default()).await.unwrap().deleted);
    fails(workspace.info().await, ErrorKind::NotFound, &["life", "create it"]);
    assert!(engine.list(ListOptions::default()).await.unwrap().workspaces.is_empty());
    rig.settle(&before);
    rig.no_files_of("life");
    rig.no_files_of("other");
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modes_of_the_network_and_what_the_guest_sees() {
    let rig = Rig::start();
    let mut config = rig.config();
    config.timezone = Some("Europe/Vienna".to_owned());
    config.network.nameservers = vec!["192.0.2.53".to_owned()];
    let engine = Engine::open(config).await.unwrap();
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();

    let alone = engine.workspace("alone").unwrap();
    let limits = Limits::default().cpus(0.5).memory_bytes(64 << 20).pids(50);
    let options = CreateOptions::default()
        .image(&image)
        .network(NetworkMode::None)
        .hostname("my-host")
        .env(BTreeMap::from([("GREETING".to_owned(), "hi = there\nyou".to_owned())]))
        .labels(BTreeMap::from([("org.example.team".to_owned(), "blue".to_owned())]))
        .limits(limits);
    alone.create(options).await.unwrap();
    let info = alone.info().await.unwrap();
    assert_eq!((info.network.mode, info.network.addresses.len()), (NetworkMode::None, 0));
    assert_eq!(info.labels["org.example.team"], "blue");
    assert_eq!(said(sh(&alone, "ls /sys/class/net").await), "lo");
    assert_eq!(said(sh(&alone, "hostname").await), "my-host");
    assert_eq!(said(sh(&alone, "echo \"$GREETING\"").await), "hi = there\nyou");
    assert_eq!(said(sh(&alone, "echo $TZ; echo $BRIDGE_SOCKET_PATH; pwd").await), {
        "Europe/Vienna\n/run/memoh/bridge.sock\n/data"
    });
    let hosts = said(sh(&alone, "cat /etc/hosts").await);
    assert!(hosts.contains("127.0.0.1\tlocalhost") && hosts.contains("my-host"), "{hosts}");
    let resolv = said(sh(&alone, "cat /etc/resolv.conf").await);
    let servers: Vec<&str> = resolv.lines().filter_map(|line| line.strip_prefix("nameserver ")).collect();
    assert!(!servers.is_empty(), "{resolv}");
    assert!(servers.iter().all(|server| !server.starts_with("127.") && *server != "::1"), "{resolv}");
    assert_eq!(sh(&alone, "echo x >> /etc/resolv.conf").await.0.exit_code, 1, "it is read-only");
    assert_ne!(sh(&alone, "echo x > /opt/memoh/x").await.0.exit_code, 0, "it is read-only");
    if std::path::Path::new("/etc/localtime").exists() {
        assert_ne!(sh(&alone, "test -s /etc/localtime && echo x > /etc/localtime").await.0.exit_code, 0);
    }
    limits_hold(&alone, info.pid).await;

    // The host's network shows the host's interfaces.
    let shared = engine.workspace("shared").unwrap();
    shared.create(CreateOptions::default().image(&image).network(NetworkMode::Host)).await.unwrap();
    assert_eq!(shared.info().await.unwrap().network.mode, NetworkMode::Host);
    let theirs = said(sh(&shared, "readlink /proc/self/ns/net").await);
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(theirs, ours.display().to_string());
    assert_ne!(said(sh(&alone, "readlink /proc/self/ns/net").await), theirs);

    for workspace in [&alone, &shared] {
        workspace.delete(kill()).await.unwrap();
    }
    rig.settle(&before);
    engine.close().await;
}

/// Limits are set in the container's control group and are felt inside.
async fn limits_hold(workspace: &dunnage::Workspace, pid: u32) {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let read = |controller: &str, v1: &str, v2: &str| -> String {
        for line in groups.lines() {
            let fields: Vec<&str> = line.splitn(3, ':').collect();
            let candidates = if fields[1].split(',').any(|name| name == controller) {
                vec![format!("/sys/fs/cgroup/{}{}/{v1}", fields[1], fields[2]), {
                    format!("/sys/fs/cgroup/{controller}{}/{v1}", fields[2])
                }]
            } else if fields[1].is_empty() {
                vec![format!("/sys/fs/cgroup{}/{v2}", fields[2]), {
                    format!("/sys/fs/cgroup/unified{}/{v2}", fields[2])
                }]
            } else {
                continue;
            };
            for path in candidates {
                if let Ok(text) = std::fs::read_to_string(path) {
                    return text.trim().to_owned();
                }
            }
        }
        panic!("no {controller} in {groups}");
    };
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert_eq!(read("pids", "pids.max", "pids.max"), "50");
    let quota = read("cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    // More processes than that cannot be; the workspace outlives the attempt.
    let (result, _, errors) =
        sh(workspace, "for n in $(seq 80); do sleep 3 & done; echo done; kill $(jobs -p) 2>/dev/null").await;
    assert!(result.exit_code != 0 || errors.contains("fork"), "80 processes within 50: {errors}");
    until("the workspace answers again", async || {
        let run = dunnage::types::RunOptions::default().command("true");
        workspace.exec().run(run, "").await.is_ok_and(|output| output.result.exit_code == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_is_hardened() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let workspace = running(&engine, "hard", &image).await;
    let status = said(sh(&workspace, "cat /proc/self/status").await);
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    // containerd's default: CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP
    // NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE.
    const MOST: u64 = 0xA804_25FB;
    for name in ["CapBnd", "CapEff", "CapPrm"] {
        let has = u64::from_str_radix(&field(name), 16).unwrap();
        assert_eq!(has & !MOST, 0, "{name} has {has:x}");
    }
    assert_eq!(u64::from_str_radix(&field("CapAmb"), 16).unwrap(), 0);
    // First process and command alike.
    assert!(said(sh(&workspace, "grep Seccomp: /proc/1/status").await).ends_with('2'));
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware"] {
        let seen = said(
            sh(
                &workspace,
                &format!(
                    "if [ -d {path} ]; then ls {path}; else cat {path} 2>/dev/null || true; fi | head -c 10"
                ),
            )
            .await,
        );
        assert_eq!(seen, "", "{path} is not masked");
    }
    for (attempt, why) in [
        ("echo 1 > /proc/sys/kernel/sysrq", "/proc/sys is read-only"),
        ("echo b > /proc/sysrq-trigger", "/proc/sysrq-trigger is read-only"),
        ("mount -t tmpfs none /mnt 2>/dev/null || mount -t tmpfs none /tmp", "nothing may be mounted"),
        ("mknod /dev/x b 8 0 && cat /dev/x", "host disks cannot be opened"),
        ("mkdir /sys/fs/cgroup/x", "control groups are read-only"),
        ("ip link set lo down", "interfaces cannot be changed"),
        ("hostname other", "the host name cannot be changed"),
        ("date -s 2001-01-01 >/dev/null 2>&1; test $(date +%Y) = 2001", "the clock cannot be set"),
    ] {
        let (result, stdout, _) = sh(&workspace, attempt).await;
        assert_ne!(result.exit_code, 0, "{why}: {stdout}");
    }
    // Other processes of the host are not there.
    let processes = said(sh(&workspace, "ls -d /proc/[0-9]* | wc -l").await);
    assert!(processes.parse::<u32>().unwrap() < 10, "{processes}");
    common::remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_image_decides_user_environment_and_directory() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "user").await;
    let before = rig.count();
    let workspace = engine.workspace("app").unwrap();
    let env = BTreeMap::from([("EMPTY".to_owned(), "full".to_owned())]);
    workspace.create(CreateOptions::default().image(&image).env(env)).await.unwrap();
    assert_eq!(said(sh(&workspace, "id -u; id -g; id -G").await), "1000\n1000\n1000 50");
    // The toolkit comes last, where the runtime directory has one.
    let own = "echo $GREETING; echo $EMPTY; echo ${PATH%:/opt/memoh/toolkit/bin}";
    assert_eq!(said(sh(&workspace, own).await), "hello there\nfull\n/usr/bin:/bin");
    assert_eq!(said(sh(&workspace, "pwd; stat -c %u:%g /data").await), "/data\n1000:1000");
    workspace.fs().write(WriteOptions::default().path("mine"), "x").await.unwrap();
    assert_eq!(said(sh(&workspace, "stat -c %u:%g mine; echo y >> mine; cat mine").await), "1000:1000\nxy");
    fails(
        workspace.fs().write(WriteOptions::default().path("/etc/mine"), "x").await,
        ErrorKind::PermissionDenied,
        &["/etc/mine"],
    );
    assert_eq!(said(sh(&workspace, "grep CapEff /proc/self/status | cut -f2").await), "0000000000000000");
    workspace.stop(StopOptions::default()).await.unwrap();
    workspace.start(StartOptions::default()).await.unwrap();
    assert_eq!(said(sh(&workspace, "id -un; cat mine").await), "app\nxy");
    common::remove(&workspace).await;
    rig.settle(&before);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_of_an_older_implementation_is_adopted() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let root = rig.containerd.data_root();
    // As the older implementation made them: labelled or only named, the agent's socket in a mounted directory.
    for (id, labels) in [("old-1", true), ("old2", false)] {
        let run_dir = root.join("run").join(id);
        std::fs::create_dir_all(&run_dir).unwrap();
        let mut ctr = rig.containerd.ctr(&rig.namespace);
        ctr.args(["container", "create", "--env", "BRIDGE_SOCKET_PATH=/run/memoh/bridge.sock"]);
        ctr.args(["--mount", &bind(&common::runtime_dir(), "/opt/memoh", "ro")]);
        ctr.args(["--mount", &bind(&run_dir, "/run/memoh", "rw")]);
        if labels {
            ctr.args(["--label", &format!("memoh.bot_id={id}"), "--label", "memoh.workspace=v3"]);
        }
        run(ctr.args([&image, &format!("mcp-{id}"), "/opt/memoh/bridge"]));
    }
    let list = engine.list(ListOptions::default()).await.unwrap().workspaces;
    let ids: Vec<&str> = list.iter().map(|workspace| workspace.workspace_id.as_str()).collect();
    assert_eq!(ids, ["old-1", "old2"]);
    assert!(list.iter().all(|workspace| workspace.legacy), "{list:?}");

    for id in ["old-1", "old2"] {
        let workspace = engine.workspace(id).unwrap();
        let info = workspace.info().await.unwrap();
        assert_eq!(info.container_id, format!("mcp-{id}"));
        assert!(info.legacy && !info.task_running, "{info:?}");
        // A creation adopts it instead of making another, and never touches its snapshot.
        let created = workspace.create(CreateOptions::default().image(&image).start(false)).await.unwrap();
        assert!(!created.created, "{created:?}");
        assert_eq!(created.container_id, format!("mcp-{id}"));
        let started = workspace.start(StartOptions::default()).await.unwrap();
        assert_eq!(started.outcome, StartOutcome::Started);
        workspace.fs().write(WriteOptions::default().path("kept"), id).await.unwrap();
        let stopped = workspace.stop(StopOptions::default()).await.unwrap();
        assert_eq!(stopped.outcome, StopOutcome::Stopped);
        workspace.ensure_running(StartOptions::default()).await.unwrap();
        assert_eq!(said(sh(&workspace, "cat kept").await), id);
        assert!(workspace.delete(DeleteOptions::default()).await.unwrap().deleted);
        fails(workspace.info().await, ErrorKind::NotFound, &[id]);
    }
    // A container that is nobody's workspace is left alone.
    rig.ctr(&["container", "create", &image, "stranger"]);
    assert!(engine.list(ListOptions::default()).await.unwrap().workspaces.is_empty());
    fails(engine.workspace("stranger").unwrap().info().await, ErrorKind::NotFound, &[]);
    rig.ctr(&["container", "delete", "stranger"]);
    rig.settle(&before);
    engine.close().await;
}

fn bind(source: &std::path::Path, target: &str, mode: &str) -> String {
    format!("type=bind,src={},dst={target},options=rbind:{mode}", source.display())
}

#[test]
fn a_life_leaves_no_descriptor_and_no_thread() {
    let rig = Rig::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let image = runtime.block_on(async {
        let engine = rig.engine().await;
        let image = rig.pulled(&engine, "busybox").await;
        engine.close().await;
        image
    });
    let before = rig.count();
    let mut config = rig.config();
    config.network.mode = NetworkMode::Cni;
    let file = rig.containerd.dir().join("census.json");
    std::fs::write(&file, serde_json::to_string(&config).unwrap()).unwrap();
    let mut census = std::process::Command::new(env!("CARGO_BIN_EXE_dunnage-faults"));
    let printed = run(census.arg("census").arg(&file).args([&image, "4"]));
    let counts: serde_json::Value = serde_json::from_str(&printed).unwrap();
    // Whatever the first life sets up for the process (resolver, random source) may stay; a later one adds nothing.
    let after = counts["after"].as_array().unwrap();
    let (first, last) = (&after[0], &after[after.len() - 1]);
    assert_eq!(first, last, "every life leaves something: {counts}");
    let grown = first["fds"].as_u64().unwrap() - counts["before"]["fds"].as_u64().unwrap();
    assert!(grown <= 2, "the first life leaves {grown} descriptors: {counts}");
    assert_eq!(first["threads"], counts["before"]["threads"], "{counts}");
    rig.settle(&before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_container_is_rebuilt_as_it_was() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let workspace = engine.workspace("phoenix").unwrap();
    let env = BTreeMap::from([("KEEP".to_owned(), "me".to_owned())]);
    let options = CreateOptions::default().image(&image).env(env).hostname("ash");
    workspace.create(options).await.unwrap();
    said(sh(&workspace, "echo there > /data/kept").await);
    workspace.stop(StopOptions::default().grace_ms(0u64)).await.unwrap();
    // Somebody removes it behind the library's back.
    rig.ctr(&["container", "delete", "--keep-snapshot", "workspace-phoenix"]);
    fails(workspace.start(StartOptions::default()).await, ErrorKind::NotFound, &["phoenix"]);
    let rebuilt = workspace.ensure_running(StartOptions::default()).await.unwrap();
    assert_eq!(rebuilt.outcome, StartOutcome::Rebuilt);
    // It goes on in the snapshot that the removed container has left.
    assert_eq!(said(sh(&workspace, "echo $KEEP; hostname; cat /data/kept").await), "me\nash\nthere");
    workspace.delete(kill()).await.unwrap();
    let after = rig.count();
    assert_eq!(after.snapshots, before.snapshots, "{after:?}");
    let error = fails(workspace.stop(StopOptions::default()).await, ErrorKind::NotFound, &[]);
    assert_eq!(context(&error, "workspace"), "phoenix");
    engine.close().await;
}

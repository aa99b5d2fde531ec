//! What is refused: with which kind, in which words, naming what, and without any trace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Rig, context, fails, kill, names, pull, remove, running, said, sh};
use dunnage::config::{BackendKind, Credential};
use dunnage::types::{CreateOptions, ImageName, NetworkMode, PortMapping, PullOptions, WriteOptions};
use dunnage::{CallOptions, Config, Engine, ErrorKind};
use dunnage_harness::{Auth, Leaks, Registry, RegistryOptions, fixtures};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_arguments_are_refused_before_any_side_effect() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let before = rig.count();
    let files = names(&rig.containerd.data_root().join("run"));

    let long = "x".repeat(65);
    for id in ["", " ", "a b", "a/b", "../x", ".", "..", "a\0b", "ü", "a.b", "a\n", long.as_str()] {
        let error = fails(engine.workspace(id), ErrorKind::InvalidArgument, &["A-Z", "0-9"]);
        assert_eq!(context(&error, "workspace"), format!("{id:?}"));
    }
    let long = "a/".repeat(200) + "b";
    let half = format!("a@sha256:{}", "0".repeat(63));
    for image in ["", " ", "A", "a b", "a:", "a@", "http://a/b", "a:b:c", "a//b", "-a", &half, &long] {
        let workspace = engine.workspace("refused").unwrap();
        let error = fails(
            workspace.create(CreateOptions::default().image(image)).await,
            ErrorKind::InvalidArgument,
            &[],
        );
        assert_eq!(context(&error, "field"), "image", "{image:?}: {error}");
        assert_eq!(error.operation(), "workspace.create");
        fails(pull(&engine, image).await.0, ErrorKind::InvalidArgument, &["image"]);
        fails(engine.image().get(ImageName::default().image(image)).await, ErrorKind::InvalidArgument, &[]);
        fails(
            engine.image().resolve_digest(ImageName::default().image(image)).await,
            ErrorKind::InvalidArgument,
            &[],
        );
    }
    for platform in ["", "linux", "linux/", "linux/amd64/v1/x", "a b/c"] {
        let options = PullOptions::default().image("127.0.0.1:1/a").platform(platform);
        fails(engine.image().pull(options).await, ErrorKind::InvalidArgument, &["platform"]);
    }

    // Through JSON, as every other language calls.
    for (operation, json, named) in [
        ("workspace.create", r#"{"imgae":"busybox"}"#, "imgae"),
        ("workspace.create", r#"{"limits":{"cpu":1}}"#, "cpu"),
        ("workspace.create", r#"{"limits":{"cpus":-1}}"#, "limits.cpus"),
        ("workspace.create", r#"{"limits":{"cpus":1e9}}"#, "limits.cpus"),
        ("workspace.create", r#"{"limits":{"cpus":"2"}}"#, "invalid type"),
        ("workspace.create", r#"{"limits":{"memory_bytes":-5}}"#, "limits.memory_bytes"),
        ("workspace.create", r#"{"limits":{"memory_bytes":1}}"#, "limits.memory_bytes"),
        ("workspace.create", r#"{"limits":{"memory_bytes":99999999999999999999}}"#, "line 1"),
        ("workspace.create", r#"{"limits":{"pids":0}}"#, "limits.pids"),
        ("workspace.create", r#"{"limits":{"pids":99999999}}"#, "limits.pids"),
        ("workspace.create", r#"{"hostname":"a b"}"#, "hostname"),
        ("workspace.create", r#"{"env":{"A=B":""}}"#, "env"),
        ("workspace.create", r#"{"labels":{"memoh.bot_id":"x"}}"#, "memoh.bot_id"),
        ("workspace.create", r#"{"network":"wifi"}"#, "wifi"),
        ("workspace.create", r#"{"pull_policy":"sometimes"}"#, "sometimes"),
        ("workspace.create", r#"{"snapshotter":"a b"}"#, "snapshotter"),
        ("workspace.create", r#"{"ports":[{"host_port":80,"container_port":80}]}"#, "cni"),
        ("workspace.create", r#"{"ports":[{"host_port":-1,"container_port":80}]}"#, "-1"),
        ("workspace.create", r#"{"ports":[{"host_port":80,"port":80}]}"#, "port"),
        ("workspace.stop", r#"{"grace_ms":999999999999}"#, "grace_ms"),
        ("workspace.stop", r#"{"grace_ms":-1}"#, "-1"),
        ("workspace.delete", r#"{"grace":1}"#, "grace"),
        ("engine.list", r#"{"limit":-1}"#, "-1"),
        ("image.pull", r#"{"image":"a","policy":"often"}"#, "often"),
        ("image.pull", "{", "EOF"),
        ("image.pull", "[]", "a"),
        ("image.pull", "{} {}", "trailing"),
    ] {
        let workspace = operation.starts_with("workspace").then_some("refused");
        let result = engine.call(operation, workspace, json, CallOptions::default()).await;
        let error = fails(result, ErrorKind::InvalidArgument, &[named]);
        assert_eq!(error.operation(), operation, "{json}: {error}");
    }
    for (ports, named) in [
        (vec![PortMapping::tcp(0, 80)], "port"),
        (vec![PortMapping::tcp(80, 0)], "port"),
        (vec![PortMapping::tcp(4040, 80), PortMapping::tcp(4040, 81)], "4040"),
    ] {
        let options = CreateOptions::default().image("127.0.0.1:1/a").network(NetworkMode::Cni).ports(ports);
        let refused = engine.workspace("refused").unwrap().create(options).await;
        fails(refused, ErrorKind::InvalidArgument, &[named]);
    }
    assert_eq!(rig.count(), before);
    assert_eq!(names(&rig.containerd.data_root().join("run")), files);
    fails(engine.workspace("refused").unwrap().info().await, ErrorKind::NotFound, &[]);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_settings_are_named_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    for (name, text, words) in [
        ("a.toml", "data_root = \"/x\"\n[containerd]\nadress = \"/a\"\n", vec!["adress", "line 3", "a.toml"]),
        ("b.toml", "data_root = /x\n", vec!["line 1", "b.toml"]),
        ("c.json", "{\"data_root\": \"/x\",\n\"regsitry\": {}}", vec!["regsitry", "line 2", "c.json"]),
        ("d.json", "{\"backend\": \"dokcer\"}", vec!["dokcer", "containerd", "d.json"]),
        ("e.toml", "data_root = \"relative\"\n", vec!["data_root", "absolute", "e.toml"]),
        ("f.toml", "[time_limits]\nready_ms = 0\n", vec!["time_limits.ready_ms", "f.toml"]),
        ("g.toml", "[time_limits]\nready_ms = -1\n", vec!["ready_ms", "g.toml"]),
        ("h.toml", "default_image = \"A B\"\n", vec!["default_image", "h.toml"]),
        ("i.toml", "[network]\nsubnet = \"10.0.0.1/8\"\n", vec!["network.subnet", "10.88.64.0/20"]),
        ("j.toml", "[containerd]\nnamespace = \"a b\"\n", vec!["containerd.namespace", "j.toml"]),
        ("k.toml", "[registry]\nparallel_layers = 0\n", vec!["registry.parallel_layers", "k.toml"]),
    ] {
        fails(Config::from_file(write(name, text)), ErrorKind::InvalidArgument, &words);
    }
    fails(Config::from_file(dir.path().join("none.toml")), ErrorKind::NotFound, &["none.toml"]);
    // An engine refuses it too, and makes nothing.
    let root = dir.path().join("root");
    let mut config = Config::default().data_root(&root);
    config.registry.stall_ms = 0;
    fails(Engine::open(config).await, ErrorKind::InvalidArgument, &["registry.stall_ms"]);
    assert!(!root.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_daemon_all_that_was_tried_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let missing = dir.path().join("missing.sock").display().to_string();
    let mut config = Config::default().data_root(&root).containerd_address(&missing);
    config.backend = BackendKind::Containerd;
    let error = fails(Engine::open(config.clone()).await, ErrorKind::Unavailable, &[&missing, "start"]);
    assert_eq!(error.operation(), "engine.open");
    // Of several addresses each is told, unless this host has a containerd of its own.
    if !Path::new("/run/containerd/containerd.sock").exists() {
        let other = dir.path().join("variable.sock").display().to_string();
        let file = dir.path().join("auto.json");
        let auto = serde_json::json!({ "data_root": root, "containerd": { "address": missing } });
        std::fs::write(&file, auto.to_string()).unwrap();
        let mut helper = Command::new(env!("CARGO_BIN_EXE_dunnage-faults"));
        let output = helper.arg("open").arg(&file).env("CONTAINERD_ADDRESS", &other).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let error: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(error["code"], "UNAVAILABLE", "{error}");
        for address in [missing.as_str(), other.as_str(), "/run/containerd/containerd.sock"] {
            assert!(text.contains(address), "{address} was tried: {text}");
        }
    }
    // A file that is no socket, and a socket that nobody listens on.
    let file = dir.path().join("file.sock");
    std::fs::write(&file, "").unwrap();
    let dead = dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    for path in [&file, &dead] {
        config.containerd.address = Some(path.display().to_string());
        fails(Engine::open(config.clone()).await, ErrorKind::Unavailable, &[&path.display().to_string()]);
    }
    // Something else listens.
    let other = dir.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&other).unwrap();
    let thread = std::thread::spawn(move || {
        use std::io::Write;
        while let Ok((mut connection, _)) = listener.accept() {
            if connection.write_all(b"SSH-2.0-other\r\n").is_err() {
                return;
            }
        }
    });
    config.containerd.address = Some(other.display().to_string());
    config.time_limits.connect_ms = 1500;
    let error = Engine::open(config).await.expect_err("that is no containerd");
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
    assert!(error.to_string().contains("other.sock"), "{error}");
    drop(thread);
    assert!(!root.exists(), "an engine that cannot open makes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_on_the_socket_that_is_told() {
    let rig = Rig::start();
    // Where everybody may look and run programs.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let helper = dir.path().join("helper");
    std::fs::copy(env!("CARGO_BIN_EXE_dunnage-faults"), &helper).unwrap();
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
    let link = dir.path().join("reachable.sock");
    // A socket that can be reached and not used: the harness's own directory is closed, so it is bound here.
    let listener = std::os::unix::net::UnixListener::bind(&link).unwrap();
    std::fs::set_permissions(&link, PermissionsExt::from_mode(0o600)).unwrap();
    for address in [rig.containerd.socket(), link] {
        let root = dir.path().join("root");
        let mut config = rig.config().data_root(&root);
        config.containerd.address = Some(address.display().to_string());
        let file = dir.path().join("config.json");
        std::fs::write(&file, serde_json::to_string(&config).unwrap()).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        let output = Command::new(&helper)
            .args([Path::new("open"), &file])
            .current_dir("/")
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let error: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(error["code"], "PERMISSION_DENIED", "{error}");
        assert_eq!(error["operation"], "engine.open");
        assert!(text.contains(&address.display().to_string()), "{text}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("root") || message.contains("group"), "it says what to do: {message}");
        assert!(!root.exists());
    }
    drop(listener);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_parts_of_the_host_are_named() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let refused = |config: Config, options: CreateOptions| {
        let before = before.clone();
        let rig = &rig;
        async move {
            let engine = Engine::open(config).await.unwrap();
            let result = engine.workspace("refused").unwrap().create(options).await;
            assert_eq!(rig.count(), before);
            rig.no_files_of("refused");
            engine.close().await;
            result
        }
    };
    let cni = CreateOptions::default().image(&image).network(NetworkMode::Cni);

    // No plugins at all, then all but one.
    let empty = tempfile::tempdir().unwrap();
    let mut config = rig.config();
    config.network.plugin_dirs = vec![empty.path().to_owned(), PathBuf::from("/nowhere/cni")];
    let place = empty.path().display().to_string();
    let words = ["bridge", place.as_str(), "/nowhere/cni", "install"];
    fails(refused(config.clone(), cni.clone()).await, ErrorKind::FailedPrecondition, &words);
    for plugin in ["bridge", "host-local", "firewall", "loopback"] {
        std::os::unix::fs::symlink(
            Path::new(dunnage_harness::PLUGIN_DIR).join(plugin),
            empty.path().join(plugin),
        )
        .unwrap();
    }
    let ports = cni.clone().ports(vec![PortMapping::tcp(common::free_port(), 80)]);
    let error = fails(refused(config, ports).await, ErrorKind::FailedPrecondition, &["portmap", &place]);
    assert!(!error.message().contains("host-local"), "only what is missing is named: {error}");

    // A list that is broken.
    let broken = tempfile::tempdir().unwrap();
    std::fs::write(broken.path().join("10-x.conflist"), "{\"cniVersion\": \"1.0.0\", ").unwrap();
    let mut config = rig.config();
    config.network.config_dir = broken.path().to_owned();
    fails(refused(config, cni).await, ErrorKind::FailedPrecondition, &["10-x.conflist"]);

    // No agent; an agent that is no program.
    let runtime = tempfile::tempdir().unwrap();
    let config = rig.config().runtime_dir(runtime.path());
    let words = [runtime.path().to_str().unwrap(), "runtime_dir"];
    let plain = CreateOptions::default().image(&image);
    fails(refused(config.clone(), plain.clone()).await, ErrorKind::FailedPrecondition, &words);
    std::fs::write(runtime.path().join("bridge"), "not a program").unwrap();
    std::fs::set_permissions(runtime.path().join("bridge"), PermissionsExt::from_mode(0o755)).unwrap();
    let error = refused(config, plain.clone()).await.expect_err("an agent that cannot run");
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");

    // A snapshotter that there is not.
    let error =
        refused(rig.config(), plain.clone().snapshotter("floppy")).await.expect_err("no such snapshotter");
    assert!(
        matches!(
            error.kind(),
            ErrorKind::InvalidArgument | ErrorKind::NotFound | ErrorKind::FailedPrecondition
        ),
        "{error}"
    );
    assert!(error.to_string().contains("floppy"), "{error}");

    // A data root that is a file.
    let file = empty.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Engine::open(rig.config().data_root(&file)).await.expect_err("the data root is a file");
    assert!(matches!(error.kind(), ErrorKind::FailedPrecondition | ErrorKind::AlreadyExists), "{error}");
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    // A database that is none.
    let root = empty.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(
        root.join("dunnage.db"),
        "this is no database, and long enough to be looked at. ".repeat(40),
    )
    .unwrap();
    fails(Engine::open(rig.config().data_root(&root)).await, ErrorKind::DataCorrupt, &["dunnage.db"]);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_cannot_be_had_leave_nothing() {
    let rig = Rig::start();
    let auth = Auth::Htpasswd { user: "me".into(), password: "right".into() };
    let locked = Registry::start(RegistryOptions { auth, ..Default::default() }).unwrap();
    let private = locked.add(&fixtures::image("busybox").unwrap()).unwrap();
    let mut config = rig.config();
    config.registry.retries = 1;
    let engine = Engine::open(config.clone()).await.unwrap();
    let foreign = rig.add("foreign-arch");
    let absent = format!("{}/fixtures/absent:1", rig.registry.host());
    let closed = format!("127.0.0.1:{}/a/b:1", common::free_port());
    let before = rig.count();
    for (image, kind, words) in [
        (&foreign, ErrorKind::FailedPrecondition, vec!["linux/"]),
        (&private, ErrorKind::Unauthenticated, vec!["credential"]),
        (&absent, ErrorKind::NotFound, vec!["absent"]),
        (&closed, ErrorKind::Unavailable, vec!["127.0.0.1"]),
    ] {
        let workspace = engine.workspace("refused").unwrap();
        let options = CreateOptions::default().image(image);
        let error = fails(workspace.create(options).await, kind, &words);
        assert_eq!(context(&error, "image"), *image);
        assert_eq!(error.operation(), "workspace.create");
        fails(workspace.info().await, ErrorKind::NotFound, &[]);
        rig.settle(&before);
        rig.no_files_of("refused");
    }
    // With an explicit wrong platform the same is told.
    let image = rig.add("multi");
    let options = PullOptions::default().image(&image).platform("linux/s390x");
    let error = fails(engine.image().pull(options).await, ErrorKind::FailedPrecondition, &["s390x"]);
    assert!(context(&error, "offered").contains("linux/arm/v7"), "{error}");
    // A credential that is neither pair nor token.
    let mut half = Credential::default();
    half.username = Some("me".to_owned());
    config.registry.credentials.insert(locked.host(), half);
    let odd = match Engine::open(config).await {
        Err(error) => error,
        Ok(engine) => {
            let error = pull(&engine, &private).await.0.expect_err("half a credential");
            engine.close().await;
            error
        }
    };
    assert_eq!(odd.kind(), ErrorKind::InvalidArgument, "{odd}");
    rig.settle(&before);
    engine.close().await;
}

/// Mounts a small file system in memory.
fn small_disk(path: &Path, kib: u64) {
    std::fs::create_dir_all(path).unwrap();
    let size = format!("size={kib}k,mode=0755");
    common::run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "dunnage-test"]).arg(path));
}

/// Leaves no more than this many KiB.
fn fill(dir: &Path, leave_kib: u64) -> PathBuf {
    let stat = rustix::fs::statvfs(dir).unwrap();
    let free = stat.f_bavail * stat.f_frsize / 1024;
    let file = dir.join("filler");
    let zeros = vec![0u8; usize::try_from(free.saturating_sub(leave_kib) * 1024).unwrap()];
    std::fs::write(&file, zeros).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_below_containerd_keeps_nothing_half() {
    let mut rig = Rig::start();
    // containerd's whole root on 14 MiB: one small image fits, one of 18 MiB with its layers does not.
    tokio::task::block_in_place(|| {
        rig.containerd.kill9().unwrap();
        small_disk(&rig.containerd.dir().join("root"), 14 << 10);
        rig.containerd.restart().unwrap();
    });
    let engine = rig.engine().await;
    let big = rig.add("uncompressed");
    let image = rig.add("busybox");
    let before = rig.count();
    for _ in 0..2 {
        let error = fails(pull(&engine, &big).await.0, ErrorKind::ResourceExhausted, &[]);
        assert_eq!(context(&error, "image"), big);
        rig.settle(&before);
        let workspace = engine.workspace("refused").unwrap();
        let refused = workspace.create(CreateOptions::default().image(&big)).await;
        fails(refused, ErrorKind::ResourceExhausted, &[]);
        rig.settle(&before);
        rig.no_files_of("refused");
    }
    // What was fetched in vain goes with the next collection, and the small image fits.
    rig.ctr(&["leases", "create", "--id", "collect"]);
    rig.ctr(&["leases", "delete", "--sync", "collect"]);
    assert_eq!(rig.ctr(&["content", "ls", "-q"]), "");
    pull(&engine, &image).await.0.unwrap();
    let workspace = running(&engine, "tight", &image).await;
    workspace.fs().write(WriteOptions::default().path("kept"), "old").await.unwrap();
    // A write that does not fit leaves the old file.
    let much = vec![1u8; 16 << 20];
    let full = workspace.fs().write(WriteOptions::default().path("kept"), much).await;
    fails(full, ErrorKind::ResourceExhausted, &["kept"]);
    assert_eq!(said(sh(&workspace, "cat kept; ls -A").await), "oldkept");
    workspace.fs().write(WriteOptions::default().path("kept"), "new").await.unwrap();
    assert_eq!(said(sh(&workspace, "cat kept").await), "new");
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_data_root_keeps_nothing_half() {
    let rig = Rig::start();
    let first = rig.engine().await;
    let image = rig.pulled(&first, "busybox").await;
    first.close().await;
    let before = rig.count();
    let root = rig.containerd.dir().join("small");
    small_disk(&root, 2048);
    let with_disk = Leaks { mounts: before.mounts + 1, ..before.clone() };
    let config = rig.config().data_root(&root);

    // Full from the beginning.
    let filler = fill(&root, 0);
    fails(Engine::open(config.clone()).await, ErrorKind::ResourceExhausted, &[root.to_str().unwrap()]);
    rig.settle(&with_disk);
    std::fs::remove_file(&filler).unwrap();

    // Full later: at each creation another step is the first to fail.
    let engine = Engine::open(config.clone()).await.unwrap();
    let kept = running(&engine, "kept", &image).await;
    kept.fs().write(WriteOptions::default().path("x"), "x").await.unwrap();
    let with_one = rig.count();
    for leave in [0, 4, 8, 12, 16, 24] {
        let filler = fill(&root, leave);
        let workspace = engine.workspace("refused").unwrap();
        let mut options = CreateOptions::default().image(&image);
        if leave % 8 == 0 {
            options = options.network(NetworkMode::Cni);
        }
        let result = workspace.create(options).await;
        let free = format!("{leave} KiB free");
        match result {
            Err(error) => assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{free}: {error}"),
            // That much was enough.
            Ok(_) => assert!(leave > 0, "{free}"),
        }
        // What is there can be read and used on a full disk.
        assert_eq!(said(sh(&kept, "cat x").await), "x");
        assert!(kept.info().await.unwrap().task_running);
        std::fs::remove_file(&filler).unwrap();
        workspace.delete(kill()).await.unwrap();
        rig.settle(&with_one);
        for dir in ["run", "etc", "netns", "network"] {
            let left: Vec<_> = names(&root.join(dir)).into_iter().filter(|n| n.contains("refused")).collect();
            assert!(left.is_empty(), "{free}: {dir}: {left:?}");
        }
    }
    // Deleting needs room in the journal; without it, it is refused whole or done whole.
    let filler = fill(&root, 0);
    let deleted = kept.delete(kill()).await;
    if let Err(error) = &deleted {
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    }
    std::fs::remove_file(&filler).unwrap();
    kept.delete(kill()).await.unwrap();
    rig.settle(&with_disk);
    engine.close().await;
    common::run(Command::new("umount").arg(&root));
}

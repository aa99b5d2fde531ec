//! What a runtime directory brings into a workspace: the toolkit, in images of either C library and of none, and templates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{Rig, kill, names, remove, run, running, runtime_dir, said, sh};
use dunnage::types::{RunOptions, StartOptions, StopOptions, WriteOptions};
use dunnage::{Engine, Workspace};
use dunnage_harness::{repository, target_dir};

/// A rig whose runtime directory has the toolkit.
fn rig() -> Rig {
    let program = repository().join("scripts/toolkit");
    run(Command::new(program).arg("--into").arg(runtime_dir()).env("CARGO_TARGET_DIR", target_dir()));
    Rig::start()
}

/// The version that a lock names.
fn locked(lock: &str) -> String {
    let text = fs::read_to_string(repository().join("toolkit").join(lock)).unwrap();
    let pinned = text.lines().find_map(|line| line.split_once("==")).unwrap().1;
    pinned.trim_end_matches(" \\").to_owned()
}

/// What a command says that must succeed, by `app`, who has no home that could be written.
async fn homeless(workspace: &Workspace, command: &str) -> String {
    let run = RunOptions::default().command(command).user("app");
    let output = workspace.exec().run(run.env_unset(vec!["HOME".to_owned()]), "").await.unwrap();
    assert_eq!(output.result.exit_code, 0, "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// All programs, and where they write, in an image that can run all of them.
async fn everything_works(workspace: &Workspace) {
    assert_eq!(said(sh(workspace, "node --version").await), format!("v{}", locked("node.lock")));
    assert_eq!(said(sh(workspace, "node -e 'console.log(1 + 1)'").await), "2");
    let own = said(sh(workspace, "npm --version").await);
    assert!(own.split('.').count() == 3, "{own}");
    assert_eq!(said(sh(workspace, "npx --version").await), own);
    let uv = locked("uv.lock");
    assert!(said(sh(workspace, "uv --version").await).starts_with(&format!("uv {uv} ")));
    assert!(said(sh(workspace, "uvx --version").await).starts_with(&format!("uvx {uv} ")));
    // By another name, with arguments as they are, and with the exit code of the program.
    said(sh(workspace, "ln -s /opt/memoh/toolkit/bin/node /bin/nodejs").await);
    assert_eq!(said(sh(workspace, "nodejs -p process.argv[1] -- 'a  b'").await), "a  b");
    assert_eq!(sh(workspace, "node -e 'process.exit(7)'").await.0.exit_code, 7);
    // A script of one package calls the other programs, and global packages go where they are found.
    let package =
        r#"{"name": "hello", "version": "1.0.0", "bin": "hello.js", "scripts": {"say": "node hello.js"}}"#;
    let write = |path: &str, text: &str| {
        let (path, text) = (path.to_owned(), text.to_owned());
        async move { workspace.fs().write(WriteOptions::default().path(path), text).await.unwrap() }
    };
    write("hello/package.json", package).await;
    write("hello/hello.js", "#!/usr/bin/env node\nconsole.log('hello from', process.version)\n").await;
    let hello = format!("hello from v{}", locked("node.lock"));
    assert_eq!(said(sh(workspace, "cd hello && npm run --silent say").await), hello);
    said(sh(workspace, "npm install --global --offline ./hello").await);
    assert_eq!(said(sh(workspace, "hello").await), hello);
    // Root has a home, and its caches are there; app's is not, and neither are its caches lost.
    assert_eq!(
        said(sh(workspace, "npm config get cache; uv cache dir").await),
        "/root/.npm\n/root/.cache/uv"
    );
    let told = homeless(workspace, "npm config get cache prefix; uv cache dir; uv tool dir").await;
    let places = [
        "cache=/tmp/toolkit-1000/.npm",
        "prefix=/tmp/toolkit-1000/.local",
        "/tmp/toolkit-1000/.cache/uv",
        "/tmp/toolkit-1000/.local/share/uv/tools",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), places);
    homeless(workspace, "npm cache verify && uv cache clean && ls -d /tmp/toolkit-1000/.npm").await;
    // What the user says goes first.
    write("/root/.npmrc", "cache=/srv/one\nprefix=/srv/two\n").await;
    assert_eq!(said(sh(workspace, "npm config get cache; npm prefix -g").await), "/srv/one\n/srv/two");
    // The image's own come before it.
    write("/usr/local/bin/node", "#!/bin/sh\necho mine\n").await;
    assert_eq!(said(sh(workspace, "chmod +x /usr/local/bin/node; node --version").await), "mine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_toolkit_works_where_the_image_has_glibc() {
    let rig = rig();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "base").await;
    let workspace = running(&engine, "glibc", &image).await;
    assert_eq!(
        said(sh(&workspace, "node -p process.execPath").await),
        "/opt/memoh/toolkit/glibc/node/bin/node".replace("toolkit", &toolkit_dir())
    );
    everything_works(&workspace).await;
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_toolkit_works_where_the_image_has_musl() {
    let rig = rig();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "musl").await;
    let workspace = running(&engine, "musl", &image).await;
    assert_eq!(
        said(sh(&workspace, "node -p process.execPath").await),
        "/opt/memoh/toolkit/musl/node/bin/node".replace("toolkit", &toolkit_dir())
    );
    said(sh(&workspace, "mkdir -p /usr/local/bin; ln -s /bin/env /usr/bin/env").await);
    everything_works(&workspace).await;
    remove(&workspace).await;
    engine.close().await;
}

/// The name of the toolkit's directory behind its link.
fn toolkit_dir() -> String {
    fs::read_link(runtime_dir().join("toolkit")).unwrap().display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_run_node_is_told_why() {
    let rig = rig();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let workspace = running(&engine, "static", &image).await;
    assert!(said(sh(&workspace, "uv --version").await).starts_with("uv "), "uv needs no library");
    for program in ["node", "npm", "npx"] {
        let (result, stdout, stderr) = sh(&workspace, &format!("{program} --version")).await;
        assert_eq!((result.exit_code, stdout.as_str()), (127, ""), "{stderr}");
        assert!(stderr.starts_with(&format!("{program}: this image has neither glibc")), "{stderr}");
    }
    let old = "#!/bin/sh\nprintf 'musl libc\\nVersion 1.2.3\\nDynamic Program Loader\\n' >&2\nexit 1\n";
    workspace.fs().write(WriteOptions::default().path("/lib/ld-musl-x.so.1"), old).await.unwrap();
    said(
        sh(&workspace, "chmod +x /lib/ld-musl-x.so.1; mv /lib/ld-musl-x.so.1 /lib/ld-musl-$(uname -m).so.1")
            .await,
    );
    let (result, _, stderr) = sh(&workspace, "node --version").await;
    assert_eq!(result.exit_code, 127, "{stderr}");
    assert_eq!(stderr, "node: Node.js needs musl 1.2.4 or newer, and this image has 1.2.3\n");
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_fill_in_the_data_on_first_boot_only() {
    let rig = Rig::start();
    let runtime = rig.containerd.dir().join("runtime");
    let template = |path: &str, text: &str, mode: u32| {
        let path = runtime.join("templates").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    template("README.md", "from the host", 0o644);
    template("bin/greet", "#!/bin/sh\necho hello\n", 0o755);
    template("notes/mine", "of the host", 0o644);
    fs::copy(runtime_dir().join("bridge"), runtime.join("bridge")).unwrap();
    let engine = Engine::open(rig.config().runtime_dir(&runtime)).await.unwrap();
    let image = rig.pulled(&engine, "busybox").await;
    let workspace = running(&engine, "templates", &image).await;
    let listed = "cat README.md; echo; bin/greet; cat notes/mine; stat -c %a README.md bin/greet";
    assert_eq!(said(sh(&workspace, listed).await), "from the host\nhello\nof the host644\n755");
    // What the user has changed or removed stays so, and what the host adds comes to new workspaces alone.
    said(sh(&workspace, "echo changed > README.md; rm bin/greet").await);
    template("later", "added", 0o644);
    again(&workspace).await;
    assert_eq!(said(sh(&workspace, "cat README.md; ls bin; ls").await), "changed\nREADME.md\nbin\nnotes");
    workspace.delete(kill()).await.unwrap();
    let fresh = running(&engine, "fresh", &image).await;
    assert_eq!(said(sh(&fresh, "cat later; ls -A").await), "addedREADME.md\nbin\nlater\nnotes");
    remove(&fresh).await;

    // Files that are there before the first boot are the user's.
    without_templates(&runtime);
    let early = running(&engine, "early", &image).await;
    said(sh(&early, "mkdir notes; echo mine > notes/mine").await);
    template("README.md", "from the host", 0o644);
    template("notes/mine", "of the host", 0o644);
    again(&early).await;
    assert_eq!(said(sh(&early, "cat README.md; echo; cat notes/mine").await), "from the host\nmine");
    remove(&early).await;
    engine.close().await;
}

fn without_templates(runtime: &Path) {
    fs::remove_dir_all(runtime.join("templates")).unwrap();
    assert!(!names(runtime).contains("templates"));
}

/// Stops a workspace and starts it.
async fn again(workspace: &Workspace) {
    workspace.stop(StopOptions::default()).await.unwrap();
    workspace.start(StartOptions::default()).await.unwrap();
}

//! Workspaces without an agent inside: commands, terminals and files all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Rig, fails, kill, remove, said, sh};
use dunnage::types::{
    AgentKind, AttachOptions, ChownOptions, CreateOptions, ExecOptions, GrepOptions, ListDirOptions,
    ReadOptions, RenameOptions, RunOptions, SessionsOptions, ShellOptions, StatOptions, StopOptions,
    SymlinkOptions, WatchOptions, WriteOptions,
};
use dunnage::{Engine, ErrorKind, Process, StreamKind, Workspace};

/// A first process that does nothing and ends when it is told to.
const IDLE: [&str; 3] = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"];

async fn made(rig: &Rig, engine: &Engine, id: &str) -> Workspace {
    let image = rig.add("busybox");
    let workspace = engine.workspace(id).unwrap();
    let options = CreateOptions::default().image(image).entrypoint(IDLE.map(str::to_owned).to_vec());
    workspace.create(options).await.unwrap();
    workspace
}

/// All it writes to both streams, to its end.
async fn output(process: &Process) -> (String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some((kind, bytes)) = process.next_output().await.unwrap() {
        match kind {
            StreamKind::Stdout => stdout.extend_from_slice(&bytes),
            StreamKind::Stderr => stderr.extend_from_slice(&bytes),
        }
    }
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Reads until something was written.
async fn until(process: &Process, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let piece = tokio::time::timeout(Duration::from_secs(20), process.next_output()).await;
        let (_, bytes) = piece.unwrap_or_else(|_| panic!("only: {seen:?}")).unwrap().expect("it ended");
        seen.push_str(&String::from_utf8_lossy(&bytes));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_run_by_the_backend() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let workspace = made(&rig, &engine, "plain").await;
    let info = workspace.info().await.unwrap();
    assert_eq!((info.agent, info.task_running), (AgentKind::None, true));

    let run = async |options: RunOptions, input: &str| {
        workspace.exec().run(options, input.to_owned()).await.map(|output| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.result.exit_code, text(&output.stdout), text(&output.stderr))
        })
    };
    let line = |line: &str| RunOptions::default().command(line);
    let ended = run(line("echo out; echo err >&2; exit 3"), "").await.unwrap();
    assert_eq!(ended, (3, "out\n".into(), "err\n".into()));
    assert_eq!(run(line("wc -c"), &"x".repeat(300_000)).await.unwrap().1.trim(), "300000");
    assert_eq!(run(line("cat"), "").await.unwrap(), (0, String::new(), String::new()));
    let set = line("echo $A-$B-$HOME").env([("A".to_owned(), "1".to_owned())]).env_unset(vec!["HOME".into()]);
    assert!(run(set, "").await.unwrap().1.starts_with("1--"));
    let clear =
        RunOptions::default().args(["/bin/busybox", "env"].map(str::to_owned).to_vec()).env_clear(true);
    let clear = run(clear, "").await.unwrap().1;
    assert!(!clear.contains("PATH="), "{clear}");
    let app = run(line("id -u; id -g; pwd").user("app").work_dir("/tmp"), "").await.unwrap();
    assert_eq!(app.1, "1000\n1000\n/tmp\n");
    let args = ["printf", "%s|", "a b", "it's"].map(str::to_owned).to_vec();
    assert_eq!(run(RunOptions::default().args(args), "").await.unwrap().1, "a b|it's|");

    let nothing = RunOptions::default().args(vec!["no-such-program".into()]);
    fails(run(nothing, "").await, ErrorKind::NotFound, &["plain", "program"]);
    fails(run(line("true").work_dir("/nowhere"), "").await, ErrorKind::NotFound, &["directory"]);
    fails(run(line("true").user("nobody-knows"), "").await, ErrorKind::InvalidArgument, &["nobody-knows"]);

    let limited = workspace.exec().run(line("sleep 60 & sleep 60").timeout_ms(300_u64), "").await.unwrap();
    assert!(limited.result.timed_out && limited.result.signal == Some(15), "{:?}", limited.result);
    assert_eq!(said(sh(&workspace, "ps | grep -c 's[l]eep 60' || true").await), "0");
    // All of much output arrives.
    let much = workspace.exec().run(line("head -c 20000000 /dev/zero").max_output_bytes(1_u64), "").await;
    assert_eq!(much.unwrap().result.stdout_bytes, 20_000_000);

    let error = workspace.exec().sessions(SessionsOptions::default()).await;
    fails(error, ErrorKind::Unsupported, &["agent", "entrypoint"]);
    let error = workspace.exec().spawn(ExecOptions::default().command("true").detach(true)).await;
    fails(error.map(drop), ErrorKind::Unsupported, &["agent"]);
    let error = workspace.exec().attach(AttachOptions::default().session_id("x")).await;
    fails(error.map(drop), ErrorKind::Unsupported, &["agent"]);
    let shell = workspace.exec().shell(ShellOptions::default()).await.unwrap();
    assert_eq!((shell.available, shell.shell.as_deref()), (true, Some("/bin/sh")));

    remove(&workspace).await;
    engine.close().await;
    rig.settle(&before);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_terminals_are_served_too() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let workspace = made(&rig, &engine, "streams").await;
    let spawn = async |options: ExecOptions| workspace.exec().spawn(options).await.unwrap();
    let line = |line: &str| ExecOptions::default().command(line);

    let cat = spawn(line("cat; echo end >&2").stdin(true)).await;
    cat.write_stdin("half ").await.unwrap();
    cat.write_stdin("close").await.unwrap();
    cat.close_stdin().await;
    assert_eq!(output(&cat).await, ("half close".into(), "end\n".into()));
    assert_eq!(cat.wait().await.unwrap().exit_code, 0);

    // A signal reaches the whole group, also past input that nobody reads.
    let deaf = spawn(line("sleep 1000 & echo $!; wait").stdin(true)).await;
    let child = until(&deaf, "\n").await.trim().to_owned();
    let pid = deaf.pid().unwrap();
    assert_eq!(said(sh(&workspace, &format!("kill -0 {pid} && kill -0 {child} && echo both")).await), "both");
    let filling = async {
        loop {
            if deaf.write_stdin(vec![0; 1 << 20]).await.is_err() {
                break;
            }
        }
    };
    let ((), ended) = tokio::join!(filling, async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        deaf.signal("TERM").await.unwrap();
        deaf.wait().await.unwrap()
    });
    assert_eq!(ended.exit_code, 143);
    assert_ne!(sh(&workspace, &format!("kill -0 {child}")).await.0.exit_code, 0);

    // One that is killed alone is told from one that is killed with the workspace.
    assert_eq!(spawn(line("kill -9 $$")).await.wait().await.unwrap().exit_code, 137);

    // One that is dropped ends with all that it has started.
    let dropped = spawn(line("sleep 2000 & sleep 2000")).await;
    drop(dropped);
    let gone = "for i in $(seq 100); do ps | grep -q 's[l]eep 2000' || exit 0; sleep 0.1; done; exit 1";
    assert_eq!(sh(&workspace, gone).await.0.exit_code, 0);

    let shell = spawn(ExecOptions::default().pty(true).cols(91_u32).rows(27_u32).stdin(true)).await;
    shell.write_stdin("stty size; echo $TERM\n").await.unwrap();
    let seen = until(&shell, "xterm-256color\r\n").await;
    assert!(seen.contains("27 91"), "{seen:?}");
    shell.resize(100, 40).unwrap();
    shell.write_stdin("until stty size | grep -q '40 100'; do :; done; echo re''sized\n").await.unwrap();
    until(&shell, "resized").await;
    shell.write_stdin("echo slee''ping; sleep 1000\n").await.unwrap();
    until(&shell, "sleeping").await;
    shell.write_stdin("\x03").await.unwrap();
    shell.write_stdin("echo inter''rupted\n").await.unwrap();
    until(&shell, "interrupted").await;
    shell.write_stdin("exit 7\n").await.unwrap();
    assert_eq!(shell.wait().await.unwrap().exit_code, 7);
    let idle = spawn(ExecOptions::default().pty(true).stdin(true).idle_timeout_ms(300_u64)).await;
    assert!(idle.wait().await.unwrap().idle_timed_out);
    let closed = spawn(line("cat; echo eof").pty(true).stdin(false)).await;
    until(&closed, "eof").await;

    // Whatever runs ends with the workspace, and says so.
    let (running, terminal) = (spawn(line("sleep 1000")).await, spawn(line("sleep 1000").pty(true)).await);
    workspace.stop(StopOptions::default().grace_ms(0_u64)).await.unwrap();
    fails(running.wait().await, ErrorKind::Unavailable, &["stopped"]);
    fails(terminal.wait().await, ErrorKind::Unavailable, &["stopped"]);
    fails(
        workspace.exec().run(RunOptions::default().command("true"), "").await,
        ErrorKind::Unavailable,
        &["start it"],
    );
    // The engine that closes ends what it has started.
    workspace.start(dunnage::types::StartOptions::default()).await.unwrap();
    let left = spawn(line("sleep 3000")).await;
    engine.close().await;
    fails(left.wait().await, ErrorKind::Unavailable, &["closed"]);
    let engine = rig.engine().await;
    let workspace = engine.workspace("streams").unwrap();
    let gone = "for i in $(seq 100); do ps | grep -q 's[l]eep 3000' || exit 0; sleep 0.1; done; exit 1";
    assert_eq!(sh(&workspace, gone).await.0.exit_code, 0);
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_given_up_while_it_starts_ends() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let workspace = made(&rig, &engine, "given-up").await;
    for wait in [0, 1, 3, 10, 20, 40, 60, 80, 100, 150] {
        let run = async { workspace.exec().run(RunOptions::default().command("sleep 4000"), "").await };
        let given_up = tokio::time::timeout(Duration::from_millis(wait), run).await;
        assert!(given_up.is_err(), "it ended: {given_up:?}");
    }
    let pipes = || {
        let all = std::fs::read_dir(rig.config().data_root.join("run/given-up")).unwrap();
        all.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("dunnage-"))
            .count()
    };
    let gone = "for i in $(seq 100); do ps | grep -q 's[l]eep 4000' || exit 0; sleep 0.1; done; exit 1";
    // What was still to be started may come between two looks.
    for _ in 0..100 {
        assert_eq!(sh(&workspace, gone).await.0.exit_code, 0);
        if pipes() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((pipes(), sh(&workspace, gone).await.0.exit_code), (0, 0));
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_served_from_outside_and_from_nowhere_else() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let workspace = made(&rig, &engine, "files").await;
    let fs = workspace.fs();
    let write = |path: &str| WriteOptions::default().path(path);
    let read = |path: &str| ReadOptions::default().path(path);
    fs.write(write("/srv/a/b.txt"), "one\ntwo\n").await.unwrap();
    assert_eq!(said(sh(&workspace, "cat /srv/a/b.txt; stat -c %u /srv/a/b.txt").await), "one\ntwo\n0");
    said(sh(&workspace, "echo inside > /srv/c; mkfifo /srv/fifo").await);
    assert_eq!(fs.read(read("/srv/c")).await.unwrap(), "inside\n");
    // What is mounted inside is seen as it is there.
    let hosts = said(sh(&workspace, "cat /etc/hosts").await);
    assert_eq!(fs.read(read("/etc/hosts")).await.unwrap().trim_ascii_end(), hosts.as_bytes());
    assert_eq!(fs.stat(StatOptions::default().path("/dev/null")).await.unwrap().path, "/dev/null");
    fails(fs.read(read("/srv/fifo")).await, ErrorKind::FailedPrecondition, &["fifo"]);
    fails(fs.read(read("/dev/zero")).await, ErrorKind::FailedPrecondition, &["/dev/zero"]);
    fs.chown(ChownOptions::default().path("/srv/c").owner("app")).await.unwrap();
    assert_eq!(said(sh(&workspace, "stat -c %U /srv/c").await), "app");
    fs.rename(RenameOptions::default().from("/srv/c").to("/srv/d")).await.unwrap();
    let found = fs.grep(GrepOptions::default().pattern("t[w]o").path("/srv")).await.unwrap();
    assert_eq!(found.matches.len(), 1);

    // Links lead inside, however they are written, and this process's own files are nobody's business.
    let outside = rig.containerd.dir().join("secret");
    std::fs::write(&outside, "of the host").unwrap();
    for target in [outside.display().to_string(), format!("../../../../..{}", outside.display())] {
        fs.symlink(SymlinkOptions::default().target(target).path("/srv/link").overwrite(true)).await.unwrap();
        fails(fs.read(read("/srv/link")).await, ErrorKind::NotFound, &["/srv/link"]);
    }
    for way in ["/proc/self/root", "/proc/thread-self/root", "/proc/self/fd/0", "/proc/self/cwd"] {
        fails(fs.read(read(&format!("{way}{}", outside.display()))).await, ErrorKind::NotFound, &[way]);
    }

    let mut events = fs.watch(WatchOptions::default().path("/srv")).await.unwrap();
    said(sh(&workspace, "echo > /srv/new").await);
    assert!(events.next().await.unwrap().unwrap().path.contains("new"));
    // The watch ends with the workspace; its files stay.
    workspace.stop(StopOptions::default().grace_ms(0_u64)).await.unwrap();
    while let Some(event) = events.next().await {
        if let Err(error) = event {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
    }
    assert_eq!(fs.read(read("/srv/d")).await.unwrap(), "inside\n");
    workspace.start(dunnage::types::StartOptions::default()).await.unwrap();
    assert_eq!(fs.read(read("/srv/d")).await.unwrap(), "inside\n");
    assert!(!fs.list(ListDirOptions::default().path("/proc")).await.unwrap().entries.is_empty());
    remove(&workspace).await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_others_made_are_taken_as_they_are() {
    let rig = Rig::start();
    let engine = rig.engine().await;
    let image = rig.pulled(&engine, "busybox").await;
    let before = rig.count();
    let label = format!("{}=foreign", rig.config().names.id_label);
    let arguments = ["run", "-d", "--label", &label, &image, "somebodys", "/bin/sleep", "1000"];
    rig.ctr(&arguments);
    let workspace = engine.workspace("foreign").unwrap();
    let info = workspace.info().await.unwrap();
    assert_eq!((info.container_id.as_str(), info.agent), ("somebodys", AgentKind::None));
    workspace.fs().write(WriteOptions::default().path("/x"), "seen").await.unwrap();
    assert_eq!(said(sh(&workspace, "cat /x").await), "seen");
    // A second engine, as another process has it, needs nothing of the first one.
    let other = Engine::open(rig.config()).await.unwrap();
    let again = other.workspace("foreign").unwrap();
    assert_eq!(said(sh(&again, "cat /x").await), "seen");
    other.close().await;
    workspace.delete(kill()).await.unwrap();
    engine.close().await;
    rig.settle(&before);
}

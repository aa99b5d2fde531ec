//! The new protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use common::{Agent, soon};
use dunnage_bridge::v1::bridge_client::BridgeClient;
use dunnage_bridge::v1::exec_request::Frame as In;
use dunnage_bridge::v1::exec_response::Frame as Out;
use dunnage_bridge::v1::exec_start::Program;
use dunnage_bridge::v1::write_request::Frame as Write;
use dunnage_bridge::v1::{
    Argv, ChmodRequest, ChownRequest, CopyRequest, EnvVar, ExecExited, ExecRequest, ExecStart, FileKind,
    GlobRequest, GrepRequest, InfoRequest, ListRequest, ReadRequest, Signal, StatRequest, StdinEof,
    StdinMode, SymlinkRequest, TerminalSize, WalkRequest, WatchKind, WatchRequest, WriteFinish, WriteRequest,
    WriteStart, WriteWholeRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

fn argv(args: &[&str]) -> ExecStart {
    let args = args.iter().map(|arg| arg.as_bytes().to_vec().into()).collect();
    ExecStart { program: Some(Program::Argv(Argv { args })), ..Default::default() }
}

fn shell(command: &str) -> ExecStart {
    let command = Program::Command(command.as_bytes().to_vec().into());
    ExecStart { program: Some(command), ..Default::default() }
}

fn request(frame: In) -> ExecRequest {
    ExecRequest { frame: Some(frame) }
}

struct Done {
    out: String,
    err: String,
    pid: i32,
    exit: ExecExited,
}

/// Runs a program, with input frames sent once it runs; the input is left open.
async fn run(client: &mut BridgeClient<Channel>, start: ExecStart, frames: Vec<In>) -> Result<Done, Status> {
    let (input, receiver) = mpsc::channel(32);
    input.send(request(In::Start(start))).await.unwrap();
    let mut output = client.exec(ReceiverStream::new(receiver)).await?.into_inner();
    for frame in frames {
        input.send(request(frame)).await.unwrap();
    }
    let mut done = Done { out: String::new(), err: String::new(), pid: 0, exit: ExecExited::default() };
    loop {
        let next =
            tokio::time::timeout(Duration::from_secs(10), output.message()).await.expect("it hangs")?;
        match next.expect("no exit").frame.unwrap() {
            Out::Started(started) => done.pid = started.pid,
            Out::Stdout(data) => done.out.push_str(&String::from_utf8_lossy(&data)),
            Out::Stderr(data) => done.err.push_str(&String::from_utf8_lossy(&data)),
            Out::Omitted(omitted) => panic!("{omitted:?} of a program that is no session"),
            Out::Exited(exit) => {
                done.exit = exit;
                assert!(output.message().await?.is_none(), "something after the exit");
                return Ok(done);
            }
        }
    }
}

#[tokio::test]
async fn info_names_what_the_agent_can_do() {
    let agent = Agent::first();
    let info = agent.v1().await.info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.pid, info.version.as_str()), (1, env!("CARGO_PKG_VERSION")));
    assert_eq!(info.features, dunnage_bridge::features::ALL);
    assert_eq!(info.data_dir, agent.dir.path().join("data").as_os_str().as_bytes());
    assert!(info.uptime_ms < 60_000);
}

#[tokio::test]
async fn arguments_are_not_split_and_streams_are_apart() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let done = run(&mut client, argv(&["printf", "%s|", "a b", "$HOME", ""]), vec![]).await.unwrap();
    assert_eq!((done.out.as_str(), done.exit.code), ("a b|$HOME||", 0));
    assert!(done.pid > 1);
    let done = run(&mut client, shell("echo x >&2; exit 300"), vec![]).await.unwrap();
    assert_eq!((done.err.as_str(), done.exit.code), ("x\n", 300 % 256));
}

#[tokio::test]
async fn environment_can_start_empty() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let var = EnvVar { name: "A".into(), value: vec![b'x', 0xff].into() };
    let start = ExecStart { env: vec![var], env_clear: true, ..argv(&["/usr/bin/env"]) };
    let done = run(&mut client, start, vec![]).await.unwrap();
    let mut lines: Vec<_> = done.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("A=x") && lines[1].starts_with("PATH=/usr/local/sbin:"), "{lines:?}");
}

#[tokio::test]
async fn input_is_none_or_open_until_its_end() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    assert_eq!(run(&mut client, argv(&["cat"]), vec![]).await.unwrap().out, "");
    let open = ExecStart { stdin: StdinMode::Open.into(), ..argv(&["cat"]) };
    let frames = vec![In::Stdin("one ".into()), In::Stdin("two".into()), In::StdinEof(StdinEof {})];
    assert_eq!(run(&mut client, open, frames).await.unwrap().out, "one two");
    let terminal = ExecStart { pty: Some(TerminalSize::default()), ..argv(&["cat"]) };
    assert_eq!(run(&mut client, terminal, vec![]).await.unwrap().exit.code, 0);
}

#[tokio::test]
async fn signals_time_limits_and_how_it_ended() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let frames = vec![In::Signal(Signal { number: 999 }), In::Signal(Signal { number: 10 })];
    let done = run(&mut client, shell("sleep 1000"), frames).await.unwrap();
    assert_eq!(done.exit, ExecExited { code: 138, signal: 10, timed_out: false, idle_timed_out: false });
    let limited = ExecStart { timeout_ms: 150, ..shell("sleep 1000") };
    let done = soon(run(&mut client, limited, vec![])).await.unwrap();
    assert_eq!(done.exit, ExecExited { code: 143, signal: 15, timed_out: true, idle_timed_out: false });
    let stubborn = ExecStart { timeout_ms: 150, ..shell("trap '' TERM; sleep 1000; sleep 1000; sleep 1000") };
    let done = run(&mut client, stubborn, vec![]).await.unwrap();
    assert_eq!(done.exit, ExecExited { code: 137, signal: 9, timed_out: true, idle_timed_out: false });
}

#[tokio::test]
async fn another_user_has_its_groups_and_home() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let text = "id -u; id -g; id -G; echo $HOME; echo $USER";
    let as_user = |user: &str| ExecStart { user: user.into(), work_dir: "/".into(), ..shell(text) };
    let done = run(&mut client, as_user("daemon"), vec![]).await.unwrap();
    assert_eq!(done.out, "1\n1\n1\n/usr/sbin\ndaemon\n");
    let done = run(&mut client, as_user("4321:5432"), vec![]).await.unwrap();
    assert_eq!(
        done.out,
        "4321\n5432\n5432\n/\n\n"
            .replace("\n\n", &format!("\n{}\n", std::env::var("USER").unwrap_or_default()))
    );
    let terminal = ExecStart { pty: Some(TerminalSize { cols: 90, rows: 20 }), ..as_user("daemon") };
    let terminal = ExecStart { program: shell("stty size; echo hi >$(tty)").program, ..terminal };
    assert_eq!(run(&mut client, terminal, vec![]).await.unwrap().out, "20 90\r\nhi\r\n");
    assert_eq!(
        run(&mut client, as_user("no-such-user"), vec![]).await.err().unwrap().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn what_cannot_run_is_refused() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let cases = [
        (argv(&["no-such-program-here"]), Code::NotFound),
        (argv(&["/etc/passwd"]), Code::PermissionDenied),
        (argv(&[]), Code::InvalidArgument),
        (shell(""), Code::InvalidArgument),
        (ExecStart::default(), Code::InvalidArgument),
        (argv(&["true", "a\0b"]), Code::InvalidArgument),
        (ExecStart { work_dir: "nowhere".into(), ..argv(&["true"]) }, Code::NotFound),
    ];
    for (start, code) in cases {
        assert_eq!(run(&mut client, start.clone(), vec![]).await.err().unwrap().code(), code, "{start:?}");
    }
}

#[tokio::test]
async fn stat_and_list_tell_everything() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let odd = std::ffi::OsStr::from_bytes(b"odd \xff name");
    std::fs::create_dir_all(agent.data("d/sub")).unwrap();
    std::fs::write(agent.data("d").join(odd), "12345").unwrap();
    std::os::unix::fs::symlink("nowhere", agent.data("d/link")).unwrap();
    std::os::unix::fs::chown(agent.data("d").join(odd), Some(77), Some(88)).unwrap();
    let path = [b"d/".as_slice(), odd.as_bytes()].concat();
    let info = client
        .stat(StatRequest { path: path.into(), follow: false })
        .await
        .unwrap()
        .into_inner()
        .info
        .unwrap();
    let real = std::fs::metadata(agent.data("d").join(odd)).unwrap();
    assert_eq!(info.path, odd.as_bytes());
    assert_eq!(
        (info.kind(), info.mode, info.uid, info.gid, info.size),
        (FileKind::Regular, 0o644, 77, 88, 5)
    );
    assert_eq!(info.mtime_ns, real.mtime() * 1_000_000_000 + real.mtime_nsec());
    assert_eq!((info.inode, info.links), (real.ino(), 1));
    let link = |follow| StatRequest { path: "d/link".into(), follow };
    let info = client.stat(link(false)).await.unwrap().into_inner().info.unwrap();
    assert_eq!((info.kind(), info.link_target), (FileKind::Symlink, "nowhere".into()));
    assert_eq!(client.stat(link(true)).await.unwrap_err().code(), Code::NotFound);

    for n in 0..1200 {
        std::fs::write(agent.data("d/sub").join(format!("f{n}")), "").unwrap();
    }
    for (recursive, max_depth, count) in [(false, 0, 3), (true, 1, 3), (true, 0, 1203)] {
        let request = ListRequest { path: "d".into(), recursive, max_depth };
        let mut batches = client.list(request).await.unwrap().into_inner();
        let mut paths = Vec::new();
        while let Some(batch) = batches.message().await.unwrap() {
            assert!(batch.problems.is_empty() && batch.entries.len() <= 512);
            paths.extend(batch.entries.into_iter().map(|entry| entry.path));
        }
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }
}

#[tokio::test]
async fn a_write_counts_only_when_it_is_finished() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let start = |mode| Write::Start(WriteStart { path: "f".into(), mode, ..Default::default() });
    let finish = |expected_size| Write::Finish(WriteFinish { expected_size });
    let mut write = async |frames: Vec<Write>| {
        let frames: Vec<_> = frames.into_iter().map(|frame| WriteRequest { frame: Some(frame) }).collect();
        let result = client.write(futures::stream::iter(frames)).await;
        result.map(|response| response.into_inner().bytes_written).map_err(|status| status.code())
    };
    assert_eq!(write(vec![start(Some(0o600)), Write::Data("old".into()), finish(Some(3))]).await, Ok(3));
    assert_eq!(write(vec![start(None), Write::Data("new".into())]).await, Err(Code::Cancelled));
    assert_eq!(
        write(vec![start(None), Write::Data("new".into()), finish(Some(9))]).await,
        Err(Code::FailedPrecondition)
    );
    assert_eq!(write(vec![Write::Data("new".into())]).await, Err(Code::InvalidArgument));
    assert_eq!(write(vec![start(Some(0o10_000))]).await, Err(Code::InvalidArgument));
    assert_eq!(std::fs::read(agent.data("f")).unwrap(), b"old");
    assert_eq!(agent.data("f").metadata().unwrap().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::read_dir(agent.data("")).unwrap().count(), 1);
    assert_eq!(write(vec![start(Some(0o640)), finish(None)]).await, Ok(0));
    assert_eq!(agent.data("f").metadata().unwrap().mode() & 0o7777, 0o640);
}

#[tokio::test]
async fn a_revision_is_told_and_expected_by_every_way_to_write() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let whole = |content: &'static str, expected: Option<&str>| WriteWholeRequest {
        path: "f".into(),
        content: content.into(),
        mode: Some(0o640),
        expected_revision: expected.map(str::to_owned),
    };
    let first = client.write_whole(whole("one", Some("absent"))).await.unwrap().into_inner();
    assert_eq!(first.bytes_written, 3);
    let stat = StatRequest { path: "f".into(), follow: true };
    assert_eq!(client.stat(stat.clone()).await.unwrap().into_inner().revision, first.revision);
    let again = client.write_whole(whole("two", Some("absent"))).await.unwrap_err();
    assert_eq!(again.code(), Code::Aborted);
    let start = WriteStart {
        path: "f".into(),
        expected_revision: Some(first.revision.clone()),
        ..Default::default()
    };
    let frames = [Write::Start(start), Write::Data("three".into()), Write::Finish(WriteFinish::default())];
    let frames = frames.map(|frame| WriteRequest { frame: Some(frame) });
    let second = client.write(futures::stream::iter(frames.clone())).await.unwrap().into_inner();
    assert_ne!(first.revision, second.revision);
    assert_eq!(client.write(futures::stream::iter(frames)).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(client.stat(stat).await.unwrap().into_inner().revision, second.revision);
    assert_eq!(std::fs::read(agent.data("f")).unwrap(), b"three");
    assert_eq!(agent.data("f").metadata().unwrap().mode() & 0o7777, 0o640);
}

#[tokio::test]
async fn trees_are_changed_copied_walked_and_searched() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    std::fs::create_dir_all(agent.data("t/sub")).unwrap();
    std::fs::write(agent.data("t/sub/f.txt"), "needle\n").unwrap();
    let link = SymlinkRequest { target: "sub".into(), path: "t/link".into(), overwrite: false };
    client.symlink(link.clone()).await.unwrap();
    assert_eq!(client.symlink(link).await.unwrap_err().code(), Code::AlreadyExists);
    let chmod = |mode| ChmodRequest { path: "t".into(), mode, recursive: true };
    assert_eq!(client.chmod(chmod(0o711)).await.unwrap().into_inner().entries, 3);
    assert_eq!(client.chmod(chmod(0o10_000)).await.unwrap_err().code(), Code::InvalidArgument);
    let chown = |owner: &str| ChownRequest { path: "t".into(), owner: owner.into(), recursive: true };
    assert_eq!(client.chown(chown("1:2")).await.unwrap().into_inner().entries, 4);
    assert_eq!(client.chown(chown("nobody-here")).await.unwrap_err().code(), Code::InvalidArgument);
    let copy = CopyRequest { from: "t".into(), to: "made/t2".into(), overwrite: false };
    let copied = client.copy(copy.clone()).await.unwrap().into_inner();
    assert_eq!((copied.entries, copied.bytes, copied.skipped), (4, 7, 0));
    assert_eq!(client.copy(copy).await.unwrap_err().code(), Code::AlreadyExists);
    let found = agent.data("made/t2/sub/f.txt").metadata().unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o711, 1, 2));
    let walk = WalkRequest { path: "made".into(), limit: 2, ..Default::default() };
    let page = client.walk(walk.clone()).await.unwrap().into_inner();
    assert_eq!((page.entries.len(), page.next.as_ref()), (2, &b"t2/link"[..]));
    let page = client.walk(WalkRequest { after: page.next, ..walk }).await.unwrap().into_inner();
    assert_eq!((page.entries[0].path.as_ref(), page.next.len()), (&b"t2/sub"[..], 0));
    let glob = GlobRequest { pattern: "**/*.txt".into(), limit: 10, ..Default::default() };
    let found = client.glob(glob).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(found.entries.len(), 2);
    let grep =
        GrepRequest { pattern: "need".into(), max_matches: 10, max_line_bytes: 10, ..Default::default() };
    let mut answers = client.grep(grep).await.unwrap().into_inner();
    let mut matches = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        matches += answer.matches.len();
    }
    assert_eq!(matches, 2);
    let read = ReadRequest { path: "t/sub/f.txt".into(), offset: 2, length: Some(3) };
    let part = client.read(read).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(part.data, "edl");
}

#[tokio::test]
async fn a_watch_tells_and_ends_with_the_agent() {
    let mut agent = Agent::start();
    let mut client = agent.v1().await;
    let mut told = client.watch(WatchRequest::default()).await.unwrap().into_inner();
    std::fs::write(agent.data("f"), "x").unwrap();
    let events = told.message().await.unwrap().unwrap().events;
    assert_eq!((events[0].path.as_ref(), events[0].kind()), (&b"f"[..], WatchKind::Created));
    agent.signal("TERM");
    assert_eq!(told.message().await.unwrap_err().code(), Code::Unavailable);
    agent.wait();
}

#[tokio::test]
async fn long_work_never_holds_up_a_short_look() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    for n in 0..40 {
        std::fs::create_dir_all(agent.data(&format!("t/{n}"))).unwrap();
        std::fs::write(agent.data(&format!("t/{n}/f")), vec![1; 4 << 20]).unwrap();
    }
    let mut copies = tokio::task::JoinSet::new();
    for n in 0..8 {
        let mut client = client.clone();
        let copy = CopyRequest { from: "t".into(), to: format!("c{n}").into(), overwrite: false };
        copies.spawn(async move { client.copy(copy).await.map(|copied| copied.into_inner().entries) });
    }
    let stat = StatRequest { path: "t".into(), follow: true };
    for _ in 0..20 {
        client.stat(stat.clone()).await.unwrap();
    }
    while let Some(copied) = copies.join_next().await {
        assert_eq!(copied.unwrap().unwrap(), 81);
    }
    // A caller that goes away ends its copy, and leaves nothing.
    let copy = CopyRequest { from: "t".into(), to: "gone".into(), overwrite: false };
    let _ = tokio::time::timeout(Duration::from_millis(5), client.copy(copy)).await;
    common::eventually("the copy is gone or whole", || {
        let names = std::fs::read_dir(agent.data("")).unwrap().flatten();
        names.filter(|name| name.file_name().to_string_lossy().starts_with('.')).count() == 0
    });
}

#[tokio::test]
async fn an_unknown_service_is_unimplemented() {
    let agent = Agent::start();
    let channel = agent.v1().await;
    drop(channel);
    // The old client works on the same socket, so that one connection serves both.
    let mut old = agent.client().await;
    let stat = dunnage_bridge::bridgepb::StatRequest { path: "/".into() };
    assert_eq!(old.stat(stat).await.unwrap().into_inner().entry.unwrap().path, "/");
}

use super::*;
use crate::ErrorKind;
use crate::bridge::{Process, StreamKind};
use crate::types::{AttachOptions, SessionSignalOptions, SessionWaitOptions, ShellOptions};
use bytes::Bytes;

fn detached(id: &str, command: &str) -> ExecOptions {
    spawn(command).detach(true).session_id(id)
}

fn attach(id: &str) -> AttachOptions {
    AttachOptions::default().session_id(id)
}

fn wait(id: &str) -> SessionWaitOptions {
    SessionWaitOptions::default().session_id(id)
}

async fn until(process: &Process, part: &str) {
    let mut seen = String::new();
    while !seen.contains(part) {
        let (kind, bytes) = process.next_output().await.unwrap().unwrap();
        assert_eq!(kind, StreamKind::Stdout);
        seen.push_str(std::str::from_utf8(&bytes).unwrap());
    }
}

async fn all(process: &Process) -> (u64, u64) {
    let (mut out, mut err) = (0, 0);
    while let Some((kind, bytes)) = process.next_output().await.unwrap() {
        match kind {
            StreamKind::Stdout => out += bytes.len() as u64,
            StreamKind::Stderr => err += bytes.len() as u64,
        }
    }
    (out, err)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_its_process_and_its_host() {
    let fixture = Fixture::start().await;
    let first = fixture.client().spawn(&detached("s", "echo up; cat")).await.unwrap();
    assert_eq!(first.session_id(), Some("s"));
    until(&first, "up\n").await;
    let pid = first.pid().unwrap();
    drop(first);

    // Another host: another pool, with connections of its own.
    let other = Fixture::idle();
    let client = other.pool.client("other", BridgeTarget::Socket(fixture.socket()));
    let list = client.sessions().await.unwrap().sessions;
    assert_eq!((list.len(), list[0].pid, list[0].running, list[0].exit_code), (1, pid, true, None));
    assert!(list[0].started_at.parse::<jiff::Timestamp>().is_ok(), "{}", list[0].started_at);
    let late = client.wait_session(&wait("s").timeout_ms(0_u64)).await.unwrap_err();
    assert_eq!((late.kind(), late.operation()), (ErrorKind::Timeout, "exec.wait"));
    let again = client.spawn(&detached("s", "true")).await.unwrap_err();
    assert_eq!((again.kind(), again.operation()), (ErrorKind::AlreadyExists, "exec.spawn"));

    let joined = client.attach(&attach("s")).await.unwrap();
    assert_eq!((joined.pid(), joined.is_pty()), (Some(pid), false));
    joined.write_stdin("more\n").await.unwrap();
    until(&joined, "up\nmore\n").await;
    assert_eq!(client.sessions().await.unwrap().sessions[0].attached, 1);
    joined.close_stdin().await;
    let exit = joined.wait().await.unwrap();
    assert_eq!((exit.exit_code, exit.session_id.as_deref(), exit.omitted_bytes), (0, Some("s"), 0));
    assert_eq!(client.wait_session(&wait("s")).await.unwrap(), exit);
    let signal = SessionSignalOptions::default().session_id("s").signal("TERM");
    assert_eq!(client.signal_session(&signal).await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    joined.signal("TERM").await.unwrap();
    let joined = client.attach(&attach("s")).await.unwrap();
    assert_eq!(all(&joined).await, (8, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn letting_go_of_a_session_leaves_it_and_its_input() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let first = client.spawn(&detached("s", "echo up; cat")).await.unwrap();
    until(&first, "up\n").await;
    first.detach().unwrap();
    let error = first.wait().await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::FailedPrecondition, "exec.wait"));
    assert_eq!(first.next_output().await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    drop(first);
    for _ in 0..20 {
        let one = client.attach(&attach("s").replay(false)).await.unwrap();
        one.write_stdin("x\n").await.unwrap();
        until(&one, "x\n").await;
    }
    let last = client.attach(&attach("s")).await.unwrap();
    let exit = last.kill().await.unwrap();
    assert_eq!((exit.signal, exit.session_id.as_deref()), (Some(9), Some("s")));
    let plain = client.spawn(&spawn("sleep 60")).await.unwrap();
    assert_eq!(plain.detach().unwrap_err().kind(), ErrorKind::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_stalls_only_itself() {
    const BYTES: u64 = 80_000_000;
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let command = format!("read go; head -c {BYTES} /dev/zero; echo done >&2");
    let asleep = client.spawn(&detached("s", &command)).await.unwrap();
    let also_asleep = client.attach(&attach("s")).await.unwrap();
    asleep.write_stdin("go\n").await.unwrap();
    let exit = tokio::time::timeout(Duration::from_secs(30), client.wait_session(&wait("s"))).await;
    assert_eq!(exit.expect("a reader holds it up").unwrap().exit_code, 0);
    client.run(&sh("true"), Bytes::new()).await.unwrap();
    for process in [asleep, also_asleep] {
        let (out, err) = all(&process).await;
        let omitted = process.wait().await.unwrap().omitted_bytes;
        assert!(omitted > 0);
        assert_eq!((out + omitted, err), (BYTES, 5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_agent_ends_every_reader() {
    let mut fixture = Fixture::start().await;
    let client = fixture.client();
    let first = client.spawn(&detached("s", "echo up; sleep 60")).await.unwrap();
    until(&first, "up\n").await;
    let second = client.attach(&attach("s").replay(false)).await.unwrap();
    let waiter = client.clone();
    let waiting = tokio::spawn(async move { waiter.wait_session(&wait("s")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let pid = first.pid().unwrap();
    fixture.kill_agent();
    for process in [&first, &second] {
        let error = soon(process.wait()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(process.next_output().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // Outside a container nobody ends it with its agent.
    let group = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    fixture.start_agent();
    fixture.ready().await;
    assert_eq!(client.attach(&attach("s")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_ids_and_signals_are_refused_before_anything_is_sent() {
    // There is no agent: a call that was sent would be UNAVAILABLE.
    let fixture = Fixture::idle();
    let client = fixture.client();
    let refused = |error: crate::Error| assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    for id in ["", "a/b", "a b", "é", &"x".repeat(65)] {
        refused(client.attach(&attach(id)).await.unwrap_err());
        refused(client.wait_session(&wait(id)).await.unwrap_err());
        refused(client.spawn(&detached(id, "x")).await.unwrap_err());
    }
    for signal in ["", "SIGNOTHING", "0", "65"] {
        let options = SessionSignalOptions::default().session_id("s").signal(signal);
        refused(client.signal_session(&options).await.unwrap_err());
    }
    refused(client.spawn(&spawn("x").session_id("s")).await.unwrap_err());
    refused(client.spawn(&spawn("x").replay_bytes(1_u64)).await.unwrap_err());
    refused(client.spawn(&detached("s", "x").replay_bytes(65_u64 << 20)).await.unwrap_err());
    refused(client.shell(&ShellOptions::default().user("a:b:c")).await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_finds_its_shell_and_ends_unused() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let shell = client.shell(&ShellOptions::default()).await.unwrap();
    assert!(shell.available && shell.shell.is_some_and(|path| path.starts_with('/')));
    let terminal = client.spawn(&ExecOptions::default().pty(true)).await.unwrap();
    terminal.write_stdin("echo $((6*7))-$TERM; exit 3\n").await.unwrap();
    until(&terminal, "42-xterm-256color").await;
    while terminal.next_output().await.unwrap().is_some() {}
    assert_eq!(terminal.wait().await.unwrap().exit_code, 3);
    let idle = client.spawn(&spawn("sleep 60").pty(true).idle_timeout_ms(200_u64)).await.unwrap();
    let exit = soon(idle.wait()).await.unwrap();
    assert!(exit.idle_timed_out && !exit.timed_out, "{exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_input_is_at_its_end_from_the_start() {
    let fixture = Fixture::start().await;
    let process = fixture.client().spawn(&spawn("cat; exit 5").stdin(false)).await.unwrap();
    let error = process.write_stdin("x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert_eq!(process.wait().await.unwrap().exit_code, 5);
}

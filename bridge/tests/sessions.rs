//! Programs that live on without a client, and terminals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use common::{Agent, eventually, processes, unique_sleep};
use dunnage_bridge::v1::bridge_client::BridgeClient;
use dunnage_bridge::v1::exec_request::Frame as In;
use dunnage_bridge::v1::exec_response::Frame as Out;
use dunnage_bridge::v1::exec_start::Program;
use dunnage_bridge::v1::{
    Argv, Attach, ExecExited, ExecRequest, ExecResponse, ExecStart, InfoRequest, Session, SessionInfo,
    SessionsRequest, ShellRequest, SignalSessionRequest, StdinEof, StdinMode, TerminalSize, UserShell,
    WaitSessionRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

type V1 = BridgeClient<Channel>;

fn session(id: &str, command: &str) -> ExecStart {
    let program = Some(Program::Command(command.as_bytes().to_vec().into()));
    let session = Some(Session { id: id.to_owned(), replay_bytes: 1 << 20 });
    ExecStart { program, session, stdin: StdinMode::Open.into(), ..Default::default() }
}

/// A client of a running program.
struct Joined {
    input: mpsc::Sender<ExecRequest>,
    output: Streaming<ExecResponse>,
    pid: i32,
    omitted: u64,
}

impl Joined {
    async fn start(client: &mut V1, start: ExecStart) -> Result<Self, Status> {
        let (input, frames) = mpsc::channel(16);
        input.send(ExecRequest { frame: Some(In::Start(start)) }).await.unwrap();
        let output = client.exec(ReceiverStream::new(frames)).await?.into_inner();
        Self::begun(input, output).await
    }

    async fn attach(client: &mut V1, id: &str, replay: bool) -> Result<Self, Status> {
        let (input, frames) = mpsc::channel(16);
        let attach = Attach { session_id: id.to_owned(), replay };
        input.send(ExecRequest { frame: Some(In::Attach(attach)) }).await.unwrap();
        let output = client.attach(ReceiverStream::new(frames)).await?.into_inner();
        Self::begun(input, output).await
    }

    async fn begun(
        input: mpsc::Sender<ExecRequest>,
        mut output: Streaming<ExecResponse>,
    ) -> Result<Self, Status> {
        let Some(Out::Started(started)) = output.message().await?.unwrap().frame else {
            panic!("it does not begin with its start")
        };
        Ok(Self { input, output, pid: started.pid, omitted: 0 })
    }

    async fn send(&self, frame: In) {
        self.input.send(ExecRequest { frame: Some(frame) }).await.unwrap();
    }

    async fn next(&mut self) -> Out {
        let next = tokio::time::timeout(Duration::from_secs(20), self.output.message()).await;
        next.expect("it hangs").unwrap().expect("no exit").frame.unwrap()
    }

    /// Standard output until it holds `text`; standard error is passed over.
    async fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            match self.next().await {
                Out::Stdout(data) => seen.push_str(&String::from_utf8_lossy(&data)),
                Out::Stderr(_) => {}
                other => panic!("{other:?} before {text:?}, after {seen:?}"),
            }
        }
        seen
    }

    /// Everything to the end: standard output, standard error and the exit.
    async fn finish(&mut self) -> (Vec<u8>, Vec<u8>, ExecExited) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            match self.next().await {
                Out::Stdout(data) => out.extend_from_slice(&data),
                Out::Stderr(data) => err.extend_from_slice(&data),
                Out::Omitted(omitted) => self.omitted += omitted.bytes,
                Out::Exited(exit) => {
                    assert!(self.output.message().await.unwrap().is_none(), "something after the exit");
                    return (out, err, exit);
                }
                Out::Started(_) => panic!("two starts"),
            }
        }
    }
}

async fn sessions(client: &mut V1) -> Vec<SessionInfo> {
    client.sessions(SessionsRequest {}).await.unwrap().into_inner().sessions
}

async fn wait(client: &mut V1, id: &str, timeout_ms: u64) -> Result<Option<ExecExited>, Status> {
    let request = WaitSessionRequest { session_id: id.to_owned(), timeout_ms };
    Ok(client.wait_session(request).await?.into_inner().exited)
}

async fn signal(client: &mut V1, id: &str, number: i32) -> Result<(), Status> {
    let request = SignalSessionRequest { session_id: id.to_owned(), number };
    client.signal_session(request).await.map(drop)
}

#[tokio::test]
async fn a_session_outlives_its_client_and_tells_the_next_one_all() {
    let agent = Agent::start();
    let mut first = agent.v1().await;
    let command = "echo one; echo err >&2; read line; echo got $line; exit 7";
    let mut starter = Joined::start(&mut first, session("work", command)).await.unwrap();
    starter.until("one\n").await;
    let pid = starter.pid;
    drop((starter, first));

    let mut client = agent.v1().await;
    let listed = sessions(&mut client).await;
    assert_eq!(listed.len(), 1);
    let info = listed.first().unwrap();
    assert_eq!((info.session_id.as_str(), info.command.as_str(), info.pid), ("work", command, pid));
    assert_eq!((info.user.as_str(), info.pty, info.exited.as_ref()), ("root", false, None));
    assert!(info.started_at_ms > 1_600_000_000_000);
    assert_eq!(wait(&mut client, "work", 50).await.unwrap(), None);

    let mut again = Joined::attach(&mut client, "work", true).await.unwrap();
    assert_eq!(again.pid, pid);
    // Closing the sending side is no end of input.
    let silent = Joined::attach(&mut client, "work", false).await.unwrap();
    drop(silent.input);
    again.send(In::Stdin("hello\n".into())).await;
    let (out, err, exit) = again.finish().await;
    assert_eq!(
        (String::from_utf8(out).unwrap().as_str(), err.as_slice()),
        ("one\ngot hello\n", &b"err\n"[..])
    );
    assert_eq!((exit.code, again.omitted), (7, 0));

    assert_eq!(wait(&mut client, "work", 0).await.unwrap().unwrap().code, 7);
    let info = sessions(&mut client).await.remove(0);
    assert_eq!((info.exited.unwrap().code, info.stdout_bytes, info.stderr_bytes), (7, 14, 4));
    assert_eq!(info.buffered_bytes, 18);
    // Its end can still be read, with what it wrote.
    let mut late = Joined::attach(&mut client, "work", true).await.unwrap();
    assert_eq!(late.finish().await.0, b"one\ngot hello\n");
    let mut late = Joined::attach(&mut client, "work", false).await.unwrap();
    assert_eq!(late.finish().await.0, b"");
    assert_eq!(signal(&mut client, "work", 15).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn ids_are_checked_and_taken_once() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let mut one = Joined::start(&mut client, session("a", "sleep 1000")).await.unwrap();
    let refused = async |client: &mut V1, start| Joined::start(client, start).await.err().unwrap().code();
    assert_eq!(refused(&mut client, session("a", "true")).await, Code::AlreadyExists);
    assert_eq!(refused(&mut client, session("", "true")).await, Code::InvalidArgument);
    assert_eq!(refused(&mut client, session("a b", "true")).await, Code::InvalidArgument);
    let idle = ExecStart { idle_timeout_ms: 5, ..session("b", "true") };
    assert_eq!(refused(&mut client, idle).await, Code::InvalidArgument);
    assert_eq!(Joined::attach(&mut client, "none", true).await.err().unwrap().code(), Code::NotFound);
    assert_eq!(wait(&mut client, "none", 0).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(signal(&mut client, "none", 15).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(signal(&mut client, "a", 77).await.unwrap_err().code(), Code::InvalidArgument);
    signal(&mut client, "a", 15).await.unwrap();
    assert_eq!(one.finish().await.2.signal, 15);
    let mut second = Joined::start(&mut client, session("a", "exit 3")).await.unwrap();
    assert_eq!(second.finish().await.2.code, 3);
    assert_eq!(sessions(&mut client).await.len(), 1);
}

/// Keeps everybody else who opens a file waiting, which is what a slow disk does; until dropped.
struct Lease(std::process::Child, BufReader<ChildStdout>);

impl Lease {
    fn take(file: &Path) -> Self {
        const HOLDER: &str = "import fcntl, signal, sys
signal.signal(signal.SIGIO, lambda *_: print('asked', flush=True))
file = open(sys.argv[1], 'rb')
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.read()";
        let mut holder = Command::new("python3");
        holder.args(["-c", HOLDER]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let told = BufReader::new(holder.stdout.take().unwrap());
        let mut lease = Self(holder, told);
        lease.wait_for("held");
        lease
    }

    fn wait_for(&mut self, what: &str) {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), what);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn running(client: &mut V1) -> u32 {
    client.info(InfoRequest {}).await.unwrap().into_inner().sessions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_whose_file_is_slow_holds_up_nobody() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let file = agent.dir.path().join("slow");
    // Copied by another process: a descriptor that this one has open for writing may be in a child of another test.
    assert!(Command::new("cp").args(["/bin/sleep"]).arg(&file).status().unwrap().success());
    let seconds = unique_sleep();
    let slow = |seconds: &str| {
        let args = [file.to_str().unwrap(), seconds].map(|arg| arg.to_owned().into()).to_vec();
        ExecStart { program: Some(Program::Argv(Argv { args })), ..Default::default() }
    };
    let mut lease = Lease::take(&file);
    let kept = Some(Session { id: "kept".to_owned(), replay_bytes: 0 });
    let kept = ExecStart { session: kept, ..slow("0") };
    let mut other = agent.v1().await;
    let kept = tokio::spawn(async move { Joined::start(&mut other, kept).await });
    lease.wait_for("asked");
    let (mut other, unwanted) = (agent.v1().await, slow(&seconds));
    let unwanted = tokio::spawn(async move { Joined::start(&mut other, unwanted).await.map(drop) });
    while running(&mut client).await < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unwanted.abort();
    eventually("both are being started", || agent.children().len() == 2);

    let all = async {
        let taken = Joined::start(&mut client, session("kept", "true")).await.err().unwrap();
        assert_eq!(taken.code(), Code::AlreadyExists);
        let orphan = "(sleep 0.01 &) ; echo out; exit 3";
        let mut meanwhile = Joined::start(&mut client, session("meanwhile", orphan)).await.unwrap();
        let (out, _, exit) = meanwhile.finish().await;
        assert_eq!((out.as_slice(), exit.code), (&b"out\n"[..], 3));
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("all wait for the slow one");
    assert!(!kept.is_finished());
    eventually("orphans are reaped meanwhile", || agent.children().len() == 2);

    drop(lease);
    let mut kept = kept.await.unwrap().unwrap();
    assert_eq!(kept.finish().await.2.code, 0);
    while running(&mut client).await > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(processes(&seconds), 0, "nobody waits for it");
    eventually("nothing is left", || agent.children().is_empty());
}

#[tokio::test]
async fn a_reader_that_sleeps_stalls_nobody_and_is_told_what_it_lost() {
    const BYTES: usize = 60_000_000;
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let command = format!("read go; head -c {BYTES} /dev/zero; echo end >&2");
    let mut slow = Joined::start(&mut client, session("big", &command)).await.unwrap();
    let mut other = agent.v1().await;
    slow.send(In::Stdin("go\n".into())).await;
    // Nobody reads, and it comes to its end.
    let exit = tokio::time::timeout(Duration::from_secs(20), wait(&mut other, "big", 0)).await;
    assert_eq!(exit.expect("a reader holds it up").unwrap().unwrap().code, 0);
    let (out, err, _) = slow.finish().await;
    assert_eq!(out.len() as u64 + err.len() as u64 + slow.omitted, BYTES as u64 + 4);
    assert!(slow.omitted > 0 && err == b"end\n");
    let mut replay = Joined::attach(&mut client, "big", true).await.unwrap();
    let (out, err, _) = replay.finish().await;
    assert_eq!((out.len() + err.len(), replay.omitted), (1 << 20, 0));
}

#[tokio::test]
async fn input_that_nobody_reads_holds_up_only_its_writer() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let command = "trap 'echo caught' USR1; while :; do sleep 0.02; done";
    let mut reader = Joined::start(&mut client, session("deaf", command)).await.unwrap();
    let mut other = agent.v1().await;
    let writer = Joined::attach(&mut other, "deaf", false).await.unwrap();
    let pieces = async {
        loop {
            writer.send(In::Stdin(vec![b'x'; 60_000].into())).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(500), pieces).await.is_err());
    signal(&mut client, "deaf", 10).await.unwrap();
    reader.until("caught\n").await;
    drop(writer);
    signal(&mut client, "deaf", 9).await.unwrap();
    assert_eq!(reader.finish().await.2.signal, 9);
}

#[tokio::test]
async fn the_end_of_input_and_the_time_limit_are_those_of_the_session() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let starter = Joined::start(&mut client, session("cat", "cat")).await.unwrap();
    let mut other = Joined::attach(&mut client, "cat", true).await.unwrap();
    starter.send(In::Stdin("from one ".into())).await;
    other.until("one ").await;
    other.send(In::Stdin("and two".into())).await;
    other.send(In::StdinEof(StdinEof {})).await;
    assert_eq!(other.finish().await.0, b"and two");
    let limited = ExecStart { timeout_ms: 200, ..session("late", "sleep 1000") };
    drop(Joined::start(&mut client, limited).await.unwrap());
    let exit = wait(&mut client, "late", 0).await.unwrap().unwrap();
    assert!(exit.timed_out && exit.signal == 15, "{exit:?}");
}

#[tokio::test]
async fn a_stop_ends_sessions_and_their_readers() {
    let mut agent = Agent::first();
    let mut client = agent.v1().await;
    let marker = unique_sleep();
    let mut one = Joined::start(&mut client, session("a", &format!("sleep {marker}"))).await.unwrap();
    eventually("it sleeps", || processes(&marker) > 0);
    agent.signal("TERM");
    assert_eq!(one.finish().await.2.signal, 15);
    agent.wait();
    assert_eq!(processes(&marker), 0);
}

#[tokio::test]
async fn a_terminal_without_a_command_gets_a_shell() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let shell = client.shell(ShellRequest::default()).await.unwrap().into_inner();
    assert!(shell.available && shell.shell.starts_with(b"/"), "{shell:?}");
    let unknown = client.shell(ShellRequest { user: "nobody-here".into() }).await;
    assert_eq!(unknown.unwrap_err().code(), Code::InvalidArgument);
    let start = ExecStart {
        program: Some(Program::Shell(UserShell {})),
        pty: Some(TerminalSize { cols: 90, rows: 20 }),
        stdin: StdinMode::Open.into(),
        ..Default::default()
    };
    let mut terminal = Joined::start(&mut client, start).await.unwrap();
    terminal.send(In::Stdin("echo $-:$TERM:$SHELL:$((6*7)); stty size; exit 5\n".into())).await;
    let (out, _, exit) = terminal.finish().await;
    let out = String::from_utf8_lossy(&out).into_owned();
    let expected = format!(":xterm-256color:{}:42", String::from_utf8_lossy(&shell.shell));
    assert!(out.contains(&expected) && out.contains("20 90"), "{out}");
    assert_eq!(exit.code, 5);
}

#[tokio::test]
async fn an_unused_terminal_ends_and_a_used_one_does_not() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    let terminal = |command: &str| ExecStart {
        pty: Some(TerminalSize::default()),
        idle_timeout_ms: 400,
        session: None,
        ..session("", command)
    };
    let mut quiet = Joined::start(&mut client, terminal("sleep 1000")).await.unwrap();
    let exit = quiet.finish().await.2;
    assert!(exit.idle_timed_out && !exit.timed_out && exit.code > 128, "{exit:?}");
    let command = "for i in 1 2 3 4 5 6 7 8; do sleep 0.1; echo $i; done; exit 4";
    let mut loud = Joined::start(&mut client, terminal(command)).await.unwrap();
    let exit = loud.finish().await.2;
    assert!(!exit.idle_timed_out && exit.code == 4, "{exit:?}");
    let mut typed = Joined::start(&mut client, terminal("stty -echo; cat >/dev/null; exit 6")).await.unwrap();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        typed.send(In::Stdin("x\n".into())).await;
    }
    typed.send(In::StdinEof(StdinEof {})).await;
    let exit = typed.finish().await.2;
    assert!(!exit.idle_timed_out && exit.code == 6, "{exit:?}");
}

#[tokio::test]
async fn fifty_idle_sessions_stay_small() {
    let agent = Agent::start();
    let mut client = agent.v1().await;
    for number in 0..50 {
        let start = session(&format!("s{number}"), "echo ready; sleep 1000");
        Joined::start(&mut client, start).await.unwrap().until("ready\n").await;
    }
    let listed = sessions(&mut client).await;
    assert!(listed.iter().enumerate().all(|(place, info)| info.session_id == format!("s{place}")));
    eventually("memory is given back", || agent.rss() < 16 << 10);
    let open = agent.open_files();
    for info in &listed {
        signal(&mut client, &info.session_id, 9).await.unwrap();
        assert_eq!(wait(&mut client, &info.session_id, 0).await.unwrap().unwrap().signal, 9);
    }
    eventually("pipes are closed", || agent.open_files() + 3 * 50 <= open);
}

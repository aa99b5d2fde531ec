//! Commands through the old protocol: every fault it used to have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Agent, Exec, Options, command, eventually, processes, resize, run, soon, stdin, unique_sleep};
use dunnage_bridge::bridgepb::{ExecInput, ReadRawRequest, StatRequest};
use tonic::Code;

fn terminal(command: &str) -> ExecInput {
    ExecInput { command: command.to_owned(), pty: true, ..Default::default() }
}

#[tokio::test]
async fn input_in_the_first_message_and_its_end_reach_the_command() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let first = ExecInput { stdin_data: "first ".into(), ..command("cat; echo end") };
    let exec = Exec::start(&mut client, first).await.unwrap();
    exec.send(stdin("second\n")).await;
    let done = exec.finish().await;
    assert_eq!((done.out().as_str(), done.code), ("first second\nend\n", Some(0)));
}

#[tokio::test]
async fn output_goes_to_its_own_stream_and_exit_codes_are_the_shells() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let done = run(&mut client, command("echo out; echo err >&2; exit 7")).await;
    assert_eq!((done.stdout, done.stderr, done.code), (b"out\n".to_vec(), b"err\n".to_vec(), Some(7)));
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        assert_eq!(run(&mut client, command(&format!("kill -{signal} $$"))).await.code, Some(code));
    }
}

#[tokio::test]
async fn environment_work_dir_and_path() {
    let prepare = |dir: &std::path::Path| std::fs::create_dir_all(dir.join("runtime/toolkit/bin")).unwrap();
    let agent = Agent::with(Options { prepare: Some(prepare), ..Options::default() });
    let mut client = agent.client().await;
    let done = run(&mut client, command("pwd; echo $PATH")).await;
    let out = done.out();
    let mut lines = out.lines();
    assert_eq!(lines.next(), agent.data("").to_str().unwrap().strip_suffix('/'));
    assert!(lines.next().unwrap().ends_with("/runtime/toolkit/bin"), "{out}");

    let first = ExecInput { work_dir: "/usr".into(), env: vec!["X=a=b".into()], ..command("pwd; echo $X") };
    assert_eq!(run(&mut client, first).await.out(), "/usr\na=b\n");
}

#[tokio::test]
async fn bad_requests_are_refused_before_anything_runs() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let cases = [
        (command(""), Code::InvalidArgument),
        (ExecInput { work_dir: "/no/such/place".into(), ..command("true") }, Code::NotFound),
        (ExecInput { work_dir: "/etc/passwd".into(), ..command("true") }, Code::FailedPrecondition),
        (ExecInput { env: vec!["novalue".into()], ..command("true") }, Code::InvalidArgument),
        (command("echo \0"), Code::InvalidArgument),
    ];
    for (first, code) in cases {
        let error = Exec::start(&mut client, first.clone()).await.err().unwrap();
        assert_eq!(error.code(), code, "{first:?}: {error}");
    }
}

#[tokio::test]
async fn the_time_limit_ends_everything_the_command_started() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let sleep = unique_sleep();
    // One in the group, one in a pipe, one that ignores the polite signal and holds the output.
    let text = format!("sleep {sleep} & (trap '' TERM; sleep {sleep}) & echo started; sleep {sleep} | cat");
    let done = soon(run(&mut client, ExecInput { timeout_seconds: 1, ..command(&text) })).await;
    assert_eq!(done.code, Some(124));
    assert_eq!(done.out(), "started\n");
    assert!(String::from_utf8_lossy(&done.stderr).contains("time limit of 1 s"));
    assert_eq!(processes(&sleep), 0);
}

#[tokio::test]
async fn a_negative_time_limit_is_none() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let first = ExecInput { timeout_seconds: -1, ..command("sleep 1.2; echo done") };
    assert_eq!(run(&mut client, first).await.out(), "done\n");
}

#[tokio::test]
async fn a_background_process_that_holds_the_output_does_not_hang_the_command() {
    let agent = Agent::first();
    let mut client = agent.client().await;
    let marker = agent.data("survived");
    let background = "(until [ -e go ]; do sleep 0.02; done; echo late; echo late >&2; sleep 0.2; echo later; touch survived)";
    let done = soon(run(&mut client, command(&format!("{background} & echo done")))).await;
    assert_eq!((done.out().as_str(), done.code), ("done\n", Some(0)));
    // Its later output must not end it either.
    std::fs::write(agent.data("go"), "").unwrap();
    eventually("the background process finishes", || marker.exists());
}

#[tokio::test]
async fn a_background_process_that_never_stops_writing_does_not_hang_the_command() {
    let agent = Agent::first();
    let mut client = agent.client().await;
    let done = soon(run(&mut client, command("yes & echo $! >pid; exit 5"))).await;
    assert_eq!(done.code, Some(5));
    run(&mut client, command("kill $(cat pid)")).await;
}

#[tokio::test]
async fn no_output_is_lost_at_the_exit() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut runs = tokio::task::JoinSet::new();
    for size in (0..40).map(|n| n * 7919) {
        let mut client = client.clone();
        runs.spawn(async move {
            let text = format!("head -c {size} /dev/zero; head -c {size} /dev/zero >&2; exit 3");
            let done = run(&mut client, command(&text)).await;
            assert_eq!((done.stdout.len(), done.stderr.len(), done.code), (size, size, Some(3)));
        });
    }
    while let Some(result) = runs.join_next().await {
        result.unwrap();
    }
}

#[tokio::test]
async fn every_status_reaches_its_own_command_and_orphans_are_reaped() {
    let agent = Agent::first();
    let client = agent.client().await;
    let mut runs = tokio::task::JoinSet::new();
    for n in 0..150 {
        let mut client = client.clone();
        runs.spawn(async move {
            // Each leaves an orphan that exits a little later.
            let done =
                run(&mut client, command(&format!("(sleep 0.0{} &) >/dev/null 2>&1; exit {n}", n % 10)))
                    .await;
            assert_eq!(done.code, Some(n));
        });
    }
    while let Some(result) = runs.join_next().await {
        result.unwrap();
    }
    let mut client = client;
    let zombies = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
    for _ in 0..200 {
        if run(&mut client, command(zombies)).await.out().trim() == "0" {
            return;
        }
    }
    panic!("zombies are left");
}

#[tokio::test]
async fn a_dropped_stream_ends_its_command() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let sleep = unique_sleep();
    let text = format!("sleep {sleep} & (trap '' TERM; sleep {sleep}) & echo up; wait");
    let mut exec =
        Exec::start(&mut client, ExecInput { timeout_seconds: -1, ..command(&text) }).await.unwrap();
    exec.until("up").await;
    eventually("they run", || processes(&sleep) > 1);
    drop(exec);
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    for _ in 0..400 {
        if processes(&sleep) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the command goes on");
}

#[tokio::test]
async fn a_dropped_terminal_ends_its_session_with_all_jobs() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let sleep = unique_sleep();
    let mut exec = Exec::start(&mut client, terminal("/bin/bash")).await.unwrap();
    // Job control puts it in a group of its own; it also ignores the hangup.
    exec.send(stdin(format!("set -m; (trap '' HUP TERM; sleep {sleep}) & sleep {sleep} & echo u''p\n")))
        .await;
    exec.until("up").await;
    eventually("they run", || processes(&sleep) > 1);
    drop(exec);
    for _ in 0..400 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if processes(&sleep) == 0 {
            return;
        }
    }
    panic!("the session goes on");
}

#[tokio::test]
async fn terminals_have_a_size_a_type_and_an_exit_code() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let done = run(&mut client, terminal("stty size; echo $TERM; tty; exit 4")).await;
    let out = done.out();
    assert!(out.starts_with("24 80\r\nxterm-256color\r\n/dev/pts/"), "{out:?}");
    assert_eq!(done.code, Some(4));

    let sized = ExecInput {
        resize: resize(132, 50).resize,
        ..terminal(
            "stty size; trap 'stty size; exit' WINCH; \
         echo ready; while :; do sleep 0.05; done",
        )
    };
    let mut exec = Exec::start(&mut client, sized).await.unwrap();
    assert!(exec.until("ready").await.starts_with("50 132"));
    exec.send(resize(0, 10)).await;
    exec.send(resize(100, 30)).await;
    exec.until("30 100").await;
    assert_eq!(exec.finish().await.code, Some(0));
}

#[tokio::test]
async fn closing_the_input_of_a_terminal_ends_what_reads_it() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let exec = Exec::start(&mut client, terminal("cat; echo over")).await.unwrap();
    exec.send(stdin("half a line")).await;
    let done = soon(exec.finish()).await;
    assert!(done.out().ends_with("over\r\n"), "{:?}", done.out());
    let exec = Exec::start(&mut client, terminal("/bin/sh")).await.unwrap();
    let done = soon(exec.finish()).await;
    assert_eq!(done.code, Some(0));
}

#[tokio::test]
async fn input_that_nobody_reads_is_no_error() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let exec = Exec::start(&mut client, command("exec <&-; sleep 0.3; echo fine")).await.unwrap();
    for _ in 0..40 {
        // The command may be over before all is sent.
        let _ = exec.input.as_ref().unwrap().send(stdin(vec![b'x'; 64 << 10])).await;
    }
    assert_eq!(exec.finish().await.out(), "fine\n");
}

#[tokio::test]
async fn much_input_arrives_whole() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let mut exec = Exec::start(&mut client, command("wc -c")).await.unwrap();
    exec.send(stdin(vec![1; 12 << 20])).await;
    let input = exec.input.take().unwrap();
    let feeding = tokio::spawn(async move {
        for _ in 0..64 {
            input.send(stdin(vec![2; 256 << 10])).await.unwrap();
        }
    });
    let done = exec.finish().await;
    feeding.await.unwrap();
    assert_eq!(done.out().trim(), ((12 << 20) + 64 * (256 << 10)).to_string());
}

#[tokio::test]
async fn a_slow_reader_stalls_only_its_own_stream() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let before = agent.rss();
    let mut slow = Vec::new();
    for _ in 0..8 {
        let first = ExecInput { timeout_seconds: -1, ..command("yes") };
        slow.push(Exec::start(&mut client, first).await.unwrap());
    }
    // On the same connection, while eight others are stuck.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for _ in 0..20 {
        assert_eq!(soon(run(&mut client, command("echo quick"))).await.out(), "quick\n");
    }
    // It stops growing before long.
    let mut last = 0;
    loop {
        let now = agent.rss();
        assert!(now < before + 24 * 1024, "eight stuck streams took {} KiB", now - before);
        if now <= last + 1024 {
            break;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    drop(slow);
}

#[tokio::test]
async fn nothing_is_left_open_after_many_commands() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    run(&mut client, command("true")).await;
    let before = agent.open_files();
    for n in 0..60 {
        let first = if n % 3 == 0 { terminal("echo x") } else { command("echo x; (sleep 0.2 &)") };
        run(&mut client, first).await;
    }
    eventually("all descriptors are closed", || agent.open_files() <= before);
}

#[tokio::test]
async fn it_stops_however_many_streams_are_open() {
    let mut agent = Agent::first();
    let mut client = agent.client().await;
    std::fs::write(agent.data("big"), vec![7; 32 << 20]).unwrap();
    let mut open = Vec::new();
    for n in 0..30 {
        let first = match n % 3 {
            0 => ExecInput { timeout_seconds: -1, ..command("yes") },
            1 => ExecInput { timeout_seconds: -1, ..command("trap '' TERM; sleep 1000; sleep 1000") },
            _ => terminal("/bin/sh"),
        };
        open.push(Exec::start(&mut client, first).await.unwrap());
    }
    let unread = client.read_raw(ReadRawRequest { path: "big".into() }).await.unwrap();
    agent.signal("TERM");
    assert_eq!(agent.wait(), Some(0));
    assert!(!agent.socket().exists());
    drop((open, unread));
}

#[tokio::test]
async fn stopping_reports_how_commands_ended_and_refuses_new_calls() {
    let mut agent = Agent::start();
    let mut client = agent.client().await;
    let mut exec = Exec::start(&mut client, command("echo up; sleep 1000")).await.unwrap();
    exec.until("up").await;
    agent.signal("TERM");
    assert_eq!(exec.finish().await.code, Some(143));
    assert_eq!(agent.wait(), Some(0));
    assert!(client.stat(StatRequest { path: "/".into() }).await.is_err());
}

use super::*;
use crate::ErrorKind;
use crate::bridge::StreamKind;
use bytes::Bytes;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_with_its_streams_kept_apart() {
    let fixture = Fixture::start().await;
    let output = fixture
        .client()
        .run(
            &sh("cat; echo err >&2; echo $NAME; pwd; exit 7").env([("NAME".into(), "v w".into())]),
            Bytes::from("in"),
        )
        .await
        .unwrap();
    assert_eq!(output.result.exit_code, 7);
    assert_eq!(output.result.signal, None);
    assert_eq!(output.stdout, format!("inv w\n{}\n", fixture.data().display()));
    assert_eq!(output.stderr, "err\n");
    let agent = fixture.client().agent().await.unwrap();
    assert!(agent.exec && agent.file_info && agent.descriptors, "{agent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_dirs_are_under_the_data_directory() {
    let fixture = Fixture::start().await;
    std::fs::create_dir(fixture.data().join("sub")).unwrap();
    let client = fixture.client();
    let output = client.run(&sh("pwd").work_dir("sub/../sub"), Bytes::new()).await.unwrap();
    assert_eq!(output.stdout, format!("{}/sub\n", fixture.data().display()));
    let error = client.run(&sh("pwd").work_dir("none"), Bytes::new()).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::NotFound, "exec.run"));
    assert!(error.to_string().contains("workspace: w"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_and_time_limits_are_told_from_exits() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let killed = client.run(&sh("kill -TERM $$"), Bytes::new()).await.unwrap().result;
    assert_eq!((killed.exit_code, killed.signal, killed.timed_out), (143, Some(15), false));
    let late = sh("sleep 1000 & sleep 1000").timeout_ms(200_u64);
    let late = soon(client.run(&late, Bytes::new())).await.unwrap().result;
    assert!(late.timed_out, "{late:?}");
    assert!(late.duration_ms >= 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_beyond_the_limit_is_counted_not_kept() {
    let fixture = Fixture::start().await;
    let options = sh("head -c 300000 /dev/zero; head -c 5 /dev/zero >&2").max_output_bytes(1000_u64);
    let output = fixture.client().run(&options, Bytes::new()).await.unwrap();
    assert_eq!((output.stdout.len(), output.result.stdout_dropped), (1000, 299_000));
    assert_eq!((output.stderr.len(), output.result.stderr_dropped), (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_and_the_tail_of_long_output_are_kept() {
    let fixture = Fixture::start().await;
    let command = "echo head; head -c 300000 /dev/zero; echo tail; echo short >&2";
    let options = sh(command).max_output_bytes(5_u64).tail_bytes(5_u64);
    let output = fixture.client().run(&options, Bytes::new()).await.unwrap();
    assert_eq!((output.stdout, output.stderr), ("head\ntail\n".into(), "short\n".into()));
    let result = output.result;
    assert_eq!(
        (result.stdout_bytes, result.stdout_dropped, result.stdout_cut_at),
        (300_010, 300_000, Some(5))
    );
    assert_eq!((result.stderr_bytes, result.stderr_dropped, result.stderr_cut_at), (6, 0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_users_and_environments_are_as_asked() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let args =
        |args: &[&str]| RunOptions::default().args(args.iter().map(|&a| a.to_owned()).collect::<Vec<_>>());
    let output = client.run(&args(&["printf", "%s|", "a b", "$HOME"]), Bytes::new()).await.unwrap();
    assert_eq!(output.stdout, "a b|$HOME|");
    let error = client.run(&args(&["no-such-program"]), Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let output = client.run(&sh("id -u; id -g").user("4242:77").work_dir("/"), Bytes::new()).await.unwrap();
    assert_eq!(output.stdout, "4242\n77\n");
    let error = client.run(&sh("id").user("nobody-here"), Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let unset = sh("echo ${BRIDGE_DATA_DIR-none} ${BRIDGE_SOCKET_PATH:+kept}")
        .env_unset(vec!["BRIDGE_DATA_DIR".to_owned()]);
    assert_eq!(client.run(&unset, Bytes::new()).await.unwrap().stdout, "none kept\n");
    let clear = sh("env | cut -d= -f1 | sort | tr '\\n' ' '").env_clear(true);
    let names = client.run(&clear, Bytes::new()).await.unwrap().stdout;
    assert!(!String::from_utf8_lossy(&names).contains("BRIDGE"), "{names:?}");
    let both = args(&["true"]).command("true");
    assert_eq!(client.run(&both, Bytes::new()).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_have_names() {
    let fixture = Fixture::start().await;
    let process = fixture.client().spawn(&spawn("exec sleep 60")).await.unwrap();
    for name in ["", "NOTHING", "0", "65"] {
        assert_eq!(process.signal(name).await.unwrap_err().kind(), ErrorKind::InvalidArgument, "{name}");
    }
    process.signal("SIGTERM").await.unwrap();
    assert_eq!(process.wait().await.unwrap().signal, Some(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_input_and_output_go_both_ways_at_once() {
    let fixture = Fixture::start().await;
    let input = Bytes::from(vec![b'x'; 8 << 20]);
    let output = fixture.client().run(&sh("cat"), input.clone()).await.unwrap();
    assert_eq!(output.stdout.len(), input.len());
    // A command that does not read its input ends all the same.
    let output = fixture.client().run(&sh("exit 3"), input).await.unwrap();
    assert_eq!(output.result.exit_code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_commands_are_refused_before_anything_is_sent() {
    // No agent: a call that was sent would be UNAVAILABLE.
    let fixture = Fixture::idle();
    let client = fixture.client();
    let env = |name: &str, value: &str| sh("x").env([(name.to_owned(), value.to_owned())]);
    let long = "x".repeat(200_000);
    for options in
        [sh(""), sh("a\0b"), sh(&long), env("", "x"), env("A=B", "x"), env("A", "\0"), sh("x").work_dir("")]
    {
        let error = client.run(&options, Bytes::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    for options in
        [spawn("x").cols(3_u32), spawn("x").pty(true).cols(0_u32), spawn("x").pty(true).rows(70_000_u32)]
    {
        assert_eq!(client.spawn(&options).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_read_written_and_waited_for() {
    let fixture = Fixture::start().await;
    let process = fixture.client().spawn(&spawn("cat; echo done >&2; exit 4")).await.unwrap();
    assert!(process.pid().unwrap() > 0);
    process.write_stdin("hello ").await.unwrap();
    assert_eq!(process.next_output().await.unwrap().unwrap(), (StreamKind::Stdout, Bytes::from("hello ")));
    process.write_stdin("there").await.unwrap();
    process.close_stdin().await;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some((kind, bytes)) = process.next_output().await.unwrap() {
        match kind {
            StreamKind::Stdout => out.extend_from_slice(&bytes),
            StreamKind::Stderr => err.extend_from_slice(&bytes),
        }
    }
    assert_eq!((out.as_slice(), err.as_slice()), (&b"there"[..], &b"done\n"[..]));
    assert_eq!(process.wait().await.unwrap().exit_code, 4);
    assert_eq!(process.wait().await.unwrap().exit_code, 4);
    assert_eq!(process.next_output().await.unwrap(), None);
    let error = process.write_stdin("late").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    process.signal(15).await.unwrap();
    assert_eq!(process.kill().await.unwrap().exit_code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_task_reads_while_another_writes() {
    let fixture = Fixture::start().await;
    let process = Arc::new(fixture.client().spawn(&spawn("cat")).await.unwrap());
    let writer = Arc::clone(&process);
    let writing = tokio::spawn(async move {
        for _ in 0..64 {
            writer.write_stdin(vec![b'y'; 100_000]).await.unwrap();
        }
        writer.close_stdin().await;
    });
    let mut total = 0;
    while let Some((_, bytes)) = process.next_output().await.unwrap() {
        total += bytes.len();
    }
    writing.await.unwrap();
    assert_eq!(total, 6_400_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_group_even_behind_input_nobody_reads() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let process =
        Arc::new(client.spawn(&spawn("trap 'exit 5' USR1; while :; do sleep 0.05; done")).await.unwrap());
    tokio::time::sleep(Duration::from_millis(100)).await;
    process.signal(10).await.unwrap();
    assert_eq!(process.wait().await.unwrap().exit_code, 5);

    let process = Arc::new(client.spawn(&spawn("sleep 60")).await.unwrap());
    let writer = Arc::clone(&process);
    let stuck = tokio::spawn(async move { writer.write_stdin(vec![0; 32 << 20]).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!stuck.is_finished());
    let error = process.signal(0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    process.signal(15).await.unwrap();
    let exit = soon(process.wait()).await.unwrap();
    assert_eq!((exit.exit_code, exit.signal), (143, Some(15)));
    assert_eq!(stuck.await.unwrap().unwrap_err().kind(), ErrorKind::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_process_is_ended_even_behind_input_nobody_reads() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let process = client.spawn(&spawn("sleep 60 & echo $!; wait")).await.unwrap();
    let (_, line) = process.next_output().await.unwrap().unwrap();
    let child: i32 = std::str::from_utf8(&line).unwrap().trim().parse().unwrap();
    let pid = process.pid().unwrap();
    assert!(alive(pid) && alive(child));
    drop(process);
    eventually("the dropped process ends with its child", || !alive(pid) && !alive(child)).await;

    let process = client.spawn(&spawn("exec sleep 60")).await.unwrap();
    let pid = process.pid().unwrap();
    let stuck =
        tokio::time::timeout(Duration::from_millis(300), process.write_stdin(vec![0; 32 << 20])).await;
    assert!(stuck.is_err());
    drop(process);
    eventually("the stuck process ends", || !alive(pid)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_run_is_ended() {
    let fixture = Fixture::start().await;
    let mark = fixture.data().join("pid");
    let client = fixture.client();
    let run =
        tokio::spawn(async move { client.run(&sh("echo $$ > pid; exec sleep 60"), Bytes::new()).await });
    eventually("the command starts", || std::fs::read_to_string(&mark).is_ok_and(|s| s.ends_with('\n')))
        .await;
    let pid = std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
    assert!(alive(pid));
    run.abort();
    eventually("the dropped command ends", || !alive(pid)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_ends_a_process_whose_output_nobody_reads() {
    let fixture = Fixture::start().await;
    let process = fixture.client().spawn(&spawn("trap '' TERM; yes")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let exit = soon(process.kill()).await.unwrap();
    assert_eq!((exit.exit_code, exit.signal), (137, Some(9)));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_nobody_wants_holds_nothing_up() {
    let fixture = Fixture::start().await;
    let process = fixture.client().spawn(&spawn("head -c 50000000 /dev/zero; exit 6")).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(500), process.wait()).await.is_err());
    process.discard_output();
    let exit = tokio::time::timeout(Duration::from_secs(20), process.wait()).await.unwrap().unwrap();
    assert_eq!(exit.exit_code, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_that_changes() {
    let fixture = Fixture::start().await;
    let client = fixture.client();
    let options = spawn("stty size; read x; stty size; echo $TERM").pty(true).cols(100_u32).rows(30_u32);
    let process = client.spawn(&options).await.unwrap();
    let (kind, first) = process.next_output().await.unwrap().unwrap();
    assert_eq!((kind, first), (StreamKind::Stdout, Bytes::from("30 100\r\n")));
    process.resize(132, 43).unwrap();
    process.write_stdin("\n").await.unwrap();
    let mut rest = String::new();
    while let Some((_, bytes)) = process.next_output().await.unwrap() {
        rest.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    assert!(rest.contains("43 132") && rest.contains("xterm-256color"), "{rest:?}");
    assert_eq!(process.resize(0, 1).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let plain = client.spawn(&spawn("true")).await.unwrap();
    assert_eq!(plain.resize(80, 24).unwrap_err().kind(), ErrorKind::FailedPrecondition);
}

//! Commands: how soon one that does nothing ends, alone and with others, how fast output comes, what sessions cost, how soon
//! a terminal answers.

use super::memory::{IDLE, Peak, resident_mb};
use crate::Failure;
use crate::bed::Bed;
use crate::report::{Bar, Row};
use crate::sample::Series;
use dunnage::types::{ExecOptions, RunOptions};
use std::time::{Duration, Instant};

/// Runs of ours for each of the peer's, which takes ten times as long.
const OURS_PER_TURN: usize = 5;

pub(super) async fn command(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let workspace = bed.workspace("exec").await?;
    let container = workspace.info().await?.container_id;
    let mut row = Row {
        name: "exec_true".into(),
        about: "`true` by a shell through the agent; peer: ctr task exec of `true` without a shell".into(),
        unit: "ms",
        bars: vec![Bar::AtMost(2.0), Bar::TimesPeer(0.15)],
        ..Row::default()
    };
    let mut peer = Series::default();
    for turn in 0..=bed.rounds {
        for _ in 0..OURS_PER_TURN {
            let began = Instant::now();
            let output = workspace.exec().run(RunOptions::default().command("true"), "").await?;
            let took = began.elapsed();
            if output.result.exit_code != 0 {
                return Err(format!("true ended with {}", output.result.exit_code).into());
            }
            if turn > 0 {
                row.ours.push_time(took);
            }
        }
        let theirs = bed.peer(&["task", "exec", "--exec-id", &bed.name("e"), &container, "true"])?;
        if turn > 0 {
            peer.push_time(theirs);
        }
    }
    row.peer = Some(peer);
    bed.delete(&workspace).await?;
    Ok(vec![row])
}

/// How many run at once, and how many each runs in a turn.
const TOGETHER: usize = 8;
const EACH: usize = 25;
/// Bytes of long output.
const OUTPUT: u64 = 1_000_000_000;
/// Bytes that the command writes at a time.
const BLOCK: u64 = 100_000;
/// Sessions that have nothing to do.
const SESSIONS: usize = 50;
/// Keys typed in a turn.
const KEYS: usize = 300;

pub(super) async fn together(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let workspace = bed.workspace("together").await?;
    let row = |share: &str, most: f64| Row {
        name: format!("exec_true_8_{share}"),
        about: format!(
            "{share} of `true` through the agent, {TOGETHER} at a time; peer: this program starts it on the host by itself, as many at a time"
        ),
        unit: "ms",
        bars: vec![Bar::AtMost(most)],
        ..Row::default()
    };
    let mut rows = [row("p50", 2.0), row("p99", 10.0)];
    let mut peers = [Series::default(), Series::default()];
    for turn in 0..=bed.rounds {
        let exec = workspace.exec();
        let ours = at_once(move || {
            let exec = exec.clone();
            async move {
                exec.run(RunOptions::default().args(["true".to_owned()].to_vec()), "").await?;
                Ok(())
            }
        });
        let ours = ours.await?;
        // The image's `true` is the host's busybox.
        let alone = at_once(|| async {
            let ended = tokio::process::Command::new("busybox").arg("true").status().await?;
            if ended.success() { Ok(()) } else { Err(format!("true ended with {ended}").into()) }
        });
        let alone = alone.await?;
        if turn > 0 {
            for ((row, peer), share) in rows.iter_mut().zip(&mut peers).zip([0.5, 0.99]) {
                row.ours.push(ours.quantile(share));
                peer.push(alone.quantile(share));
            }
        }
    }
    for (row, peer) in rows.iter_mut().zip(peers) {
        row.peer = Some(peer);
    }
    bed.delete(&workspace).await?;
    Ok(rows.into())
}

/// Does the same many times, so many at once. Returns how long each took.
async fn at_once<F>(work: impl Fn() -> F + Clone + Send + 'static) -> Result<Series, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send,
{
    let workers = (0..TOGETHER).map(|_| {
        let work = work.clone();
        tokio::spawn(async move {
            let mut times = Vec::with_capacity(EACH);
            for _ in 0..EACH {
                let began = Instant::now();
                work().await?;
                times.push(began.elapsed());
            }
            Ok::<_, Failure>(times)
        })
    });
    let mut series = Series::default();
    for worker in workers.collect::<Vec<_>>() {
        worker.await??.into_iter().for_each(|time| series.push_time(time));
    }
    Ok(series)
}

pub(super) async fn output(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let workspace = bed.workspace("output").await?;
    let container = workspace.info().await?.container_id;
    // busybox's head writes so little at a time that it would be what is measured.
    let command = format!("dd if=/dev/zero bs={BLOCK} count={} 2>/dev/null", OUTPUT / BLOCK);
    let mut row = Row {
        name: "exec_output".into(),
        about: "1 GB of a command's output to the host; peer: ctr task exec of the same, to /dev/null".into(),
        unit: "MB/s",
        bars: vec![Bar::AtLeast(500.0), Bar::AtLeastTimesPeer(1.0)],
        ..Row::default()
    };
    let growth = |whose: &str, about: &str| Row {
        name: format!("exec_output_{whose}_growth"),
        about: format!("most memory that {about} takes while they pass, beyond what it had before"),
        unit: "MB",
        bars: vec![Bar::AtMost(5.0)],
        ..Row::default()
    };
    let mut grown = [growth("agent", "the agent"), growth("host", "this program")];
    let pids = [workspace.info().await?.pid, std::process::id()];
    let mut peer = Series::default();
    let rate = |took: Duration| OUTPUT as f64 / 1e6 / took.as_secs_f64();
    for turn in 0..=bed.rounds {
        let before = [Peak::begin(pids[0])?, Peak::begin(pids[1])?];
        let began = Instant::now();
        let process = workspace.exec().spawn(ExecOptions::default().command(&command)).await?;
        let mut bytes = 0;
        while let Some((_, piece)) = process.next_output().await? {
            bytes += piece.len() as u64;
        }
        let took = began.elapsed();
        if bytes != OUTPUT {
            return Err(format!("{bytes} bytes came of {OUTPUT}").into());
        }
        let growths = [before[0].growth_mb()?, before[1].growth_mb()?];
        let words = ["task", "exec", "--exec-id", &bed.name("e"), &container, "sh", "-c", &command];
        let theirs = bed.peer(&words)?;
        if turn > 0 {
            row.ours.push(rate(took));
            peer.push(rate(theirs));
            for (row, growth) in grown.iter_mut().zip(growths) {
                row.ours.push(growth);
            }
        }
    }
    row.peer = Some(peer);
    bed.delete(&workspace).await?;
    let [agent, host] = grown;
    Ok(vec![row, agent, host])
}

pub(super) async fn sessions(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let mut row = Row {
        name: "agent_rss_50_sessions".into(),
        about: format!("resident memory of an agent with {SESSIONS} detached commands that do nothing"),
        unit: "MB",
        bars: vec![Bar::AtMost(8.0)],
        ..Row::default()
    };
    for _ in 0..bed.rounds {
        let workspace = bed.workspace("sessions").await?;
        for _ in 0..SESSIONS {
            let options = ExecOptions::default().command("echo ready; exec sleep 1000").detach(true);
            let process = workspace.exec().spawn(options).await?;
            process.next_output().await?;
        }
        tokio::time::sleep(IDLE).await;
        row.ours.push(resident_mb(workspace.info().await?.pid)?);
        bed.delete(&workspace).await?;
    }
    Ok(vec![row])
}

pub(super) async fn echo(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let workspace = bed.workspace("echo").await?;
    let mut row = Row {
        name: "terminal_echo_p99".into(),
        about: "p99 from a key typed to the same key shown, by `cat` on a raw terminal".into(),
        unit: "ms",
        bars: vec![Bar::AtMost(2.0)],
        ..Row::default()
    };
    let options = ExecOptions::default().command("stty raw -echo; echo ready; exec cat").pty(true);
    let terminal = workspace.exec().spawn(options).await?;
    let mut shown = Vec::new();
    while !shown.ends_with(b"ready\n") {
        let (_, piece) = terminal.next_output().await?.ok_or("the terminal ended")?;
        shown.extend_from_slice(&piece);
    }
    for turn in 0..=bed.rounds {
        let mut series = Series::default();
        for _ in 0..KEYS {
            let began = Instant::now();
            terminal.write_stdin("x").await?;
            terminal.next_output().await?.ok_or("the terminal ended")?;
            series.push_time(began.elapsed());
        }
        if turn > 0 {
            row.ours.push(series.quantile(0.99));
        }
    }
    terminal.kill().await?;
    bed.delete(&workspace).await?;
    Ok(vec![row])
}

//! A tour through a workspace's life: create with a progress bar, files, a command, stop, start, delete.
//!
//! Reads one JSON object from `$DUNNAGE_TOUR`: `{"config": {…}, "image": "…", "workspace": "…"}`, where `config` is what
//! `dunnage::Config` reads. Its last line is a JSON object with the milliseconds of each step.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program that talks to a person")]

use dunnage::types::{
    CreateOptions, Event, EventType, ReadTextOptions, RunOptions, StopOptions, WriteOptions,
};
use dunnage::{Config, Engine};
use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    match tour().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tour: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn tour() -> Result<(), Failure> {
    let tour: serde_json::Value = serde_json::from_str(&std::env::var("DUNNAGE_TOUR")?)?;
    let image = tour["image"].as_str().ok_or("DUNNAGE_TOUR names no image")?;
    let id = tour["workspace"].as_str().unwrap_or("tour-rust");
    let engine = Engine::open(Config::from_json(&tour["config"].to_string())?).await?;
    let workspace = engine.workspace(id)?;
    let mut steps = Steps::default();

    let mut create = workspace.create(CreateOptions::default().image(image));
    if let Some(mut events) = create.events() {
        let mut interrupt = pin!(tokio::signal::ctrl_c());
        let mut interrupted = false;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => show(&event),
                    None => break,
                },
                // The creation undoes what it has begun, and ends with CANCELLED.
                _ = &mut interrupt, if !interrupted => {
                    interrupted = true;
                    create.cancel();
                }
            }
        }
    }
    let created = create.await?;
    steps.done("create", &format!("{} from {}", created.container_id, created.image));

    let poem = "Packed with care,\nthe cargo stays whole.\n";
    workspace.fs().write(WriteOptions::default().path("poem.txt"), poem).await?;
    steps.done("write", "/data/poem.txt");
    let read = workspace.fs().read_text(ReadTextOptions::default().path("/data/poem.txt")).await?;
    steps.done("read", &format!("{} lines", read.total_lines));

    let output =
        workspace.exec().run(RunOptions::default().command("wc -c < poem.txt; uname -m"), "").await?;
    let words: Vec<_> =
        String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect();
    steps.done("run", &format!("{} (exit code {})", words.join(" "), output.result.exit_code));

    let info = workspace.info().await?;
    let address = info.network.addresses.first().map_or("no address", String::as_str);
    steps.done("info", &format!("{:?}, pid {}, {address}", info.status, info.pid));

    let stopped = workspace.stop(StopOptions::default()).await?;
    steps.done("stop", &format!("{:?}", stopped.outcome));
    let started = workspace.start(Default::default()).await?;
    steps.done("start", &format!("{:?}", started.outcome));
    let again = workspace.fs().read_text(ReadTextOptions::default().path("poem.txt")).await?;
    if again.content != read.content {
        return Err("the file changed while the workspace was stopped".into());
    }
    workspace.delete(Default::default()).await?;
    steps.done("delete", "");
    engine.close().await;

    println!("{}", serde_json::json!({ "language": "rust", "steps": steps.done }));
    Ok(())
}

/// Shows an event: the pull as a bar that moves in place on a terminal, everything else as a line.
fn show(event: &Event) {
    match event.kind {
        EventType::PullProgress => {
            let (bytes, total) = (event.bytes.unwrap_or(0), event.total_bytes.unwrap_or(0).max(1));
            let layers = event.layers.as_deref().unwrap_or_default();
            let finished = layers.iter().filter(|layer| layer.offset == layer.total).count();
            let filled = usize::try_from(bytes * 30 / total).unwrap_or(30).min(30);
            let rate = bytes as f64 / 1e6 / (event.elapsed_ms.max(1) as f64 / 1e3);
            let line = format!(
                "  [{}{}] {finished}/{} layers  {:.1}/{:.1} MB  {rate:.0} MB/s",
                "#".repeat(filled),
                ".".repeat(30 - filled),
                layers.len(),
                bytes as f64 / 1e6,
                total as f64 / 1e6,
            );
            if std::io::stdout().is_terminal() {
                print!("\r{line}\x1b[K");
                let _ = std::io::stdout().flush();
            } else if event.unpacked_bytes == event.total_bytes {
                println!("{line}");
            }
        }
        EventType::Error => println!("\n  {}", event.message.as_deref().unwrap_or("failed")),
        EventType::Creating if std::io::stdout().is_terminal() => println!(),
        _ => {}
    }
}

/// The steps that are done, with their milliseconds.
struct Steps {
    since: Instant,
    done: Vec<serde_json::Value>,
}

impl Default for Steps {
    fn default() -> Self {
        Self { since: Instant::now(), done: Vec::new() }
    }
}

impl Steps {
    fn done(&mut self, name: &str, what: &str) {
        let ms = (self.since.elapsed().as_secs_f64() * 1e4).round() / 10.0;
        println!("  {name:<7} {ms:>8.1} ms  {what}");
        self.done.push(serde_json::json!({ "name": name, "ms": ms }));
        self.since = Instant::now();
    }
}

//! Measures dunnage beside containerd's own client, on one private containerd, turn by turn.
//!
//! `scripts/bench` builds everything and runs it. The table goes to standard output, the way there to standard error.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its result")]

mod arguments;
mod bed;
mod calls;
mod cni;
mod floor;
mod host;
mod report;
mod rows;
mod sample;

use arguments::Arguments;
use bed::Bed;
use report::Report;
use std::process::ExitCode;

/// Why something could not be measured.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let Some(arguments) = Arguments::parse(std::env::args().skip(1))? else {
        println!("{}", arguments::USAGE);
        return Ok(());
    };
    let calls = calls::install()?;
    let bed = Bed::start(&arguments, calls).await?;
    let mut report = Report::new(&bed);
    let mut faults = Vec::new();
    for bench in rows::all().iter().filter(|bench| arguments.wants(bench)) {
        eprintln!("bench: {}", bench.name);
        match rows::run(bench, &bed).await {
            Ok(rows) => report.rows.extend(rows),
            // The others are measured all the same.
            Err(why) => faults.push(format!("{}: {why}", bench.name)),
        }
    }
    bed.end().await?;
    print!("{}", if arguments.markdown { report.markdown() } else { report.table() });
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.json()?).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    if let Some(path) = &arguments.document {
        report.put_into(path)?;
    }
    if faults.is_empty() { Ok(()) } else { Err(format!("not measured: {}", faults.join("; ")).into()) }
}

//! A fault between any two steps of every multi-step write, on a real containerd: what was there before is there, or what
//! was to come, and nothing else.
//!
//! The steps are found by running each operation once; see `core/src/failpoints`. A word as argument picks the pairs of
//! fault and operation that contain it, such as `kill snapshots.create`. Ends with `<N> failpoints, <N> recovered`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "its output is its result")]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod host;
mod operations;
mod state;

use std::process::ExitCode;
use std::time::Instant;

use dunnage::types::NetworkMode;
use faults::{Bench, Fault, Tally};
use operations::operations;

fn main() -> ExitCode {
    if host::be_one().is_some() {
        return ExitCode::SUCCESS;
    }
    let only =
        std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default().to_lowercase();
    let began = Instant::now();
    // Three lanes: most of the time a process or a daemon is waited for.
    let lanes: [&[Fault]; 3] = [&[Fault::Kill], &[Fault::Database], &[Fault::Containerd, Fault::Full]];
    let lanes = lanes.map(|faults| {
        let only = only.clone();
        std::thread::spawn(move || lane(faults, &only))
    });
    let tallies = lanes.map(|lane| lane.join().unwrap());
    let met: usize = tallies.iter().map(|tally| tally.met).sum();
    let recovered: usize = tallies.iter().map(|tally| tally.recovered).sum();
    println!("{} s", began.elapsed().as_secs());
    println!("{met} failpoints, {recovered} recovered");
    if met == recovered && met > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lets all operations meet these faults, one after another.
fn lane(faults: &[Fault], only: &str) -> Tally {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut tally = Tally::default();
    for fault in faults {
        let name = |operation: &str| format!("{fault:?} {operation}").to_lowercase();
        if !operations().iter().any(|operation| name(operation.name).contains(only)) {
            continue;
        }
        runtime.block_on(async {
            let mut bench = Bench::start(*fault == Fault::Full).await;
            for (index, operation) in operations().iter().enumerate() {
                // Plugins of the network wait for one another on the whole host: where hosts wait, none must hold them up.
                let waits = matches!(fault, Fault::Containerd | Fault::Full);
                let skip = waits && operation.network == NetworkMode::Cni;
                if skip || !name(operation.name).contains(only) {
                    continue;
                }
                let began = Instant::now();
                let steps = bench.steps(index, operation).await;
                if *fault == Fault::Kill {
                    println!("{}: {} steps: {}", operation.name, steps.len(), steps.join(", "));
                }
                let met = bench.meet(index, operation, &steps, *fault).await;
                println!(
                    "{fault:?}, {}: {} of {} recovered, {} ended in an error, {} s",
                    operation.name,
                    met.recovered,
                    met.met,
                    met.refused,
                    began.elapsed().as_secs()
                );
                tally.met += met.met;
                tally.recovered += met.recovered;
            }
        });
    }
    tally
}

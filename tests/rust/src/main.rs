//! Runs the behaviour cases through the Rust face; see `tests/behavior/README.md` for the format and the variables.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its result")]

mod case;
mod events;
mod matching;
mod native;
mod steps;
mod vars;

use case::File;
use std::process::ExitCode;
use vars::Vars;

/// A reason why a case failed.
type Failure = String;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("behavior-rust: {why}");
            ExitCode::from(2)
        }
    }
}

/// Runs all cases. Returns how many failed.
async fn run() -> Result<usize, Failure> {
    let file = File::read()?;
    let only = std::env::var("DUNNAGE_TEST_ONLY").unwrap_or_default();
    let environment = vars::environment()?;
    let base = Vars::new(environment.clone());
    let config = base.fill(&file.config)?;
    let config = dunnage::Config::from_json(&config.to_string()).map_err(|e| e.to_string())?;
    let engine = dunnage::Engine::open(config).await.map_err(|e| e.to_string())?;

    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in file.cases.iter().filter(|case| case.id.contains(&only)) {
        if let Some(missing) = case.needs.iter().find(|path| !base.has(path)) {
            println!("skip {} the environment has no {missing}", case.id);
            skipped += 1;
            continue;
        }
        if let Some(why) = case.except.get("rust") {
            println!("skip {} {why}", case.id);
            skipped += 1;
            continue;
        }
        let tmp = tempfile::tempdir().map_err(|e| e.to_string())?;
        let mut vars = Vars::for_case(environment.clone(), tmp.path());
        let outcome = if case.native {
            native::run(&case.id, &engine, &vars).await
        } else {
            steps::run(case, &file.config, &engine, &mut vars).await
        };
        for id in vars.workspaces() {
            if let Ok(workspace) = engine.workspace(id) {
                let _ = workspace.delete(dunnage::types::DeleteOptions::default().grace_ms(0u64)).await;
            }
        }
        match outcome {
            Ok(()) => {
                println!("ok {}", case.id);
                passed += 1;
            }
            Err(why) => {
                println!("FAIL {} {why}", case.id);
                failed += 1;
            }
        }
    }
    engine.close().await;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed)
}

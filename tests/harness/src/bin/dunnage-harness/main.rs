//! The harness as a program, for hosts in languages other than Rust.

mod arguments;
mod control;
mod serve;

use std::process::ExitCode;

use dunnage_harness::{Result, fetch, fixtures, warden};

use arguments::{Command, USAGE};

fn main() -> ExitCode {
    match arguments::parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Help => say(USAGE),
        Command::Serve(options) => serve::serve(&options)?,
        Command::Fetch(version) => say(&fetch::containerd(version)?.display().to_string()),
        Command::Fixtures(names) => {
            for name in names {
                say(&format!("{name} {}", fixtures::image(&name)?.dir().display()));
            }
        }
        Command::Warden => warden::run()?,
    }
    Ok(())
}

/// Prints one line to standard output.
#[expect(clippy::print_stdout, reason = "this is a program")]
fn say(line: &str) {
    println!("{line}");
}

/// Prints one line to standard error.
#[expect(clippy::print_stderr, reason = "this is a program")]
fn complain(line: &str) {
    eprintln!("dunnage-harness: {line}");
}

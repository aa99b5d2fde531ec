//! The agent inside a dunnage workspace: a container's first process.

use std::process::ExitCode;

fn main() -> ExitCode {
    dunnage_bridge::agent::main()
}

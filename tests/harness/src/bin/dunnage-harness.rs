//! The harness as a program; see `dunnage-harness help`.
fn main() -> std::process::ExitCode {
    match dunnage_harness::warden::run() { Ok(()) => 0.into(), Err(e) => { eprintln!("{e}"); 1.into() } }
}

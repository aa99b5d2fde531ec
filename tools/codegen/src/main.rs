//! Writes the faces of every language from the catalogue of operations.
//!
//! `dunnage-codegen` writes all generated files; `--check` writes nothing and fails when one has drifted;
//! `--only NAME` runs one emitter; `cases-json` prints the behaviour cases as JSON; `parity` checks that every language
//! has every operation and implements every case.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod c;
mod cases;
mod errors_md;
mod go;
mod header;
mod ir;
mod output;
mod parity;
mod py;
mod read;
mod schema;
mod text;
mod ts;

use ir::Api;
use output::Output;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Makes the files of one language from the picture of the API. `root` is the repository, for what is read beside it.
type Emitter = fn(api: &Api, root: &Path) -> Result<Vec<Output>, String>;

/// Every emitter, by name. The header comes after the C functions: it is read from them.
const EMITTERS: &[(&str, Emitter)] = &[
    ("schema", |api, _| schema::emit(api)),
    ("errors", |api, _| Ok(errors_md::emit(api))),
    ("c", |api, _| Ok(c::emit(api))),
    ("header", |api, root| header::emit(api, root)),
    ("ts", |api, _| Ok(ts::emit(api))),
    ("py", |api, _| Ok(py::emit(api))),
    ("go", |api, _| Ok(go::emit(api))),
];

/// Directories in which every file is generated.
const OWNED: &[&str] = &[schema::DIR];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [] => generate(None, false),
        ["--check"] => generate(None, true),
        ["--only", name] => generate(Some(name), false),
        ["cases-json"] => cases::print(&root()),
        ["parity"] => parity::check(&root()),
        _ => Err("usage: dunnage-codegen [--check | --only EMITTER | cases-json | parity]".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("dunnage-codegen: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The repository: this crate is in `tools/codegen` of it.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

fn generate(only: Option<&str>, check: bool) -> Result<(), String> {
    let root = root();
    let api = read::api()?;
    if let Some(name) = only
        && !EMITTERS.iter().any(|(n, _)| *n == name)
    {
        let names: Vec<&str> = EMITTERS.iter().map(|(n, _)| *n).collect();
        return Err(format!("there is no emitter {name}: use one of {}", names.join(", ")));
    }
    let mut all = Vec::new();
    let mut drifted = Vec::new();
    for (name, emitter) in EMITTERS.iter().filter(|(n, _)| only.is_none_or(|o| o == *n)) {
        let outputs = emitter(&api, &root).map_err(|e| format!("{name}: {e}"))?;
        for output in &outputs {
            if check && output.differs(&root) {
                drifted.push(output.path.clone());
            } else if !check && output.write(&root)? {
                println!("wrote {}", output.path);
            }
        }
        all.extend(outputs);
    }
    if only.is_some() {
        return Ok(());
    }
    for dir in OWNED {
        for stray in output::strays(&root, dir, &all)? {
            if check {
                drifted.push(format!("{} (no longer made)", stray.display()));
            } else {
                std::fs::remove_file(root.join(&stray))
                    .map_err(|e| format!("cannot remove {}: {e}", stray.display()))?;
                println!("removed {}", stray.display());
            }
        }
    }
    if drifted.is_empty() {
        return Ok(());
    }
    Err(format!("these have drifted, run `cargo run -p dunnage-codegen`:\n  {}", drifted.join("\n  ")))
}

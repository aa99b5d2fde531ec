//! Checks that no language lags behind: every operation has its face in each, every case its driver.

use crate::cases;
use crate::go;
use crate::ir::Operation;
use crate::read;
use crate::text::lower_camel;
use dunnage::catalog::Bytes;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A language, where its face and its driver are, and how a method looks in it.
struct Language {
    name: &'static str,
    /// Files or directories of the public face.
    face: &'static [&'static str],
    /// Directories of the driver.
    driver: &'static [&'static str],
    /// Text of which one must be in the face.
    signs: fn(&Operation) -> Vec<String>,
}

const LANGUAGES: &[Language] = &[
    Language {
        name: "rust",
        face: &["core/src/engine"],
        driver: &["tests/rust", "core/tests"],
        signs: |o| {
            vec![
                format!("pub fn {}(", o.verb),
                format!("pub async fn {}(", o.verb),
                format!("{}(\"{}\"", o.verb, o.name),
            ]
        },
    },
    Language {
        name: "c",
        face: &["include/dunnage.h"],
        driver: &["tests/c"],
        signs: |o| vec![format!(" dunnage_{}_{}(", o.noun, o.verb)],
    },
    Language {
        name: "go",
        face: &["bindings-go"],
        driver: &["tests/go"],
        signs: |o| {
            vec![
                format!(" *{}) {}(", go::receiver(&o.noun), go::name(&o.verb)),
                format!("C.dunnage_{}_{}(", o.noun, o.verb),
                // Where a function of C stands in between, which passes handles as numbers.
                format!("return dunnage_{}_{}(", o.noun, o.verb),
            ]
        },
    },
    Language {
        name: "node",
        face: &["bindings-node/src"],
        driver: &["tests/node"],
        signs: |o| {
            let verb = lower_camel(&o.verb);
            vec![format!("{verb}("), format!("{verb}<"), format!("'{}'", o.name)]
        },
    },
    Language {
        name: "python",
        face: &["bindings-python/python/dunnage"],
        driver: &["tests/python"],
        signs: |o| vec![format!("def {}(", o.verb), format!("\"{}\"", o.name)],
    },
];

/// Checks all of it.
///
/// # Errors
/// When something is missing; the message lists everything.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let api = read::api()?;
    let cases = cases::read(root)?;
    let mut gaps = Vec::new();
    for language in LANGUAGES {
        let face = text_of(root, language.face)?;
        for operation in &api.operations {
            if !(language.signs)(operation).iter().any(|sign| face.contains(sign)) {
                gaps.push(format!(
                    "{}: {} is not in {}",
                    language.name,
                    operation.name,
                    language.face.join(", ")
                ));
            }
        }
        let driver = text_of(root, language.driver)?;
        if driver.is_empty() {
            gaps.push(format!("{}: there is no driver in {}", language.name, language.driver.join(", ")));
            continue;
        }
        for (id, case) in cases::ids(&cases) {
            let native = case.get("native").and_then(Value::as_bool).unwrap_or_default();
            let excepted = case.get("except").and_then(|e| e.get(language.name)).is_some();
            let quoted = ['"', '\''].iter().any(|q| driver.contains(&format!("{q}{id}{q}")));
            if native && !excepted && !quoted {
                gaps.push(format!("{}: nothing implements the case {id}", language.name));
            }
            if excepted && quoted {
                gaps.push(format!("{}: the case {id} is excepted and implemented", language.name));
            }
        }
    }
    for operation in &api.operations {
        let covered = cases::ids(&cases).iter().any(|(_, case)| {
            // Bytes may be given and taken in ways that only the language itself can tell.
            let counts = case.get("native").is_none() || operation.bytes != Bytes::None;
            counts && cases::operations(case).contains(&operation.name.as_str())
        });
        if !covered {
            gaps.push(format!("{}: no case is about {}", cases::PATH, operation.name));
        }
    }
    if gaps.is_empty() {
        println!(
            "{} operations and {} cases in {} languages",
            api.operations.len(),
            cases::ids(&cases).len(),
            LANGUAGES.len()
        );
        return Ok(());
    }
    Err(format!("{} gaps:\n  {}", gaps.len(), gaps.join("\n  ")))
}

/// All text of these files, and of those below these directories; what is not there has none.
fn text_of(root: &Path, places: &[&str]) -> Result<String, String> {
    let mut text = String::new();
    for place in places {
        gather(&root.join(place), &mut text)?;
    }
    Ok(text)
}

fn gather(path: &Path, text: &mut String) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("cannot read {}: {e}", path.display());
    if path.is_dir() {
        if path.ends_with("node_modules") || path.ends_with("target") {
            return Ok(());
        }
        for entry in fs::read_dir(path).map_err(failed)? {
            gather(&entry.map_err(failed)?.path(), text)?;
        }
    } else if let Some("rs" | "c" | "h" | "go" | "ts" | "mts" | "js" | "mjs" | "py" | "pyi") =
        path.extension().and_then(|e| e.to_str())
    {
        text.push_str(&fs::read_to_string(path).map_err(failed)?);
    }
    Ok(())
}

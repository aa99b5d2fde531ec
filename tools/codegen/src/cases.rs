//! `tests/behavior/cases.toml`: read, checked, and printed as JSON for drivers without a TOML reader.

use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;

/// Where the cases are.
pub(crate) const PATH: &str = "tests/behavior/cases.toml";

/// Keys of a case.
const CASE_KEYS: &[&str] = &["id", "operation", "about", "needs", "native", "except", "step"];
/// Keys of a step.
const STEP_KEYS: &[&str] = &[
    "op",
    "on",
    "options",
    "input",
    "repeat",
    "save",
    "expect",
    "expect_output",
    "expect_output_len",
    "expect_stderr",
    "expect_error",
    "error_contains",
    "expect_events",
    "cancel_on",
    "time_limit_ms",
];

/// Reads and checks the cases.
///
/// # Errors
/// When the file is malformed; the message names the case and the key.
pub(crate) fn read(root: &Path) -> Result<Value, String> {
    let path = root.join(PATH);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let table: toml::Table = text.parse().map_err(|e| format!("{PATH}: {e}"))?;
    let value = serde_json::to_value(table).map_err(|e| format!("{PATH}: {e}"))?;
    check(&value).map_err(|e| format!("{PATH}: {e}"))?;
    Ok(value)
}

/// Prints the cases as JSON.
///
/// # Errors
/// As [`read`].
pub(crate) fn print(root: &Path) -> Result<(), String> {
    let value = read(root)?;
    println!("{value:#}");
    Ok(())
}

/// The cases, each with its id.
pub(crate) fn ids(cases: &Value) -> Vec<(&str, &Value)> {
    let list = cases.get("case").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|case| Some((case.get("id")?.as_str()?, case))).collect()
}

/// The operations that a case's steps call, its own first.
pub(crate) fn operations(case: &Value) -> Vec<&str> {
    let own = case.get("operation").and_then(Value::as_str);
    let steps = case.get("step").and_then(Value::as_array).into_iter().flatten();
    own.into_iter().chain(steps.filter_map(|step| step.get("op")?.as_str())).collect()
}

fn check(cases: &Value) -> Result<(), String> {
    let list = cases.get("case").and_then(Value::as_array).ok_or("it has no [[case]]")?;
    let mut seen = HashSet::new();
    for case in list {
        let id = case.get("id").and_then(Value::as_str).ok_or("a case has no id")?;
        if !seen.insert(id) {
            return Err(format!("two cases are called {id}"));
        }
        let fail = |what: String| format!("{id}: {what}");
        keys(case, CASE_KEYS).map_err(fail)?;
        for name in operations(case) {
            if name != "engine.open" && name != "engine.close" && dunnage::catalog::find(name).is_none() {
                return Err(fail(format!("there is no operation {name}")));
            }
        }
        let native = case.get("native").and_then(Value::as_bool).unwrap_or_default();
        let steps = case.get("step").and_then(Value::as_array).map(Vec::len).unwrap_or_default();
        if native == (steps > 0) {
            return Err(fail("a case has steps, or else native = true".to_owned()));
        }
        for step in case.get("step").and_then(Value::as_array).into_iter().flatten() {
            keys(step, STEP_KEYS).map_err(fail)?;
            if step.get("op").is_none() {
                return Err(fail("a step has no op".to_owned()));
            }
            if let Some(code) = step.get("expect_error").and_then(Value::as_str)
                && dunnage::ErrorKind::from_name(code).is_none()
            {
                return Err(fail(format!("there is no error kind {code}")));
            }
        }
    }
    Ok(())
}

fn keys(table: &Value, known: &[&str]) -> Result<(), String> {
    let keys = table.as_object().ok_or("it is no table")?.keys();
    match keys.into_iter().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("unknown key {key}: use one of {}", known.join(", "))),
        None => Ok(()),
    }
}

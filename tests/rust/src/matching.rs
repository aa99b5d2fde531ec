//! Compares what came with what a case expects.

use crate::Failure;
use serde_json::Value;

/// Compares a result with a pattern; the failure names the place.
pub(crate) fn matches(expected: &Value, actual: &Value, place: &str) -> Result<(), Failure> {
    let differ = || Err(format!("{place}: expected {expected}, got {actual}"));
    match expected {
        Value::Object(fields) => {
            for (key, field) in fields {
                matches(field, actual.get(key).unwrap_or(&Value::Null), &format!("{place}.{key}"))?;
            }
            if actual.is_object() { Ok(()) } else { differ() }
        }
        Value::Array(items) => {
            let Some(came) = actual.as_array() else { return differ() };
            if items.first().is_some_and(|first| first == "...") {
                for item in &items[1..] {
                    if !came.iter().any(|one| matches(item, one, place).is_ok()) {
                        return Err(format!("{place}: nothing matches {item} in {actual}"));
                    }
                }
                return Ok(());
            }
            if items.len() != came.len() {
                return differ();
            }
            items
                .iter()
                .zip(came)
                .enumerate()
                .try_for_each(|(n, (item, one))| matches(item, one, &format!("{place}[{n}]")))
        }
        Value::String(pattern) => {
            if fits(pattern, actual) {
                Ok(())
            } else {
                differ()
            }
        }
        Value::Number(number) => {
            let same = number.as_f64().zip(actual.as_f64()).is_some_and(|(a, b)| a == b);
            if same { Ok(()) } else { differ() }
        }
        other => {
            if other == actual {
                Ok(())
            } else {
                differ()
            }
        }
    }
}

fn fits(pattern: &str, actual: &Value) -> bool {
    let bound = |prefix: &str| pattern.strip_prefix(prefix).and_then(|n| n.trim().parse::<f64>().ok());
    if pattern == "*" {
        return !actual.is_null();
    }
    if pattern == "!" {
        return actual.is_null();
    }
    if let Some(least) = bound(">=") {
        return actual.as_f64().is_some_and(|n| n >= least);
    }
    if let Some(most) = bound("<=") {
        return actual.as_f64().is_some_and(|n| n <= most);
    }
    actual.as_str().is_some_and(|text| text_fits(pattern, text))
}

/// Compares bytes, as text, with a pattern.
pub(crate) fn bytes_match(expected: &Value, actual: &[u8], what: &str) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(actual);
    let pattern = expected.as_str().ok_or_else(|| format!("{what}: the pattern is no text"))?;
    let good = if pattern == "*" { !text.is_empty() } else { text_fits(pattern, &text) };
    if good { Ok(()) } else { Err(format!("{what}: expected {pattern:?}, got {text:?}")) }
}

fn text_fits(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('~'), pattern.strip_prefix('=')) {
        (Some(part), _) => text.contains(part),
        (_, Some(whole)) => text == whole,
        _ => text == pattern,
    }
}

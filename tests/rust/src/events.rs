//! Checks the events of a call: what holds for every call, and what a step expects.

use crate::Failure;
use dunnage::Error;
use dunnage::types::{Event, EventType};
use std::collections::HashMap;

/// Checks what holds for the events of every call that has any.
pub(crate) fn check(events: &[Event], error: Option<&Error>) -> Result<(), Failure> {
    let Some(last) = events.last() else { return Ok(()) };
    let terminal = events.iter().filter(|event| event.kind.is_terminal()).count();
    if terminal != 1 || !last.kind.is_terminal() {
        return Err(format!("{terminal} terminal events, the last is {:?}", last.kind));
    }
    match error {
        None if last.kind != EventType::Complete => {
            return Err("it succeeded, but its last event is an error".into());
        }
        Some(error) if last.code.as_deref() != Some(error.kind().as_str()) => {
            return Err(format!(
                "it failed with {}, but its last event tells {:?}",
                error.kind().as_str(),
                last.code
            ));
        }
        _ => {}
    }
    let mut before: Option<&Event> = None;
    let mut layers: HashMap<&str, u64> = HashMap::new();
    for event in events {
        if event.operation_id != last.operation_id {
            return Err("two operation ids".into());
        }
        if let Some(before) = before
            && event.elapsed_ms < before.elapsed_ms
        {
            return Err("elapsed_ms fell".into());
        }
        if let Some(shown) = &event.layers {
            if layers.keys().any(|known| !shown.iter().any(|layer| layer.reference == *known)) {
                return Err("a layer disappeared".into());
            }
            for layer in shown {
                let known = layers.insert(&layer.reference, layer.offset).unwrap_or(0);
                if layer.offset < known || layer.offset > layer.total {
                    return Err(format!("layer at {} of {} after {known}", layer.offset, layer.total));
                }
            }
        }
        before = Some(event);
    }
    for count in [|e: &Event| e.bytes, |e: &Event| e.unpacked_bytes] {
        let counts: Vec<u64> = events.iter().filter_map(count).collect();
        if !counts.is_sorted() {
            return Err(format!("bytes fell: {counts:?}"));
        }
    }
    Ok(())
}

/// Compares the types of the events with what a step expects.
pub(crate) fn expect(expected: &[String], events: &[Event]) -> Result<(), Failure> {
    let mut came: Vec<String> = events.iter().map(|event| name(event.kind)).collect();
    came.dedup();
    let mut rest = came.as_slice();
    for pattern in expected {
        let (kind, optional) =
            pattern.strip_suffix('?').map_or((pattern.as_str(), false), |kind| (kind, true));
        match rest.split_first() {
            Some((first, after)) if first == kind => rest = after,
            _ if optional => {}
            _ => return Err(format!("events: expected {expected:?}, got {came:?}")),
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(format!("events: expected {expected:?}, got {came:?}")) }
}

/// The type as its JSON has it.
pub(crate) fn name(kind: EventType) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

//! Whose answer is whose.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// A message without its `jsonrpc`.
pub(super) type Message = Map<String, Value>;

/// The requests that a server has yet to answer, by their ids on the wire.
#[derive(Debug, Default)]
pub(super) struct Pending {
    last: u64,
    waiting: BTreeMap<u64, Request>,
}

#[derive(Debug)]
struct Request {
    caller: String,
    /// The caller's own id.
    id: Value,
    /// The caller's own progress token, where it gave one.
    progress: Option<Value>,
    answer: oneshot::Sender<Message>,
}

impl Pending {
    /// Gives a request an id that nobody else has, and its progress token with it.
    pub(super) fn add(&mut self, caller: &str, message: &mut Message) -> (u64, oneshot::Receiver<Message>) {
        self.last += 1;
        let wire = self.last;
        let id = message.insert("id".to_owned(), wire.into()).unwrap_or_default();
        let token = message
            .get_mut("params")
            .and_then(|params| params.get_mut("_meta"))
            .and_then(|meta| meta.get_mut("progressToken"));
        let progress = token.map(|token| std::mem::replace(token, wire.into()));
        let (answer, answered) = oneshot::channel();
        self.waiting.insert(wire, Request { caller: caller.to_owned(), id, progress, answer });
        (wire, answered)
    }

    /// Brings an answer to its caller, under the caller's own id. False for one that nobody waits for.
    pub(super) fn answer(&mut self, mut message: Message) -> bool {
        let Some(request) = wire_id(message.get("id")).and_then(|wire| self.waiting.remove(&wire)) else {
            return false;
        };
        message.insert("id".to_owned(), request.id);
        request.answer.send(message).is_ok()
    }

    /// Takes a request out. None when it is answered.
    pub(super) fn remove(&mut self, wire: u64) -> Option<()> {
        self.waiting.remove(&wire).map(drop)
    }

    /// What a caller's request is called on the wire: the last one, if it has used an id more than once.
    pub(super) fn wire_of(&self, caller: &str, id: &Value) -> Option<u64> {
        let mut of_caller = self.waiting.iter().filter(|(_, one)| one.caller == caller && one.id == *id);
        of_caller.next_back().map(|(wire, _)| *wire)
    }

    /// Whose progress a server tells of, and the caller's own token for it.
    pub(super) fn progress_of(&self, wire: &Value) -> Option<(&str, &Value)> {
        let request = self.waiting.get(&wire_id(Some(wire))?)?;
        Some((&request.caller, request.progress.as_ref()?))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Lets go of all: their callers are told that nothing will come.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

fn wire_id(id: Option<&Value>) -> Option<u64> {
    match id? {
        Value::Number(number) => number.as_u64(),
        // A few servers make strings of them.
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(value: Value) -> Message {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn callers_of_one_id_get_their_own_answers() {
        let mut pending = Pending::default();
        let mut wires = Vec::new();
        let mut answers = Vec::new();
        for caller in ["a", "b", "a"] {
            let mut request = message(json!({ "id": "x", "method": "m" }));
            let (wire, answer) = pending.add(caller, &mut request);
            assert_eq!(request["id"], wire);
            wires.push(wire);
            answers.push(answer);
        }
        assert_eq!(pending.wire_of("b", &json!("x")), Some(wires[1]));
        assert_eq!(pending.wire_of("a", &json!("x")), Some(wires[2]));
        assert_eq!(pending.wire_of("c", &json!("x")), None);
        for (index, wire) in wires.iter().enumerate().rev() {
            assert!(pending.answer(message(json!({ "id": wire.to_string(), "result": { "n": index } }))));
        }
        for (index, mut answer) in answers.into_iter().enumerate() {
            assert_eq!(
                Value::Object(answer.try_recv().unwrap()),
                json!({ "id": "x", "result": { "n": index } })
            );
        }
        for stray in
            [json!({ "id": 1 }), json!({ "id": 99 }), json!({ "id": null }), json!({}), json!({ "id": "x" })]
        {
            assert!(!pending.answer(message(stray)));
        }
    }

    #[test]
    fn progress_is_told_under_the_callers_token() {
        let mut pending = Pending::default();
        let mut request = message(json!({ "id": 1, "params": { "_meta": { "progressToken": "mine" } } }));
        let (wire, _answer) = pending.add("me", &mut request);
        assert_eq!(request["params"]["_meta"]["progressToken"], wire);
        assert_eq!(pending.progress_of(&json!(wire)), Some(("me", &json!("mine"))));
        assert_eq!(pending.remove(wire), Some(()));
        assert_eq!((pending.remove(wire), pending.len()), (None, 0));
        assert_eq!(pending.progress_of(&json!(wire)), None);
    }
}

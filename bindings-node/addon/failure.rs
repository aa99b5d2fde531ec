use dunnage::Error;
use std::error::Error as _;

/// The library's error as one that napi can throw: its message is JSON that the TypeScript face reads back.
pub(crate) fn to_js(error: &Error) -> napi::Error {
    napi::Error::new(napi::Status::GenericFailure, to_text(error))
}

/// The error as the JSON text that the TypeScript face reads back.
pub(crate) fn to_text(error: &Error) -> String {
    let mut json = error.to_json();
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(serde_json::Value::String(error.to_string()));
        cause = error.source();
    }
    if let Some(object) = json.as_object_mut() {
        object.insert("message".to_owned(), error.message_with_cause().into());
        object.insert("causes".to_owned(), causes.into());
    }
    json.to_string()
}

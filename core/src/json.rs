//! What callers write in JSON.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;

/// Reads an object.
///
/// # Errors
/// INVALID_ARGUMENT, saying that `what` is malformed and where, by line, column and field.
pub(crate) fn read_object<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T> {
    // serde would also read a struct from a list of its fields' values.
    if !text.trim_start().starts_with('{') {
        return Err(Error::invalid_argument(format!("malformed {what}: not a JSON object")));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.into_inner());
        // It is "." where the object itself is wrong; a field that is unknown is named by the cause.
        let field = if path == "." || error.to_string().contains(&format!("`{path}`")) {
            String::new()
        } else {
            format!(": {path}")
        };
        Error::invalid_argument(format!("malformed {what}{field}")).caused_by(error)
    })?;
    reader.end().map_err(|error| Error::invalid_argument(format!("malformed {what}")).caused_by(error))?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::CreateOptions;

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let refused = |text: &str| read_object::<CreateOptions>(text, "options").unwrap_err().to_string();
        let wrong = refused(r#"{"image": "a", "restart": {"backoff_ms": -1}}"#);
        assert!(
            wrong.contains("malformed options: restart.backoff_ms: invalid value: integer `-1`"),
            "{wrong}"
        );
        assert!(wrong.contains("line 1 column"), "{wrong}");
        let unknown = refused(r#"{"imagee": "a"}"#);
        assert!(unknown.contains("malformed options: unknown field `imagee`"), "{unknown}");
        for text in ["[]", "7", "\"\"", "null", ""] {
            assert!(refused(text).ends_with("malformed options: not a JSON object"), "{text}");
        }
        for text in ["{", "{} {}", "{\"image\""] {
            assert!(refused(text).contains("malformed options"), "{text}");
        }
        assert!(read_object::<CreateOptions>(" {}\n", "options").is_ok());
    }
}

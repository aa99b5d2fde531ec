//! The one error type of the library, and the kinds a caller can act on.
//!
//! Kinds are coarse on purpose: a kind tells what the caller does next (mend the arguments, retry later, free some
//! space), the message tells a person what happened, and the context carries ids, paths and numbers for programs.

mod archive;
mod kind;
mod transfer;

pub use kind::ErrorKind;

use std::error::Error as StdError;
use std::fmt;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in which operation, with which ids and paths.
///
/// The same error reaches every language: `kind` as a stable string and number, `operation`, `message` and `context`
/// as they are here. The source error of the library that failed is kept for logs and is no part of the contract.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with a message that says what to do: lowercase, no full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation: "",
            message: message.into(),
            context: Vec::new(),
            source: None,
        }))
    }

    /// Adds one key and value of context. A key that is already there keeps its first value: the place nearest to the
    /// fault knows best.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        if !self.0.context.iter().any(|(k, _)| *k == key) {
            self.0.context.push((key, value.to_string()));
        }
        self
    }

    /// Names the operation that failed, as `noun.verb`. The first name wins.
    #[must_use]
    pub fn in_operation(mut self, operation: &'static str) -> Self {
        if self.0.operation.is_empty() {
            self.0.operation = operation;
        }
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed, as `noun.verb`; empty when it failed outside of one.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The message alone, without operation and context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Ids, paths and numbers that belong to the fault.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(k, v)| (*k, v.as_str()))
    }

    /// The error as the JSON object that every binding carries:
    /// `{"code","number","operation","message","context":{…}}`.
    pub fn to_json(&self) -> serde_json::Value {
        let context: serde_json::Map<String, serde_json::Value> =
            self.context().map(|(k, v)| (k.to_owned(), v.into())).collect();
        serde_json::json!({
            "code": self.kind().as_str(),
            "number": self.kind().number(),
            "operation": self.operation(),
            "message": self.message_with_cause(),
            "context": context,
        })
    }

    /// The message followed by the messages of its causes.
    pub fn message_with_cause(&self) -> String {
        let mut text = self.0.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            // Kind and operation are those of the outer error.
            let own = error.downcast_ref::<Self>();
            let said = own.map_or_else(
                || error.to_string(),
                |own| own.0.message.clone() + &own.context_beside(&self.0.context),
            );
            if !said.is_empty() && !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            cause = error.source();
        }
        text
    }

    /// What of the context is not `known`, as it follows a message.
    fn context_beside(&self, known: &[(&'static str, String)]) -> String {
        let context = self.0.context.iter().filter(|pair| !known.contains(pair));
        let context: Vec<_> = context.map(|(key, value)| format!("{key}: {value}")).collect();
        if context.is_empty() { String::new() } else { format!(" ({})", context.join(", ")) }
    }
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {
        impl Error {
            $($(#[$doc])*
            pub fn $name(message: impl Into<String>) -> Self {
                Self::new(ErrorKind::$kind, message)
            })*
        }
    };
}

constructors! {
    /// An [`ErrorKind::InvalidArgument`] error.
    invalid_argument => InvalidArgument;
    /// An [`ErrorKind::NotFound`] error.
    not_found => NotFound;
    /// An [`ErrorKind::AlreadyExists`] error.
    already_exists => AlreadyExists;
    /// An [`ErrorKind::FailedPrecondition`] error.
    failed_precondition => FailedPrecondition;
    /// An [`ErrorKind::Conflict`] error.
    conflict => Conflict;
    /// An [`ErrorKind::PermissionDenied`] error.
    permission_denied => PermissionDenied;
    /// An [`ErrorKind::Unauthenticated`] error.
    unauthenticated => Unauthenticated;
    /// An [`ErrorKind::Unsupported`] error.
    unsupported => Unsupported;
    /// An [`ErrorKind::Unavailable`] error.
    unavailable => Unavailable;
    /// An [`ErrorKind::ResourceExhausted`] error.
    resource_exhausted => ResourceExhausted;
    /// An [`ErrorKind::Timeout`] error.
    timeout => Timeout;
    /// An [`ErrorKind::Cancelled`] error.
    cancelled => Cancelled;
    /// An [`ErrorKind::DataCorrupt`] error.
    data_corrupt => DataCorrupt;
    /// An [`ErrorKind::Unexpected`] error.
    unexpected => Unexpected;
}

impl Error {
    /// Classifies an I/O error by what the caller can do, and keeps it as the source.
    pub fn io(error: std::io::Error, doing: impl Into<String>) -> Self {
        Self::new(ErrorKind::of_io(&error), doing).caused_by(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind().as_str())?;
        if !self.0.operation.is_empty() {
            write!(f, " in {}", self.0.operation)?;
        }
        write!(f, ": {}{}", self.message_with_cause(), self.context_beside(&[]))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("message", &self.0.message)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_kind_operation_message_cause_and_context() {
        let error = Error::unavailable("cannot reach containerd")
            .with("address", "/run/x.sock")
            .with("address", "later")
            .in_operation("engine.open")
            .in_operation("outer")
            .caused_by(std::io::Error::other("connection refused"));
        assert_eq!(
            error.to_string(),
            "UNAVAILABLE in engine.open: cannot reach containerd: connection refused (address: /run/x.sock)"
        );
        let inner = error.with("workspace", "a");
        let outer = Error::failed_precondition("start it").caused_by(inner).with("workspace", "a");
        assert_eq!(
            outer.message_with_cause(),
            "start it: cannot reach containerd (address: /run/x.sock): connection refused",
            "a cause tells what is new"
        );
        let Some(error) = outer.source().and_then(|source| source.downcast_ref::<Error>()) else {
            panic!("the cause is kept")
        };
        assert_eq!(error.to_json()["number"], ErrorKind::Unavailable.number());
        assert_eq!(error.to_json()["context"]["address"], "/run/x.sock");
    }
}

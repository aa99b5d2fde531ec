//! The one error of this crate: what was being done, and what stopped it.

use std::fmt;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the harness was doing when something stopped it, outermost step first.
///
/// Tests print it and stop, so it carries words and no kinds.
#[derive(Debug)]
pub struct Error {
    doing: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error that has no deeper cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self { doing: message.into(), source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Says what was being done when a result turned into an error.
pub trait Context<T> {
    /// Puts `doing` before the error's own words.
    ///
    /// # Errors
    /// The error that was there, wrapped.
    fn context(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|source| Error { doing: doing.to_string(), source: Some(source.into()) })
    }
}

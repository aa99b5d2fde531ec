use std::io;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option that makes no sense.
    Invalid,
    /// The archive is damaged, cut off, or names what no honest archive names.
    Corrupt,
    /// The archive has something else where the tree has a directory that is not empty.
    Conflict,
    /// The archive asks for more than a limit allows.
    Limit,
    /// The archive holds what cannot be made here.
    Unsupported,
    /// What is read from failed: the archive's source, or the tree that is packed.
    Source,
    /// What is written to failed: the archive's destination, or the tree that is unpacked into.
    Target,
    /// [`Watch::cancel`](crate::Watch::cancel) was called.
    Cancelled,
}

/// Why an archive was not written or read.
#[derive(Debug, thiserror::Error)]
#[error("{}{message}", place(path.as_deref()))]
pub struct Error {
    kind: ErrorKind,
    message: String,
    path: Option<Vec<u8>>,
    #[source]
    cause: Option<io::Error>,
}

/// The result of what this crate does.
pub type Result<T> = std::result::Result<T, Error>;

fn place(path: Option<&[u8]>) -> String {
    path.map(|path| format!("{:?}: ", String::from_utf8_lossy(path))).unwrap_or_default()
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), path: None, cause: None }
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    pub(crate) fn source(cause: io::Error, message: impl Into<String>) -> Self {
        Self { cause: Some(cause), ..Self::new(ErrorKind::Source, message) }
    }

    pub(crate) fn target(cause: io::Error, message: impl Into<String>) -> Self {
        Self { cause: Some(cause), ..Self::new(ErrorKind::Target, message) }
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    pub(crate) fn because(mut self, cause: io::Error) -> Self {
        self.cause = Some(cause);
        self
    }

    pub(crate) fn at(mut self, path: &[u8]) -> Self {
        self.path = Some(path.to_vec());
        self
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The entry that it is about, as the archive or the tree names it.
    pub fn path(&self) -> Option<&[u8]> {
        self.path.as_deref()
    }

    /// What happened, without the entry and the error below.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error of the system below, if that is where it comes from.
    pub fn cause(&self) -> Option<&io::Error> {
        self.cause.as_ref()
    }

    /// The same, to keep.
    pub fn into_cause(self) -> Option<io::Error> {
        self.cause
    }
}

use std::io;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option, an address or a key that makes no sense: correct it.
    Invalid,
    /// There is nothing at the place.
    NotFound,
    /// Something is at the place already, and was not to be replaced.
    Exists,
    /// Credentials are missing, wrong, or do not allow it.
    Denied,
    /// The place cannot be reached, or does not answer as it should; later it may.
    Unavailable,
    /// The sealed stream is damaged or cut off.
    Corrupt,
    /// The stream is sealed, and no key was given.
    Locked,
    /// The stream is not sealed, and a key was given.
    NotSealed,
    /// None of the keys opens the stream.
    WrongKey,
    /// What is at the place was replaced or removed while it was read or written.
    Changed,
    /// What was asked for cannot be done here.
    Unsupported,
    /// The system failed: a file, a directory, a thread.
    Io,
}

impl ErrorKind {
    /// The nearest that the standard library knows.
    fn nearest(self) -> io::ErrorKind {
        match self {
            Self::Invalid | Self::NotSealed | Self::Locked | Self::WrongKey => io::ErrorKind::InvalidInput,
            Self::NotFound => io::ErrorKind::NotFound,
            Self::Exists => io::ErrorKind::AlreadyExists,
            Self::Denied => io::ErrorKind::PermissionDenied,
            Self::Corrupt => io::ErrorKind::InvalidData,
            Self::Unsupported => io::ErrorKind::Unsupported,
            Self::Unavailable | Self::Changed | Self::Io => io::ErrorKind::Other,
        }
    }
}

/// Why something was not sealed, unsealed, written or read.
///
/// Where only an [`io::Error`] can be returned, it carries this one: [`Error::of`] finds it again.
#[derive(Debug, thiserror::Error)]
#[error("{}{message}", at(place.as_deref()))]
pub struct Error {
    kind: ErrorKind,
    message: String,
    place: Option<String>,
    #[source]
    cause: Option<io::Error>,
}

/// The result of what this crate does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn at(place: Option<&str>) -> String {
    place.map(|place| format!("{place}: ")).unwrap_or_default()
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), place: None, cause: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// What the system says; an error of this crate that it only carries stays what it is.
    pub(crate) fn io(cause: io::Error, message: impl Into<String>) -> Self {
        if cause.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            return match cause.into_inner().map(|inner| inner.downcast::<Self>()) {
                Some(Ok(carried)) => *carried,
                _ => Self::new(ErrorKind::Io, message),
            };
        }
        let kind = match cause.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Io,
        };
        Self::new(kind, message).because(cause)
    }

    pub(crate) fn because(mut self, cause: io::Error) -> Self {
        self.cause = Some(cause);
        self
    }

    pub(crate) fn at(mut self, place: impl Into<String>) -> Self {
        self.place.get_or_insert_with(|| place.into());
        self
    }

    /// The same once more, for a stream that goes on failing. The cause stays with the first.
    pub(crate) fn again(&self) -> Self {
        Self { kind: self.kind, message: self.message.clone(), place: self.place.clone(), cause: None }
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The place that it is about, as its address names it.
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// The error of the system below, if that is where it comes from.
    pub fn cause(&self) -> Option<&io::Error> {
        self.cause.as_ref()
    }

    /// The same, to keep.
    pub fn into_cause(self) -> Option<io::Error> {
        self.cause
    }

    /// The error of this crate that an error of a reader or a writer carries.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind.nearest(), error)
    }
}

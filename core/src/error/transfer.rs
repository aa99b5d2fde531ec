use super::{Error, ErrorKind};
use dunnage_transfer::ErrorKind as Transfer;

/// What a caller does about an error of the way to an archive's place.
pub(super) fn kind(error: &dunnage_transfer::Error) -> ErrorKind {
    match error.kind() {
        Transfer::Invalid => ErrorKind::InvalidArgument,
        Transfer::NotFound => ErrorKind::NotFound,
        Transfer::Exists => ErrorKind::AlreadyExists,
        Transfer::Denied if error.place().is_some_and(|place| place.starts_with("s3:")) => {
            ErrorKind::Unauthenticated
        }
        Transfer::Denied => ErrorKind::PermissionDenied,
        Transfer::Locked | Transfer::WrongKey => ErrorKind::Unauthenticated,
        Transfer::NotSealed => ErrorKind::FailedPrecondition,
        Transfer::Unavailable => ErrorKind::Unavailable,
        Transfer::Corrupt => ErrorKind::DataCorrupt,
        Transfer::Changed => ErrorKind::Conflict,
        Transfer::Unsupported => ErrorKind::Unsupported,
        _ => error.cause().map_or(ErrorKind::Unexpected, ErrorKind::of_io),
    }
}

impl From<dunnage_transfer::Error> for Error {
    fn from(error: dunnage_transfer::Error) -> Self {
        let mapped = Self::new(kind(&error), error.to_string());
        match error.into_cause() {
            Some(cause) => mapped.caused_by(cause),
            None => mapped,
        }
    }
}

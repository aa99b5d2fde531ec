use super::{Error, ErrorKind};
use dunnage_archive::ErrorKind as Archive;

impl From<dunnage_archive::Error> for Error {
    fn from(error: dunnage_archive::Error) -> Self {
        let kind = match error.kind() {
            Archive::Invalid => ErrorKind::InvalidArgument,
            Archive::Corrupt => ErrorKind::DataCorrupt,
            Archive::Conflict => ErrorKind::Conflict,
            Archive::Limit => ErrorKind::ResourceExhausted,
            Archive::Unsupported => ErrorKind::Unsupported,
            Archive::Cancelled => ErrorKind::Cancelled,
            // Of either side the system's own error decides.
            _ => error.cause().map_or(ErrorKind::Unexpected, |cause| {
                dunnage_transfer::Error::of(cause)
                    .map_or_else(|| ErrorKind::of_io(cause), super::transfer::kind)
            }),
        };
        let mut mapped = Self::new(kind, error.message());
        if let Some(path) = error.path() {
            mapped = mapped.with("path", String::from_utf8_lossy(path));
        }
        match error.into_cause() {
            Some(cause) => mapped.caused_by(cause),
            None => mapped,
        }
    }
}

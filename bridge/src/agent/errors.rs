//! System errors as gRPC statuses.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use tonic::{Code, Status};

/// The status code that tells a caller what to do next about a system error.
pub(crate) fn code(error: &io::Error) -> Code {
    let Some(errno) = error.raw_os_error().map(Errno::from_raw_os_error) else {
        return by_kind(error.kind());
    };
    match errno {
        Errno::NOENT | Errno::SRCH => Code::NotFound,
        Errno::EXIST => Code::AlreadyExists,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Code::PermissionDenied,
        Errno::INVAL | Errno::NAMETOOLONG | Errno::LOOP | Errno::ILSEQ | Errno::TOOBIG => {
            Code::InvalidArgument
        }
        Errno::NOTDIR
        | Errno::ISDIR
        | Errno::NOTEMPTY
        | Errno::BUSY
        | Errno::TXTBSY
        | Errno::XDEV
        | Errno::NXIO
        | Errno::NODEV
        | Errno::NOEXEC
        | Errno::MLINK
        | Errno::SPIPE
        | Errno::OPNOTSUPP => Code::FailedPrecondition,
        Errno::NOSPC
        | Errno::DQUOT
        | Errno::FBIG
        | Errno::MFILE
        | Errno::NFILE
        | Errno::NOMEM
        | Errno::AGAIN
        | Errno::NOBUFS => Code::ResourceExhausted,
        _ => Code::Internal,
    }
}

fn by_kind(kind: io::ErrorKind) -> Code {
    match kind {
        io::ErrorKind::NotFound => Code::NotFound,
        io::ErrorKind::AlreadyExists => Code::AlreadyExists,
        io::ErrorKind::PermissionDenied => Code::PermissionDenied,
        io::ErrorKind::InvalidInput => Code::InvalidArgument,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::ResourceExhausted,
        _ => Code::Internal,
    }
}

/// What was tried, on what, and how it went wrong.
pub(crate) fn status(action: &str, path: &Path, error: &io::Error) -> Status {
    Status::new(code(error), format!("cannot {action} {}: {}", path.display(), reason(error)))
}

/// The system's words for an error, without the number, beginning in lower case.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Shortens `map_err(|e| status(…))`, for both kinds of system error.
pub(crate) trait At<T> {
    /// Turns the error into a status that names the action and the path.
    fn at(self, action: &str, path: &Path) -> Result<T, Status>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, action: &str, path: &Path) -> Result<T, Status> {
        self.map_err(|error| status(action, path, &error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_have_the_code_a_caller_can_act_on() {
        let cases = [
            (Errno::NOENT, Code::NotFound),
            (Errno::EXIST, Code::AlreadyExists),
            (Errno::ACCESS, Code::PermissionDenied),
            (Errno::ROFS, Code::PermissionDenied),
            (Errno::NAMETOOLONG, Code::InvalidArgument),
            (Errno::NOTEMPTY, Code::FailedPrecondition),
            (Errno::ISDIR, Code::FailedPrecondition),
            (Errno::NOSPC, Code::ResourceExhausted),
            (Errno::MFILE, Code::ResourceExhausted),
            (Errno::IO, Code::Internal),
        ];
        for (errno, expected) in cases {
            assert_eq!(code(&errno.into()), expected, "{errno:?}");
        }
    }

    #[test]
    fn messages_have_no_number_and_no_capital() {
        let status = status("open", Path::new("/x"), &Errno::NOENT.into());
        assert_eq!(status.message(), "cannot open /x: no such file or directory");
    }
}

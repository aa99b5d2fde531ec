//! The table of kinds: one row each, and every language's constants come from it.

use std::io;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal;)*) => {
        /// What a caller can do about an [`Error`](crate::Error).
        ///
        /// Names and numbers are stable: a number is never used again for another kind. 0 is success and no kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl ErrorKind {
            /// Every kind, in the order of their numbers.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$variant,)*];

            /// The stable name, such as `NOT_FOUND`.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorKind::$variant => $name,)* }
            }

            /// The stable number, never 0.
            pub const fn number(self) -> i32 {
                match self { $(ErrorKind::$variant => $number,)* }
            }

            /// What the kind means and what to do about it, for the error references of every language.
            pub const fn meaning(self) -> &'static str {
                match self { $(ErrorKind::$variant => concat!($($doc, "\n",)+),)* }
            }
        }
    };
}

kinds! {
    /// The arguments are malformed or contradict each other. Mend the call; nothing was touched.
    InvalidArgument = 1, "INVALID_ARGUMENT";
    /// The workspace, image, file or process named does not exist.
    NotFound = 2, "NOT_FOUND";
    /// Something of that name is there already and is left as it is.
    AlreadyExists = 3, "ALREADY_EXISTS";
    /// The target is not in a state that allows the call. Bring it there (start it, install what is missing) and repeat.
    FailedPrecondition = 4, "FAILED_PRECONDITION";
    /// Someone else changed the target in between. Read it again and repeat.
    Conflict = 5, "CONFLICT";
    /// The operating system or the policy of the workspace refuses this to this process.
    PermissionDenied = 6, "PERMISSION_DENIED";
    /// The registry or service wants credentials, or refuses those it was given.
    Unauthenticated = 7, "UNAUTHENTICATED";
    /// This backend, kernel or build cannot do that.
    Unsupported = 8, "UNSUPPORTED";
    /// The daemon, registry or agent cannot be reached just now. Repeating later may succeed.
    Unavailable = 9, "UNAVAILABLE";
    /// Disk space, memory, descriptors or a quota are used up. Free some and repeat.
    ResourceExhausted = 10, "RESOURCE_EXHAUSTED";
    /// The time limit passed before the work was done; what had begun was undone.
    Timeout = 11, "TIMEOUT";
    /// The caller cancelled the operation; what had begun was undone.
    Cancelled = 12, "CANCELLED";
    /// Bytes are not what their digest, length or format says. They were not used.
    DataCorrupt = 13, "DATA_CORRUPT";
    /// A fault that none of the other kinds describes: a bug here or in what lies below. Please report it.
    Unexpected = 14, "UNEXPECTED";
}

impl ErrorKind {
    /// The kind with this stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// The kind of an I/O error, by what its caller can do.
    pub fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound => Self::NotFound,
            Io::AlreadyExists => Self::AlreadyExists,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => Self::PermissionDenied,
            Io::InvalidInput | Io::InvalidFilename => Self::InvalidArgument,
            Io::InvalidData | Io::UnexpectedEof => Self::DataCorrupt,
            Io::TimedOut => Self::Timeout,
            Io::StorageFull | Io::QuotaExceeded | Io::OutOfMemory => Self::ResourceExhausted,
            Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::NotConnected
            | Io::BrokenPipe
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown => Self::Unavailable,
            Io::NotADirectory
            | Io::IsADirectory
            | Io::DirectoryNotEmpty
            | Io::ResourceBusy
            | Io::AddrInUse => Self::FailedPrecondition,
            Io::Unsupported => Self::Unsupported,
            // EMFILE and ENFILE have no kind of their own in std.
            _ if matches!(error.raw_os_error(), Some(23 | 24)) => Self::ResourceExhausted,
            _ => Self::Unexpected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_numbers_are_unique_dense_and_reversible() {
        let names: HashSet<_> = ErrorKind::ALL.iter().map(|k| k.as_str()).collect();
        assert_eq!(names.len(), ErrorKind::ALL.len());
        for (index, kind) in ErrorKind::ALL.iter().enumerate() {
            assert_eq!(kind.number(), index as i32 + 1);
            assert_eq!(ErrorKind::from_name(kind.as_str()), Some(*kind));
        }
    }

    #[test]
    fn a_full_disk_and_no_descriptors_are_exhaustion() {
        for errno in [28, 122, 23, 24, 12] {
            let kind = ErrorKind::of_io(&io::Error::from_raw_os_error(errno));
            assert_eq!(kind, ErrorKind::ResourceExhausted, "errno {errno}");
        }
    }
}

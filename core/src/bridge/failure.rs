//! gRPC statuses as errors of this library.

use super::lane::LaneError;
use crate::error::{Error, ErrorKind};
use std::error::Error as _;
use tonic::{Code, Status};

/// The most that is taken over of what an agent says about a failure, in bytes.
const MAX_MESSAGE: usize = 1024;

/// What a broken call says about its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The agent answered with a failure of its own.
    Answered,
    /// The connection broke, and the agent may have seen the call.
    Broken,
    /// The connection was gone before the call was sent.
    Unsent,
}

/// Tells a failure that the agent reported from one of the way to it.
pub(super) fn fault(status: &Status) -> Fault {
    match status.source().and_then(|source| source.downcast_ref::<LaneError>()) {
        Some(LaneError::Unsent(_)) => Fault::Unsent,
        Some(LaneError::Broken(_)) => Fault::Broken,
        None => Fault::Answered,
    }
}

/// The error for a failed call.
pub(super) fn error(status: &Status) -> Error {
    if fault(status) != Fault::Answered {
        return Error::unavailable(
            "the connection to the agent broke; see whether the workspace runs, then repeat",
        )
        .caused_by(Reason(clean(status.message())));
    }
    let kind = match status.code() {
        Code::NotFound => ErrorKind::NotFound,
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::FailedPrecondition => ErrorKind::FailedPrecondition,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        Code::Unimplemented => ErrorKind::Unsupported,
        // We did not cancel it, so the agent ended it: it is stopping.
        Code::Unavailable | Code::Cancelled => ErrorKind::Unavailable,
        Code::Aborted => ErrorKind::Conflict,
        Code::DataLoss => ErrorKind::DataCorrupt,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::Ok | Code::Unknown | Code::Internal => ErrorKind::Unexpected,
    };
    let said = clean(status.message());
    Error::new(kind, if said.is_empty() { "the agent refused without a reason".to_owned() } else { said })
}

/// The code of the descriptor socket as an error.
pub(super) fn by_code(code: u32, message: &str) -> Error {
    error(&Status::new(Code::from_i32(i32::try_from(code).unwrap_or(2)), message))
}

/// UNIMPLEMENTED unless the agent `can` do `what`.
pub(super) fn needs(can: bool, what: &str) -> Result<(), Status> {
    if can {
        return Ok(());
    }
    Err(Status::unimplemented(format!(
        "the agent in this workspace is of an older release and cannot {what}; install the newer one and start the \
         workspace again"
    )))
}

/// An agent that breaks the protocol.
pub(super) fn protocol(what: &str) -> Error {
    Error::unexpected(format!("the agent broke the protocol: {what}"))
}

/// What an agent says comes from inside the workspace: no control characters, no endless text.
pub(super) fn clean(said: &str) -> String {
    let mut text: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|i| text.is_char_boundary(*i)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text.trim().trim_end_matches('.').to_owned()
}

#[derive(Debug)]
struct Reason(String);

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Reason {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_kinds() {
        for (code, kind) in [
            (Code::NotFound, ErrorKind::NotFound),
            (Code::ResourceExhausted, ErrorKind::ResourceExhausted),
            (Code::Cancelled, ErrorKind::Unavailable),
            (Code::Unimplemented, ErrorKind::Unsupported),
            (Code::Internal, ErrorKind::Unexpected),
        ] {
            assert_eq!(error(&Status::new(code, "x")).kind(), kind, "{code:?}");
        }
        assert_eq!(by_code(5, "gone").kind(), ErrorKind::NotFound);
        assert_eq!(by_code(u32::MAX, "odd").kind(), ErrorKind::Unexpected);
    }

    #[test]
    fn a_lost_connection_is_unavailable_whatever_its_code() {
        let status = Status::from_error(Box::new(LaneError::Broken("reset".into())));
        assert_eq!(fault(&status), Fault::Broken);
        assert_eq!(error(&status).kind(), ErrorKind::Unavailable);
        assert_eq!(fault(&Status::from_error(Box::new(LaneError::Unsent("x".into())))), Fault::Unsent);
        assert_eq!(fault(&Status::unavailable("stopping")), Fault::Answered);
    }

    #[test]
    fn what_an_agent_says_is_cut_and_cleaned() {
        let error = error(&Status::internal(format!("a\u{1b}[2Jb\n{}", "é".repeat(2000))));
        assert!(error.message().len() <= MAX_MESSAGE + 4);
        assert!(error.message().starts_with("a [2Jb é"));
    }
}

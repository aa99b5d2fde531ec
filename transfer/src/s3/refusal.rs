//! What it means that a server did not do what it was asked for.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use object_store::client::{HttpError, HttpErrorKind};

use super::backoff::Again;
use crate::error::{Error, ErrorKind};

/// A request that failed for good.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
    /// What the server said, if it did.
    pub(super) status: Option<StatusCode>,
    /// The server may have done it all the same: an answer was lost.
    pub(super) uncertain: bool,
    pub(super) again: Again,
    pub(super) cause: Option<String>,
}

impl Refusal {
    pub(super) fn new(kind: ErrorKind, again: Again, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None, uncertain: false, again, cause: None }
    }

    /// Nothing came for a whole while.
    pub(super) fn stalled() -> Self {
        let message = "the server does not answer in time";
        Self { uncertain: true, ..Self::new(ErrorKind::Unavailable, Again::Often, message) }
    }

    /// The server's own word.
    pub(super) fn told(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let code = code(body);
        let shown = format!(
            "{}{}",
            status.as_u16(),
            code.as_deref().map(|code| format!(" {code}")).unwrap_or_default()
        );
        let (kind, again, says) = meaning(status, code.as_deref().unwrap_or_default());
        let again = match (again, retry_after(headers)) {
            (Again::Often, Some(asked)) => Again::After(asked),
            (again, _) => again,
        };
        // A server that stumbles may have stumbled after the deed.
        let uncertain = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
        Self { status: Some(status), uncertain, ..Self::new(kind, again, format!("{says} ({shown})")) }
    }

    /// There was no word.
    pub(super) fn broken(error: &HttpError) -> Self {
        let cause = Some(chain(error));
        if let Some(fault) = tls_fault(error) {
            let message = match fault {
                rustls::Error::InvalidCertificate(_) => {
                    "the server's certificate cannot be trusted: check the endpoint, or add its authority to the system's"
                }
                _ => "the server does not speak TLS as it should: check the endpoint's scheme and port",
            };
            return Self { cause, ..Self::new(ErrorKind::Unavailable, Again::Never, message) };
        }
        let (uncertain, message) = match error.kind() {
            HttpErrorKind::Connect => {
                (false, "the server cannot be reached: check the endpoint and the network")
            }
            HttpErrorKind::Timeout => (true, "the server does not answer in time"),
            _ => (true, "the connection to the server broke"),
        };
        Self { cause, uncertain, ..Self::new(ErrorKind::Unavailable, Again::Often, message) }
    }

    /// The refusal that an error of the store carries; for any other, that its answer makes no sense.
    pub(super) fn of(error: &object_store::Error) -> Self {
        let mut next: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(inner) = next {
            if let Some(refusal) = inner.downcast_ref::<Self>() {
                return refusal.clone();
            }
            next = inner.source();
        }
        let message = "the server's answer makes no sense: it may not be an S3 server";
        let cause = Some(chain(error));
        Self { cause, uncertain: true, ..Self::new(ErrorKind::Unavailable, Again::Never, message) }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let error = Self::new(refusal.kind, refusal.message);
        match refusal.cause {
            Some(cause) => error.because(io::Error::other(cause)),
            None => error,
        }
    }
}

/// What a status and S3's code for it mean to the caller, whether to ask again, and what to say.
fn meaning(status: StatusCode, code: &str) -> (ErrorKind, Again, &'static str) {
    use ErrorKind::{Changed, Denied, Exists, Invalid, NotFound, Unavailable, Unsupported};
    match (status.as_u16(), code) {
        // The second is what versitygw says.
        (_, "InvalidAccessKeyId" | "XAdminUserNotFound") => {
            (Denied, Again::Never, "the server does not know the access key id")
        }
        (_, "SignatureDoesNotMatch") => (Denied, Again::Never, "the secret access key is wrong"),
        (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
            (Denied, Again::Never, "the session token has expired or is wrong: fetch new credentials")
        }
        (_, "RequestTimeTooSkewed") => (Denied, Again::Never, "the clocks differ: set this machine's"),
        (301 | 302 | 307 | 308, _)
        | (400, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            (Invalid, Again::Never, "the bucket is in another region or at another endpoint: set it")
        }
        (400, "RequestTimeout") | (408 | 429, _) => {
            (Unavailable, Again::Often, "the server has too much to do")
        }
        (401 | 403, _) => (Denied, Again::Never, "the credentials do not allow it, or are wrong"),
        (404, "NoSuchBucket") => (NotFound, Again::Never, "there is no such bucket"),
        (404, "NoSuchUpload") => (Changed, Again::Never, "somebody has removed the unfinished upload"),
        (404, _) => (NotFound, Again::Never, "there is no such object"),
        (405 | 501, _) => (Unsupported, Again::Never, "the server cannot do this"),
        (409, _) => (Exists, Again::Seldom, "somebody else is writing the object"),
        (412, _) => (Exists, Again::Never, "there is an object already: choose another key, or overwrite it"),
        (416, _) => (Changed, Again::Never, "the object is shorter than it was"),
        (500..=599, _) => (Unavailable, Again::Often, "the server failed"),
        _ => (Invalid, Again::Never, "the server refused the request"),
    }
}

/// S3's code in an answer's body, made safe to show.
fn code(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let sound = (1..=60).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    sound.then(|| code.to_owned())
}

/// Seconds; a date is not worth a parser here, since the pauses grow anyway.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// What rustls said, wherever in the chain of causes it stands.
fn tls_fault<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(inner) = next {
        if let Some(fault) = inner.downcast_ref() {
            return Some(fault);
        }
        // What an I/O error carries is not what it names as its source.
        next = match inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(carried) => Some(carried),
            None => inner.source(),
        };
    }
    None
}

/// An error with its causes, each once.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Again, Refusal};
    use crate::ErrorKind;
    use http::{HeaderMap, HeaderValue, StatusCode, header};
    use std::time::Duration;

    fn told(status: u16, code: &str) -> Refusal {
        let body = format!("<Error><Code>{code}</Code><Message>AWSAccessKeyId</Message></Error>");
        Refusal::told(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn each_answer_has_its_meaning() {
        use ErrorKind::{Changed, Denied, Exists, Invalid, NotFound, Unavailable, Unsupported};
        for (status, code, kind, again) in [
            (403, "AccessDenied", Denied, Again::Never),
            (403, "SignatureDoesNotMatch", Denied, Again::Never),
            (400, "ExpiredToken", Denied, Again::Never),
            (400, "AuthorizationHeaderMalformed", Invalid, Again::Never),
            (301, "PermanentRedirect", Invalid, Again::Never),
            (404, "NoSuchKey", NotFound, Again::Never),
            (404, "NoSuchUpload", Changed, Again::Never),
            (409, "ConditionalRequestConflict", Exists, Again::Seldom),
            (412, "PreconditionFailed", Exists, Again::Never),
            (429, "TooManyRequests", Unavailable, Again::Often),
            (501, "NotImplemented", Unsupported, Again::Never),
            (503, "SlowDown", Unavailable, Again::Often),
            (418, "Teapot", Invalid, Again::Never),
        ] {
            let refusal = told(status, code);
            assert_eq!((refusal.kind, refusal.again), (kind, again), "{status} {code}");
            assert!(refusal.message.ends_with(&format!("({status} {code})")), "{refusal}");
            assert_eq!(refusal.uncertain, status == 503);
        }
    }

    #[test]
    fn only_a_code_is_shown_of_what_a_server_says() {
        assert!(!told(500, "Evil\u{1b}[2J").message.contains('\u{1b}'));
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static("7"))]);
        let refusal = Refusal::told(StatusCode::SERVICE_UNAVAILABLE, &headers, b"<html>");
        assert_eq!(refusal.message, "the server failed (503)");
        assert_eq!(refusal.again, Again::After(Duration::from_secs(7)));
    }
}

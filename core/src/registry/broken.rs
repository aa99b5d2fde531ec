//! What it means that a connection could not be made or broke.

use super::retry::{Again, Failure};
use crate::error::Error;
use rustls::{AlertDescription as Alert, CertificateError};
use std::error::Error as StdError;

/// The failure of an exchange that got no answer.
pub(super) fn broken(error: reqwest::Error) -> Failure {
    // A redirect's URL may carry a signature.
    let error = error.without_url();
    if let Some(told) = tls_fault(&error).and_then(explain) {
        return Failure::last(told.caused_by(error));
    }
    if error.is_connect() {
        return Failure {
            error: Error::unavailable("the registry cannot be reached: check its name and the network")
                .caused_by(error),
            again: Again::Seldom,
        };
    }
    Failure {
        error: Error::unavailable("the connection to the registry broke").caused_by(error),
        again: Again::Often,
    }
}

/// What rustls said, wherever in the chain of causes it stands.
fn tls_fault<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        // An I/O error tells what lies below the error it carries, and leaves out that one.
        let carried = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match carried {
            Some(carried) => Some(carried),
            None => inner.source(),
        };
    }
    None
}

/// What to do about a fault of TLS; none for one that may pass.
fn explain(fault: &rustls::Error) -> Option<Error> {
    use CertificateError as Certificate;
    Some(match fault {
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => Error::unavailable(
            "the registry's certificate is for another name: use a name that it bears, or have it issued anew",
        ),
        rustls::Error::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        ) => Error::unavailable(
            "the registry's certificate is not valid at this time: have it renewed, or set this machine's clock",
        ),
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => Error::unavailable(
            "the registry's certificate is not trusted: name its CA file as `ca` in hosts.toml",
        ),
        // Go's servers tell a client without a certificate BadCertificate or CertificateRequired, by their age.
        rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired,
        ) => Error::unauthenticated(
            "the registry wants a client certificate that it trusts: name one as `client` in hosts.toml",
        ),
        rustls::Error::InvalidMessage(_) => Error::unavailable(
            "the registry does not speak TLS: if it is meant to be plain, give it an http:// server in hosts.toml",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_fault_of_tls_is_found_below_other_errors() {
        let fault = rustls::Error::AlertReceived(Alert::CertificateRequired);
        let wrapped = std::io::Error::other(std::io::Error::other(fault.clone()));
        assert_eq!(tls_fault(&wrapped), Some(&fault));
        assert!(tls_fault(&std::io::Error::other("certificate")).is_none());
    }

    #[test]
    fn each_fault_says_what_to_do() {
        let invalid = rustls::Error::InvalidCertificate;
        for (fault, kind, words) in [
            (invalid(CertificateError::UnknownIssuer), ErrorKind::Unavailable, "`ca`"),
            (invalid(CertificateError::NotValidForName), ErrorKind::Unavailable, "another name"),
            (invalid(CertificateError::Expired), ErrorKind::Unavailable, "at this time"),
            (rustls::Error::AlertReceived(Alert::BadCertificate), ErrorKind::Unauthenticated, "`client`"),
            (
                rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
                ErrorKind::Unavailable,
                "http://",
            ),
        ] {
            let told = explain(&fault).unwrap_or_else(|| panic!("{fault}"));
            assert_eq!(told.kind(), kind, "{fault}");
            assert!(told.message().contains(words), "{fault}: {told}");
        }
        assert!(explain(&rustls::Error::AlertReceived(Alert::InternalError)).is_none());
    }
}

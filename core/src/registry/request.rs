//! One request to one host, or to each host that serves a registry in turn.

use super::broken::broken;
use super::challenge::Challenge;
use super::client::Repository;
use super::endpoint::Endpoint;
use super::retry::{Again, Backoff, Failure, retry_after};
use super::token::refused_credentials;
use crate::error::{Error, Result};
use reqwest::header::{self, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use std::future::Future;
use std::time::{Duration, SystemTime};

/// The most redirects that are followed.
const MAX_REDIRECTS: u32 = 10;

/// What a host is asked for.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// What follows the repository, such as `blobs/sha256:…`.
    pub(super) path: &'a str,
    pub(super) accept: Option<&'static str>,
    /// Where in the content to begin.
    pub(super) from: u64,
    /// Whether content is asked for by its digest.
    pub(super) by_digest: bool,
}

impl Repository {
    /// Asks the hosts that serve this in order, each again when that may help. A mirror that fails twice is passed
    /// over; the last host, the registry itself, is asked as often as the configuration says.
    ///
    /// # Errors
    /// Those of the last host.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Response> {
        let able: Vec<&Endpoint> = self.endpoints.iter().filter(|e| e.serves(ask.by_digest)).collect();
        let mut last = None;
        for (n, endpoint) in able.iter().enumerate() {
            let retries = self.shared.config.retries;
            let mut backoff = Backoff::new(if n + 1 == able.len() { retries } else { retries.min(1) });
            loop {
                let failure = match self.ask_one(endpoint, ask).await {
                    Ok(response) => return Ok(response),
                    Err(failure) => failure,
                };
                let Some(pause) = backoff.pause(failure.again) else {
                    tracing::debug!(
                        host = endpoint.host,
                        error = failure.error.message(),
                        "a registry host failed"
                    );
                    last = Some(failure.error.with("host", &endpoint.host));
                    break;
                };
                tokio::time::sleep(pause).await;
            }
        }
        let error = last.unwrap_or_else(|| {
            Error::failed_precondition("the hosts file lets no host be asked for this: add pull and resolve")
        });
        Err(self.explain(error))
    }

    async fn ask_one(&self, endpoint: &Endpoint, ask: &Ask<'_>) -> Result<Response, Failure> {
        let mut authorization = self.authorization(endpoint);
        let mut challenged = 0;
        loop {
            let response = self.send(endpoint, ask, authorization.as_deref()).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return answered(response);
            }
            // A token may have run out, and its successor's scope may be wider: twice is enough.
            let Some(challenge) = Challenge::of(response.headers()).filter(|_| challenged < 2) else {
                return Err(Failure::last(refused_credentials()));
            };
            challenged += 1;
            drop(response);
            authorization = Some(self.authenticate(endpoint, &challenge, authorization.as_deref()).await?);
        }
    }

    /// Sends a request and follows its redirects. Authorization and the endpoint's own headers go to the endpoint
    /// only; an encrypted connection is never left for a plain one.
    async fn send(
        &self,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        authorization: Option<&str>,
    ) -> Result<Response, Failure> {
        let text = format!("{}/{}/{}", endpoint.base, self.image.repository(), ask.path);
        let malformed = || Failure::last(Error::invalid_argument("the registry's address is malformed"));
        let mut url = Url::parse(&text).map_err(|_| malformed())?;
        if endpoint.is_mirror {
            url.query_pairs_mut().append_pair("ns", &endpoint.registry);
        }
        let home = url.origin();
        for _ in 0..=MAX_REDIRECTS {
            let encrypted = url.scheme() == "https";
            let client = self.shared.client(&endpoint.tls, encrypted).map_err(Failure::last)?;
            let mut request = client.request(ask.method.clone(), url.clone());
            if url.origin() == home {
                request = request.headers(endpoint.headers.clone());
                if let Some(value) = authorization {
                    request = request.header(header::AUTHORIZATION, sensitive(value)?);
                }
            }
            if let Some(accept) = ask.accept {
                request = request.header(header::ACCEPT, accept);
            }
            if ask.from > 0 {
                request = request.header(header::RANGE, format!("bytes={}-", ask.from));
            }
            let response = within(self.stall_limit(), request.send()).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let target = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
            let next = target
                .and_then(|target| url.join(target).ok())
                .filter(|next| next.scheme() == "https" || next.scheme() == "http" && !encrypted);
            url = next.ok_or_else(|| {
                Failure::last(Error::unavailable("the registry redirects to an address that cannot be used"))
            })?;
        }
        Err(Failure::last(Error::unavailable("the registry redirects without end")))
    }
}

/// A header that logs do not show.
pub(super) fn sensitive(value: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(value).map_err(|_| {
        Failure::last(Error::invalid_argument("the credentials hold characters that cannot be sent"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Waits for a step of an exchange, at most for the stall limit.
pub(super) async fn within<T>(
    limit: Duration,
    step: impl Future<Output = Result<T, reqwest::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(broken(error)),
        Err(_) => Err(Failure {
            error: Error::timeout(format!("the registry sent nothing for {} ms", limit.as_millis())),
            again: Again::Often,
        }),
    }
}

fn answered(response: Response) -> Result<Response, Failure> {
    if response.status().is_success() { Ok(response) } else { Err(refused(&response)) }
}

/// What a status that is no success means.
pub(super) fn refused(response: &Response) -> Failure {
    let status = response.status();
    let code = status.as_u16();
    let asked = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok());
    let asked = asked.and_then(|value| retry_after(value, SystemTime::now()));
    let again = asked.map_or(Again::Often, Again::After);
    let (error, again) = match status {
        StatusCode::NOT_FOUND => (Error::not_found("the registry does not have this image"), Again::Never),
        StatusCode::FORBIDDEN => (
            Error::permission_denied("the registry does not let these credentials read the image"),
            Again::Never,
        ),
        StatusCode::TOO_MANY_REQUESTS => (
            Error::unavailable("the registry turns requests away, it gets too many: try later or log in"),
            again,
        ),
        StatusCode::REQUEST_TIMEOUT => (Error::unavailable("the registry gave up waiting"), again),
        _ if status.is_server_error() && code != 501 => {
            (Error::unavailable("the registry fails just now: try later"), again)
        }
        _ => (Error::unavailable("the registry gives an answer that cannot be used"), Again::Never),
    };
    Failure { error: error.with("status", code), again }
}

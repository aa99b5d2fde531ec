//! From a challenge to the `Authorization` that answers it
//! (<https://distribution.github.io/distribution/spec/auth/token/>).

use super::challenge::Challenge;
use super::client::Repository;
use super::credentials::{self, Secret};
use super::endpoint::Endpoint;
use super::request;
use super::retry::Failure;
use crate::error::{Error, Result};
use reqwest::{Method, Response, StatusCode, Url, header};
use serde::Deserialize;
use std::sync::PoisonError;

/// The longest answer of a token service.
const LONGEST_REPLY: usize = 1 << 20;

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl Repository {
    /// The `Authorization` that this endpoint took last.
    pub(super) fn authorization(&self, endpoint: &Endpoint) -> Option<String> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint.base).cloned()
    }

    /// Answers a challenge. `refused` is what was sent when it came: when another task has got something newer in the
    /// meantime, that is used.
    pub(super) async fn authenticate(
        &self,
        endpoint: &Endpoint,
        challenge: &Challenge,
        refused: Option<&str>,
    ) -> Result<String, Failure> {
        let _one = self.authenticating.lock().await;
        if let Some(newer) = self.authorization(endpoint)
            && Some(newer.as_str()) != refused
        {
            return Ok(newer);
        }
        let config = &self.shared.config;
        let call = self.credential.as_ref();
        let secret = credentials::find(config, call, &endpoint.host, &endpoint.registry, endpoint.is_mirror)
            .await
            .map_err(Failure::last)?;
        let value = match (challenge, secret) {
            (_, Some(Secret::Bearer(token))) => format!("Bearer {token}"),
            (Challenge::Basic, Some(Secret::Basic { username, password })) => {
                Secret::basic(&username, &password)
            }
            (Challenge::Basic, Some(Secret::Refresh(_))) => {
                return Err(Failure::last(Error::unauthenticated(
                    "the registry wants a user name and a password, but only a token is configured",
                )));
            }
            (Challenge::Basic, None) => return Err(Failure::last(no_credentials())),
            (Challenge::Bearer { realm, service, scope }, secret) => {
                let own = format!("repository:{}:pull", self.image.repository());
                let scope = scope.as_deref().unwrap_or(&own);
                self.token(endpoint, realm, service.as_deref(), scope, secret).await?
            }
        };
        if refused == Some(value.as_str()) {
            return Err(Failure::last(refused_credentials()));
        }
        self.tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(endpoint.base.clone(), value.clone());
        Ok(value)
    }

    async fn token(
        &self,
        endpoint: &Endpoint,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        secret: Option<Secret>,
    ) -> Result<String, Failure> {
        let fail = |why: &str| {
            Failure::last(Error::unavailable(format!("the registry's token service cannot be used: {why}")))
        };
        let mut url = Url::parse(realm).map_err(|_| fail("its address is malformed"))?;
        let encrypted = url.scheme() == "https";
        if !encrypted && (url.scheme() != "http" || endpoint.base.starts_with("https:")) {
            return Err(fail("its address is not https although the registry's is"));
        }
        let client = self.shared.client(&endpoint.tls, encrypted).map_err(Failure::last)?;
        let anonymous = secret.is_none();
        let request = match secret {
            Some(Secret::Refresh(token)) => {
                let mut form =
                    vec![("grant_type", "refresh_token"), ("client_id", "dunnage"), ("scope", scope)];
                form.push(("refresh_token", &token));
                form.extend(service.map(|service| ("service", service)));
                let body = Url::parse_with_params("form:", form)
                    .map_err(|_| fail("its parameters are malformed"))?;
                client
                    .request(Method::POST, url)
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(body.query().unwrap_or_default().to_owned())
            }
            secret => {
                if let Some(service) = service {
                    url.query_pairs_mut().append_pair("service", service);
                }
                for one in scope.split(' ') {
                    url.query_pairs_mut().append_pair("scope", one);
                }
                let request = client.request(Method::GET, url);
                match secret {
                    Some(Secret::Basic { username, password }) => request.header(
                        header::AUTHORIZATION,
                        request::sensitive(&Secret::basic(&username, &password))?,
                    ),
                    _ => request,
                }
            }
        };
        let limit = self.stall_limit();
        let response = request::within(limit, request.send()).await?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                let error = if anonymous { no_credentials() } else { refused_credentials() };
                return Err(Failure::last(error));
            }
            _ => return Err(request::refused(&response)),
        }
        let body = read(response, limit).await?;
        let reply: Reply = serde_json::from_slice(&body).map_err(|_| fail("its answer is malformed"))?;
        let token = reply.token.filter(|t| !t.is_empty()).or(reply.access_token).filter(|t| !t.is_empty());
        token.map(|token| format!("Bearer {token}")).ok_or_else(|| fail("its answer holds no token"))
    }
}

async fn read(mut response: Response, limit: std::time::Duration) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = request::within(limit, response.chunk()).await? {
        if body.len() + chunk.len() > LONGEST_REPLY {
            return Err(Failure::last(Error::unavailable(
                "the registry's token service answers without end",
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn no_credentials() -> Error {
    Error::unauthenticated(
        "the registry wants credentials for this image, or does not have it: configure credentials",
    )
}

pub(super) fn refused_credentials() -> Error {
    Error::unauthenticated("the registry refuses the credentials: check user name, password or token")
}

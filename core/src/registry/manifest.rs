use super::client::Repository;
use super::document::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use super::hash::Hasher;
use super::request::{self, Ask};
use super::retry::{Backoff, Failure};
use crate::error::{Error, Result};
use bytes::Bytes;
use reqwest::{Method, Response, header};

/// The longest manifest or index; the distribution specification asks for at least this.
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or index as it was served, byte for byte.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) bytes: Bytes,
    pub(crate) digest: String,
    /// As the registry named it; may be empty.
    pub(crate) media_type: String,
}

impl Repository {
    /// Fetches what the image's own name points at.
    ///
    /// # Errors
    /// As [`Repository::manifest`].
    pub(crate) async fn root(&self) -> Result<Fetched> {
        self.manifest(self.image.reference(), self.image.digest()).await
    }

    /// Fetches a manifest or index and checks its digest.
    ///
    /// # Errors
    /// NOT_FOUND, UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE or TIMEOUT; DATA_CORRUPT when the bytes do not have
    /// the digest asked for or announced.
    pub(crate) async fn manifest(&self, reference: &str, digest: Option<&str>) -> Result<Fetched> {
        let path = format!("manifests/{reference}");
        let ask = Ask {
            method: Method::GET,
            path: &path,
            accept: Some(ACCEPT),
            from: 0,
            by_digest: digest.is_some(),
        };
        let mut backoff = Backoff::new(self.shared.config.retries);
        loop {
            let response = self.ask(&ask).await?;
            let media_type = media_type(&response);
            let announced = announced(&response);
            match self.body(response).await {
                Ok(bytes) => {
                    let expected = digest.map(str::to_owned).or(announced);
                    let found = match &expected {
                        Some(expected) => {
                            Hasher::check(&bytes, expected, "manifest").map_err(|e| self.explain(e))?;
                            expected.clone()
                        }
                        None => Hasher::sha256(&bytes),
                    };
                    return Ok(Fetched { bytes, digest: found, media_type });
                }
                Err(failure) => match backoff.pause(failure.again) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(self.explain(failure.error)),
                },
            }
        }
    }

    /// Digest, media type and length of what the image's name points at.
    pub(super) async fn head(&self) -> Result<(String, String, u64)> {
        let path = format!("manifests/{}", self.image.reference());
        let by_digest = self.image.digest().is_some();
        let ask = Ask { method: Method::HEAD, path: &path, accept: Some(ACCEPT), from: 0, by_digest };
        let response = self.ask(&ask).await?;
        let length =
            response.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let known =
            [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].contains(&media_type(&response).as_str());
        match (announced(&response), length) {
            (Some(digest), Some(length)) if known && self.image.digest().is_none_or(|d| d == digest) => {
                Ok((digest, media_type(&response), length))
            }
            // Registries need not announce anything on HEAD; the content says it all.
            _ => {
                let fetched = self.root().await?;
                let (_, named) = super::Document::parse(&fetched.bytes, &fetched.media_type)
                    .map_err(|e| self.explain(e))?;
                Ok((fetched.digest, named, fetched.bytes.len() as u64))
            }
        }
    }

    async fn body(&self, mut response: Response) -> Result<Bytes, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = request::within(self.stall_limit(), response.chunk()).await? {
            if (body.len() + chunk.len()) as u64 > MAX_MANIFEST {
                return Err(Failure::last(Error::data_corrupt(format!(
                    "the manifest is longer than {MAX_MANIFEST} bytes"
                ))));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.into())
    }
}

fn media_type(response: &Response) -> String {
    let value = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_owned()
}

/// The digest that the registry announces, when it is one we can check.
fn announced(response: &Response) -> Option<String> {
    let value = response.headers().get("docker-content-digest")?.to_str().ok()?;
    Hasher::matching(value).is_ok().then(|| value.to_owned())
}

use super::client::Repository;
use super::hash::Hasher;
use super::request::{self, Ask};
use super::retry::{Again, Backoff, Failure};
use crate::error::{Error, Result};
use bytes::Bytes;
use reqwest::{Method, Response, StatusCode, header};
use std::sync::Arc;

/// The bytes of a blob, in order and without gaps, whatever happens to the connection on the way.
///
/// A connection that breaks or stalls is made again from where the bytes ended. The digest is checked before the end
/// is told, unless the stream began in the middle of the blob.
pub(crate) struct BlobStream {
    repository: Arc<Repository>,
    digest: String,
    size: u64,
    offset: u64,
    hasher: Option<Hasher>,
    body: Option<Response>,
    /// Bytes that come again because the host ignores ranges.
    skip: u64,
    backoff: Backoff,
}

impl BlobStream {
    /// A stream of the blob from `offset` on. Nobody is asked yet.
    ///
    /// # Errors
    /// UNSUPPORTED or DATA_CORRUPT when the digest cannot be checked.
    pub(crate) fn new(repository: Arc<Repository>, digest: &str, size: u64, offset: u64) -> Result<Self> {
        let hasher = Hasher::matching(digest)?;
        let backoff = Backoff::new(repository.shared.config.retries);
        let hasher = (offset == 0).then_some(hasher);
        Ok(Self { repository, digest: digest.to_owned(), size, offset, hasher, body: None, skip: 0, backoff })
    }

    /// Bytes given so far, counted from the blob's beginning.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes; none at the end, which comes only when length and digest are right.
    ///
    /// # Errors
    /// As [`Repository::manifest`]; DATA_CORRUPT names the blob; TIMEOUT after the last stall.
    ///
    /// # Cancel safety
    /// Dropping the future loses no bytes.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.offset == self.size {
                self.body = None;
                return self.finish();
            }
            let failure = match self.step().await {
                Ok(Some(bytes)) => {
                    self.backoff.reset();
                    self.offset += bytes.len() as u64;
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&bytes);
                    }
                    return Ok(Some(bytes));
                }
                Ok(None) => continue,
                Err(failure) => failure,
            };
            self.body = None;
            match self.backoff.pause(failure.again) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(self.explain(failure.error)),
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.body.is_none() {
            let response = self.open().await?;
            self.body = Some(response);
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        let Some(mut bytes) = request::within(self.repository.stall_limit(), body.chunk()).await? else {
            return Err(Failure {
                error: Error::unavailable("the registry ended the blob before its end"),
                again: Again::Often,
            });
        };
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        // At most the length of a chunk.
        let bytes = bytes.split_off(skipped as usize);
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() as u64 > self.size - self.offset {
            return Err(Failure::last(Error::data_corrupt("the blob is longer than the manifest says")));
        }
        Ok(Some(bytes))
    }

    async fn open(&mut self) -> Result<Response, Failure> {
        let path = format!("blobs/{}", self.digest);
        let ask = Ask { method: Method::GET, path: &path, accept: None, from: self.offset, by_digest: true };
        let response = self.repository.ask(&ask).await.map_err(Failure::last)?;
        self.skip = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
                let start = range.and_then(range_start);
                if start.is_some_and(|start| start != self.offset) {
                    return Err(Failure::last(Error::unavailable(
                        "the registry sends another range than asked for",
                    )));
                }
                0
            }
            _ => self.offset,
        };
        Ok(response)
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        let Some(hasher) = self.hasher.take() else { return Ok(None) };
        let found = hasher.finish();
        if found == self.digest {
            return Ok(None);
        }
        Err(self.explain(
            Error::data_corrupt("the blob does not have the digest that the manifest names")
                .with("found", found),
        ))
    }

    fn explain(&self, error: Error) -> Error {
        self.repository.explain(error.with("blob", &self.digest).with("offset", self.offset))
    }
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes")?.trim_start().split_once('-')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_tells_its_start() {
        assert_eq!(range_start("bytes 5-9/10"), Some(5));
        assert_eq!(range_start("bytes */10"), None);
        assert_eq!(range_start("lines 1-2/3"), None);
    }
}

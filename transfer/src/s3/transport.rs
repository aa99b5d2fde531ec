//! Requests, repeated until they are answered or there is no hope.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderValue, Method, header};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use tokio::time::{sleep, timeout};

use super::backoff::{Again, Backoff};
use super::refusal::Refusal;

/// What a request may take longer for each of so many bytes that it sends, in seconds.
const SLOWEST: u64 = 16 << 10;
/// Answers that are documents are not longer than this.
const DOCUMENT: usize = 1 << 20;

/// Whether the request that makes an object visible may replace another.
#[derive(Debug)]
pub(super) struct Guard(AtomicBool);

impl Guard {
    pub(super) fn new(closed: bool) -> Self {
        Self(AtomicBool::new(closed))
    }

    pub(super) fn closed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The server does not know the condition.
    pub(super) fn open(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Sends requests for the store.
///
/// All that is repeated is repeated here, and the store repeats nothing: here is known what the server said, how long it asks to be
/// left alone, and whether an answer was lost.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: reqwest::Client,
    retries: u32,
    stall: Duration,
    guard: Arc<Guard>,
    /// Somebody has answered once: who cannot be reached now was there, and may come back.
    reached: Arc<AtomicBool>,
}

impl Transport {
    pub(super) fn new(client: reqwest::Client, retries: u32, stall: Duration, guard: Arc<Guard>) -> Self {
        Self { client, retries, stall, guard, reached: Arc::default() }
    }

    async fn attempt(&self, request: HttpRequest) -> Result<HttpResponse, Refusal> {
        let document = request.method() == Method::POST;
        let sending = Duration::from_secs(request.body().content_length() as u64 / SLOWEST);
        let answer = timeout(self.stall + sending, self.client.call(request)).await;
        let answer = answer.map_err(|_| Refusal::stalled())?;
        let response = answer.map_err(|error| {
            let refusal = Refusal::broken(&error);
            let strange = error.kind() == HttpErrorKind::Connect && !self.reached.load(Ordering::Relaxed);
            if strange && refusal.again == Again::Often {
                return Refusal { again: Again::Seldom, ..refusal };
            }
            refusal
        })?;
        self.reached.store(true, Ordering::Relaxed);
        if response.status().is_success() && !document {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = self.document(body).await?;
        if !parts.status.is_success() {
            return Err(Refusal::told(parts.status, &parts.headers, &body));
        }
        // S3 begins to answer before it knows: a failure may come with the status of success.
        if body.windows(7).any(|window| window == b"<Error>") {
            return Err(Refusal::told(http::StatusCode::INTERNAL_SERVER_ERROR, &parts.headers, &body));
        }
        Ok(HttpResponse::from_parts(parts, body.into()))
    }

    /// A whole short answer.
    async fn document(&self, body: HttpResponseBody) -> Result<Bytes, Refusal> {
        let mut stream = body.bytes_stream();
        let mut document = BytesMut::new();
        while let Some(piece) = timeout(self.stall, stream.next()).await.map_err(|_| Refusal::stalled())? {
            document.extend_from_slice(&piece.map_err(|error| Refusal::broken(&error))?);
            if document.len() > DOCUMENT {
                break;
            }
        }
        Ok(document.freeze())
    }
}

/// Whether this request makes an object visible: a put of all of it, or the last one of an upload in parts.
fn publishes(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let upload = query.split('&').any(|pair| pair.starts_with("uploadId="));
    match *request.method() {
        Method::PUT => !upload,
        Method::POST => upload,
        _ => false,
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // A condition need not be signed, as only the names with x-amz- do.
        if self.guard.closed() && publishes(&request) {
            request.headers_mut().insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let mut backoff = Backoff::new(self.retries);
        let mut uncertain = false;
        loop {
            let refusal = match self.attempt(request.clone()).await {
                Ok(response) => return Ok(response),
                Err(refusal) => refusal,
            };
            uncertain |= refusal.uncertain;
            match backoff.pause(refusal.again) {
                Some(pause) => sleep(pause).await,
                // Of a kind that the store does not repeat.
                None => return Err(HttpError::new(HttpErrorKind::Unknown, Refusal { uncertain, ..refusal })),
            }
        }
    }
}

impl HttpConnector for Transport {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

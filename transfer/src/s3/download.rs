//! Reading an object, and going on where a connection broke.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::StatusCode;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::backoff::{Again, Backoff};
use super::engine::{Engine, gone};
use super::settings::Settings;
use super::{Refusal, bare};
use crate::error::{Error, ErrorKind, Result};

/// How many bytes are fetched ahead of the reader.
const AHEAD: usize = 8 << 20;

/// So many bytes without a break, and earlier breaks are forgotten.
const GOOD_WHILE: u64 = 64 << 10;

/// One download.
pub(crate) struct Download {
    receiver: mpsc::Receiver<Result<Bytes>>,
    window: Arc<Semaphore>,
    current: Bytes,
    size: u64,
    etag: Option<String>,
    read: u64,
    failed: Option<Error>,
    task: JoinHandle<()>,
    /// Its threads fetch.
    _engine: Arc<Engine>,
}

impl Download {
    pub(super) fn start(engine: Arc<Engine>, settings: &Settings, key: Path) -> Result<Self> {
        let (store, _) = engine.store(settings, false)?;
        let (first, wanted) = (store.clone(), key.clone());
        let found = engine
            .run(async move { first.get_opts(&wanted, GetOptions::default()).await })?
            .map_err(|error| Refusal::of(&error))?;
        let (size, etag) = (found.meta.size, found.meta.e_tag.clone());
        let (sender, receiver) = mpsc::channel();
        let window = Arc::new(Semaphore::new(AHEAD));
        let fetch = Fetch {
            store,
            key,
            size,
            // A weak tag does not promise the same bytes (RFC 9110, section 8.8.1).
            etag: etag.clone().filter(|etag| !etag.starts_with("W/")),
            at: 0,
            stall: settings.stall,
            retries: settings.retries,
            sender,
            window: Arc::clone(&window),
        };
        let task = engine.spawn(fetch.run(found))?;
        let etag = etag.as_deref().map(bare);
        Ok(Self {
            receiver,
            window,
            current: Bytes::new(),
            size,
            etag,
            read: 0,
            failed: None,
            task,
            _engine: engine,
        })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        if let Some(failed) = &self.failed {
            return Err(failed.again());
        }
        if into.is_empty() {
            return Ok(0);
        }
        while self.current.is_empty() {
            if self.read == self.size {
                return Ok(0);
            }
            match self.receiver.recv().unwrap_or_else(|_| Err(gone())) {
                Ok(piece) => self.current = piece,
                Err(error) => {
                    self.failed = Some(error.again());
                    return Err(error);
                }
            }
        }
        let length = self.current.len().min(into.len());
        self.current.copy_to_slice(into.get_mut(..length).unwrap_or_default());
        self.read += length as u64;
        self.window.add_permits(length);
        Ok(length)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What fetches, ahead of the reader.
struct Fetch {
    store: AmazonS3,
    key: Path,
    size: u64,
    etag: Option<String>,
    /// How much has come.
    at: u64,
    stall: Duration,
    retries: u32,
    sender: mpsc::Sender<Result<Bytes>>,
    window: Arc<Semaphore>,
}

impl Fetch {
    async fn run(mut self, found: GetResult) {
        let mut stream = found.into_stream();
        let mut backoff = Backoff::new(self.retries);
        loop {
            let began = self.at;
            let Err(broke) = self.drain(&mut stream).await else { return };
            if self.at - began >= GOOD_WHILE {
                backoff.reset();
            }
            let again = if self.etag.is_some() { Again::Often } else { Again::Never };
            let Some(pause) = backoff.pause(again) else {
                let _ = self.sender.send(Err(broke));
                return;
            };
            sleep(pause).await;
            match self.resume().await {
                Ok(rest) => stream = rest,
                Err(error) => {
                    let _ = self.sender.send(Err(error));
                    return;
                }
            }
        }
    }

    /// Hands on what comes. Fine when that is all, or when nobody listens any more.
    async fn drain(&mut self, stream: &mut BoxStream<'static, object_store::Result<Bytes>>) -> Result<()> {
        while self.at < self.size {
            let next = timeout(self.stall, stream.next()).await;
            let mut piece = match next {
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(error))) => {
                    let message = "the connection to the server broke, again and again";
                    return Err(Error::new(ErrorKind::Unavailable, message)
                        .because(std::io::Error::other(error.to_string())));
                }
                Ok(None) => {
                    return Err(Error::new(ErrorKind::Unavailable, "the server sends less than it promised"));
                }
                Err(_) => return Err(Error::new(ErrorKind::Unavailable, "the server has stopped to send")),
            };
            if piece.len() as u64 > self.size - self.at {
                return Err(Error::new(ErrorKind::Unavailable, "the server sends more than it promised"));
            }
            self.at += piece.len() as u64;
            while !piece.is_empty() {
                let some = piece.split_to(piece.len().min(AHEAD));
                let Ok(permits) = self.window.acquire_many(some.len() as u32).await else { return Ok(()) };
                permits.forget();
                if self.sender.send(Ok(some)).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Asks for the rest of the same object.
    async fn resume(&self) -> Result<BoxStream<'static, object_store::Result<Bytes>>> {
        let changed =
            || Error::new(ErrorKind::Changed, "the object was replaced while it was read: begin anew");
        let options = GetOptions {
            if_match: self.etag.clone(),
            range: Some(GetRange::Bounded(self.at..self.size)),
            ..GetOptions::default()
        };
        let rest = self.store.get_opts(&self.key, options).await.map_err(|error| {
            let refusal = Refusal::of(&error);
            match refusal.status {
                Some(StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE) => changed(),
                Some(StatusCode::NOT_FOUND) => {
                    Error::new(ErrorKind::Changed, "the object was removed while it was read")
                }
                _ => refusal.into(),
            }
        })?;
        // A server that does not know the condition would send another object's bytes.
        if rest.meta.e_tag != self.etag || rest.meta.size != self.size || rest.range.start != self.at {
            return Err(changed());
        }
        Ok(rest.into_stream())
    }
}

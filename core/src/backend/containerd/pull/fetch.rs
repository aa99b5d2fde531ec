//! One blob: from the registry, from somebody else's hands, or already here.

use super::apply::{self, Applied, Piece, Unpacking};
use super::keyed_lock::KeyedLock;
use super::plan::{Layer, Stored};
use super::session::Session;
use crate::backend::LayerCounter;
use crate::backend::containerd::content::{self, ContentStream, Opened, Writer};
use crate::backend::containerd::images;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::BlobStream;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// How often somebody else's write is looked at.
const LOOK: Duration = Duration::from_millis(150);

/// One blob is brought by one pull of this process at a time; the others find it here.
async fn alone(session: &Session, digest: &str) -> OwnedMutexGuard<()> {
    static BLOBS: KeyedLock<(String, String, String)> = KeyedLock::new();
    let key = (session.client.address().to_owned(), session.client.namespace().to_owned(), digest.to_owned());
    BLOBS.lock(key).await
}

/// Keeps a document.
pub(super) async fn document(session: &Session, document: &Stored) -> Result<()> {
    let _alone = alone(session, &document.digest).await;
    let mut labels = document.labels.clone();
    labels.extend(session.source.clone());
    let size = document.bytes.len() as u64;
    match open(session, &document.name, &document.digest, size, None).await? {
        None => content::add_labels(&session.client, &document.digest, &labels).await,
        Some(mut writer) => {
            let done = usize::try_from(writer.offset()).unwrap_or(usize::MAX).min(document.bytes.len());
            writer.write(&document.bytes[done..]).await?;
            writer.commit(labels).await?;
            session.writes().remove(&document.name);
            Ok(())
        }
    }
}

/// Begins to write a blob, waiting while somebody else does. None when it is here.
async fn open(
    session: &Session,
    name: &str,
    digest: &str,
    size: u64,
    counter: Option<&LayerCounter>,
) -> Result<Option<Box<Writer>>> {
    loop {
        match content::open(&session.client, session.lease.id(), name, digest, size).await? {
            Opened::Exists => return Ok(None),
            Opened::Locked(offset) => {
                if let Some(counter) = counter {
                    counter.fetched(offset);
                }
                tokio::time::sleep(LOOK).await;
            }
            Opened::Writer(writer) => {
                session.writes().insert(name.to_owned());
                return Ok(Some(writer));
            }
        }
    }
}

/// Brings a layer into the content store and, when `unpack` names a directory of the scratch area, unpacks it there.
/// None when it is not unpacked and containerd must do it.
pub(super) async fn layer(session: &Session, layer: &Layer, unpack: Option<&str>) -> Result<Option<Applied>> {
    let digest = layer.descriptor.digest.as_str();
    let named = |error: Error| error.with("blob", digest);
    let counter = session.tracker.layer(digest);
    let closed = |_| Error::cancelled("the pull has ended");
    let _permit = session.permits.acquire().await.map_err(closed)?;
    let _alone = alone(session, digest).await;
    let mut sink = Sink::start(session, layer, unpack, counter.clone()).map_err(named)?;
    let name = format!("layer-{digest}");
    match open(session, &name, digest, layer.descriptor.size, counter.as_deref()).await? {
        Some(writer) => {
            let whole = writer.offset() == 0;
            let passed = if whole { Some(&mut sink) } else { None };
            download(session, layer, writer, counter.as_deref(), passed).await.map_err(named)?;
            session.writes().remove(&name);
            if !whole {
                from_content(session, digest, &mut sink).await.map_err(named)?;
            }
        }
        None => {
            session.stored();
            if let Some(counter) = &counter {
                counter.extracting();
            }
            from_content(session, digest, &mut sink).await.map_err(named)?;
        }
    }
    sink.finish().await.map_err(named)
}

/// Writes a blob from where the writer is to its end. The bytes also go to `sink`, when the blob comes whole.
async fn download(
    session: &Session,
    layer: &Layer,
    mut writer: Box<Writer>,
    counter: Option<&LayerCounter>,
    mut sink: Option<&mut Sink>,
) -> Result<()> {
    let (digest, size) = (layer.descriptor.digest.as_str(), layer.descriptor.size);
    let Some(repository) = &session.repository else {
        return Err(images::incomplete(&session.image));
    };
    let mut stream = BlobStream::new(repository.clone(), digest, size, writer.offset())?;
    while let Some(bytes) = stream.next().await? {
        session.downloaded.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        writer.write(&bytes).await?;
        if let Some(sink) = &mut sink {
            sink.feed(bytes).await?;
        }
        if let Some(counter) = counter {
            counter.fetched(stream.offset());
        }
    }
    if let Some(counter) = counter {
        counter.extracting();
    }
    if let Some(sink) = &mut sink {
        sink.end().await;
    }
    // containerd syncs the blob to disk here, which takes a while; the threads work on meanwhile.
    let labels: HashMap<String, String> = session.source.clone().into_iter().collect();
    writer.commit(labels).await?;
    session.stored();
    Ok(())
}

async fn from_content(session: &Session, digest: &str, sink: &mut Sink) -> Result<()> {
    if sink.unpacking.is_none() {
        return Ok(());
    }
    let mut stream = ContentStream::open(&session.client, digest).await?;
    while let Some(bytes) = stream.next().await? {
        sink.feed(bytes).await?;
    }
    sink.end().await;
    Ok(())
}

/// Where a layer's bytes go besides the content store.
struct Sink {
    /// None when it does not unpack, or cannot unpack this one.
    unpacking: Option<Unpacking>,
}

impl Sink {
    fn start(
        session: &Session,
        layer: &Layer,
        unpack: Option<&str>,
        counter: Option<Arc<LayerCounter>>,
    ) -> Result<Self> {
        let unpacking = match (&session.scratch, unpack) {
            (Some(scratch), Some(name)) => {
                let root = scratch.directory(name)?;
                Some(apply::start(root, &layer.diff_id, counter, session.alive.token())?)
            }
            _ => None,
        };
        Ok(Self { unpacking })
    }

    async fn feed(&mut self, bytes: Bytes) -> Result<()> {
        let Some(unpacking) = &self.unpacking else { return Ok(()) };
        if unpacking.feed(Piece::Data(bytes)).await {
            return Ok(());
        }
        // The threads have stopped: on an error, or after a layer that ends before its blob does.
        let Some(unpacking) = self.unpacking.take() else { return Ok(()) };
        match unpacking.finish().await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                tracing::debug!(
                    error = error.message(),
                    "containerd unpacks a layer that this library does not"
                );
                Ok(())
            }
            Err(error) => Err(error),
            Ok(_) => Err(Error::unexpected("a layer was unpacked before it had come")),
        }
    }

    async fn end(&mut self) {
        if let Some(unpacking) = &self.unpacking {
            // Threads that have stopped tell why when they are asked for the result.
            let _ = unpacking.feed(Piece::End).await;
        }
    }

    async fn finish(self) -> Result<Option<Applied>> {
        let Some(unpacking) = self.unpacking else { return Ok(None) };
        match unpacking.finish().await {
            Ok(applied) => Ok(Some(applied)),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(error),
        }
    }
}

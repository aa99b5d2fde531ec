//! A file on its way into a workspace over gRPC.

use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, old, v1};
use super::open_write::ended;
use super::wish::Wish;
use crate::error::{Error, Result};
use crate::types::WriteResult;
use bytes::Bytes;
use dunnage_bridge::RAW_CHUNK_SIZE;
use dunnage_bridge::bridgepb::WriteRawChunk;
use dunnage_bridge::v1::{WriteFinish, WriteRequest, WriteStart};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::{Stream, StreamExt};

/// Chunks that wait for the agent.
const WAITING: usize = 4;
/// How long a call that carries a whole file may take: its chunks have a limit of their own.
const WHOLE_FILE: Duration = Duration::from_secs(24 * 3600);

/// A file on its way over gRPC. Dropping it resets the call, and the agent keeps what was there.
pub(super) struct Upload {
    chunks: mpsc::Sender<Part>,
    task: Option<JoinHandle<Result<WriteResult>>>,
}

enum Part {
    Bytes(Bytes),
    /// All is there: so many bytes.
    End(u64),
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Upload {
    pub(super) fn begin(client: &BridgeClient, path: String, wish: Wish) -> Self {
        let (chunks, parts) = mpsc::channel(WAITING);
        let client = client.clone();
        let task = tokio::spawn(async move {
            let place = Place(Arc::new(Mutex::new(Some(parts))));
            let (written, _) = client
                .call_within(Class::Bulk, Repeat::IfUnsent, WHOLE_FILE, |connection, lane| {
                    let (frames, path, wish) = (place.frames(), path.clone(), wish.clone());
                    async move {
                        wish.check(connection.agent())?;
                        if connection.agent().write {
                            let requests = frames.map(move |frame| frame.v1(&path, &wish));
                            let written = v1(lane).write(requests).await?.into_inner();
                            let revision = Some(written.revision).filter(|revision| !revision.is_empty());
                            return Ok(WriteResult { bytes_written: written.bytes_written, revision });
                        }
                        let chunks = frames.map_while(move |frame| frame.old(&path));
                        let written = old(lane).write_raw(chunks).await?.into_inner().bytes_written;
                        let bytes_written = u64::try_from(written).unwrap_or_default();
                        Ok(WriteResult { bytes_written, revision: None })
                    }
                })
                .await?;
            Ok(written)
        });
        Self { chunks, task: Some(task) }
    }

    pub(super) async fn send(self, client: &BridgeClient, mut bytes: Bytes) -> Result<Self> {
        let limit = client.slot().limits.call;
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(RAW_CHUNK_SIZE));
            match tokio::time::timeout(limit, self.chunks.send(Part::Bytes(chunk))).await {
                Ok(Ok(())) => {}
                // The call has ended: its outcome says why.
                Ok(Err(_)) => return Err(self.outcome().await.err().unwrap_or_else(ended)),
                Err(_) => return Err(client.late(limit)),
            }
        }
        Ok(self)
    }

    pub(super) async fn finish(self, client: &BridgeClient, size: u64) -> Result<WriteResult> {
        let limit = client.slot().limits.call;
        // Fails when the call has ended: its outcome says why.
        let _ = tokio::time::timeout(limit, self.chunks.send(Part::End(size))).await;
        match tokio::time::timeout(limit, self.outcome()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(client.late(limit)),
        }
    }

    async fn outcome(mut self) -> Result<WriteResult> {
        let Some(task) = self.task.as_mut() else { return Err(ended()) };
        match task.await {
            Ok(outcome) => outcome,
            Err(error) => {
                Err(Error::unavailable("the engine was closed during the transfer").caused_by(error))
            }
        }
    }
}

/// Where the receiving end of a file waits for its call: a call that was not sent puts it back for the next.
#[derive(Clone)]
struct Place(Arc<Mutex<Option<mpsc::Receiver<Part>>>>);

impl Place {
    fn lock(&self) -> MutexGuard<'_, Option<mpsc::Receiver<Part>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn frames(&self) -> Frames {
        Frames { parts: self.lock().take(), place: self.clone(), begun: false, taken: false, ended: false }
    }
}

/// A message of a file's way, before it is put into the words of a service.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    Begin,
    Data(Bytes),
    Finish(u64),
}

impl Frame {
    fn v1(self, path: &str, wish: &Wish) -> WriteRequest {
        use dunnage_bridge::v1::write_request::Frame as Wire;
        let frame = match self {
            Self::Begin => Wire::Start(WriteStart {
                path: Bytes::copy_from_slice(path.as_bytes()),
                mode: wish.mode,
                expected_revision: wish.expected.clone(),
            }),
            Self::Data(data) => Wire::Data(data),
            Self::Finish(size) => Wire::Finish(WriteFinish { expected_size: Some(size) }),
        };
        WriteRequest { frame: Some(frame) }
    }

    /// In the old service the end of the stream says that all is there.
    fn old(self, path: &str) -> Option<WriteRawChunk> {
        match self {
            Self::Begin => Some(WriteRawChunk { path: path.to_owned(), data: Bytes::new() }),
            Self::Data(data) => Some(WriteRawChunk { path: String::new(), data }),
            Self::Finish(_) => None,
        }
    }
}

/// The messages of a file as the call takes them. It ends only by an end that was sent: a sender that goes away without
/// one leaves it open, so that the agent never takes a part for the whole.
struct Frames {
    parts: Option<mpsc::Receiver<Part>>,
    place: Place,
    begun: bool,
    taken: bool,
    ended: bool,
}

impl Stream for Frames {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        // The beginning is sent at once: a refusal then comes early.
        if !std::mem::replace(&mut self.begun, true) {
            return Poll::Ready(Some(Frame::Begin));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let Some(parts) = self.parts.as_mut() else { return Poll::Pending };
        let frame = match parts.poll_recv(cx) {
            Poll::Ready(Some(Part::Bytes(data))) => Frame::Data(data),
            Poll::Ready(Some(Part::End(size))) => {
                self.ended = true;
                Frame::Finish(size)
            }
            Poll::Ready(None) | Poll::Pending => return Poll::Pending,
        };
        self.taken = true;
        Poll::Ready(Some(frame))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if !self.taken {
            *self.place.lock() = self.parts.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_whose_writer_goes_away_never_ends() {
        let (sender, parts) = mpsc::channel(4);
        let place = Place(Arc::new(Mutex::new(Some(parts))));
        // Not taken from: as good as new.
        assert_eq!(place.frames().next().await, Some(Frame::Begin));
        let mut frames = place.frames();
        assert_eq!(frames.next().await, Some(Frame::Begin));
        sender.send(Part::Bytes(Bytes::from_static(b"x"))).await.ok();
        assert_eq!(frames.next().await, Some(Frame::Data(Bytes::from_static(b"x"))));
        drop(sender);
        let waited = tokio::time::timeout(Duration::from_millis(50), frames.next()).await;
        assert!(waited.is_err());
    }

    #[tokio::test]
    async fn a_file_ends_by_its_end() {
        let (sender, parts) = mpsc::channel(4);
        let place = Place(Arc::new(Mutex::new(Some(parts))));
        sender.send(Part::End(0)).await.ok();
        let frames: Vec<_> = place.frames().collect().await;
        assert_eq!(frames, [Frame::Begin, Frame::Finish(0)]);
    }
}

use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, Connection, v1};
use super::super::failure::needs;
use super::entries::{DATA_DIR, entry_path};
use crate::error::{Error, Result};
use crate::types::{FileEvent, FileEventKind, WatchOptions};
use bytes::Bytes;
use dunnage_bridge::v1::{WatchEvent, WatchKind, WatchRequest, WatchResponse};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

/// What happens in a directory, one event at a time and in order. Dropping it ends the watch; so does the closing of the
/// engine. It keeps no engine alive.
///
/// It ends by itself after the directory was removed, which is the last event. A reader that is slow holds up nobody: what
/// was missed meanwhile is told as one overflow. After an error it has ended.
///
/// # Cancel safety
/// [`FileEvents::next`] is cancel safe: an event is taken only when it is returned.
pub struct FileEvents {
    inner: BoxStream<'static, Result<FileEvent>>,
}

impl FileEvents {
    /// The next event; none after the last one.
    ///
    /// # Errors
    /// UNAVAILABLE when the workspace stops or its agent goes away; RESOURCE_EXHAUSTED when there are more directories than
    /// can be watched.
    pub async fn next(&mut self) -> Option<Result<FileEvent>> {
        self.inner.next().await
    }
}

impl Stream for FileEvents {
    type Item = Result<FileEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for FileEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileEvents").finish_non_exhaustive()
    }
}

/// A watch under way.
struct Watch {
    client: BridgeClient,
    connection: Arc<Connection>,
    messages: Box<Streaming<WatchResponse>>,
    path: String,
    waiting: VecDeque<FileEvent>,
    closed: CancellationToken,
    /// The directory itself was removed.
    removed: bool,
}

impl BridgeClient {
    /// Watches a directory. What happens after this returns is told, until `closed` is cancelled.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no directory; INVALID_ARGUMENT for a malformed path or pattern;
    /// RESOURCE_EXHAUSTED when the system allows no more watches; UNSUPPORTED for an older agent; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Dropping it ends the watch.
    pub(crate) async fn watch(
        &self,
        options: &WatchOptions,
        closed: CancellationToken,
    ) -> Result<FileEvents> {
        let path = options.path.as_deref().unwrap_or(DATA_DIR);
        let watch = self.watch_inner(path, options, closed).await;
        let watch = watch.map_err(|e| self.at(e).with("path", path).in_operation("fs.watch"))?;
        Ok(FileEvents { inner: stream::unfold(Some(watch), step).boxed() })
    }

    async fn watch_inner(
        &self,
        path: &str,
        options: &WatchOptions,
        closed: CancellationToken,
    ) -> Result<Watch> {
        let path = self.clean(path)?;
        let request = WatchRequest {
            path: Bytes::copy_from_slice(path.as_bytes()),
            recursive: options.recursive,
            exclude: options.exclude.clone(),
        };
        let (messages, connection) = self
            .call(Class::Control, Repeat::Always, |connection, lane| {
                let request = request.clone();
                async move {
                    needs(connection.agent().watch, "watch directories")?;
                    Ok(v1(lane).watch(request).await?.into_inner())
                }
            })
            .await?;
        let (client, messages) = (self.clone(), Box::new(messages));
        Ok(Watch { client, connection, messages, path, waiting: VecDeque::new(), closed, removed: false })
    }
}

/// The next event and the watch; after an error there is none, and at the end nothing.
async fn step(watch: Option<Watch>) -> Option<(Result<FileEvent>, Option<Watch>)> {
    let mut watch = watch?;
    let closed = watch.closed.clone();
    match closed.run_until_cancelled(watch.next()).await? {
        Ok(event) => event.map(|event| (Ok(event), Some(watch))),
        // The connection was closed meanwhile.
        Err(_) if closed.is_cancelled() => None,
        Err(error) => {
            let error = watch.client.at(error).with("path", &watch.path).in_operation("fs.watch");
            Some((Err(error), None))
        }
    }
}

impl Watch {
    async fn next(&mut self) -> Result<Option<FileEvent>> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            // It may say nothing for as long as nothing happens.
            match self.messages.message().await {
                Ok(Some(message)) => {
                    let removed =
                        |event: &WatchEvent| event.path.is_empty() && event.kind() == WatchKind::Removed;
                    self.removed |= message.events.iter().any(removed);
                    self.waiting.extend(message.events.iter().filter_map(|event| convert(&self.path, event)));
                }
                Ok(None) if self.removed => return Ok(None),
                Ok(None) => {
                    return Err(Error::unavailable(
                        "the agent ended the watch; see whether the workspace runs",
                    ));
                }
                Err(status) => return Err(self.client.failed(&self.connection, &status)),
            }
        }
    }
}

/// None for what the agent says lies elsewhere, and for kinds of later agents.
fn convert(root: &str, event: &WatchEvent) -> Option<FileEvent> {
    let kind = match event.kind() {
        WatchKind::Created => FileEventKind::Created,
        WatchKind::Changed => FileEventKind::Changed,
        WatchKind::Removed => FileEventKind::Removed,
        WatchKind::Renamed => FileEventKind::Renamed,
        WatchKind::Overflow => FileEventKind::Overflow,
        WatchKind::Unknown => return None,
    };
    let path = |path: &[u8]| if path.is_empty() { Some(root.to_owned()) } else { entry_path(root, path) };
    let from = if kind == FileEventKind::Renamed { Some(path(&event.from)?) } else { None };
    Some(FileEvent { kind, path: path(&event.path)?, from, is_dir: event.is_dir })
}

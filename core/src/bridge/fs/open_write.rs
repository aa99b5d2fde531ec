use super::super::client::BridgeClient;
use super::super::failure;
use super::super::fd::{FdFault, NewFile, blocking};
use super::stream_write::Upload;
use super::wish::Wish;
use crate::error::{Error, Result};
use crate::types::{WriteOptions, WriteResult};
use bytes::Bytes;
use std::io::Write;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A file inside that is written piece by piece. It takes the place of what is there by [`FileWriter::finish`], and not
/// before.
///
/// Dropping it unfinished leaves everything as it was.
pub struct FileWriter {
    path: String,
    /// None once finished or aborted. Before the client, which may be what keeps the file's tree there.
    sink: Mutex<Option<Sink>>,
    client: BridgeClient,
}

struct Sink {
    written: u64,
    kind: SinkKind,
}

enum SinkKind {
    Descriptor(NewFile),
    Stream(Upload),
}

impl std::fmt::Debug for FileWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FileWriter {
    /// Writes bytes after those written before. Waits while the agent takes none. Writes of several callers don't mix.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED for a full disk; FAILED_PRECONDITION when it was finished or aborted; UNAVAILABLE. After an
    /// error only abort is left, and has been done.
    ///
    /// # Cancel safety
    /// A write that is dropped aborts the file: nobody could know how much of it was written.
    pub async fn write(&self, bytes: impl Into<Bytes>) -> Result<()> {
        self.write_inner(bytes.into()).await.map_err(|e| self.error(e))
    }

    async fn write_inner(&self, bytes: Bytes) -> Result<()> {
        let mut place = self.sink.lock().await;
        // Taken: an error or a drop aborts it.
        let mut sink = place.take().ok_or_else(ended)?;
        sink.written += bytes.len() as u64;
        *place = Some(match sink.kind {
            SinkKind::Descriptor(mut new) => {
                let new = blocking(move |_| {
                    new.file.write_all(&bytes).map_err(|e| Error::io(e, "the file was not written"))?;
                    Ok(new)
                })
                .await?;
                Sink { written: sink.written, kind: SinkKind::Descriptor(new) }
            }
            SinkKind::Stream(upload) => {
                let upload = upload.send(&self.client, bytes).await?;
                Sink { written: sink.written, kind: SinkKind::Stream(upload) }
            }
        });
        Ok(())
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// As [`FileWriter::write`]; CONFLICT when what is there is not what was expected.
    ///
    /// # Cancel safety
    /// Dropping it leaves the file in place or not; never a part of it.
    pub async fn finish(&self) -> Result<WriteResult> {
        let sink = self.sink.lock().await.take();
        let finished = async {
            let sink = sink.ok_or_else(ended)?;
            match sink.kind {
                SinkKind::Descriptor(new) => blocking(move |_| new.commit(sink.written)).await,
                SinkKind::Stream(upload) => upload.finish(&self.client, sink.written).await,
            }
        };
        finished.await.map_err(|e| self.error(e))
    }

    /// Gives the file up. After a finish or an abort it does nothing.
    ///
    /// # Cancel safety
    /// Safe; it waits only for a write under way.
    pub async fn abort(&self) {
        *self.sink.lock().await = None;
    }

    /// The file itself, when it goes by descriptor.
    pub(super) async fn take_descriptor(&self) -> Option<NewFile> {
        let mut place = self.sink.lock().await;
        match place.take() {
            Some(Sink { kind: SinkKind::Descriptor(new), .. }) => Some(new),
            other => {
                *place = other;
                None
            }
        }
    }

    fn error(&self, error: Error) -> Error {
        self.client.at(error).with("path", &self.path).in_operation("fs.write")
    }
}

pub(super) fn ended() -> Error {
    Error::failed_precondition("the file was finished, aborted or failed before; open it again")
}

impl BridgeClient {
    /// Opens a file for writing piece by piece. Missing parents are made; a file that is there is replaced when the writer
    /// finishes, and its mode and owner stay.
    ///
    /// # Errors
    /// CONFLICT when what is there is not what was expected; FAILED_PRECONDITION for a directory; PERMISSION_DENIED;
    /// INVALID_ARGUMENT for a malformed path, mode or revision; UNSUPPORTED for an older agent; UNAVAILABLE.
    /// Over an agent without descriptors, what the agent refuses shows in the first write or in the finish.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn open_write(&self, options: &WriteOptions) -> Result<FileWriter> {
        let opened = async {
            let wish = Wish::new(options.mode.as_deref(), options.expected_revision.as_deref())?;
            self.open_write_inner(&options.path, wish).await
        };
        opened.await.map_err(|e| self.at(e).with("path", &options.path).in_operation("fs.write"))
    }

    pub(super) async fn open_write_inner(&self, path: &str, wish: Wish) -> Result<FileWriter> {
        let path = self.clean(path)?;
        let connection = self.slot().connection().await?;
        wish.check(connection.agent()).map_err(|status| failure::error(&status))?;
        let kind = match connection.fd() {
            None => None,
            Some(fd) => {
                let (name, wish) = (path.clone(), wish.clone());
                match blocking(move |_| Ok(Arc::clone(&fd).open_write(&name, wish))).await? {
                    Ok(new) => Some(SinkKind::Descriptor(new)),
                    Err(FdFault::Refused(error)) => return Err(error),
                    Err(FdFault::Unusable) => None,
                }
            }
        };
        let kind = kind.unwrap_or_else(|| SinkKind::Stream(Upload::begin(self, path.clone(), wish)));
        let sink = Mutex::new(Some(Sink { written: 0, kind }));
        Ok(FileWriter { client: self.clone(), path, sink })
    }
}

use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, Connection, old};
use super::super::fd::{FdFault, blocking};
use crate::error::{Error, Result};
use bytes::Bytes;
use dunnage_bridge::bridgepb::{DataChunk, ReadRawRequest};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::Streaming;

/// Bytes of one chunk.
const CHUNK: usize = 1 << 20;

/// A file inside that is read piece by piece. Its content is that of the moment it was opened: a later write replaces
/// the file and leaves this one as it is.
///
/// Dropping it closes the file.
pub struct FileReader {
    client: BridgeClient,
    path: String,
    size: Option<u64>,
    source: Source,
}

enum Source {
    Descriptor { file: Arc<File>, offset: Mutex<u64> },
    Stream { chunks: Mutex<Box<Streaming<DataChunk>>>, connection: Arc<Connection> },
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReader")
            .field("path", &self.path)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl FileReader {
    /// The length in bytes when it was opened. None where the agent does not tell.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next piece, of at most 16 MiB and mostly 1 MiB or less; none at the end. Pieces of concurrent calls
    /// come one after another.
    ///
    /// # Errors
    /// UNAVAILABLE when the agent goes away; TIMEOUT when it sends nothing for long.
    ///
    /// # Cancel safety
    /// Safe: a piece is returned or stays.
    pub async fn next_chunk(&self) -> Result<Option<Bytes>> {
        self.next_inner()
            .await
            .map_err(|e| self.client.at(e).with("path", &self.path).in_operation("fs.read"))
    }

    async fn next_inner(&self) -> Result<Option<Bytes>> {
        match &self.source {
            Source::Descriptor { file, offset } => {
                let mut offset = offset.lock().await;
                let (file, at) = (Arc::clone(file), *offset);
                let bytes = blocking(move |_| read_at(&file, at)).await?;
                *offset += bytes.len() as u64;
                Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
            }
            Source::Stream { chunks, connection } => {
                let mut chunks = chunks.lock().await;
                loop {
                    match self.client.next_piece(connection, chunks.message()).await? {
                        Some(chunk) if chunk.data.is_empty() => {}
                        chunk => return Ok(chunk.map(|chunk| chunk.data)),
                    }
                }
            }
        }
    }

    /// The file itself, when it came by descriptor and none of it was read.
    pub(super) fn descriptor(&self) -> Option<Arc<File>> {
        match &self.source {
            Source::Descriptor { file, .. } => Some(Arc::clone(file)),
            Source::Stream { .. } => None,
        }
    }
}

fn read_at(file: &File, offset: u64) -> Result<Bytes> {
    let mut bytes = vec![0; CHUNK];
    let read = loop {
        match file.read_at(&mut bytes, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => break result.map_err(|e| Error::io(e, "the file cannot be read"))?,
        }
    };
    bytes.truncate(read);
    Ok(bytes.into())
}

impl BridgeClient {
    /// Opens a regular file for reading piece by piece.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no regular file; INVALID_ARGUMENT for a malformed path; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn open_read(&self, path: &str) -> Result<FileReader> {
        self.open_read_inner(path).await.map_err(|e| self.at(e).with("path", path).in_operation("fs.read"))
    }

    pub(super) async fn open_read_inner(&self, path: &str) -> Result<FileReader> {
        let path = self.clean(path)?;
        let reader = |size, source| FileReader { client: self.clone(), path: path.clone(), size, source };
        if let Some(fd) = self.slot().connection().await?.fd() {
            let name = path.clone();
            match blocking(move |_| Ok(fd.open_read(&name))).await? {
                Ok(file) => {
                    let size =
                        file.metadata().map_err(|e| Error::io(e, "the file cannot be looked at"))?.len();
                    let source = Source::Descriptor { file: Arc::new(file), offset: Mutex::default() };
                    return Ok(reader(Some(size), source));
                }
                Err(FdFault::Refused(error)) => return Err(error),
                Err(FdFault::Unusable) => {}
            }
        }
        let request = ReadRawRequest { path: path.clone() };
        let (chunks, connection) = self
            .call(Class::Bulk, Repeat::Always, |_, lane| {
                let request = request.clone();
                async move { Ok(old(lane).read_raw(request).await?.into_inner()) }
            })
            .await?;
        Ok(reader(None, Source::Stream { chunks: Mutex::new(Box::new(chunks)), connection }))
    }
}

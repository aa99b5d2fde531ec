use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, Connection, old, v1};
use super::super::fd::{FdFault, blocking};
use crate::error::{Error, Result};
use crate::types::OpenReadOptions;
use bytes::{Buf, Bytes};
use dunnage_bridge::bridgepb::{DataChunk, ReadRawRequest};
use dunnage_bridge::v1::{ReadRequest, ReadResponse};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::{Status, Streaming};

/// Bytes of one chunk.
const CHUNK: usize = 1 << 20;

/// A file inside that is read piece by piece. Its content is that of the moment it was opened: a later write replaces
/// the file and leaves this one as it is.
///
/// Dropping it closes the file.
pub struct FileReader {
    path: String,
    size: Option<u64>,
    /// Before the client, which may be what keeps the file's tree there.
    source: Source,
    client: BridgeClient,
}

enum Source {
    /// The next byte, and how many are left to read.
    Descriptor {
        file: Arc<File>,
        place: Mutex<(u64, u64)>,
    },
    Stream {
        chunks: Mutex<Chunks>,
        connection: Arc<Connection>,
    },
}

/// Pieces that an agent sends.
struct Chunks {
    from: From,
    /// Bytes to pass over, where the agent cannot begin later.
    skip: u64,
    /// How many are left to read after that.
    left: u64,
}

enum From {
    Whole(Box<Streaming<DataChunk>>),
    Part(Box<Streaming<ReadResponse>>),
}

impl From {
    async fn message(&mut self) -> std::result::Result<Option<Bytes>, Status> {
        Ok(match self {
            Self::Whole(chunks) => chunks.message().await?.map(|chunk| chunk.data),
            Self::Part(chunks) => chunks.message().await?.map(|chunk| chunk.data),
        })
    }
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
    /// The length of the whole file in bytes when it was opened. None where the agent does not tell.
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
            Source::Descriptor { file, place } => {
                let mut place = place.lock().await;
                let (file, at, left) = (Arc::clone(file), place.0, place.1);
                if left == 0 {
                    return Ok(None);
                }
                let bytes = blocking(move |_| read_at(&file, at, left)).await?;
                place.0 += bytes.len() as u64;
                place.1 -= bytes.len() as u64;
                Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
            }
            Source::Stream { chunks, connection } => {
                let mut chunks = chunks.lock().await;
                loop {
                    if chunks.left == 0 {
                        return Ok(None);
                    }
                    let Some(bytes) = self.client.next_piece(connection, chunks.from.message()).await? else {
                        return Ok(None);
                    };
                    let bytes = chunks.cut(bytes);
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Gives the file up to one who reads all of it, when it came by descriptor and none of it was read: the file, its
    /// first byte to read and the most bytes.
    pub(super) fn descriptor(&self) -> Option<(Arc<File>, u64, u64)> {
        match &self.source {
            Source::Descriptor { file, place } => {
                let place = place.try_lock().ok()?;
                Some((Arc::clone(file), place.0, place.1))
            }
            Source::Stream { .. } => None,
        }
    }
}

impl Chunks {
    /// What of a piece is wanted.
    fn cut(&mut self, mut bytes: Bytes) -> Bytes {
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skip as u64;
        bytes.advance(skip);
        bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= bytes.len() as u64;
        bytes
    }
}

fn read_at(file: &File, offset: u64, left: u64) -> Result<Bytes> {
    // No file reaches beyond what the system can seek to.
    if i64::try_from(offset).is_err() {
        return Ok(Bytes::new());
    }
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
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
    pub(crate) async fn open_read(&self, options: &OpenReadOptions) -> Result<FileReader> {
        let OpenReadOptions { path, offset, length } = options;
        let opened = self.open_read_inner(path, *offset, *length).await;
        opened.map_err(|e| self.at(e).with("path", path).in_operation("fs.read"))
    }

    /// Opens a file for the bytes from `offset` on, at most `length` of them.
    pub(super) async fn open_read_inner(
        &self,
        path: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<FileReader> {
        let path = self.clean(path)?;
        let left = length.unwrap_or(u64::MAX);
        let reader = |size, source| FileReader { client: self.clone(), path: path.clone(), size, source };
        if let Some(fd) = self.slot().connection().await?.fd() {
            let name = path.clone();
            match blocking(move |_| Ok(fd.open_read(&name))).await? {
                Ok(file) => {
                    let size =
                        file.metadata().map_err(|e| Error::io(e, "the file cannot be looked at"))?.len();
                    let source =
                        Source::Descriptor { file: Arc::new(file), place: Mutex::new((offset, left)) };
                    return Ok(reader(Some(size), source));
                }
                Err(FdFault::Refused(error)) => return Err(error),
                Err(FdFault::Unusable) => {}
            }
        }
        let whole = offset == 0 && length.is_none();
        let name = &path;
        let (chunks, connection) = self
            .call(Class::Bulk, Repeat::Always, |connection, lane| async move {
                if !whole && connection.agent().read_range {
                    let path = Bytes::copy_from_slice(name.as_bytes());
                    let part = v1(lane).read(ReadRequest { path, offset, length }).await?.into_inner();
                    return Ok(Chunks { from: From::Part(Box::new(part)), skip: 0, left });
                }
                let whole = old(lane).read_raw(ReadRawRequest { path: name.clone() }).await?.into_inner();
                Ok(Chunks { from: From::Whole(Box::new(whole)), skip: offset, left })
            })
            .await?;
        Ok(reader(None, Source::Stream { chunks: Mutex::new(chunks), connection }))
    }
}

use super::super::client::BridgeClient;
use super::super::fd::{Abandoned, blocking};
use crate::error::{Error, Result};
use crate::types::ReadOptions;
use bytes::Bytes;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// The most bytes taken into memory, unless told otherwise.
const MAX_BYTES: u64 = 1 << 30;
/// Bytes between two looks at whether anybody still waits.
const STRIDE: u64 = 32 << 20;

impl BridgeClient {
    /// Reads a regular file into memory.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no regular file; RESOURCE_EXHAUSTED when it is longer than `max_bytes`;
    /// INVALID_ARGUMENT for a malformed path; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn read(&self, options: &ReadOptions) -> Result<Bytes> {
        self.read_inner(options)
            .await
            .map_err(|e| self.at(e).with("path", &options.path).in_operation("fs.read"))
    }

    async fn read_inner(&self, options: &ReadOptions) -> Result<Bytes> {
        let limit = options.max_bytes.unwrap_or(MAX_BYTES);
        let reader = self.open_read_inner(&options.path, options.offset, options.length).await?;
        if let (Some(size), Some((file, offset, length))) = (reader.size(), reader.descriptor()) {
            let expected = size.saturating_sub(offset).min(length);
            if expected > limit {
                return Err(too_long(limit));
            }
            let part = Part { offset, length, expected };
            return blocking(move |abandoned| read_all(&file, &part, limit, abandoned)).await;
        }
        let mut first = Bytes::new();
        let mut all = Vec::new();
        while let Some(chunk) = reader.next_chunk().await? {
            if (all.len() + first.len() + chunk.len()) as u64 > limit {
                return Err(too_long(limit));
            }
            if all.is_empty() && first.is_empty() {
                // A file of one piece is not copied.
                first = chunk;
            } else {
                all.extend_from_slice(&std::mem::take(&mut first));
                all.extend_from_slice(&chunk);
            }
        }
        Ok(if all.is_empty() { first } else { all.into() })
    }
}

/// Which bytes of a file to read.
struct Part {
    offset: u64,
    length: u64,
    /// How many there are now.
    expected: u64,
}

fn read_all(mut file: &File, part: &Part, limit: u64, abandoned: &Abandoned) -> Result<Bytes> {
    let no_memory = || Error::resource_exhausted("there is no memory for the file; read it piece by piece");
    let mut bytes = Vec::new();
    // One more than its length, so that the end is seen without growing.
    let expected = usize::try_from(part.expected.saturating_add(1)).map_err(|_| no_memory())?;
    bytes.try_reserve_exact(expected).map_err(|_| no_memory())?;
    if part.expected == 0 && part.offset > 0 {
        return Ok(Bytes::new());
    }
    let failed = |e| Error::io(e, "the file cannot be read");
    file.seek(SeekFrom::Start(part.offset)).map_err(failed)?;
    loop {
        abandoned.check()?;
        let left = part.length - bytes.len() as u64;
        let read = file.by_ref().take(left.min(STRIDE)).read_to_end(&mut bytes);
        if read.map_err(failed)? == 0 {
            return Ok(bytes.into());
        }
        // It may have grown since it was opened.
        if bytes.len() as u64 > limit {
            return Err(too_long(limit));
        }
    }
}

fn too_long(limit: u64) -> Error {
    Error::resource_exhausted("the file is longer than max_bytes; raise that, or read it piece by piece")
        .with("max_bytes", limit)
}

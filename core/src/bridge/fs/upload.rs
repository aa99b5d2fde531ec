use super::super::client::BridgeClient;
use super::super::fd::blocking;
use super::copy::copy;
use super::wish::Wish;
use crate::error::{Error, Result};
use crate::host_file::open_source;
use crate::operation::Copied;
use crate::types::{UploadOptions, WriteResult};
use bytes::Bytes;
use std::io::Read;

/// Bytes of one chunk.
const CHUNK: u64 = 1 << 20;

impl BridgeClient {
    /// Copies a regular file of the host into the workspace. Missing parents are made; what is there is replaced at once or
    /// not at all.
    ///
    /// # Errors
    /// NOT_FOUND for the source; INVALID_ARGUMENT when the source is no regular file or a path is malformed;
    /// else as [`BridgeClient::write`].
    ///
    /// # Cancel safety
    /// Dropping it leaves the old content or the new.
    pub(crate) async fn upload(&self, options: &UploadOptions, copied: &Copied) -> Result<WriteResult> {
        self.upload_inner(options, copied).await.map_err(|e| {
            self.at(e).with("source", &options.source).with("path", &options.path).in_operation("fs.upload")
        })
    }

    async fn upload_inner(&self, options: &UploadOptions, shown: &Copied) -> Result<WriteResult> {
        self.clean(&options.path)?;
        let wish = Wish::new(options.mode.as_deref(), options.expected_revision.as_deref())?;
        let source = options.source.clone();
        let (file, size) = blocking(move |_| {
            let file = open_source(&source)?;
            let size = file.metadata().map_err(|e| Error::io(e, "the source cannot be looked at"))?.len();
            Ok((file, size))
        })
        .await?;
        shown.set_total(size);
        let writer =
            self.open_write_inner(&options.path, wish).await.map_err(|e| e.in_operation("fs.upload"))?;
        if let Some(mut new) = writer.take_descriptor().await {
            let shown = shown.clone();
            return blocking(move |abandoned| {
                let copied = copy(&file, &mut new.file, abandoned, &shown)?;
                new.commit(copied)
            })
            .await;
        }
        let mut file = file;
        loop {
            let (rest, bytes) = blocking(move |_| {
                let mut bytes = Vec::new();
                let read = (&file).take(CHUNK).read_to_end(&mut bytes);
                read.map_err(|e| Error::io(e, "the source cannot be read"))?;
                Ok((file, Bytes::from(bytes)))
            })
            .await?;
            if bytes.is_empty() {
                return writer.finish().await;
            }
            let read = bytes.len() as u64;
            writer.write(bytes).await?;
            shown.add(read);
            file = rest;
        }
    }
}

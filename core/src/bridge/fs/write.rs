use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, old};
use crate::error::Result;
use crate::types::{WriteOptions, WriteResult};
use bytes::Bytes;
use dunnage_bridge::bridgepb::WriteFileRequest;

/// The longest content that goes in one message.
const ONE_MESSAGE: usize = 256 << 10;

impl BridgeClient {
    /// Replaces a file with these bytes, at once or not at all. Missing parents are made; mode and owner of a file that
    /// is there stay.
    ///
    /// # Errors
    /// FAILED_PRECONDITION for a directory; RESOURCE_EXHAUSTED for a full disk; PERMISSION_DENIED; INVALID_ARGUMENT for
    /// a malformed path; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Dropping it leaves the old content or the new.
    pub(crate) async fn write(&self, options: &WriteOptions, content: Bytes) -> Result<WriteResult> {
        self.write_inner(options, content)
            .await
            .map_err(|e| self.at(e).with("path", &options.path).in_operation("fs.write"))
    }

    async fn write_inner(&self, options: &WriteOptions, content: Bytes) -> Result<WriteResult> {
        if content.len() > ONE_MESSAGE {
            let writer = self.open_write_inner(&options.path).await?;
            writer.write(content).await?;
            return writer.finish().await;
        }
        let bytes_written = content.len() as u64;
        let request = WriteFileRequest { path: self.clean(&options.path)?, content };
        self.call(Class::Control, Repeat::IfUnsent, |_, lane| {
            let request = request.clone();
            async move { old(lane).write_file(request).await }
        })
        .await?;
        Ok(WriteResult { bytes_written })
    }
}

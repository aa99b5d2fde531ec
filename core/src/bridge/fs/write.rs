use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, old, v1};
use super::super::failure::needs;
use super::wish::Wish;
use crate::error::Result;
use crate::types::{WriteOptions, WriteResult};
use bytes::Bytes;
use dunnage_bridge::bridgepb::WriteFileRequest;
use dunnage_bridge::v1::WriteWholeRequest;

/// The longest content that goes in one message.
const ONE_MESSAGE: usize = 256 << 10;

impl BridgeClient {
    /// Replaces a file with these bytes, at once or not at all. Missing parents are made; mode and owner of a file that
    /// is there stay.
    ///
    /// # Errors
    /// CONFLICT when what is there is not what was expected; FAILED_PRECONDITION for a directory; RESOURCE_EXHAUSTED for a full disk; PERMISSION_DENIED; INVALID_ARGUMENT for
    /// a malformed path, mode or revision; UNSUPPORTED for an older agent that cannot do what is asked for; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Dropping it leaves the old content or the new.
    pub(crate) async fn write(&self, options: &WriteOptions, content: Bytes) -> Result<WriteResult> {
        self.write_inner(options, content)
            .await
            .map_err(|e| self.at(e).with("path", &options.path).in_operation("fs.write"))
    }

    async fn write_inner(&self, options: &WriteOptions, content: Bytes) -> Result<WriteResult> {
        let wish = Wish::new(options.mode.as_deref(), options.expected_revision.as_deref())?;
        let path = self.clean(&options.path)?;
        // Agents without revisions set no mode in one message.
        let plain = wish == Wish::default();
        if content.len() > ONE_MESSAGE || !(plain || self.slot().connection().await?.agent().revision) {
            let writer = self.open_write_inner(&path, wish).await?;
            writer.write(content).await?;
            return writer.finish().await;
        }
        let bytes_written = content.len() as u64;
        let (revision, _) = self
            .call(Class::Control, Repeat::IfUnsent, |connection, lane| {
                let (path, content, wish) = (path.clone(), content.clone(), wish.clone());
                async move {
                    if connection.agent().revision {
                        let request = WriteWholeRequest {
                            path: path.into(),
                            content,
                            mode: wish.mode,
                            expected_revision: wish.expected,
                        };
                        return Ok(Some(v1(lane).write_whole(request).await?.into_inner().revision));
                    }
                    // The agent was replaced by an older one since it was asked.
                    wish.check(connection.agent())?;
                    needs(plain, "set the mode of what it writes")?;
                    old(lane).write_file(WriteFileRequest { path, content }).await?;
                    Ok(None)
                }
            })
            .await?;
        Ok(WriteResult { bytes_written, revision })
    }
}

use super::super::client::BridgeClient;
use super::super::fd::blocking;
use super::copy::copy;
use crate::error::Result;
use crate::host_file::{Access, Staged};
use crate::operation::Copied;
use crate::types::{DownloadOptions, DownloadResult};

impl BridgeClient {
    /// Copies a regular file of the workspace to the host. What is at the destination is replaced at once or not at all,
    /// and the file is on disk when this returns.
    ///
    /// # Errors
    /// NOT_FOUND for the file or the destination's directory; FAILED_PRECONDITION when the path is no regular file;
    /// RESOURCE_EXHAUSTED for a full disk, with nothing left behind; INVALID_ARGUMENT for a malformed path or a
    /// destination that is a directory; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Dropping it leaves the destination as it was or whole.
    pub(crate) async fn download(
        &self,
        options: &DownloadOptions,
        copied: &Copied,
    ) -> Result<DownloadResult> {
        self.download_inner(options, copied).await.map_err(|e| {
            let e = self.at(e).with("path", &options.path);
            e.with("destination", &options.destination).in_operation("fs.download")
        })
    }

    async fn download_inner(&self, options: &DownloadOptions, shown: &Copied) -> Result<DownloadResult> {
        let reader = self.open_read_inner(&options.path, 0, None).await?;
        if let Some(size) = reader.size() {
            shown.set_total(size);
        }
        let destination = options.destination.clone();
        if let Some((file, ..)) = reader.descriptor() {
            let shown = shown.clone();
            let bytes_read = blocking(move |abandoned| {
                let mut staged = Staged::begin(&destination, Access::Usual)?;
                let copied = copy(&file, &mut staged.file, abandoned, &shown)?;
                staged.finish(true)?;
                Ok(copied)
            })
            .await?;
            return Ok(DownloadResult { bytes_read });
        }
        let mut staged = blocking(move |_| Staged::begin(&destination, Access::Usual)).await?;
        let mut bytes_read = 0;
        while let Some(chunk) = reader.next_chunk().await? {
            bytes_read += chunk.len() as u64;
            shown.add(chunk.len() as u64);
            staged = blocking(move |_| {
                staged.write(&chunk)?;
                Ok(staged)
            })
            .await?;
        }
        blocking(move |_| staged.finish(true)).await?;
        Ok(DownloadResult { bytes_read })
    }
}

use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, old, v1};
use super::super::failure;
use super::convert;
use crate::error::Result;
use crate::types::{DirEntry, StatOptions};
use bytes::Bytes;
use dunnage_bridge::{bridgepb, v1 as wire};

impl BridgeClient {
    /// Describes what a path names; symbolic links are followed.
    ///
    /// # Errors
    /// NOT_FOUND, also for a link that leads nowhere; INVALID_ARGUMENT for a malformed path; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn stat(&self, options: &StatOptions) -> Result<DirEntry> {
        let path = options.path.as_deref().unwrap_or("/");
        self.stat_inner(path).await.map_err(|e| e.with("path", path).in_operation("fs.stat"))
    }

    async fn stat_inner(&self, path: &str) -> Result<DirEntry> {
        let path = self.clean(path)?;
        let name = &path;
        let (entry, _) = self
            .call(Class::Control, Repeat::Always, |connection, lane| async move {
                if connection.agent().file_info {
                    let request =
                        wire::StatRequest { path: Bytes::copy_from_slice(name.as_bytes()), follow: true };
                    let info = v1(lane).stat(request).await?.into_inner().info;
                    Ok(info.map(|info| convert::from_v1(&info, name.clone())))
                } else {
                    let request = bridgepb::StatRequest { path: name.clone() };
                    let entry = old(lane).stat(request).await?.into_inner().entry;
                    Ok(entry.map(|entry| convert::from_old(&entry, name.clone())))
                }
            })
            .await?;
        entry.ok_or_else(|| self.at(failure::protocol("a description is missing")))
    }
}

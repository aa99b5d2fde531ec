use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, old, v1};
use super::super::{failure, path};
use super::convert;
use crate::error::{Error, Result};
use crate::types::{DirEntry, StatOptions};
use bytes::Bytes;
use dunnage_bridge::{bridgepb, v1 as wire};

impl BridgeClient {
    /// Describes what a path names; symbolic links are followed unless told otherwise.
    ///
    /// # Errors
    /// NOT_FOUND, also for a link that leads nowhere; INVALID_ARGUMENT for a malformed path; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn stat(&self, options: &StatOptions) -> Result<DirEntry> {
        let path = options.path.as_deref().unwrap_or("/");
        let described = self.stat_inner(path, options.follow).await;
        described.map_err(|e| e.with("path", path).in_operation("fs.stat"))
    }

    async fn stat_inner(&self, path: &str, follow: bool) -> Result<DirEntry> {
        let path = self.clean(path)?;
        let name = &path;
        let (entry, _) = self
            .call(Class::Control, Repeat::Always, |connection, lane| async move {
                if connection.agent().file_info {
                    let request = wire::StatRequest { path: Bytes::copy_from_slice(name.as_bytes()), follow };
                    let answer = v1(lane).stat(request).await?.into_inner();
                    let revision = Some(answer.revision).filter(|revision| !revision.is_empty());
                    let entry = answer.info.map(|info| convert::from_v1(&info, name.clone()));
                    Ok(entry.map(|entry| DirEntry { revision, ..entry }))
                } else if follow || name == "/" {
                    let request = bridgepb::StatRequest { path: name.clone() };
                    let entry = old(lane).stat(request).await?.into_inner().entry;
                    Ok(entry.map(|entry| convert::from_old(&entry, name.clone())))
                } else {
                    // The old service describes links themselves only in listings.
                    let request =
                        bridgepb::ListDirRequest { path: path::parent(name).to_owned(), recursive: false };
                    let entries = old(lane).list_dir(request).await?.into_inner().entries;
                    let entry = entries.iter().find(|entry| entry.path == path::name(name));
                    let entry = entry.map(|entry| convert::from_old(entry, name.clone()));
                    entry.map(Some).ok_or_else(|| tonic::Status::not_found("no such file or directory"))
                }
            })
            .await?;
        entry.ok_or_else(|| -> Error { self.at(failure::protocol("a description is missing")) })
    }
}

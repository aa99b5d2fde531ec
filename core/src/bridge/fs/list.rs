use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, Connection, old, v1};
use super::super::path;
use super::convert;
use super::entries::Entries;
use crate::error::{Error, Result};
use crate::types::{DirList, ListDirOptions};
use bytes::Bytes;
use dunnage_bridge::v1::ListResponse;
use dunnage_bridge::{bridgepb, v1 as wire};
use std::sync::Arc;
use tonic::Streaming;

/// The most entries that are taken into memory.
const MAX_ENTRIES: usize = 1_000_000;
/// The most bytes of names that are taken into memory.
const MAX_NAME_BYTES: usize = 256 << 20;

impl BridgeClient {
    /// Lists a directory, ordered by path; symbolic links are listed, not followed.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no directory; RESOURCE_EXHAUSTED for more than a million entries or
    /// 256 MiB of names; INVALID_ARGUMENT for a malformed path; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn list(&self, options: &ListDirOptions) -> Result<DirList> {
        let path = options.path.as_deref().unwrap_or("/");
        let listed = self.list_inner(path, options.recursive).await;
        listed.map_err(|e| e.with("path", path).in_operation("fs.list"))
    }

    async fn list_inner(&self, path: &str, recursive: bool) -> Result<DirList> {
        let path = self.clean(path)?;
        let directory = &path;
        let (listing, connection) = self
            .call(Class::Control, Repeat::Always, |connection, lane| async move {
                if connection.agent().file_info {
                    let path = Bytes::copy_from_slice(directory.as_bytes());
                    let request = wire::ListRequest { path, recursive, max_depth: 0 };
                    Ok(Listing::Batches(Box::new(v1(lane).list(request).await?.into_inner())))
                } else {
                    let request = bridgepb::ListDirRequest { path: directory.clone(), recursive };
                    Ok(Listing::Whole(old(lane).list_dir(request).await?.into_inner().entries))
                }
            })
            .await?;
        let mut list = DirList { path: path.clone(), entries: Vec::new(), problems: Vec::new() };
        match listing {
            Listing::Whole(entries) => {
                let named =
                    entries.iter().filter_map(|entry| Some((entry, path::join_entry(&path, &entry.path)?)));
                list.entries = named.map(|(entry, path)| convert::from_old(entry, path)).collect();
            }
            Listing::Batches(batches) => self.gather(&connection, *batches, &mut list).await?,
        }
        list.entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(list)
    }

    async fn gather(
        &self,
        connection: &Arc<Connection>,
        mut batches: Streaming<ListResponse>,
        list: &mut DirList,
    ) -> Result<()> {
        let mut bytes = 0;
        let mut all = Entries::new(&list.path);
        while let Some(batch) = self.next_piece(connection, batches.message()).await? {
            bytes += batch.entries.iter().map(|info| info.path.len()).sum::<usize>();
            if all.entries.len() + batch.entries.len() > MAX_ENTRIES || bytes > MAX_NAME_BYTES {
                let message = "the directory has over a million entries or 256 MiB of names; list its parts";
                return Err(self.at(Error::resource_exhausted(message)));
            }
            all.add(&batch.entries, batch.problems);
        }
        (list.entries, list.problems) = (all.entries, all.problems);
        Ok(())
    }
}

enum Listing {
    Whole(Vec<bridgepb::FileEntry>),
    Batches(Box<Streaming<ListResponse>>),
}

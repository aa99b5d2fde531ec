use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, old};
use crate::error::Result;
use crate::types::{MkdirOptions, RemoveOptions, RenameOptions};
use dunnage_bridge::bridgepb;
use std::time::Duration;

/// How long work on a whole tree may take: as long as it takes, but not for ever.
pub(super) const WHOLE_TREE: Duration = Duration::from_secs(24 * 3600);

impl BridgeClient {
    /// Makes a directory and its parents. One that is there is no error.
    ///
    /// # Errors
    /// FAILED_PRECONDITION or ALREADY_EXISTS when a file is in the way; INVALID_ARGUMENT for a malformed path;
    /// UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Dropping it leaves it made or not.
    pub(crate) async fn mkdir(&self, options: &MkdirOptions) -> Result<()> {
        let made = async {
            let path = self.clean(&options.path)?;
            let request = bridgepb::MkdirRequest { path };
            // Making it twice is making it once.
            self.call(Class::Control, Repeat::Always, |_, lane| {
                let request = request.clone();
                async move { old(lane).mkdir(request).await }
            })
            .await
        };
        made.await.map(drop).map_err(|e| e.with("path", &options.path).in_operation("fs.mkdir"))
    }

    /// Moves a path, replacing a file that is there.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when a directory is in the way or the two are on different file systems;
    /// PERMISSION_DENIED for `/`; INVALID_ARGUMENT for a malformed path; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Dropping it leaves it moved or not.
    pub(crate) async fn rename(&self, options: &RenameOptions) -> Result<()> {
        let renamed = async {
            let old_path = self.clean_below_root(&options.from, "renamed")?;
            let new_path = self.clean_below_root(&options.to, "replaced")?;
            let request = bridgepb::RenameRequest { old_path, new_path };
            self.call(Class::Control, Repeat::IfUnsent, |_, lane| {
                let request = request.clone();
                async move { old(lane).rename(request).await }
            })
            .await
        };
        let context = |e: crate::Error| e.with("path", &options.from).with("to", &options.to);
        renamed.await.map(drop).map_err(|e| context(e).in_operation("fs.rename"))
    }

    /// Removes a path. One that is not there is no error.
    ///
    /// # Errors
    /// FAILED_PRECONDITION for a directory that is not empty without `recursive`; PERMISSION_DENIED for `/`;
    /// INVALID_ARGUMENT for a malformed path; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Dropping it may leave a directory removed in part.
    pub(crate) async fn remove(&self, options: &RemoveOptions) -> Result<()> {
        let removed = async {
            let path = self.clean_below_root(&options.path, "removed")?;
            let request = bridgepb::DeleteFileRequest { path, recursive: options.recursive };
            // A tree takes as long as it takes.
            let limit = if options.recursive { WHOLE_TREE } else { self.slot().limits.call };
            self.call_within(Class::Control, Repeat::IfUnsent, limit, |_, lane| {
                let request = request.clone();
                async move { old(lane).delete_file(request).await }
            })
            .await
        };
        removed.await.map(drop).map_err(|e| e.with("path", &options.path).in_operation("fs.remove"))
    }
}

use super::super::client::{BridgeClient, Repeat};
use super::super::connection::{Class, v1};
use super::super::failure::needs;
use super::modify::WHOLE_TREE;
use super::wish::parse_mode;
use crate::error::{Error, Result};
use crate::types::{ChangeResult, ChmodOptions, ChownOptions, CopyOptions, CopyResult, SymlinkOptions};
use bytes::Bytes;
use dunnage_bridge::v1 as wire;
use std::time::Duration;

/// The longest text of a link that the kernel takes.
const MAX_TARGET: usize = 4095;
/// The longest owner that is sent.
const MAX_OWNER: usize = 200;
const CHANGE: &str = "make links or change modes and owners";

impl BridgeClient {
    /// Makes a symbolic link.
    ///
    /// # Errors
    /// ALREADY_EXISTS when something is there; FAILED_PRECONDITION when that is a directory and was to be replaced;
    /// INVALID_ARGUMENT for a malformed path or target; UNSUPPORTED for an older agent; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Dropping it leaves it made or not.
    pub(crate) async fn symlink(&self, options: &SymlinkOptions) -> Result<()> {
        let made = async {
            let target = options.target.as_bytes();
            if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
                let error = Error::invalid_argument("a link says 1 to 4095 bytes without a NUL");
                return Err(self.at(error.with("target", options.target.escape_default())));
            }
            let path = self.clean_below_root(&options.path, "replaced")?;
            let request = wire::SymlinkRequest {
                target: bytes(&options.target),
                path: bytes(&path),
                overwrite: options.overwrite,
            };
            self.call(Class::Control, Repeat::IfUnsent, |connection, lane| {
                let request = request.clone();
                async move {
                    needs(connection.agent().change, CHANGE)?;
                    v1(lane).symlink(request).await
                }
            })
            .await
        };
        made.await.map(drop).map_err(|e| e.with("path", &options.path).in_operation("fs.symlink"))
    }

    /// Changes permission bits.
    ///
    /// # Errors
    /// NOT_FOUND; PERMISSION_DENIED; INVALID_ARGUMENT for a malformed path or mode; UNSUPPORTED for an older agent;
    /// UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Dropping it may leave a tree changed in part.
    pub(crate) async fn chmod(&self, options: &ChmodOptions) -> Result<ChangeResult> {
        let changed = async {
            let mode = parse_mode(&options.mode).map_err(|e| self.at(e))?;
            let path = bytes(&self.clean(&options.path)?);
            let request = wire::ChmodRequest { path, mode, recursive: options.recursive };
            self.call_within(
                Class::Control,
                Repeat::Always,
                self.limit(options.recursive),
                |connection, lane| {
                    let request = request.clone();
                    async move {
                        needs(connection.agent().change, CHANGE)?;
                        Ok(v1(lane).chmod(request).await?.into_inner().entries)
                    }
                },
            )
            .await
        };
        let changed = changed.await.map_err(|e| e.with("path", &options.path).in_operation("fs.chmod"));
        Ok(ChangeResult { entries: changed?.0 })
    }

    /// Changes owner and group.
    ///
    /// # Errors
    /// NOT_FOUND; PERMISSION_DENIED; INVALID_ARGUMENT for a malformed path or an owner that the workspace does not know;
    /// UNSUPPORTED for an older agent; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Dropping it may leave a tree changed in part.
    pub(crate) async fn chown(&self, options: &ChownOptions) -> Result<ChangeResult> {
        let changed = async {
            let owner = options.owner.clone();
            if owner.is_empty() || owner.len() > MAX_OWNER || owner.contains(['\0', '\n']) {
                let error = Error::invalid_argument("an owner is user, user:group or :group");
                return Err(self.at(error.with("owner", owner.escape_default())));
            }
            let path = bytes(&self.clean(&options.path)?);
            let request = wire::ChownRequest { path, owner, recursive: options.recursive };
            self.call_within(
                Class::Control,
                Repeat::Always,
                self.limit(options.recursive),
                |connection, lane| {
                    let request = request.clone();
                    async move {
                        needs(connection.agent().change, CHANGE)?;
                        Ok(v1(lane).chown(request).await?.into_inner().entries)
                    }
                },
            )
            .await
        };
        let context = |e: Error| e.with("path", &options.path).with("owner", &options.owner);
        let changed = changed.await.map_err(|e| context(e).in_operation("fs.chown"));
        Ok(ChangeResult { entries: changed?.0 })
    }

    /// Copies a file or a tree inside: it is there whole or not at all.
    ///
    /// # Errors
    /// NOT_FOUND; ALREADY_EXISTS when something is there, unless `overwrite` is set; INVALID_ARGUMENT for a directory into
    /// itself or a malformed path; PERMISSION_DENIED for `/`; RESOURCE_EXHAUSTED for a full disk; UNSUPPORTED for an older
    /// agent; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Dropping it ends the copy, and leaves it whole or nothing of it.
    pub(crate) async fn copy(&self, options: &CopyOptions) -> Result<CopyResult> {
        let copied = async {
            let request = wire::CopyRequest {
                from: bytes(&self.clean_below_root(&options.from, "copied")?),
                to: bytes(&self.clean_below_root(&options.to, "replaced")?),
                overwrite: options.overwrite,
            };
            self.call_within(Class::Control, Repeat::IfUnsent, WHOLE_TREE, |connection, lane| {
                let request = request.clone();
                async move {
                    needs(connection.agent().copy, "copy")?;
                    Ok(v1(lane).copy(request).await?.into_inner())
                }
            })
            .await
        };
        let context = |e: Error| e.with("path", &options.from).with("to", &options.to);
        let (copied, _) = copied.await.map_err(|e| context(e).in_operation("fs.copy"))?;
        Ok(CopyResult { entries: copied.entries, bytes: copied.bytes, skipped: copied.skipped })
    }

    /// How long a change may take.
    fn limit(&self, recursive: bool) -> Duration {
        if recursive { WHOLE_TREE } else { self.slot().limits.call }
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

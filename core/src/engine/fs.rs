use super::Workspace;
use crate::ErrorKind;
use crate::bridge::{BridgeClient, FileEvents, FileReader, FileWriter};
use crate::error::{Error, Result};
use crate::lifecycle;
use crate::types::{
    ChangeResult, ChmodOptions, ChownOptions, CopyOptions, CopyResult, DirEntry, DirList, DownloadOptions,
    DownloadResult, GlobOptions, GlobResult, GrepOptions, GrepResult, ListDirOptions, MkdirOptions,
    OpenReadOptions, ReadOptions, ReadTextOptions, RemoveOptions, RenameOptions, StatOptions, SymlinkOptions,
    TextFile, UploadOptions, WalkOptions, WalkPage, WatchOptions, WriteOptions, WriteResult,
};
use bytes::Bytes;
use std::future::Future;

/// Files inside a workspace: the whole container is reachable. A relative path is under the data directory.
///
/// Every method fails with NOT_FOUND when there is no such workspace, and UNAVAILABLE when it does not run.
///
/// # Cancel safety
/// Reads are cancel safe. A write that is dropped leaves the file as it was.
#[derive(Debug, Clone)]
pub struct Fs {
    workspace: Workspace,
}

macro_rules! forward {
    ($($(#[$doc:meta])* $name:ident($operation:literal, $options:ty $(, $bytes:ident: $bytes_type:ty)?) -> $result:ty;)*) => {
        impl Fs {
            $(
                $(#[$doc])*
                pub async fn $name(&self, options: $options $(, $bytes: impl Into<$bytes_type>)?) -> Result<$result> {
                    let call = async |client: BridgeClient| client.$name(&options $(, $bytes.into())?).await;
                    self.workspace.with_bridge(call).await.map_err(|e| e.in_operation($operation))
                }
            )*
        }
    };
}

forward! {
    /// What a path names. A symbolic link is followed unless `follow` is unset.
    ///
    /// # Errors
    /// NOT_FOUND, PERMISSION_DENIED.
    stat("fs.stat", StatOptions) -> DirEntry;
    /// What is in a directory.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no directory; PERMISSION_DENIED.
    list("fs.list", ListDirOptions) -> DirList;
    /// Reads a file, or a part of one, into memory.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no regular file; RESOURCE_EXHAUSTED when there is more of it than
    /// `max_bytes`.
    read("fs.read", ReadOptions) -> Bytes;
    /// Reads some lines of a text file, bounded in lines and bytes.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no regular file.
    read_text("fs.read_text", ReadTextOptions) -> TextFile;
    /// Replaces a file by these bytes, at once or not at all; on demand only when what is there is as it was seen.
    ///
    /// # Errors
    /// CONFLICT when what is there is not what was expected; FAILED_PRECONDITION when the path is a directory; PERMISSION_DENIED; RESOURCE_EXHAUSTED on a full disk.
    write("fs.write", WriteOptions, content: Bytes) -> WriteResult;
    /// Copies a file of the host inside, of any length.
    ///
    /// # Errors
    /// NOT_FOUND when the host has no such file; FAILED_PRECONDITION when it is no regular file; as for `write`.
    upload("fs.upload", UploadOptions) -> WriteResult;
    /// Copies a file to the host, of any length, at once or not at all.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no regular file; RESOURCE_EXHAUSTED when the host's disk is full.
    download("fs.download", DownloadOptions) -> DownloadResult;
    /// Makes a directory and its missing parents. One that is there is no error.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when a file is in the way; PERMISSION_DENIED.
    mkdir("fs.mkdir", MkdirOptions) -> ();
    /// Renames a file or directory; a file that is at the new path is replaced.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION across file systems or onto a directory that is not empty.
    rename("fs.rename", RenameOptions) -> ();
    /// Removes a file or directory. One that is not there is no error.
    ///
    /// # Errors
    /// PERMISSION_DENIED for `/`; FAILED_PRECONDITION for a directory with content unless `recursive` is set.
    remove("fs.remove", RemoveOptions) -> ();
    /// Makes a symbolic link.
    ///
    /// # Errors
    /// ALREADY_EXISTS when something is there and is not to be replaced; FAILED_PRECONDITION when it is a directory;
    /// PERMISSION_DENIED.
    symlink("fs.symlink", SymlinkOptions) -> ();
    /// Changes permission bits, of a whole tree on demand. It stops at the first that cannot be changed.
    ///
    /// # Errors
    /// NOT_FOUND; INVALID_ARGUMENT for what is no mode; PERMISSION_DENIED.
    chmod("fs.chmod", ChmodOptions) -> ChangeResult;
    /// Changes owner and group, of a whole tree on demand. It stops at the first that cannot be changed.
    ///
    /// # Errors
    /// NOT_FOUND; INVALID_ARGUMENT for an owner that the workspace does not know; PERMISSION_DENIED.
    chown("fs.chown", ChownOptions) -> ChangeResult;
    /// Copies a file or a tree inside, with all that it has: modes, owners, times, attributes, links, hard links among
    /// what is copied, and holes. The copy is there whole or not at all.
    ///
    /// # Errors
    /// NOT_FOUND; ALREADY_EXISTS when something is there and is not to be replaced; INVALID_ARGUMENT for a directory into
    /// itself; RESOURCE_EXHAUSTED on a full disk.
    copy("fs.copy", CopyOptions) -> CopyResult;
    /// Tells a page of a tree, sorted. Pages may be as far apart in time as one likes: nothing is kept between them.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no directory; INVALID_ARGUMENT for a bad pattern or limit.
    walk("fs.walk", WalkOptions) -> WalkPage;
    /// Tells what matches a pattern of names. Links are not followed, and of `/proc` and `/sys` nothing is told unless it
    /// begins there.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no directory; INVALID_ARGUMENT for a bad pattern or limit.
    glob("fs.glob", GlobOptions) -> GlobResult;
    /// Searches the text of files, several at once. Links are not followed, binary files are passed over, and so are
    /// `/proc` and `/sys` unless it begins there.
    ///
    /// # Errors
    /// NOT_FOUND; INVALID_ARGUMENT for a bad expression, pattern or limit.
    grep("fs.grep", GrepOptions) -> GrepResult;
}

impl Fs {
    pub(crate) fn new(workspace: Workspace) -> Self {
        Self { workspace }
    }

    /// Opens a file for reading piece by piece.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no regular file; PERMISSION_DENIED.
    pub async fn open_read(&self, options: OpenReadOptions) -> Result<FileReader> {
        let call = async |client: BridgeClient| client.open_read(&options).await;
        self.workspace.with_bridge(call).await.map_err(|e| e.in_operation("fs.open_read"))
    }

    /// Opens a file for writing piece by piece: it takes the old one's place when finished.
    ///
    /// # Errors
    /// As for [`Fs::write`].
    pub async fn open_write(&self, options: WriteOptions) -> Result<FileWriter> {
        let call = async |client: BridgeClient| client.open_write(&options).await;
        self.workspace.with_bridge(call).await.map_err(|e| e.in_operation("fs.open_write"))
    }
}

impl Fs {
    /// Watches a directory: what happens in it after this returns is told.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no directory; INVALID_ARGUMENT for a bad pattern; RESOURCE_EXHAUSTED when the
    /// system allows no more watches.
    ///
    /// # Cancel safety
    /// Dropping the future, or the [`FileEvents`], ends the watch.
    pub async fn watch(&self, options: WatchOptions) -> Result<FileEvents> {
        let closed = self.workspace.engine.inner.runner.closing_token();
        let call = async |client: BridgeClient| client.watch(&options, closed).await;
        self.workspace.with_bridge(call).await.map_err(|e| e.in_operation("fs.watch"))
    }
}

impl Workspace {
    /// Calls the agent of this workspace. When it cannot be reached, the error tells why, as far as the backend knows.
    pub(super) async fn with_bridge<T, F>(&self, call: impl FnOnce(BridgeClient) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let inner = &self.engine.inner;
        inner.runner.check_open()?;
        let client = lifecycle::bridge(inner, &self.id).await?;
        let call = async {
            tokio::select! {
                biased;
                () = inner.runner.closing() => Err(Error::cancelled("the engine was closed while the call ran")),
                done = call(client) => done,
            }
        };
        match call.await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                Err(self.explain(error).await.with("workspace", &self.id))
            }
            other => other.map_err(|e| e.with("workspace", &self.id)),
        }
    }

    async fn explain(&self, error: Error) -> Error {
        match lifecycle::info(&self.engine.inner, &self.id).await {
            Ok(info) if !info.task_running => {
                Error::unavailable("the workspace does not run: start it").caused_by(error)
            }
            Err(missing) if missing.kind() == ErrorKind::NotFound => missing,
            _ => error,
        }
    }
}

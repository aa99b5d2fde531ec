use super::Workspace;
use crate::ErrorKind;
use crate::bridge::{BridgeClient, FileEvents, FileReader, FileWriter};
use crate::error::{Error, Result};
use crate::lifecycle;
use crate::lifecycle::data::{Inlet, Outlet};
use crate::operation::{Copied, Operation};
use crate::types::{
    ArchiveOptions, ArchiveResult, ChangeResult, ChmodOptions, ChownOptions, CopyOptions, CopyResult,
    DirEntry, DirList, DownloadOptions, DownloadResult, ExtractOptions, ExtractResult, GlobOptions,
    GlobResult, GrepOptions, GrepResult, ListDirOptions, MkdirOptions, OpenReadOptions, ReadOptions,
    ReadTextOptions, RemoveOptions, RenameOptions, StatOptions, SymlinkOptions, TextFile, UploadOptions,
    WalkOptions, WalkPage, WatchOptions, WriteOptions, WriteResult,
};
use bytes::Bytes;
use std::future::Future;

/// Files inside a workspace: the whole container is reachable. A relative path is under the data directory.
///
/// A workspace that does not run has its files too, but for what is mounted when it runs: each call takes the workspace's
/// lock, and reads or changes the files of its writable snapshot, as the user that it runs as. A file that is open holds the
/// lock until it is dropped, and the workspace cannot be started until then. Only [`Fs::watch`] needs one that runs.
///
/// Every method fails with NOT_FOUND when there is no such workspace, UNAVAILABLE when it runs and its agent cannot be
/// reached, and, when it does not run, TIMEOUT while others work on it for too long.
///
/// # Cancel safety
/// Reads are cancel safe. A write that is dropped leaves the file as it was.
#[derive(Debug, Clone)]
pub struct Fs {
    workspace: Workspace,
}

/// What is done with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// They are looked at.
    Read,
    /// They are changed.
    Write,
}

macro_rules! forward {
    ($($(#[$doc:meta])* $access:ident $name:ident($operation:literal, $options:ty $(, $bytes:ident: $bytes_type:ty)?) -> $result:ty;)*) => {
        impl Fs {
            $(
                $(#[$doc])*
                pub async fn $name(&self, options: $options $(, $bytes: impl Into<$bytes_type>)?) -> Result<$result> {
                    let call = async |client: BridgeClient| client.$name(&options $(, $bytes.into())?).await;
                    self.workspace.with_files(Access::$access, call).await.map_err(|e| e.in_operation($operation))
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
    Read stat("fs.stat", StatOptions) -> DirEntry;
    /// What is in a directory.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no directory; PERMISSION_DENIED.
    Read list("fs.list", ListDirOptions) -> DirList;
    /// Reads a file, or a part of one, into memory.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no regular file; RESOURCE_EXHAUSTED when there is more of it than
    /// `max_bytes`.
    Read read("fs.read", ReadOptions) -> Bytes;
    /// Reads some lines of a text file, bounded in lines and bytes.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no regular file.
    Read read_text("fs.read_text", ReadTextOptions) -> TextFile;
    /// Replaces a file by these bytes, at once or not at all; on demand only when what is there is as it was seen.
    ///
    /// # Errors
    /// CONFLICT when what is there is not what was expected; FAILED_PRECONDITION when the path is a directory; PERMISSION_DENIED; RESOURCE_EXHAUSTED on a full disk.
    Write write("fs.write", WriteOptions, content: Bytes) -> WriteResult;
    /// Makes a directory and its missing parents. One that is there is no error.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when a file is in the way; PERMISSION_DENIED.
    Write mkdir("fs.mkdir", MkdirOptions) -> ();
    /// Renames a file or directory; a file that is at the new path is replaced.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION across file systems or onto a directory that is not empty.
    Write rename("fs.rename", RenameOptions) -> ();
    /// Removes a file or directory. One that is not there is no error.
    ///
    /// # Errors
    /// PERMISSION_DENIED for `/`; FAILED_PRECONDITION for a directory with content unless `recursive` is set.
    Write remove("fs.remove", RemoveOptions) -> ();
    /// Makes a symbolic link.
    ///
    /// # Errors
    /// ALREADY_EXISTS when something is there and is not to be replaced; FAILED_PRECONDITION when it is a directory;
    /// PERMISSION_DENIED.
    Write symlink("fs.symlink", SymlinkOptions) -> ();
    /// Changes permission bits, of a whole tree on demand. It stops at the first that cannot be changed.
    ///
    /// # Errors
    /// NOT_FOUND; INVALID_ARGUMENT for what is no mode; PERMISSION_DENIED.
    Write chmod("fs.chmod", ChmodOptions) -> ChangeResult;
    /// Changes owner and group, of a whole tree on demand. It stops at the first that cannot be changed.
    ///
    /// # Errors
    /// NOT_FOUND; INVALID_ARGUMENT for an owner that the workspace does not know; PERMISSION_DENIED.
    Write chown("fs.chown", ChownOptions) -> ChangeResult;
    /// Copies a file or a tree inside, with all that it has: modes, owners, times, attributes, links, hard links among
    /// what is copied, and holes. The copy is there whole or not at all.
    ///
    /// # Errors
    /// NOT_FOUND; ALREADY_EXISTS when something is there and is not to be replaced; INVALID_ARGUMENT for a directory into
    /// itself; RESOURCE_EXHAUSTED on a full disk.
    Write copy("fs.copy", CopyOptions) -> CopyResult;
    /// Tells a page of a tree, sorted. Pages may be as far apart in time as one likes: nothing is kept between them.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no directory; INVALID_ARGUMENT for a bad pattern or limit.
    Read walk("fs.walk", WalkOptions) -> WalkPage;
    /// Tells what matches a pattern of names. Links are not followed, and of `/proc` and `/sys` nothing is told unless it
    /// begins there.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no directory; INVALID_ARGUMENT for a bad pattern or limit.
    Read glob("fs.glob", GlobOptions) -> GlobResult;
    /// Searches the text of files, several at once. Links are not followed, binary files are passed over, and so are
    /// `/proc` and `/sys` unless it begins there.
    ///
    /// # Errors
    /// NOT_FOUND; INVALID_ARGUMENT for a bad expression, pattern or limit.
    Read grep("fs.grep", GrepOptions) -> GrepResult;
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
        let opened = self.workspace.with_open_files(Access::Read, call).await;
        opened.map_err(|e| e.in_operation("fs.open_read"))
    }

    /// Opens a file for writing piece by piece: it takes the old one's place when finished.
    ///
    /// # Errors
    /// As for [`Fs::write`].
    pub async fn open_write(&self, options: WriteOptions) -> Result<FileWriter> {
        let call = async |client: BridgeClient| client.open_write(&options).await;
        let opened = self.workspace.with_open_files(Access::Write, call).await;
        opened.map_err(|e| e.in_operation("fs.open_write"))
    }
}

impl Fs {
    /// Copies a file of the host inside, of any length. Events: `data_progress`…; then `complete` or `error`.
    ///
    /// # Errors
    /// NOT_FOUND when the host has no such file; INVALID_ARGUMENT when it is no regular file; as for [`Fs::write`]; CANCELLED,
    /// and nothing has changed then.
    pub fn upload(&self, options: UploadOptions) -> Operation<WriteResult> {
        let workspace = self.workspace.clone();
        self.workspace.engine.inner.runner.run("fs.upload", async move |context| {
            let copied = Copied::default();
            let call = async |client: BridgeClient| client.upload(&options, &copied).await;
            let work = workspace.with_files(Access::Write, call);
            context.with_copy_progress(&copied, context.or_cancelled(work)).await
        })
    }

    /// Copies a file to the host, of any length, at once or not at all. Events: `data_progress`…; then `complete` or `error`.
    ///
    /// # Errors
    /// NOT_FOUND; FAILED_PRECONDITION when it is no regular file; RESOURCE_EXHAUSTED when the host's disk is full; CANCELLED,
    /// and nothing has changed then.
    pub fn download(&self, options: DownloadOptions) -> Operation<DownloadResult> {
        let workspace = self.workspace.clone();
        self.workspace.engine.inner.runner.run("fs.download", async move |context| {
            let copied = Copied::default();
            let call = async |client: BridgeClient| client.download(&options, &copied).await;
            let work = workspace.with_files(Access::Read, call);
            context.with_copy_progress(&copied, context.or_cancelled(work)).await
        })
    }

    /// Writes a folder to an archive, as [`Data::export`](super::Data::export) writes the data directory: with all that the
    /// tree has, and with the engine's rights, not those of the workspace's user. A workspace that runs goes on: each file
    /// is as it was while it was read. Events: `exporting`, `data_progress`…; then `complete` or `error`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed option; NOT_FOUND; FAILED_PRECONDITION for something else than a directory;
    /// ALREADY_EXISTS for a destination that is there, without `overwrite`; UNSUPPORTED where this process cannot look into
    /// the workspace; RESOURCE_EXHAUSTED on a full disk; CANCELLED. In each case no file is left at the destination.
    pub fn archive(&self, options: ArchiveOptions) -> Operation<ArchiveResult> {
        let outlet = Outlet::of(&options.as_export());
        let Workspace { engine, id } = self.workspace.clone();
        self.workspace.engine.inner.runner.run("fs.archive", async move |context| {
            lifecycle::data::archive(&engine.inner, &id, options, outlet, &context).await
        })
    }

    /// Makes a folder of an archive, as [`Data::import`](super::Data::import) reads one: owners, modes and times are the
    /// archive's. The folder is made beside and takes its place at once, unless it is merged into what is there. Events:
    /// `importing`, `data_progress`…; then `complete` or `error`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed option; NOT_FOUND for a workspace or `source` that is not there; ALREADY_EXISTS when
    /// the folder is there and not empty, with the mode `new`; FAILED_PRECONDITION when something else is; DATA_CORRUPT for an
    /// archive that is damaged, cut off, or names what no honest archive names; RESOURCE_EXHAUSTED for one that passes a
    /// limit, and on a full disk; UNSUPPORTED for devices that are not allowed, and where this process cannot look into the
    /// workspace; CANCELLED.
    pub fn extract(&self, options: ExtractOptions) -> Operation<ExtractResult> {
        let inlet = Inlet::of(&options.as_import());
        let Workspace { engine, id } = self.workspace.clone();
        self.workspace.engine.inner.runner.run("fs.extract", async move |context| {
            lifecycle::data::extract(&engine.inner, &id, options, inlet, &context).await
        })
    }

    /// Watches a directory: what happens in it after this returns is told. UNAVAILABLE when the workspace does not run.
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
        self.until_closing(call(client)).await
    }

    /// Calls the server of this workspace's files: its agent when it runs, else one of this process's, which has ended when
    /// this returns.
    pub(super) async fn with_files<T, F>(
        &self,
        access: Access,
        call: impl FnOnce(BridgeClient) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let work = async {
            let (client, at_rest) = self.files(access).await?;
            let done = call(client.clone()).await;
            if at_rest {
                client.end_tree().await;
            }
            done
        };
        self.until_closing(work).await
    }

    /// As [`Workspace::with_files`], for what keeps a clone of the client: the server ends with the last of them.
    pub(super) async fn with_open_files<T, F>(
        &self,
        access: Access,
        call: impl FnOnce(BridgeClient) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.until_closing(async { call(self.files(access).await?.0).await }).await
    }

    /// A client of this workspace's files, and whether it is one of a workspace that does not run.
    async fn files(&self, access: Access) -> Result<(BridgeClient, bool)> {
        let inner = &self.engine.inner;
        inner.runner.check_open()?;
        let reached = async {
            let client = lifecycle::bridge(inner, &self.id).await?;
            client.reach().await.map(|()| client)
        };
        match reached.await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            reached => return reached.map(|client| (client, false)),
        }
        match lifecycle::files_at_rest(inner, &self.id, access == Access::Write).await? {
            Some(client) => Ok((client, true)),
            // It runs by now, or never stopped: whatever keeps its agent from answering is told by the call.
            None => Ok((lifecycle::bridge(inner, &self.id).await?, false)),
        }
    }

    async fn until_closing<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let inner = &self.engine.inner;
        let call = async {
            tokio::select! {
                biased;
                () = inner.runner.closing() => Err(Error::cancelled("the engine was closed while the call ran")),
                done = work => done,
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

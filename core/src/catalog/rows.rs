use super::spec::{Bytes, OperationSpec};
use crate::types::{
    CreateOptions, DataDiscardOptions, DataExportOptions, DataExportResult, DataImportOptions,
    DataImportResult, DataPreserveOptions, DataRestoreOptions, DeleteOptions, DirList, DownloadOptions,
    EventsOptions, ExecOptions, ExecResult, ExitStatus, GcOptions, ImageName, InfoOptions, ListDirOptions,
    ListOptions, MkdirOptions, OpenReadOptions, PreservedOptions, PullOptions, ReadOptions, ReadTextOptions,
    ReconcileOptions, RecreateOptions, RemoveOptions, RenameOptions, RunOptions, SnapshotCreateOptions,
    SnapshotDeleteOptions, SnapshotDiffOptions, SnapshotForkOptions, SnapshotListOptions,
    SnapshotPruneOptions, SnapshotRollbackOptions, StartOptions, StatOptions, StopOptions, TreeOptions,
    UploadOptions, VersionsOptions, WriteOptions, WriteResult,
};
use std::sync::LazyLock;

/// The rows. Positional arguments are listed where a language reads better with them.
pub(super) static ROWS: LazyLock<Vec<OperationSpec>> = LazyLock::new(|| {
    vec![
        OperationSpec::engine(
            "engine.health",
            &[],
            "Looks at the engine, its records and its backend; what is wrong is told in the result.",
            |engine, _: InfoOptions| async move { engine.health().await },
        ),
        OperationSpec::engine(
            "engine.list",
            &[],
            "Lists the workspaces, ordered by id.",
            |engine, options: ListOptions| async move { engine.list(options).await },
        ),
        OperationSpec::engine_items(
            "engine.events",
            &[],
            "Follows what happens to the workspaces, in whichever process; on demand it first tells what is kept of it.",
            |engine, options: EventsOptions| async move { engine.events(options).await },
        ),
        OperationSpec::engine_operation(
            "engine.reconcile",
            &[],
            "Puts all workspaces in order, as after a restart of the host.",
            |engine, options: ReconcileOptions| engine.reconcile(options),
        ),
        OperationSpec::engine_operation(
            "engine.gc",
            &[],
            "Removes leftovers of this library that are of no use to any workspace.",
            |engine, options: GcOptions| engine.gc(options),
        ),
        OperationSpec::engine_operation(
            "image.pull",
            &["image"],
            "Fetches and unpacks an image; layers that are here are not fetched again.",
            |engine, options: PullOptions| engine.image().pull(options),
        ),
        OperationSpec::engine(
            "image.resolve_digest",
            &["image"],
            "Asks the registry what a name points at, and fetches nothing.",
            |engine, options: ImageName| async move { engine.image().resolve_digest(options).await },
        ),
        OperationSpec::engine(
            "image.list",
            &[],
            "Lists the images that are here, ordered by name.",
            |engine, _: InfoOptions| async move { engine.image().list().await },
        ),
        OperationSpec::engine(
            "image.get",
            &["image"],
            "Looks at one image that is here.",
            |engine, options: ImageName| async move { engine.image().get(options).await },
        ),
        OperationSpec::engine(
            "image.delete",
            &["image"],
            "Removes an image's name; its content goes with the next garbage collection.",
            |engine, options: ImageName| async move { engine.image().delete(options).await },
        ),
        OperationSpec::workspace_operation(
            "workspace.create",
            &[],
            "Makes the workspace and waits until its agent answers; one that is there is left as it is.",
            |workspace, options: CreateOptions| workspace.create(options),
        ),
        OperationSpec::workspace(
            "workspace.info",
            &[],
            "Looks at the workspace.",
            |workspace, _: InfoOptions| async move { workspace.info().await },
        ),
        OperationSpec::workspace_operation(
            "workspace.start",
            &[],
            "Starts the workspace and waits until its agent answers; one that runs is left as it is.",
            |workspace, options: StartOptions| workspace.start(options),
        ),
        OperationSpec::workspace_operation(
            "workspace.ensure_running",
            &[],
            "Starts the workspace; a missing container is made anew.",
            |workspace, options: StartOptions| workspace.ensure_running(options),
        ),
        OperationSpec::workspace_operation(
            "workspace.stop",
            &[],
            "Stops the workspace: SIGTERM, then, after the grace, SIGKILL.",
            |workspace, options: StopOptions| workspace.stop(options),
        ),
        OperationSpec::workspace_operation(
            "workspace.recreate",
            &[],
            "Makes the workspace anew of another image, with its data; what it was is kept as a version.",
            |workspace, options: RecreateOptions| workspace.recreate(options),
        ),
        OperationSpec::workspace_operation(
            "workspace.delete",
            &[],
            "Removes the workspace's container and all that is in it; one that is not there is no error.",
            |workspace, options: DeleteOptions| workspace.delete(options),
        ),
        OperationSpec::workspace_operation(
            "snapshots.create",
            &[],
            "Keeps the workspace as it is now as a version; one that runs is stopped for it and runs again afterwards.",
            |workspace, options: SnapshotCreateOptions| workspace.snapshots().create(options),
        ),
        OperationSpec::workspace(
            "snapshots.list",
            &[],
            "Tells the lineage: the writable snapshot, all below it, and the versions beside that line.",
            |workspace, options: SnapshotListOptions| async move { workspace.snapshots().list(options).await },
        ),
        OperationSpec::workspace_operation(
            "snapshots.rollback",
            &["version"],
            "Lets the workspace go on from one of its versions; what it leaves is kept unless it is to be discarded.",
            |workspace, options: SnapshotRollbackOptions| workspace.snapshots().rollback(options),
        ),
        OperationSpec::workspace(
            "snapshots.versions",
            &[],
            "Tells the workspace's versions, ordered by number.",
            |workspace, options: VersionsOptions| async move { workspace.snapshots().versions(options).await },
        ),
        OperationSpec::workspace(
            "snapshots.tree",
            &[],
            "Tells the whole history: which version follows which, and where the workspace is.",
            |workspace, options: TreeOptions| async move { workspace.snapshots().tree(options).await },
        ),
        OperationSpec::workspace_operation(
            "snapshots.fork",
            &["version", "new_id"],
            "Makes a new workspace of a version; the two share every byte.",
            |workspace, options: SnapshotForkOptions| workspace.snapshots().fork(options),
        ),
        OperationSpec::workspace(
            "snapshots.diff",
            &[],
            "Tells which paths are not the same in two versions, or in a version and the workspace as it is.",
            |workspace, options: SnapshotDiffOptions| async move { workspace.snapshots().diff(options).await },
        ),
        OperationSpec::workspace_operation(
            "snapshots.delete",
            &["version"],
            "Removes a version; one that others stand on is refused or made one with them.",
            |workspace, options: SnapshotDeleteOptions| workspace.snapshots().delete(options),
        ),
        OperationSpec::workspace_operation(
            "snapshots.prune",
            &[],
            "Removes all versions but those that are to be kept.",
            |workspace, options: SnapshotPruneOptions| workspace.snapshots().prune(options),
        ),
        OperationSpec::bytes::<RunOptions, ExecResult>(
            "exec.run",
            Bytes::Both,
            &["command"],
            "Runs a command to its end and collects its output.",
        ),
        OperationSpec::bytes::<ExecOptions, ExitStatus>(
            "exec.spawn",
            Bytes::Stream,
            &["command"],
            "Starts a command with its streams open.",
        ),
        OperationSpec::workspace_operation(
            "data.export",
            &[],
            "Writes the data directory to an archive, at a path of the host or into a file descriptor.",
            |workspace, options: DataExportOptions| workspace.data().export(options),
        ),
        OperationSpec::workspace_operation(
            "data.import",
            &[],
            "Puts an archive into the data directory, from a path of the host or a file descriptor: all of it, at once, or nothing.",
            |workspace, options: DataImportOptions| workspace.data().import(options),
        ),
        OperationSpec::bytes_operation::<DataExportOptions, DataExportResult>(
            "data.export_stream",
            Bytes::Out,
            "Writes the data directory to an archive that the program takes as it comes.",
        ),
        OperationSpec::bytes_operation::<DataImportOptions, DataImportResult>(
            "data.import_stream",
            Bytes::In,
            "Puts an archive that the program gives into the data directory: all of it, at once, or nothing.",
        ),
        OperationSpec::workspace_operation(
            "data.preserve",
            &[],
            "Keeps the data directory as it is now, beyond the life of the workspace.",
            |workspace, options: DataPreserveOptions| workspace.data().preserve(options),
        ),
        OperationSpec::workspace_operation(
            "data.restore",
            &[],
            "Puts preserved data back: all of it, at once, or nothing.",
            |workspace, options: DataRestoreOptions| workspace.data().restore(options),
        ),
        OperationSpec::workspace(
            "data.preserved",
            &[],
            "Tells what is preserved of the data directory, whether the workspace is there or not.",
            |workspace, options: PreservedOptions| async move { workspace.data().preserved(options).await },
        ),
        OperationSpec::workspace_operation(
            "data.discard",
            &["generation"],
            "Removes preserved data.",
            |workspace, options: DataDiscardOptions| workspace.data().discard(options),
        ),
        OperationSpec::workspace(
            "fs.stat",
            &["path"],
            "Tells what a path names; a symbolic link is followed.",
            |workspace, options: StatOptions| async move { workspace.fs().stat(options).await },
        ),
        OperationSpec::workspace(
            "fs.list",
            &["path"],
            "Lists what is in a directory, ordered by path.",
            |workspace, options: ListDirOptions| async move {
                let list: DirList = workspace.fs().list(options).await?;
                Ok(list)
            },
        ),
        OperationSpec::bytes::<ReadOptions, ()>(
            "fs.read",
            Bytes::Out,
            &["path"],
            "Reads a whole file into memory.",
        ),
        OperationSpec::workspace(
            "fs.read_text",
            &["path"],
            "Reads some lines of a text file, bounded in lines and bytes.",
            |workspace, options: ReadTextOptions| async move { workspace.fs().read_text(options).await },
        ),
        OperationSpec::bytes::<WriteOptions, WriteResult>(
            "fs.write",
            Bytes::In,
            &["path"],
            "Replaces a file by these bytes, at once or not at all.",
        ),
        OperationSpec::bytes::<OpenReadOptions, ()>(
            "fs.open_read",
            Bytes::Stream,
            &["path"],
            "Opens a file for reading piece by piece.",
        ),
        OperationSpec::bytes::<WriteOptions, WriteResult>(
            "fs.open_write",
            Bytes::Stream,
            &["path"],
            "Opens a file for writing piece by piece; it takes the old one's place when finished.",
        ),
        OperationSpec::workspace(
            "fs.upload",
            &["source", "path"],
            "Copies a file of the host inside.",
            |workspace, options: UploadOptions| async move { workspace.fs().upload(options).await },
        ),
        OperationSpec::workspace(
            "fs.download",
            &["path", "destination"],
            "Copies a file to the host, at once or not at all.",
            |workspace, options: DownloadOptions| async move { workspace.fs().download(options).await },
        ),
        OperationSpec::workspace(
            "fs.mkdir",
            &["path"],
            "Makes a directory and its missing parents.",
            |workspace, options: MkdirOptions| async move { workspace.fs().mkdir(options).await },
        ),
        OperationSpec::workspace(
            "fs.rename",
            &["from", "to"],
            "Renames a file or directory.",
            |workspace, options: RenameOptions| async move { workspace.fs().rename(options).await },
        ),
        OperationSpec::workspace(
            "fs.remove",
            &["path"],
            "Removes a file or directory; one that is not there is no error.",
            |workspace, options: RemoveOptions| async move { workspace.fs().remove(options).await },
        ),
    ]
});

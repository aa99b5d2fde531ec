use super::Workspace;
use crate::error::Result;
use crate::lifecycle::data::{self, DataFeed, DataPieces, Inlet, Outlet};
use crate::operation::Operation;
use crate::types::{
    DataDiscardOptions, DataExportOptions, DataExportResult, DataImportOptions, DataImportResult,
    DataPreserveOptions, DataPreserveResult, DataRestoreOptions, DataRestoreResult, PreservedData,
    PreservedList, PreservedOptions,
};
use std::io::{Read, Write};

/// The data directory of one workspace (`/data`): what is meant to outlive its container.
///
/// What is exported has all that the tree has: owners, modes, times to the nanosecond, extended attributes and access lists,
/// links, holes, devices, pipes, and names that are no text. Nothing outside the directory is read or written, whatever
/// links it or an archive holds.
#[derive(Debug, Clone)]
pub struct Data {
    workspace: Workspace,
}

impl Data {
    pub(super) fn new(workspace: Workspace) -> Self {
        Self { workspace }
    }

    /// Writes the directory to an archive at `destination` or `fd`. One that is missing gives an archive without entries. The
    /// workspace is locked until the last byte is written. Events: `stopping` where it is stopped; `exporting`,
    /// `data_progress`…; `starting`; then `complete` or `error`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed option; NOT_FOUND for a workspace or `subpath` that is not there; ALREADY_EXISTS for a
    /// destination that is, without `overwrite`; FAILED_PRECONDITION when the data directory is something else than a
    /// directory, or the workspace is paused and would have to be stopped; UNSUPPORTED in a snapshotter into which this
    /// process cannot look; RESOURCE_EXHAUSTED on a full disk; CANCELLED. In each case the workspace runs again if it ran,
    /// and no file is left at the destination; what a descriptor got until then is no archive.
    pub fn export(&self, options: DataExportOptions) -> Operation<DataExportResult> {
        let outlet = Outlet::of(&options);
        self.export_at("data.export", options, outlet)
    }

    /// As [`Data::export`], into a writer instead of a place that the options name. It is called from one thread of the
    /// engine's, where it may block; a call that blocks for ever is not interrupted by a cancellation.
    pub fn export_to(
        &self,
        options: DataExportOptions,
        writer: impl Write + Send + 'static,
    ) -> Operation<DataExportResult> {
        let outlet = Outlet::writer(&options, Box::new(writer));
        self.export_at("data.export_stream", options, outlet)
    }

    /// As [`Data::export`], piece by piece to tasks of the program. It hears a cancellation however long it waits for the
    /// program, and ends with the program's own error when that can take no more ([`DataPieces::fail`]).
    pub fn export_stream(&self, options: DataExportOptions) -> (Operation<DataExportResult>, DataPieces) {
        let (outlet, pieces) = Outlet::pieces(&options);
        (self.export_at("data.export_stream", options, outlet), pieces)
    }

    fn export_at(
        &self,
        name: &'static str,
        options: DataExportOptions,
        outlet: Result<Outlet>,
    ) -> Operation<DataExportResult> {
        let Workspace { engine, id } = self.workspace.clone();
        self.workspace
            .engine
            .inner
            .runner
            .run(name, async move |context| data::export(&engine.inner, &id, options, outlet, &context).await)
    }

    /// Puts an archive from `source` or `fd` into the directory, which is made where it is missing: all of it at once, or
    /// nothing. Tar in any dialect (POSIX, GNU, ustar, v7), plain or compressed with gzip or zstd, as its first bytes tell.
    /// Where it replaces what is there, a running workspace is stopped only for the moment in which the new directory takes
    /// the old one's place. Events: `importing`, `data_progress`…, `stopping`, `starting`; then `complete` or `error`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed option; NOT_FOUND for a workspace or `source` that is not there; DATA_CORRUPT for an
    /// archive that is damaged, cut off, followed by something, or names what no honest archive names, and for another
    /// digest than asked for; RESOURCE_EXHAUSTED for one that passes a limit, and on a full disk; UNSUPPORTED for devices
    /// that are not allowed, and in a snapshotter into which this process cannot look; CONFLICT when a file is to be merged
    /// where a directory is that is not empty; FAILED_PRECONDITION when the workspace is paused; CANCELLED. In each case
    /// the directory is as it was, and the workspace runs if it ran.
    pub fn import(&self, options: DataImportOptions) -> Operation<DataImportResult> {
        let inlet = Inlet::of(&options);
        self.import_at("data.import", options, inlet)
    }

    /// As [`Data::import`], from a reader instead of a place that the options name. It is called from one thread of the
    /// engine's, where it may block; a call that blocks for ever is not interrupted by a cancellation.
    pub fn import_from(
        &self,
        options: DataImportOptions,
        reader: impl Read + Send + 'static,
    ) -> Operation<DataImportResult> {
        let inlet = Inlet::reader(&options, Box::new(reader));
        self.import_at("data.import_stream", options, inlet)
    }

    /// As [`Data::import`], piece by piece from tasks of the program, which finish the feed when the archive is whole. It
    /// hears a cancellation however long it waits for the program, and ends with the program's own error when that has no
    /// more to give ([`DataFeed::fail`]).
    pub fn import_stream(&self, options: DataImportOptions) -> (Operation<DataImportResult>, DataFeed) {
        let (inlet, feed) = Inlet::pieces(&options);
        (self.import_at("data.import_stream", options, inlet), feed)
    }

    fn import_at(
        &self,
        name: &'static str,
        options: DataImportOptions,
        inlet: Result<Inlet>,
    ) -> Operation<DataImportResult> {
        let Workspace { engine, id } = self.workspace.clone();
        self.workspace
            .engine
            .inner
            .runner
            .run(name, async move |context| data::import(&engine.inner, &id, options, inlet, &context).await)
    }

    /// Keeps the directory as it is now, beyond the life of the workspace. Older generations go once this one is whole,
    /// where more are kept than the configuration says. As an archive it is written to the disk and read back before it
    /// counts; the workspace runs again meanwhile. As a snapshot no byte is copied: the workspace, as it is, becomes a
    /// version. Events: `preserving`, `stopping`, `data_progress`…, `starting`; then `complete` or `error`.
    ///
    /// # Errors
    /// Those of [`Data::export`]. In each case nothing changes: what was preserved before stays, and the workspace runs if
    /// it ran.
    pub fn preserve(&self, options: DataPreserveOptions) -> Operation<DataPreserveResult> {
        let Workspace { engine, id } = self.workspace.clone();
        self.workspace.engine.inner.runner.run("data.preserve", async move |context| {
            data::preserve(&engine.inner, &id, options, &context).await
        })
    }

    /// Puts preserved data in the directory's place: all of it at once, or nothing. It stays preserved. Where it is a
    /// snapshot no byte is copied, and the workspace as it was becomes a version. Events: `restoring`, `data_progress`…,
    /// `stopping`, `starting`; then `complete` or `error`.
    ///
    /// # Errors
    /// NOT_FOUND when there is no such workspace or nothing is preserved; DATA_CORRUPT when what is preserved is not what
    /// was; else those of [`Data::import`]. In each case the directory is as it was.
    pub fn restore(&self, options: DataRestoreOptions) -> Operation<DataRestoreResult> {
        let Workspace { engine, id } = self.workspace.clone();
        self.workspace.engine.inner.runner.run("data.restore", async move |context| {
            data::restore(&engine.inner, &id, options, &context).await
        })
    }

    /// Tells what is preserved, whether the workspace is there or not; nothing is no error.
    ///
    /// # Errors
    /// DATA_CORRUPT for a description that cannot be read; UNAVAILABLE.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn preserved(&self, _options: PreservedOptions) -> Result<PreservedList> {
        const OPERATION: &str = "data.preserved";
        let Workspace { engine, id } = &self.workspace;
        engine.inner.runner.check_open().map_err(|e| e.in_operation(OPERATION))?;
        data::preserved(&engine.inner, id).await.map_err(|e| e.in_operation(OPERATION))
    }

    /// Removes preserved data, and tells what it was.
    ///
    /// # Errors
    /// NOT_FOUND when there is none of that number; UNAVAILABLE.
    pub fn discard(&self, options: DataDiscardOptions) -> Operation<PreservedData> {
        let Workspace { engine, id } = self.workspace.clone();
        self.workspace.engine.inner.runner.run("data.discard", async move |context| {
            data::discard(&engine.inner, &id, options, &context).await
        })
    }
}

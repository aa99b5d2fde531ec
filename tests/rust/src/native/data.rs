//! Archives of data through streams.

use super::{Failure, expect, fails, running, text};
use crate::vars::Vars;
use bytes::Bytes;
use dunnage::types::{DataExportOptions, DataImportOptions, RunOptions};
use dunnage::{Engine, ErrorKind, Workspace};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

const FILL: &str = "cd /data && mkdir -p d/empty && echo one > one && echo two > 'd/t w o' && ln -s one link && \
    head -c 5000000 /dev/urandom > much";
const LOOK: &str = "cd /data && find . | sort && find . -type f -exec md5sum {} + | sort";

async fn said(workspace: &Workspace, command: &str) -> Result<String, Failure> {
    let output = workspace.exec().run(RunOptions::default().command(command), "").await.map_err(text)?;
    expect(output.result.exit_code == 0, || format!("{command}: {:?}", output.stderr))?;
    String::from_utf8(output.stdout.to_vec()).map_err(text)
}

/// The workspace runs, and its data is as it was.
async fn unchanged(workspace: &Workspace, before: &str) -> Result<(), Failure> {
    let now = said(workspace, LOOK).await?;
    expect(now == before, || format!("the data was\n{before}and is\n{now}"))
}

fn export_options() -> DataExportOptions {
    DataExportOptions::default().grace_ms(0u64)
}

fn import_options() -> DataImportOptions {
    DataImportOptions::default().grace_ms(0u64)
}

async fn exported(workspace: &Workspace) -> Result<Vec<u8>, Failure> {
    let (operation, pieces) = workspace.data().export_stream(export_options());
    let mut archive = Vec::new();
    while let Some(piece) = pieces.next().await {
        archive.extend_from_slice(&piece);
    }
    let result = operation.await.map_err(text)?;
    expect(result.archive_bytes == archive.len() as u64, || format!("{result:?}, got {}", archive.len()))?;
    Ok(archive)
}

/// Takes so many bytes, then fails.
struct Full(Arc<Mutex<usize>>);

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *room {
            0 => Err(io::Error::other("the shelf is full")),
            left => {
                *room -= left.min(bytes.len());
                Ok(left.min(bytes.len()))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) async fn export_stream(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let workspace = running(engine, vars).await?;
    said(&workspace, FILL).await?;
    let before = said(&workspace, LOOK).await?;
    expect(exported(&workspace).await?.len() > 5_000_000, || "the archive is too short".to_owned())?;
    unchanged(&workspace, &before).await?;

    let room = Arc::new(Mutex::new(1_000_000));
    let failed = workspace.data().export_to(export_options(), Full(room.clone())).await;
    let error = fails(failed, ErrorKind::Unexpected)?;
    expect(error.to_string().contains("the shelf is full"), || error.to_string())?;
    expect(*room.lock().unwrap_or_else(PoisonError::into_inner) == 0, || "it was not used".to_owned())?;
    unchanged(&workspace, &before).await?;

    for reason in [None, Some("the shelf is full")] {
        let (operation, pieces) = workspace.data().export_stream(export_options());
        expect(pieces.next().await.is_some(), || "nothing came".to_owned())?;
        if let Some(reason) = reason {
            pieces.fail(io::Error::other(reason));
        }
        drop(pieces);
        let kind = if reason.is_some() { ErrorKind::Unexpected } else { ErrorKind::Unavailable };
        let error = fails(operation.await, kind)?;
        expect(error.to_string().contains(reason.unwrap_or("let go")), || error.to_string())?;
        unchanged(&workspace, &before).await?;
    }

    let (operation, pieces) = workspace.data().export_stream(export_options());
    expect(pieces.next().await.is_some(), || "nothing came".to_owned())?;
    operation.cancel();
    fails(operation.await, ErrorKind::Cancelled)?;
    unchanged(&workspace, &before).await?;
    let elsewhere = export_options().destination("/tmp/x");
    let (operation, _pieces) = workspace.data().export_stream(elsewhere);
    fails(operation.await, ErrorKind::InvalidArgument).map(drop)
}

pub(super) async fn import_stream(engine: &Engine, vars: &Vars) -> Result<(), Failure> {
    let workspace = running(engine, vars).await?;
    said(&workspace, FILL).await?;
    let before = said(&workspace, LOOK).await?;
    let archive = Bytes::from(exported(&workspace).await?);
    said(&workspace, "rm -rf /data/* && echo later > /data/later").await?;
    let (operation, feed) = workspace.data().import_stream(import_options());
    for piece in archive.chunks(70_001) {
        feed.write(archive.slice_ref(piece)).await.map_err(text)?;
    }
    feed.finish().await.map_err(text)?;
    let result = operation.await.map_err(text)?;
    expect(result.archive_bytes == archive.len() as u64, || format!("{result:?}"))?;
    unchanged(&workspace, &before).await?;

    said(&workspace, "rm -rf /data/d && echo later > /data/later").await?;
    let before = said(&workspace, LOOK).await?;
    for reason in [None, Some("the shelf is empty")] {
        let (operation, feed) = workspace.data().import_stream(import_options());
        feed.write(archive.slice(..1_000_000)).await.map_err(text)?;
        if let Some(reason) = reason {
            feed.fail(io::Error::other(reason));
        }
        drop(feed);
        let kind = if reason.is_some() { ErrorKind::Unexpected } else { ErrorKind::Unavailable };
        let error = fails(operation.await, kind)?;
        expect(error.to_string().contains(reason.unwrap_or("let go")), || error.to_string())?;
        unchanged(&workspace, &before).await?;
    }
    let (operation, feed) = workspace.data().import_stream(import_options());
    feed.write(archive.slice(..1_000_000)).await.map_err(text)?;
    operation.cancel();
    fails(operation.await, ErrorKind::Cancelled)?;
    fails(feed.write(archive).await, ErrorKind::FailedPrecondition)?;
    unchanged(&workspace, &before).await
}

//! A gigabyte out of a workspace and into it.

use crate::Failure;
use crate::bed::Bed;
use crate::report::{Bar, Row};
use crate::sample::Series;
use dunnage::Workspace;
use dunnage::types::{
    DownloadOptions, OpenReadOptions, RemoveOptions, RunOptions, UploadOptions, WriteOptions,
};
use std::time::{Duration, Instant};

/// Bytes of the file.
const SIZE: usize = 1 << 30;
/// Bytes of each piece that is written.
const PIECE: usize = 1 << 20;

pub(super) async fn both_ways(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let workspace = bed.workspace("files").await?;
    let directory = tempfile::tempdir_in(bed.containerd.data_root())?;
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let (from, to) = (from.display().to_string(), to.display().to_string());
    // No zeros: nothing on the way may find a short cut.
    std::fs::write(&from, piece(SIZE))?;
    upload(&workspace, &from, "out").await?;
    let container = workspace.info().await?.container_id;

    let row = |name: &str, about: &str| Row {
        name: name.into(),
        about: about.into(),
        unit: "MB/s",
        bars: vec![Bar::AtLeast(500.0)],
        moonshot: Some(Bar::AtLeast(2000.0)),
        ..Row::default()
    };
    let mut rows = [
        row("read_1gb", "read piece by piece into the host's memory; peer: ctr task exec cat, dropped"),
        row("write_1gb", "written in pieces of 1 MiB from the host's memory"),
        row("download_1gb", "copied to a file of the host"),
        row("upload_1gb", "copied from a file of the host"),
    ];
    let mut peer = Series::default();
    for turn in 0..=bed.rounds {
        let times = [
            read(&workspace).await?,
            write(&workspace).await?,
            timed(workspace.fs().download(DownloadOptions::default().path("out").destination(&to))).await?,
            upload(&workspace, &from, "copy").await?,
        ];
        let exec = ["task", "exec", "--exec-id", &bed.name("e"), &container, "cat", "/data/out"];
        let theirs = bed.peer(&exec)?;
        // What was written leaves the disk before the next turn.
        workspace.fs().remove(RemoveOptions::default().path("in")).await?;
        workspace.fs().remove(RemoveOptions::default().path("copy")).await?;
        if turn > 0 {
            for (row, time) in rows.iter_mut().zip(times) {
                row.ours.push(rate(time));
            }
            peer.push(rate(theirs));
        }
    }
    rows[0].peer = Some(peer);
    let same = workspace.exec().run(RunOptions::default().command("wc -c < out"), "").await?;
    if String::from_utf8_lossy(&same.stdout).trim() != SIZE.to_string() {
        return Err("the file has another length".into());
    }
    bed.delete(&workspace).await?;
    Ok(rows.into())
}

/// Reads the whole file and drops it.
async fn read(workspace: &Workspace) -> Result<Duration, Failure> {
    let began = Instant::now();
    let reader = workspace.fs().open_read(OpenReadOptions::default().path("out")).await?;
    let mut bytes = 0;
    while let Some(chunk) = reader.next_chunk().await? {
        bytes += chunk.len();
    }
    let took = began.elapsed();
    if bytes == SIZE { Ok(took) } else { Err(format!("{bytes} bytes were read").into()) }
}

/// Writes a file of that length.
async fn write(workspace: &Workspace) -> Result<Duration, Failure> {
    let piece = piece(PIECE);
    let began = Instant::now();
    let writer = workspace.fs().open_write(WriteOptions::default().path("in")).await?;
    for _ in 0..SIZE / PIECE {
        // A host that writes from its own buffer copies it, as this does.
        writer.write(piece.clone()).await?;
    }
    let written = writer.finish().await?.bytes_written;
    let took = began.elapsed();
    if written == SIZE as u64 { Ok(took) } else { Err(format!("{written} bytes were written").into()) }
}

async fn upload(workspace: &Workspace, source: &str, path: &str) -> Result<Duration, Failure> {
    timed(workspace.fs().upload(UploadOptions::default().source(source).path(path))).await
}

async fn timed<T>(work: impl IntoFuture<Output = dunnage::Result<T>>) -> Result<Duration, Failure> {
    let began = Instant::now();
    work.await?;
    Ok(began.elapsed())
}

fn rate(time: Duration) -> f64 {
    SIZE as f64 / 1e6 / time.as_secs_f64()
}

/// Bytes that do not repeat soon.
fn piece(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

//! Many files: listing a large directory, and searching the text of a tree.

use crate::Failure;
use crate::bed::Bed;
use crate::report::{Bar, Row};
use crate::sample::Series;
use dunnage::Workspace;
use dunnage::types::{GrepOptions, ListDirOptions, RunOptions};
use std::process::Command;
use std::time::{Duration, Instant};

/// Entries of the directory.
const ENTRIES: usize = 100_000;
/// Files of the tree, and lines of each.
const FILES: usize = 25_000;
const LINES: usize = 100;
/// Every so many files one has a match.
const MATCH_EVERY: usize = 50;

/// The listing of a directory of many entries.
pub(super) async fn list(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let workspace = bed.workspace("listed").await?;
    run(
        &workspace,
        &format!("mkdir many && cd many && seq -w 1 {ENTRIES} | sed 's/^/entry-/' | xargs touch"),
    )
    .await?;
    let mut row = Row {
        name: "list_100000".into(),
        about: "a directory of 100 000 entries, described and ordered".into(),
        unit: "ms",
        bars: vec![Bar::AtMost(500.0)],
        ..Row::default()
    };
    for turn in 0..=bed.rounds {
        let began = Instant::now();
        let list = workspace.fs().list(ListDirOptions::default().path("many")).await?;
        let took = began.elapsed();
        if list.entries.len() != ENTRIES {
            return Err(format!("{} entries were listed", list.entries.len()).into());
        }
        if turn > 0 {
            row.ours.push_time(took);
        }
    }
    bed.delete(&workspace).await?;
    Ok(vec![row])
}

/// A search for text, beside ripgrep over the same files.
pub(super) async fn grep(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let workspace = bed.workspace("searched").await?;
    // Made inside by one awk, a line at a time: no two files are the same.
    let make = format!(
        "mkdir tree && cd tree && for d in $(seq 0 249); do mkdir d$d; done && awk 'BEGIN {{ for (f = 0; f < {FILES}; f++) \
         {{ name = \"d\" f % 250 \"/file-\" f \".txt\"; for (l = 0; l < {LINES}; l++) print \"line \" l \" of \" f \
         \" says nothing of note\" > name; if (f % {MATCH_EVERY} == 0) print \"a needle\" f \" in it\" > name; close(name) }} }}'"
    );
    run(&workspace, &make).await?;
    let pid = workspace.info().await?.pid;
    let tree = format!("/proc/{pid}/root/data/tree");
    let mut row = Row {
        name: "grep_25000".into(),
        about: "25 000 files of 4 KiB searched, 500 matches with their places; peer: rg on the host over the same files".into(),
        unit: "ms",
        bars: vec![Bar::TimesPeer(1.3)],
        ..Row::default()
    };
    let mut peer = Series::default();
    for turn in 0..=bed.rounds {
        let ours = ours(&workspace).await?;
        let theirs = theirs(&tree)?;
        if turn > 0 {
            row.ours.push_time(ours);
            peer.push_time(theirs);
        }
    }
    row.peer = Some(peer);
    bed.delete(&workspace).await?;
    Ok(vec![row])
}

async fn ours(workspace: &Workspace) -> Result<Duration, Failure> {
    let began = Instant::now();
    let found = workspace.fs().grep(GrepOptions::default().pattern("needle[0-9]+").path("tree")).await?;
    let took = began.elapsed();
    let expected = FILES / MATCH_EVERY;
    if found.matches.len() == expected && found.files_searched == FILES as u64 {
        return Ok(took);
    }
    Err(format!("{} matches in {} files", found.matches.len(), found.files_searched).into())
}

fn theirs(tree: &str) -> Result<Duration, Failure> {
    let began = Instant::now();
    let output = Command::new("rg")
        .args(["--no-config", "--line-number", "--column", "needle[0-9]+", tree])
        .output()?;
    let took = began.elapsed();
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    if lines == FILES / MATCH_EVERY { Ok(took) } else { Err(format!("rg found {lines} lines").into()) }
}

async fn run(workspace: &Workspace, command: &str) -> Result<(), Failure> {
    let output =
        workspace.exec().run(RunOptions::default().command(command).timeout_ms(600_000_u64), "").await?;
    if output.result.exit_code == 0 {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

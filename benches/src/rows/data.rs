//! Data directories: how soon a workspace goes on with what it has, and archives through the engine.

use super::trees::{Set, shell, turns};
use crate::Failure;
use crate::bed::Bed;
use crate::report::{Bar, Row};
use crate::sample::Series;
use dunnage::Workspace;
use dunnage::types::{
    DataDiscardOptions, DataExportOptions, DataImportOptions, DeleteOptions, PreserveForm, PreservedOptions,
    RecreateOptions, RunOptions,
};
use rustix::fs::syncfs;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

/// How much data there is: its name, files, and MB in each.
const AMOUNTS: [(&str, usize, usize); 3] = [("10mb", 10, 1), ("1300mb", 65, 20), ("10gb", 100, 100)];

/// A workspace with much data made anew, beside one without any.
pub(super) async fn keeping(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (name, files, size) in AMOUNTS {
        let workspace = bed.workspace("much").await?;
        let fill = format!(
            "cd /data && i=0; while [ $i -lt {files} ]; do dd if=/dev/zero of=$i bs=1000000 count={size} 2>/dev/null; \
             i=$((i+1)); done; sync"
        );
        workspace.exec().run(RunOptions::default().command(fill).timeout_ms(0u64), "").await?;
        let of = format!("with {files} files of {size} MB in its data directory");
        let about = format!("workspace.recreate of a running workspace {of}");
        rows.push(beside(bed, format!("recreate_{name}"), about, async || recreate(&workspace).await).await?);
        let about = format!("delete preserving as a snapshot and create restoring a running workspace {of}");
        rows.push(
            beside(bed, format!("preserve_{name}"), about, async || preserve(bed, &workspace).await).await?,
        );
        bed.delete(&workspace).await?;
        for one in workspace.data().preserved(PreservedOptions::default()).await?.preserved {
            workspace.data().discard(DataDiscardOptions::default().generation(one.generation)).await?;
        }
        bed.collect()?;
    }
    Ok(rows)
}

async fn recreate(workspace: &Workspace) -> Result<(), Failure> {
    workspace.recreate(RecreateOptions::default().grace_ms(0u64)).await?;
    Ok(())
}

async fn preserve(bed: &Bed, workspace: &Workspace) -> Result<(), Failure> {
    let keep = DeleteOptions::default().grace_ms(0u64).preserve_data(true);
    workspace.delete(keep.preserve_form(PreserveForm::Snapshot)).await?;
    let made = workspace.create(bed.plain().restore_data(true)).await?;
    if made.data_restored { Ok(()) } else { Err("the data was not restored".into()) }
}

/// Measures something beside the deletion and creation of a workspace without data, which it may take a second longer than.
async fn beside(
    bed: &Bed,
    name: String,
    about: String,
    ours: impl AsyncFn() -> Result<(), Failure>,
) -> Result<Row, Failure> {
    let about = format!("{about}; peer: delete and create of one without data");
    let mut row = Row { name, about, unit: "ms", bars: vec![Bar::BeyondPeer(1000.0)], ..Row::default() };
    let mut peer = Series::default();
    let plain = bed.workspace("plain").await?;
    for turn in 0..=bed.rounds {
        let began = Instant::now();
        bed.delete(&plain).await?;
        plain.create(bed.plain()).await?;
        let took = began.elapsed();
        let began = Instant::now();
        ours().await?;
        if turn > 0 {
            row.ours.push_time(began.elapsed());
            peer.push_time(took);
        }
    }
    bed.delete(&plain).await?;
    row.peer = Some(peer);
    Ok(row)
}

/// Archives of a workspace's data, beside tar and igzip on the same files.
pub(super) async fn carried(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for set in [Set::large()?, Set::small()?] {
        let (theirs, ours) = (set.at("peer.tar.gz"), set.at("ours.tar.gz"));
        shell("tar c -C \"$1\" . | igzip -1 > \"$2\"", &[set.tree(), &theirs])?;
        let workspace = bed.workspace("carried").await?;
        let into = [
            import(bed, &set, &workspace, &theirs).await?,
            export(bed, &set, &workspace, &theirs, &ours).await?,
        ];
        rows.extend(into);
        bed.delete(&workspace).await?;
    }
    Ok(rows)
}

fn carrying(set: &Set, verb: &str, about: &str, most: f64) -> Row {
    Row {
        name: format!("data_{verb}_{}", set.name()),
        about: format!("{about} (a running workspace, stopped meanwhile; {})", set.about()),
        unit: "ms",
        bars: vec![Bar::TimesPeer(most)],
        ..Row::default()
    }
}

async fn import(bed: &Bed, set: &Set, workspace: &Workspace, archive: &Path) -> Result<Row, Failure> {
    let mut row = carrying(set, "import", "data.import of a tar.gz; peer: igzip -d | tar x, sync -f", 1.1);
    let mut peer = Series::default();
    let mut used = Vec::new();
    for turn in 0..=turns(bed) {
        let from = DataImportOptions::default().source(text(archive)?).grace_ms(0u64);
        let took = timed(async || {
            workspace.data().import(from).await?;
            Ok(())
        })
        .await?;
        // As where the archives alone are measured: many small files are not removed beside what makes new ones.
        if set.name() == "large" {
            used.drain(..).try_for_each(fs::remove_dir_all::<std::path::PathBuf>)?;
        }
        let into = set.at(&format!("back-{turn}"));
        fs::create_dir(&into)?;
        syncfs(File::open(&into)?)?;
        let script = "igzip -d -c \"$1\" | tar x -C \"$2\"; sync -f \"$2\"";
        let other = timed(async || shell(script, &[archive, &into])).await?;
        used.push(into);
        if turn > 0 {
            row.ours.push_time(took);
            peer.push_time(other);
        }
    }
    row.peer = Some(peer);
    Ok(row)
}

async fn export(
    bed: &Bed,
    set: &Set,
    workspace: &Workspace,
    theirs: &Path,
    ours: &Path,
) -> Result<Row, Failure> {
    let mut row = carrying(set, "export", "data.export to a tar.gz; peer: tar c | igzip -1, sync", 1.0);
    let mut peer = Series::default();
    for turn in 0..=turns(bed) {
        let to = DataExportOptions::default().destination(text(ours)?).overwrite(true).grace_ms(0u64);
        let took = timed(async || {
            workspace.data().export(to).await?;
            Ok(())
        })
        .await?;
        let script = "tar c -C \"$1\" . | igzip -1 > \"$2\"; sync \"$2\"";
        let other = timed(async || shell(script, &[set.tree(), theirs])).await?;
        if turn > 0 {
            row.ours.push_time(took);
            peer.push_time(other);
        }
    }
    row.peer = Some(peer);
    Ok(row)
}

async fn timed(work: impl AsyncFnOnce() -> Result<(), Failure>) -> Result<Duration, Failure> {
    let began = Instant::now();
    work().await?;
    Ok(began.elapsed())
}

fn text(path: &Path) -> Result<&str, Failure> {
    Ok(path.to_str().ok_or("the path is no text")?)
}

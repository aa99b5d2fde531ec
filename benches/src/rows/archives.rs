//! Trees to archives and back, beside tar and igzip in a pipe.

use super::trees::{MIB, Set, shell, turns};
use crate::Failure;
use crate::bed::Bed;
use crate::report::{Bar, Row};
use crate::sample::Series;
use dunnage_archive::{Limits, PackOptions, Watch, pack, unpack};
use dunnage_harness::target_dir;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) async fn both_ways(bed: &Bed) -> Result<Vec<Row>, Failure> {
    let turns = turns(bed);
    let work = move || -> Result<Vec<Row>, String> {
        let measured = || -> Result<Vec<Row>, Failure> {
            let mut rows = Vec::new();
            for set in [Set::large()?, Set::small()?] {
                rows.push(export(&set, turns)?);
                if set.name() == "large" {
                    rows.push(size(&set)?);
                }
                rows.push(import(&set, "", &set.at("ours.tar.gz"), turns)?);
                rows.push(import(&set, "_of_peer", &set.at("peer.tar.gz"), turns)?);
            }
            rows.push(sparse(turns)?);
            Ok(rows)
        };
        measured().map_err(|e| e.to_string())
    };
    Ok(tokio::task::spawn_blocking(work).await??)
}

/// Processor time of this process, and of those it has waited for (proc(5), `stat`).
fn cpu() -> Result<(Duration, Duration), Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, after) = stat.rsplit_once(") ").ok_or("malformed /proc/self/stat")?;
    let fields: Vec<&str> = after.split(' ').collect();
    let time = |at: usize| -> Result<Duration, Failure> {
        let ticks: u64 = fields[at].parse::<u64>()? + fields[at + 1].parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
    };
    Ok((time(11)?, time(13)?))
}

/// Measures one side, wall and processor time.
fn timed(
    wall: &mut Series,
    processor: &mut Series,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (own, others) = cpu()?;
    let began = Instant::now();
    work()?;
    wall.push_time(began.elapsed());
    let (own_after, others_after) = cpu()?;
    processor.push_time(own_after + others_after - own - others);
    Ok(())
}

fn row(name: String, about: String, most: f64, moonshot: Option<Bar>) -> Row {
    Row { name, about, unit: "ms", bars: vec![Bar::TimesPeer(most)], moonshot, ..Row::default() }
}

fn export(set: &Set, turns: usize) -> Result<Row, Failure> {
    let about = format!("write {} to a tar.gz; peer: tar c | igzip -1", set.about());
    let mut row = row(format!("export_{}", set.name()), about, 1.0, Some(Bar::TimesPeer(0.7)));
    let (mut peer, mut cpu, mut peer_cpu) = (Series::default(), Series::default(), Series::default());
    let (ours, theirs) = (set.at("ours.tar.gz"), set.at("peer.tar.gz"));
    // The first turn fills the page cache, for both.
    for turn in 0..=turns {
        if turn == 1 {
            (row.ours, peer, cpu, peer_cpu) = Default::default();
        }
        for path in [&ours, &theirs] {
            drop(fs::remove_file(path));
        }
        timed(&mut row.ours, &mut cpu, || {
            let (root, mut out) = (File::open(set.tree())?, File::create(&ours)?);
            pack(root.as_fd(), &PackOptions::default(), &mut out, &Watch::default())?;
            Ok(())
        })?;
        timed(&mut peer, &mut peer_cpu, || {
            shell("tar c -C \"$1\" . | igzip -1 > \"$2\"", &[set.tree(), &theirs])
        })?;
        rustix::fs::syncfs(File::open(&ours)?)?;
    }
    row.peer = Some(peer);
    row.phases = vec![("processor time".into(), cpu), ("processor time of the peer".into(), peer_cpu)];
    Ok(row)
}

fn size(set: &Set) -> Result<Row, Failure> {
    let gzip = set.at("gzip.tar.gz");
    shell("tar c -C \"$1\" . | gzip -6 > \"$2\"", &[set.tree(), &gzip])?;
    let megabytes = |path: &Path| -> Result<Series, Failure> {
        let mut series = Series::default();
        series.push(fs::metadata(path)?.size() as f64 / 1e6);
        Ok(series)
    };
    let row = Row {
        name: "archive_size".into(),
        about: format!("{} as tar.gz of the default level; peer: gzip -6", set.about()),
        unit: "MB",
        ours: megabytes(&set.at("ours.tar.gz"))?,
        peer: Some(megabytes(&gzip)?),
        bars: vec![Bar::TimesPeer(1.15)],
        ..Row::default()
    };
    fs::remove_file(gzip)?;
    Ok(row)
}

fn import(set: &Set, of: &str, archive: &Path, turns: usize) -> Result<Row, Failure> {
    let whose = if of.is_empty() { "" } else { ", of an archive that igzip wrote" };
    let about =
        format!("restore {} and wait for the disk{whose}; peer: igzip -d | tar x, sync -f", set.about());
    let mut row = row(format!("import_{}{of}", set.name()), about, 1.1, None);
    let (mut peer, mut cpu, mut peer_cpu) = (Series::default(), Series::default(), Series::default());
    let mut used = Vec::new();
    let mut fresh = || -> Result<PathBuf, Failure> {
        // Small files of the turns before stay: ext4 makes new ones slowly for minutes after many were removed.
        if set.name() == "large" {
            used.drain(..).try_for_each(fs::remove_dir_all::<PathBuf>)?;
        }
        let into = tempfile::Builder::new().prefix("back-").tempdir_in(set.place())?.keep();
        used.push(into.clone());
        // What the turn before has left to write is not this one's.
        rustix::fs::syncfs(File::open(&into)?)?;
        Ok(into)
    };
    for turn in 0..=turns {
        if turn == 1 {
            (row.ours, peer, cpu, peer_cpu) = Default::default();
        }
        let into = fresh()?;
        timed(&mut row.ours, &mut cpu, || {
            unpack(File::open(archive)?, File::open(&into)?.as_fd(), &Limits::default(), &Watch::default())?;
            Ok(())
        })?;
        let into = fresh()?;
        timed(&mut peer, &mut peer_cpu, || {
            shell("igzip -d -c \"$1\" | tar x -C \"$2\"; sync -f \"$2\"", &[archive, &into])
        })?;
    }
    row.peer = Some(peer);
    row.phases = vec![("processor time".into(), cpu), ("processor time of the peer".into(), peer_cpu)];
    Ok(row)
}

fn sparse(turns: usize) -> Result<Row, Failure> {
    let place = tempfile::Builder::new().prefix("bench-").tempdir_in(target_dir())?;
    let tree = place.path().join("tree");
    fs::create_dir(&tree)?;
    let file = File::create(tree.join("file"))?;
    file.write_all_at(&vec![1; MIB as usize], 3 << 30)?;
    file.set_len(5 << 30)?;
    file.sync_all()?;
    let mut row = Row {
        name: "export_sparse".into(),
        about: "write a file of 5 GiB with 1 MiB of data to a tar.gz".into(),
        unit: "ms",
        bars: vec![Bar::AtMost(100.0)],
        ..Row::default()
    };
    for _ in 0..turns {
        let began = Instant::now();
        let mut out = File::create(place.path().join("out.tar.gz"))?;
        pack(File::open(&tree)?.as_fd(), &PackOptions::default(), &mut out, &Watch::default())?;
        out.flush()?;
        row.ours.push_time(began.elapsed());
    }
    Ok(row)
}

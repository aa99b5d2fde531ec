//! What compresses archives could be compressed with: each by itself, on one processor, in blocks as archives have them.

use super::trees::Set;
use crate::Failure;
use crate::bed::Bed;
use crate::report::Row;
use crate::sample::Series;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const BLOCK: usize = 1 << 20;

/// How much is compressed.
const SAMPLE: u64 = 256 << 20;

/// Turns of each: they hardly differ.
const TURNS: usize = 3;

/// Both ways of one engine.
type Engine = (&'static str, Way, Way);
type Way = Box<dyn FnMut(&[u8]) -> Result<Vec<u8>, Failure> + Send>;

pub(super) async fn alone(_: &Bed) -> Result<Vec<Row>, Failure> {
    let work = || measure().map_err(|e| e.to_string());
    Ok(tokio::task::spawn_blocking(work).await??)
}

fn measure() -> Result<Vec<Row>, Failure> {
    let set = Set::large()?;
    let tar = set.at("sample.tar");
    let mut made =
        Command::new("tar").arg("c").arg("-C").arg(set.tree()).arg(".").stdout(Stdio::piped()).spawn()?;
    let mut sample = Vec::new();
    made.stdout.take().ok_or("tar has no output")?.take(SAMPLE).read_to_end(&mut sample)?;
    // It may have more to say than is wanted.
    drop(made.kill());
    made.wait()?;
    fs::write(&tar, &sample)?;
    let gzip = piped("gzip", &["-6"], &tar)?.len();
    let mut rows = Vec::new();
    for (name, pack, unpack) in engines()? {
        rows.push(blocks(name, pack, unpack, &sample, gzip)?);
    }
    for level in ["-1", "-2"] {
        rows.push(isal(level, &tar, &sample, gzip)?);
    }
    Ok(rows)
}

fn engines() -> Result<Vec<Engine>, Failure> {
    let mut all: Vec<Engine> = Vec::new();
    for (name, level) in [("libdeflate_1", 1), ("libdeflate_3", 3), ("libdeflate_6", 6)] {
        let mut deflate = Compressor::new(CompressionLvl::new(level).map_err(|_| "no such level")?);
        let mut inflate = Decompressor::new();
        all.push((
            name,
            Box::new(move |block| {
                let mut out = vec![0; deflate.gzip_compress_bound(block.len())];
                let length = deflate.gzip_compress(block, &mut out)?;
                out.truncate(length);
                Ok(out)
            }),
            Box::new(move |block| {
                let mut out = vec![0; BLOCK];
                let length = inflate.gzip_decompress(block, &mut out)?;
                out.truncate(length);
                Ok(out)
            }),
        ));
    }
    for (name, level) in [("zlib_rs_1", 1), ("zlib_rs_2", 2), ("zlib_rs_6", 6)] {
        all.push((
            name,
            Box::new(move |block| {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
                encoder.write_all(block)?;
                Ok(encoder.finish()?)
            }),
            Box::new(|block| {
                let mut out = Vec::with_capacity(BLOCK);
                GzDecoder::new(block).read_to_end(&mut out)?;
                Ok(out)
            }),
        ));
    }
    for (name, level) in [("zstd_1", 1), ("zstd_3", 3)] {
        let mut pack = zstd::bulk::Compressor::new(level)?;
        let mut unpack = zstd::bulk::Decompressor::new()?;
        all.push((
            name,
            Box::new(move |block| Ok(pack.compress(block)?)),
            Box::new(move |block| Ok(unpack.decompress(block, BLOCK)?)),
        ));
    }
    Ok(all)
}

fn row(name: &str, packed: usize, gzip: usize, speed: Series, back: Series) -> Row {
    let mut share = Series::default();
    share.push(packed as f64 / gzip as f64);
    Row {
        name: format!("engine_{name}"),
        about: "compress 268 MB of the large set, on one processor".into(),
        unit: "MB/s",
        ours: speed,
        phases: vec![("inflate, MB/s".into(), back), ("size, times that of gzip -6".into(), share)],
        ..Row::default()
    }
}

fn blocks(name: &str, mut pack: Way, mut unpack: Way, sample: &[u8], gzip: usize) -> Result<Row, Failure> {
    let (mut speed, mut back, mut size) = (Series::default(), Series::default(), 0);
    let rate = |began: Instant| sample.len() as f64 / 1e6 / began.elapsed().as_secs_f64();
    for _ in 0..TURNS {
        let began = Instant::now();
        let packed = sample.chunks(BLOCK).map(&mut pack).collect::<Result<Vec<_>, _>>()?;
        speed.push(rate(began));
        size = packed.iter().map(Vec::len).sum();
        let began = Instant::now();
        for (packed, block) in packed.iter().zip(sample.chunks(BLOCK)) {
            if unpack(packed)?.len() != block.len() {
                return Err(format!("{name} does not give back what it was given").into());
            }
        }
        back.push(rate(began));
    }
    Ok(row(name, size, gzip, speed, back))
}

/// ISA-L as its own program: no crate of it is kept.
fn isal(level: &str, tar: &Path, sample: &[u8], gzip: usize) -> Result<Row, Failure> {
    let (mut speed, mut back, mut size) = (Series::default(), Series::default(), 0);
    let rate = |began: Instant| sample.len() as f64 / 1e6 / began.elapsed().as_secs_f64();
    let packed = tar.with_extension("igz");
    for _ in 0..TURNS {
        let began = Instant::now();
        let bytes = piped("igzip", &[level], tar)?;
        speed.push(rate(began));
        size = bytes.len();
        fs::write(&packed, bytes)?;
        let began = Instant::now();
        piped("igzip", &["-d"], &packed)?;
        back.push(rate(began));
    }
    Ok(row(&format!("isal{}", level.replace('-', "_")), size, gzip, speed, back))
}

fn piped(program: &str, arguments: &[&str], from: &Path) -> Result<Vec<u8>, Failure> {
    let output = Command::new(program).args(arguments).arg("-c").stdin(File::open(from)?).output()?;
    if !output.status.success() {
        return Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(output.stdout)
}

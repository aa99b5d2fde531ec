//! Archives: any bytes are refused, or become a tree that packs to an archive which gives the same tree again. The first
//! byte chooses one of the hostile archives to change, or none; then come changes, and headers get the right sums again,
//! so that what is behind them is reached.
#![no_main]

use dunnage_archive::{ErrorKind, Format, Limits, PackOptions, Watch, pack, unpack};
use libfuzzer_sys::fuzz_target;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

#[path = "../../tests/fixtures/hostile.rs"]
#[allow(dead_code)]
mod fixtures;

/// In memory, where there is such a place: a disk makes few tries a second.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory")
}

fn with_sums(mut bytes: Vec<u8>) -> Vec<u8> {
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

fn made(data: &[u8]) -> Vec<u8> {
    let Some((which, changes)) = data.split_first() else { return Vec::new() };
    let mut corpus = fixtures::corpus(b"/proc/self");
    let which = usize::from(*which);
    if which >= corpus.len() {
        return changes.to_vec();
    }
    let mut bytes = corpus.swap_remove(which).bytes;
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        if let Some(byte) = bytes.get_mut(at) {
            *byte = change[2];
        }
    }
    with_sums(bytes)
}

fuzz_target!(|data: &[u8]| {
    let limits = Limits { bytes: 1 << 20, entries: 1000, path: 300, ratio_free: 1 << 20, ..Limits::default() };
    let tree = directory();
    let open = |path: &Path| File::open(path).expect("it is there");
    match unpack(&made(data)[..], open(tree.path()).as_fd(), &limits, &Watch::default()) {
        Ok(_) => {}
        Err(error) => {
            // A name or owner that the file system refuses is the target's word, never the source's.
            assert!(!matches!(error.kind(), ErrorKind::Source | ErrorKind::Cancelled | ErrorKind::Invalid), "{error}");
            return;
        }
    }
    let options = PackOptions { format: Format::Tar, threads: Some(1), ..PackOptions::default() };
    let packed = |tree: &Path| {
        let mut out = Vec::new();
        pack(open(tree).as_fd(), &options, &mut out, &Watch::default()).expect("what was unpacked can be packed");
        out
    };
    let archive = packed(tree.path());
    let again = directory();
    let limits = Limits { bytes: u64::MAX, entries: u64::MAX, path: usize::MAX, ..limits };
    unpack(&archive[..], open(again.path()).as_fd(), &limits, &Watch::default()).expect("it can be unpacked again");
    assert!(packed(again.path()) == archive, "the same tree gives the same bytes");
});

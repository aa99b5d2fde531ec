//! What is held in memory does not grow with what is sent. Alone in its process, so that nothing else counts; the server is
//! another one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use dunnage_transfer::{Keys, Seal, WriteOptions, seal, unseal};
use std::io::{Read, Write};

const MOST: u64 = 100 << 20;
const SIZE: u64 = 1 << 30;

/// The most memory that this process has had (proc(5), `VmHWM`).
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn memory_is_bounded_whatever_the_size() {
    let server = server();
    let place = place(&server, "archive");
    let (identity, recipient) = {
        let output =
            std::process::Command::new("age-keygen").output().expect("age is missing: run scripts/setup");
        let text = String::from_utf8(output.stdout).unwrap();
        let identity = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap().to_owned();
        (identity, text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned())
    };
    let block = bytes(1 << 20, 1);

    let writer = place.write(&WriteOptions::default()).unwrap();
    let mut sealer = seal(writer, &Seal::recipients([recipient])).unwrap();
    for _ in 0..SIZE / block.len() as u64 {
        sealer.write_all(&block).unwrap();
    }
    let stored = sealer.finish().unwrap().finish().unwrap();
    assert!(stored.bytes > SIZE);
    let written = peak();

    let mut reader = unseal(place.read().unwrap(), &Keys::identities([identity])).unwrap();
    let (mut piece, mut read) = (vec![0; block.len()], 0);
    while read < SIZE {
        reader.read_exact(&mut piece).unwrap();
        assert!(piece == block);
        read += piece.len() as u64;
    }
    assert_eq!(reader.read(&mut piece).unwrap(), 0);
    let peak = peak();
    println!("{written} bytes after writing, {peak} after reading");
    assert!(peak <= MOST, "{peak} bytes, {written} of them for writing");
}

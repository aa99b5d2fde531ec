//! What is held in memory does not grow with what is packed. Alone in its process, so that nothing else counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use dunnage_archive::{Format, Limits, PackOptions, Watch, pack, unpack};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

const MOST: u64 = 200 << 20;

/// The most memory that this process has had (proc(5), `VmHWM`).
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// An archive of one file with so many bytes, made as it is read.
struct Endless {
    header: Vec<u8>,
    left: u64,
}

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.header.is_empty() {
            let length = self.header.len().min(into.len());
            into[..length].copy_from_slice(&self.header[..length]);
            self.header.drain(..length);
            return Ok(length);
        }
        let length = (into.len() as u64).min(self.left) as usize;
        into[..length].fill(0);
        self.left -= length as u64;
        Ok(length)
    }
}

#[test]
fn memory_is_bounded_whatever_the_size() {
    // In memory where there is room: a disk makes it slow, and the pages are not this process's.
    let room = rustix::fs::statvfs("/dev/shm").map_or(0, |shm| shm.f_bavail * shm.f_frsize);
    let dir = if room > 4 << 30 { tempfile::tempdir_in("/dev/shm") } else { tempfile::tempdir() }.unwrap();
    let at = |name: &str| dir.path().join(name);

    // Five GiB with a mebibyte of data.
    fs::create_dir(at("sparse")).unwrap();
    let file = File::create(at("sparse/file")).unwrap();
    file.write_all_at(&[1; 1 << 20], 3 << 30).unwrap();
    file.set_len(5 << 30).unwrap();
    let mut archive = Vec::new();
    let root = File::open(at("sparse")).unwrap();
    let told = pack(root.as_fd(), &PackOptions::default(), &mut archive, &Watch::default()).unwrap();
    assert_eq!((told.bytes, told.changed), (1 << 20, 0));
    assert!(archive.len() < 1 << 20);
    fs::create_dir(at("back")).unwrap();
    unpack(&archive[..], File::open(at("back")).unwrap().as_fd(), &Limits::default(), &Watch::default())
        .unwrap();
    let back = fs::metadata(at("back/file")).unwrap();
    assert_eq!(back.size(), 5 << 30);
    assert!(back.blocks() * 512 <= 2 << 20, "the holes are holes again");

    // Two hundred thousand files.
    fs::create_dir(at("many")).unwrap();
    for directory in 0..200 {
        let directory = at("many").join(directory.to_string());
        fs::create_dir(&directory).unwrap();
        for n in 0..1000 {
            File::create(directory.join(format!("file-{n}"))).unwrap().write_all(b"content").unwrap();
        }
    }
    let root = File::open(at("many")).unwrap();
    let archive = at("many.tar.gz");
    let told =
        pack(root.as_fd(), &PackOptions::default(), &mut File::create(&archive).unwrap(), &Watch::default())
            .unwrap();
    assert_eq!(told.entries, 200_201);
    fs::create_dir(at("again")).unwrap();
    let source = File::open(&archive).unwrap();
    let made =
        unpack(source, File::open(at("again")).unwrap().as_fd(), &Limits::default(), &Watch::default())
            .unwrap();
    assert_eq!(made.entries, 200_201);
    fs::remove_dir_all(at("again")).unwrap();
    fs::remove_dir_all(at("many")).unwrap();

    // Two GiB of data, to where nothing is slow and to where everything is, and back.
    fs::create_dir(at("large")).unwrap();
    let mut file = File::create(at("large/file")).unwrap();
    let mut block: Vec<u8> =
        (0..1_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for n in 0..2048_u32 {
        block[..4].copy_from_slice(&n.to_le_bytes());
        file.write_all(&block).unwrap();
    }
    let root = File::open(at("large")).unwrap();
    for format in [Format::TarGz, Format::TarZst, Format::Tar] {
        let options = PackOptions { format, ..PackOptions::default() };
        pack(root.as_fd(), &options, &mut io::sink(), &Watch::default()).unwrap();
    }
    drop(fs::remove_dir_all(at("large")));

    // Four GiB of zeros that come from nowhere.
    fs::create_dir(at("zeros")).unwrap();
    let size = 4_u64 << 30;
    let mut header = tar::Header::new_ustar();
    header.set_path("zeros").unwrap();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_cksum();
    let endless = Endless { header: header.as_bytes().to_vec(), left: size + 1024 };
    unpack(endless, File::open(at("zeros")).unwrap().as_fd(), &Limits::default(), &Watch::default()).unwrap();
    assert_eq!(fs::metadata(at("zeros/zeros")).unwrap().blocks(), 0);

    let peak = peak();
    assert!(peak <= MOST, "{peak} bytes");
}

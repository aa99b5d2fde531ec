//! A tree, read entry by entry into the blocks of an archive.

use crate::blocks::Blocks;
use crate::chain::{Chain, DIRECTORY};
use crate::entry::{Entry, Kind, Moment};
use crate::error::{Error, Result};
use crate::header::{encode, sparse_map};
use crate::pack::Packed;
use crate::patterns::Patterns;
use crate::sparse::pieces;
use crate::watch::Watch;
use crate::write::{is_overlays, through_proc};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, Stat, StatVfsMountFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// How often something that becomes something else while it is looked at is looked at again.
const TRIES: u32 = 8;

/// Bytes that a directory is read with at a time.
const LISTING: usize = 32 << 10;

pub(crate) struct Walk<'a> {
    chain: Chain,
    /// What is still to come in each directory of the chain, and in the root: the last name first.
    pending: Vec<Vec<Name>>,
    /// The names of the directories of the chain, each with a slash.
    path: Vec<u8>,
    /// How many of the directories down to here are in the archive.
    written: usize,
    /// The entry of each, and of the root, until it is written.
    headers: Vec<Option<Entry>>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Whether nothing that is opened can be a device.
    no_devices: bool,
    out: Blocks,
    patterns: &'a Patterns,
    watch: &'a Watch,
    packed: Packed,
    header: Vec<u8>,
}

struct Name {
    name: Vec<u8>,
    kind: FileType,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        root: BorrowedFd<'_>,
        out: Blocks,
        patterns: &'a Patterns,
        watch: &'a Watch,
    ) -> Result<Self> {
        let failed = |e: Errno| Error::source(e.into(), "cannot open the tree");
        let root = rustix::fs::openat(root, ".", DIRECTORY, Mode::empty()).map_err(failed)?;
        let flags = rustix::fs::fstatvfs(&root).map_err(failed)?.f_flag;
        Ok(Self {
            chain: Chain::new(root),
            pending: Vec::new(),
            path: Vec::new(),
            written: 0,
            headers: Vec::new(),
            links: HashMap::new(),
            no_devices: flags.contains(StatVfsMountFlags::NODEV),
            out,
            patterns,
            watch,
            packed: Packed::default(),
            header: Vec::new(),
        })
    }

    /// Writes all of the tree, and the end marker.
    pub(crate) fn run(mut self) -> Result<Packed> {
        self.enter_root()?;
        while let Some(names) = self.pending.last_mut() {
            self.watch.check()?;
            match names.pop() {
                Some(name) => self.one(&name)?,
                None => self.leave()?,
            }
        }
        self.out.zeros(1024)?;
        self.out.finish()?;
        Ok(self.packed)
    }

    fn failed(&self, error: impl Into<io::Error>, doing: &str) -> Error {
        Error::source(error.into(), doing).at(&self.path)
    }

    fn enter_root(&mut self) -> Result<()> {
        let root = self.chain.here();
        let look = || -> io::Result<Entry> {
            let stat = rustix::fs::fstat(root)?;
            Ok(Entry { xattrs: attributes_of(root)?, ..described(Kind::Directory, b"./".to_vec(), &stat) })
        };
        let entry = look().map_err(|e| self.failed(e, "cannot read the directory"))?;
        self.headers.push(Some(entry));
        if self.patterns.asks_for(b"") {
            self.write_headers()?;
        }
        self.list()
    }

    /// Reads the names in the directory where the chain ends.
    fn list(&mut self) -> Result<()> {
        let mut names = Vec::new();
        let mut buffer = Vec::with_capacity(LISTING);
        let mut listing = RawDir::new(self.chain.here(), buffer.spare_capacity_mut());
        while let Some(found) = listing.next() {
            let found = found.map_err(|e| self.failed(e, "cannot read the directory"))?;
            let name = found.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(Name { name: name.to_vec(), kind: found.file_type() });
            }
        }
        names.sort_unstable_by(|a, b| b.name.cmp(&a.name));
        self.pending.push(names);
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        self.pending.pop();
        self.headers.pop();
        self.written = self.written.min(self.headers.len());
        if self.chain.depth() > 0 {
            self.chain.pop().map_err(|e| self.failed(e, "cannot go back to the directory above"))?;
            let end = self.path.len().saturating_sub(1);
            let above = self.path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            self.path.truncate(above);
        }
        Ok(())
    }

    /// Takes one name of the current directory. What went away meanwhile is left out.
    fn one(&mut self, name: &Name) -> Result<()> {
        let above = self.path.len();
        self.path.extend_from_slice(&name.name);
        let mut kind = name.kind;
        for _ in 0..TRIES {
            let tried = match kind {
                _ if self.patterns.leaves_out(&self.path) => Tried::Done,
                FileType::Directory => self.directory(&name.name)?,
                _ if !self.patterns.asks_for(&self.path) => Tried::Done,
                FileType::RegularFile => self.file(&name.name)?,
                FileType::Unknown => Tried::Other,
                _ => self.special(&name.name)?,
            };
            match tried {
                Tried::Entered => return Ok(()),
                Tried::Done => {
                    self.path.truncate(above);
                    return Ok(());
                }
                Tried::Gone => {
                    self.packed.changed += 1;
                    self.path.truncate(above);
                    return Ok(());
                }
                Tried::Other => {
                    match rustix::fs::statat(self.chain.here(), &name.name[..], AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => kind = FileType::from_raw_mode(stat.st_mode),
                        Err(Errno::NOENT) => {
                            self.packed.changed += 1;
                            self.path.truncate(above);
                            return Ok(());
                        }
                        Err(e) => return Err(self.failed(e, "cannot look at it")),
                    }
                }
            }
        }
        Err(self.failed(
            io::Error::from(io::ErrorKind::Interrupted),
            "it becomes something else whenever it is looked at",
        ))
    }

    fn directory(&mut self, name: &[u8]) -> Result<Tried> {
        let opened = match rustix::fs::openat(self.chain.here(), name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(Tried::Gone),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Tried::Other),
            opened => opened.map_err(|e| self.failed(e, "cannot open the directory"))?,
        };
        let asked = self.patterns.asks_for(&self.path);
        self.path.push(b'/');
        let look = || -> io::Result<Entry> {
            let stat = rustix::fs::fstat(&opened)?;
            let path = [b"./", &self.path[..]].concat();
            Ok(Entry { xattrs: attributes_of(opened.as_fd())?, ..described(Kind::Directory, path, &stat) })
        };
        let entry = look().map_err(|e| self.failed(e, "cannot read the directory"))?;
        self.headers.push(Some(entry));
        self.chain.push(name, opened).map_err(|e| self.failed(e, "cannot read the directory"))?;
        if asked {
            self.write_headers()?;
        }
        self.list()?;
        Ok(Tried::Entered)
    }

    fn file(&mut self, name: &[u8]) -> Result<Tried> {
        let (file, stat) = match self.open(name) {
            Err(Errno::NOENT) => return Ok(Tried::Gone),
            // A link, or a pipe or device without its other end: it was no file any more.
            Err(Errno::LOOP | Errno::NXIO) => return Ok(Tried::Other),
            // A device where none may be opened; or else a file that may not be read, which must not be left out.
            Err(Errno::ACCESS) if !self.is_file(name) => return Ok(Tried::Other),
            opened => opened.map_err(|e| self.failed(e, "cannot open the file"))?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Tried::Other);
        }
        self.write_headers()?;
        let path = [b"./", &self.path[..]].concat();
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let link = first.clone();
                let entry = Entry { size: 0, link, ..described(Kind::HardLink, path, &stat) };
                self.write_header(&entry, 0)?;
                return Ok(Tried::Done);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.clone());
        }
        let xattrs = attributes_of(file.as_fd()).map_err(|e| self.failed(e, "cannot read the attributes"))?;
        let size = stat.st_size.cast_unsigned();
        let mut entry = Entry { size, xattrs, ..described(Kind::File, path, &stat) };
        // Fewer blocks than bytes: there are holes, or it is compressed below.
        let holes = stat.st_blocks.cast_unsigned().saturating_mul(512) < size;
        let found = if holes { pieces(file.as_fd(), size) } else { Ok(None) };
        let Some(pieces) = found.map_err(|e| self.failed(e, "cannot find the holes"))? else {
            self.write_header(&entry, size)?;
            self.data(&file, size)?;
            self.out.zeros(size.next_multiple_of(512) - size)?;
            return Ok(Tried::Done);
        };
        let map = sparse_map(&pieces);
        let stored: u64 = pieces.iter().map(|(_, length)| length).sum();
        entry.sparse = Some(pieces);
        self.write_header(&entry, map.len() as u64 + stored)?;
        self.out.put(&map)?;
        for (offset, length) in entry.sparse.iter().flatten() {
            let sought = rustix::fs::seek(&file, SeekFrom::Start(*offset));
            sought.map_err(|e| self.failed(e, "cannot read the file"))?;
            self.data(&file, *length)?;
        }
        self.out.zeros(stored.next_multiple_of(512) - stored)?;
        Ok(Tried::Done)
    }

    fn is_file(&self, name: &[u8]) -> bool {
        let stat = rustix::fs::statat(self.chain.here(), name, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    /// Opens a file of this name for reading. What is no file is not touched: opening a device or a pipe can have effects.
    fn open(&self, name: &[u8]) -> rustix::io::Result<(OwnedFd, Stat)> {
        let reading = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if self.no_devices {
            let file =
                rustix::fs::openat(self.chain.here(), name, reading | OFlags::NOFOLLOW, Mode::empty())?;
            let stat = rustix::fs::fstat(&file)?;
            return Ok((file, stat));
        }
        let held = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(self.chain.here(), name, held, Mode::empty())?;
        let stat = rustix::fs::fstat(&held)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::LOOP);
        }
        // The thread's own: its identity may be another than the process's.
        let same = format!("/proc/thread-self/fd/{}", held.as_raw_fd());
        match rustix::fs::open(same, reading, Mode::empty()) {
            // The file is held, so it is /proc that is missing: that must not pass for a file that went away.
            Err(Errno::NOENT) => Err(Errno::NOSYS),
            // The same inode, so the same facts.
            opened => Ok((opened?, stat)),
        }
    }

    /// Copies as many bytes from where the file is read. One that ends before is filled up with zeros.
    fn data(&mut self, file: &OwnedFd, mut left: u64) -> Result<()> {
        self.packed.bytes += left;
        while left > 0 {
            let room = self.out.room()?;
            let length = usize::try_from(left).map_or(room.len(), |left| room.len().min(left));
            let read = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut room[..length]));
            let read = read.map_err(|e| self.failed(e, "cannot read the file"))?;
            if read == 0 {
                self.packed.changed += 1;
                self.watch.moved(left);
                return Ok(self.out.zeros(left)?);
            }
            self.out.advance(read);
            left -= read as u64;
            self.watch.moved(read as u64);
            self.watch.check()?;
        }
        Ok(())
    }

    /// A link, a device or a pipe.
    fn special(&mut self, name: &[u8]) -> Result<Tried> {
        let here = self.chain.here();
        let stat = match rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Tried::Gone),
            stat => stat.map_err(|e| self.failed(e, "cannot look at it"))?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::Character,
            FileType::BlockDevice => Kind::Block,
            FileType::Socket => {
                self.packed.sockets += 1;
                return Ok(Tried::Done);
            }
            _ => return Ok(Tried::Other),
        };
        let path = [b"./", &self.path[..]].concat();
        let mut entry = described(kind, path, &stat);
        if kind == Kind::Symlink {
            entry.link = match rustix::fs::readlinkat(here, name, Vec::new()) {
                Err(Errno::NOENT) => return Ok(Tried::Gone),
                Err(Errno::INVAL) => return Ok(Tried::Other),
                link => link.map_err(|e| self.failed(e, "cannot read the link"))?.into_bytes(),
            };
        } else if kind != Kind::Fifo {
            entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        }
        let through = through_proc(here, name);
        let there = || rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let list = |into: &mut [u8]| match rustix::fs::llistxattr(&through, into) {
            // It is there, so it is /proc that is missing.
            Err(Errno::NOENT) if there() => Err(Errno::NOSYS),
            listed => listed,
        };
        let get = |key: &[u8], into: &mut [u8]| rustix::fs::lgetxattr(&through, key, into);
        entry.xattrs = attributes(list, get).map_err(|e| self.failed(e, "cannot read the attributes"))?;
        self.write_headers()?;
        self.write_header(&entry, 0)?;
        Ok(Tried::Done)
    }

    /// Writes the directories on the way down here that are not in the archive yet.
    fn write_headers(&mut self) -> Result<()> {
        while self.written < self.headers.len() {
            let entry = self.headers[self.written].take();
            self.written += 1;
            if let Some(entry) = entry {
                self.write_header(&entry, 0)?;
            }
        }
        Ok(())
    }

    fn write_header(&mut self, entry: &Entry, stored: u64) -> Result<()> {
        self.header.clear();
        encode(&mut self.header, entry, stored);
        self.out.put(&self.header)?;
        self.packed.entries += 1;
        self.watch.entry();
        Ok(())
    }
}

/// What became of one name.
enum Tried {
    Done,
    /// A directory, which the walk is in now.
    Entered,
    Gone,
    /// It is something else than it was.
    Other,
}

fn described(kind: Kind, path: Vec<u8>, stat: &Stat) -> Entry {
    // Nanoseconds have another type on each of rustix's backends.
    let modified = Moment { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as i64 };
    Entry {
        kind,
        path,
        link: Vec::new(),
        size: 0,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified,
        accessed: modified,
        device: (0, 0),
        xattrs: Vec::new(),
        sparse: None,
    }
}

fn attributes_of(fd: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let list = |into: &mut [u8]| rustix::fs::flistxattr(fd, into);
    attributes(list, |key, into| rustix::fs::fgetxattr(fd, key, into))
}

/// The attributes of something, ordered by name.
fn attributes(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut small = [0; 256];
    let names = match list(&mut small) {
        // Nearly everything has none.
        Ok(0) | Err(Errno::NOTSUP | Errno::NOENT) => return Ok(Vec::new()),
        Ok(length) => small[..length].to_vec(),
        Err(Errno::RANGE) => whole(&list)?,
        Err(e) => return Err(e.into()),
    };
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if name.is_empty() || is_overlays(name) {
            continue;
        }
        match whole(&|into: &mut [u8]| get(name, into)) {
            Ok(value) => found.push((name.to_vec(), value)),
            // Removed meanwhile.
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e.into()),
        }
    }
    found.sort();
    Ok(found)
}

/// All of what a call gives that wants a buffer. The kernel has no list and no value above 64 KiB (`XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`).
fn whole(call: &impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 64 << 10];
    let length = call(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

use crate::chain::{Chain, DIRECTORY};
use crate::entry::{Entry, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::inflate::{Bounds, Failed, Inflated, inflating};
use crate::reader::Reader;
use crate::watch::Watch;
use crate::write;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timestamps};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What an archive may ask for. What is above is an error before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries; 10,000,000 by default.
    pub entries: u64,
    /// Bytes of files' data, holes aside; 1 TiB by default.
    pub bytes: u64,
    /// How many bytes may come of each byte of the archive; 200 by default.
    pub ratio: u64,
    /// Bytes that may come of it whatever the ratio; 1 GiB by default.
    pub ratio_free: u64,
    /// Bytes of a name with all directories above, or of what a link points at; 65,536 by default.
    pub path: usize,
    /// Whether devices are made; not by default: they are UNSUPPORTED then.
    pub devices: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            bytes: 1 << 40,
            ratio: 200,
            ratio_free: 1 << 30,
            path: 64 << 10,
            devices: false,
        }
    }
}

impl Limits {
    /// None at all: for what was made here, of a tree that was here.
    #[must_use]
    pub fn none() -> Self {
        Self {
            entries: u64::MAX,
            bytes: u64::MAX,
            ratio: u64::MAX,
            ratio_free: u64::MAX,
            path: usize::MAX,
            devices: true,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of files' data; holes do not count.
    pub bytes: u64,
    /// Bytes of the archive as it is stored.
    pub packed: u64,
}

/// The longest name in a directory (`NAME_MAX`).
const LONGEST_NAME: usize = 255;

/// Makes a tree of an archive, in a directory that nobody else uses. It is compressed with gzip, zstd or nothing, as its
/// first bytes tell. What was made is on the disk when this returns.
///
/// Where the directory has something already, the archive's entries are added: what has the name of one goes, and is not
/// written into; a directory stays one, with what is in it and the entry's owner, mode, times and attributes.
///
/// The archive has to be whole: it ends with tar's end marker, and nothing but zeros follows. Leading slashes of names are
/// passed over.
///
/// # Errors
/// Corrupt, Conflict, Limit, Unsupported, Source, Target, Cancelled. The directory holds part of the tree then.
pub fn unpack<R: Read + Send>(
    source: R,
    root: BorrowedFd<'_>,
    limits: &Limits,
    watch: &Watch,
) -> Result<Unpacked> {
    let failed = Failed::default();
    let bounds = Bounds { ratio: limits.ratio, free: limits.ratio_free };
    let open = || rustix::fs::openat(root, ".", DIRECTORY, Mode::empty());
    let opened = open().and_then(|root| Ok((root, open()?)));
    let (root, again) = opened.map_err(|e| Error::target(e.into(), "cannot open the directory"))?;
    std::thread::scope(|scope| {
        let inflated = inflating(scope, source, &failed, watch, bounds)?;
        let mut tree = Tree {
            chain: Chain::new(root),
            targets: Chain::new(again),
            directories: BTreeMap::new(),
            limits,
            watch,
            made: Unpacked::default(),
        };
        let done = tree.all(inflated);
        // A decoder only sees that its source has ended.
        if let Some(error) = failed.take() {
            return Err(Error::source(error, "cannot read the archive"));
        }
        done?;
        Ok(Unpacked { packed: watch.packed(), ..tree.made })
    })
}

/// What a directory gets last.
struct Last {
    mode: u32,
    lists: Vec<(Vec<u8>, Vec<u8>)>,
    times: Timestamps,
}

/// A tree that is being made.
struct Tree<'a> {
    chain: Chain,
    /// The way to what hard links point at.
    targets: Chain,
    /// Directories get mode and times last: what is made in them changes these.
    directories: BTreeMap<Vec<u8>, Last>,
    limits: &'a Limits,
    watch: &'a Watch,
    made: Unpacked,
}

impl Tree<'_> {
    fn all(&mut self, inflated: Inflated<'_>) -> Result<()> {
        let mut archive = Reader::new(inflated);
        while let Some(entry) = archive.next().map_err(reading)? {
            self.watch.check()?;
            self.one(&entry, &mut archive)
                .map_err(|e| if e.path().is_none() { e.at(&entry.path) } else { e })?;
            self.watch.entry();
        }
        if !archive.is_marked() {
            return Err(Error::corrupt("the archive ends without its end marker: it was cut off"));
        }
        nothing_more(archive.into_inner())?;
        self.settle()
    }

    fn one<R: BufRead>(&mut self, entry: &Entry, archive: &mut Reader<R>) -> Result<()> {
        let limits = self.limits;
        self.made.entries += 1;
        if self.made.entries > limits.entries {
            return Err(limit(format!("the archive has more than {} entries", limits.entries)));
        }
        let stored = match &entry.sparse {
            Some(pieces) => pieces.iter().map(|(_, length)| length).sum(),
            None => entry.size,
        };
        self.made.bytes = self.made.bytes.saturating_add(stored);
        if self.made.bytes > limits.bytes {
            return Err(limit(format!("the archive holds more than {} bytes", limits.bytes)));
        }
        let path = names(&entry.path, limits)?;
        let Some((name, above)) = path.split_last() else {
            return self.root(entry);
        };
        self.go(above)?;
        match entry.kind {
            Kind::Directory => self.directory(&path, name, entry),
            Kind::File => self.file(&path, name, entry, archive),
            Kind::HardLink => self.hard_link(&path, name, entry),
            Kind::Symlink => self.symlink(&path, name, entry),
            Kind::Fifo | Kind::Character | Kind::Block => self.node(&path, name, entry),
        }?;
        self.watch.moved(stored);
        Ok(())
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::corrupt("the root of the archive is no directory"));
        }
        self.go(&[])?;
        self.describe(Vec::new(), entry)
    }

    /// Goes to a directory; what the archive only implies of the way is made as root's.
    fn go(&mut self, above: &[&[u8]]) -> Result<()> {
        let make = |parent: BorrowedFd<'_>, name: &[u8]| {
            rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
            let made = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
            Ok(rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?)
        };
        self.chain.go(above.iter().copied(), make).map_err(|e| match Errno::from_io_error(&e) {
            Some(Errno::LOOP | Errno::NOTDIR) => {
                Error::corrupt("it is below something that the archive does not have as a directory")
                    .because(e)
            }
            _ => writing(e),
        })
    }

    /// Sets what a directory may have from the beginning, where the chain ends, and notes the rest.
    fn describe(&mut self, path: Vec<u8>, entry: &Entry) -> Result<()> {
        let mut modest = Entry { mode: 0o700, ..entry.clone() };
        let lists = modest.xattrs.extract_if(.., |(name, _)| write::is_access_list(name)).collect();
        write::attributes(self.chain.here(), &modest).map_err(writing)?;
        self.directories.insert(path, Last { mode: entry.mode, lists, times: write::times(entry) });
        Ok(())
    }

    fn directory(&mut self, path: &[&[u8]], name: &[u8], entry: &Entry) -> Result<()> {
        let made = rustix::fs::mkdirat(self.chain.here(), name, Mode::RWXU);
        match made {
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(self.chain.here(), name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(writing)?;
                if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
                    self.remove(path, name)?;
                    rustix::fs::mkdirat(self.chain.here(), name, Mode::RWXU).map_err(writing)?;
                }
            }
            made => made.map_err(writing)?,
        }
        self.go(path)?;
        self.describe(path.join(&b'/'), entry)
    }

    fn file<R: BufRead>(
        &mut self,
        path: &[&[u8]],
        name: &[u8],
        entry: &Entry,
        archive: &mut Reader<R>,
    ) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Nobody else can look into the tree yet, so it may have its mode from the beginning.
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let make = |here: BorrowedFd<'_>| rustix::fs::openat(here, name, flags, mode);
        let file: OwnedFd = self.fresh(path, name, make)?;
        write::data(file.as_fd(), entry, archive).map_err(reading)?;
        write::attributes(file.as_fd(), entry).and_then(|()| write::set_times(&file, entry)).map_err(writing)
    }

    fn symlink(&mut self, path: &[&[u8]], name: &[u8], entry: &Entry) -> Result<()> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(Error::corrupt("a symbolic link to nothing"));
        }
        if entry.link.len() > self.limits.path {
            return Err(limit(format!("a link is longer than {} bytes", self.limits.path)));
        }
        self.fresh(path, name, |here| rustix::fs::symlinkat(&entry.link[..], here, name))?;
        write::special(self.chain.here(), name, entry).map_err(writing)
    }

    fn node(&mut self, path: &[&[u8]], name: &[u8], entry: &Entry) -> Result<()> {
        let kind = match entry.kind {
            Kind::Fifo => FileType::Fifo,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::CharacterDevice,
        };
        if kind != FileType::Fifo {
            if !self.limits.devices {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "a device: allow devices if you trust the archive",
                ));
            }
            if entry.device == (0, 0) {
                // overlayfs takes it for a deletion.
                return Err(Error::corrupt("a device that no system has"));
            }
        }
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let private = Mode::RUSR | Mode::WUSR;
        self.fresh(path, name, |here| rustix::fs::mknodat(here, name, kind, private, device))?;
        let here = self.chain.here();
        write::special(here, name, entry).map_err(writing)?;
        // This changes none of the times set before.
        rustix::fs::chmodat(here, name, Mode::from_raw_mode(entry.mode), AtFlags::empty()).map_err(writing)
    }

    fn hard_link(&mut self, path: &[&[u8]], name: &[u8], entry: &Entry) -> Result<()> {
        let lost = || Error::corrupt("a hard link to what the archive does not have before it");
        let target = names(&entry.link, self.limits)?;
        let Some((first, above)) = target.split_last() else { return Err(lost()) };
        let missing = |_: BorrowedFd<'_>, _: &[u8]| Err(io::Error::from(Errno::NOENT));
        self.targets.go(above.iter().copied(), missing).map_err(|e| lost().because(e))?;
        let stat = rustix::fs::statat(self.targets.here(), *first, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|e| lost().because(e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(Error::corrupt("a hard link to a directory"));
        }
        if target == path {
            return Ok(());
        }
        let link = |tree: &Self| {
            rustix::fs::linkat(tree.targets.here(), *first, tree.chain.here(), name, AtFlags::empty())
        };
        match link(self) {
            Err(Errno::EXIST) => {
                self.remove(path, name)?;
                self.targets.go(above.iter().copied(), missing).map_err(writing)?;
                link(self).map_err(writing)
            }
            done => done.map_err(writing),
        }
    }

    /// Makes something where nothing may be: what is there goes first.
    fn fresh<T>(
        &mut self,
        path: &[&[u8]],
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Result<T> {
        match make(self.chain.here()) {
            Err(Errno::EXIST) => {
                self.remove(path, name)?;
                make(self.chain.here()).map_err(writing)
            }
            done => done.map_err(writing),
        }
    }

    fn remove(&mut self, path: &[&[u8]], name: &[u8]) -> Result<()> {
        match rustix::fs::unlinkat(self.chain.here(), name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            done => return done.map_err(writing),
        }
        let ours = self.directories.remove(&path.join(&b'/')).is_some();
        // It may be on the way to the last target.
        self.targets.go(std::iter::empty(), |_, _| Ok(())).map_err(writing)?;
        match rustix::fs::unlinkat(self.chain.here(), name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if ours => {
                Err(Error::corrupt("it takes the place of a directory that the archive has entries below"))
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                Err(Error::new(ErrorKind::Conflict, "it takes the place of a directory that is not empty"))
            }
            done => done.map_err(writing),
        }
    }

    /// Gives directories what they get last, those further down first, and waits for the disk.
    fn settle(&mut self) -> Result<()> {
        for (path, last) in std::mem::take(&mut self.directories).into_iter().rev() {
            self.watch.check()?;
            let way = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
            let missing = |_: BorrowedFd<'_>, _: &[u8]| Err(io::Error::from(Errno::NOENT));
            let here = self.chain.go(way, missing).map_err(writing);
            here.and_then(|()| {
                let here = self.chain.here();
                write::permissions(here, last.mode, &last.lists).map_err(writing)?;
                rustix::fs::futimens(here, &last.times).map_err(writing)
            })
            .map_err(|e| e.at(&path))?;
        }
        self.chain.go(std::iter::empty(), |_, _| Ok(())).map_err(writing)?;
        rustix::fs::syncfs(self.chain.here())
            .map_err(|e| Error::target(e.into(), "cannot write it to the disk"))
    }
}

/// The components of a name.
fn names<'p>(path: &'p [u8], limits: &Limits) -> Result<Vec<&'p [u8]>> {
    if path.len() > limits.path {
        return Err(limit(format!("a name is longer than {} bytes", limits.path)));
    }
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts
        .map(|part| match part {
            b".." => Err(Error::corrupt("it would be outside of the tree")),
            part if part.contains(&0) => Err(Error::corrupt("a name that no file can have")),
            part if part.len() > LONGEST_NAME => {
                Err(limit(format!("a name is longer than {LONGEST_NAME} bytes")))
            }
            part => Ok(part),
        })
        .collect()
}

/// Reads what follows the end marker: zeros, with which archives are filled up.
pub(crate) fn nothing_more(mut rest: Inflated<'_>) -> Result<()> {
    loop {
        let bytes = rest.fill_buf().map_err(reading)?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(Error::corrupt("something follows the end of the archive"));
        }
        let length = bytes.len();
        rest.consume(length);
    }
}

fn limit(message: String) -> Error {
    Error::new(ErrorKind::Limit, format!("{message}: raise the limit if you trust it"))
}

fn writing(error: impl Into<io::Error>) -> Error {
    Error::target(error.into(), "cannot write the tree")
}

/// What an error while reading and writing at once means. An error of the system has a number, a decoder's has none.
pub(crate) fn reading(error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return writing(error);
    }
    match error.kind() {
        io::ErrorKind::Unsupported => {
            Error::new(ErrorKind::Unsupported, "cannot unpack the archive").because(error)
        }
        // One of ours, on its way through a reader.
        _ => match error.downcast::<Error>() {
            Ok(own) => own,
            Err(error) => Error::corrupt("the archive is damaged").because(error),
        },
    }
}

use crate::blocks::{Block, Blocks};
use crate::compress::Compress;
use crate::error::{Error, ErrorKind, Result};
use crate::patterns::Patterns;
use crate::walk::Walk;
use crate::watch::Watch;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{Builder, Scope};

/// How an archive is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// tar in gzip members of a mebibyte each, which any gzip reads.
    #[default]
    TarGz,
    /// tar in zstd frames of a mebibyte each, with checksums.
    TarZst,
    /// tar.
    Tar,
}

/// What of a tree is packed, and how.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// How the archive is stored.
    pub format: Format,
    /// How hard it is compressed: 1 to 12 for gzip, 1 by default; 1 to 19 for zstd, 3 by default.
    pub level: Option<u32>,
    /// Patterns of what is packed, with all below; none for everything. `*` and `?` stay within a name, `**` does not. A
    /// pattern without a slash counts at any depth.
    pub include: Vec<String>,
    /// Patterns of what stays out, with all below; they count more than what is asked for.
    pub exclude: Vec<String>,
    /// How many threads compress; none for as many as there are processors, at most 8.
    pub threads: Option<usize>,
}

impl PackOptions {
    /// Checks them, as [`pack()`] does.
    ///
    /// # Errors
    /// Invalid.
    pub fn check(&self) -> Result<()> {
        Patterns::new(&self.include, &self.exclude)?;
        Compress::new(self.format, self.level).map(drop)
    }
}

/// What was packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of files' data; holes do not count.
    pub bytes: u64,
    /// Bytes of the archive as it is stored.
    pub packed: u64,
    /// Sockets, which no archive holds.
    pub sockets: u64,
    /// Files that became shorter, and entries that went away, while they were read.
    pub changed: u64,
}

/// The most threads that are of use.
const MOST_THREADS: usize = 8;

/// A block that is compressed.
struct Done {
    block: Block,
    packed: Vec<u8>,
}

/// Packs the tree below a directory. The same tree gives the same bytes.
///
/// It reads with two threads more than [`PackOptions::threads`], one of which is the caller's.
///
/// # Errors
/// Invalid options, Source for what the tree refuses to give, Target for what `out` refuses to take, Cancelled. What was
/// written to `out` until then is no archive.
pub fn pack(
    root: BorrowedFd<'_>,
    options: &PackOptions,
    out: &mut dyn Write,
    watch: &Watch,
) -> Result<Packed> {
    let patterns = Patterns::new(&options.include, &options.exclude)?;
    let threads = threads(options.threads);
    let compress: Vec<Compress> =
        (0..threads).map(|_| Compress::new(options.format, options.level)).collect::<Result<_>>()?;
    // Every buffer is in one of these places, so what is under way is bounded.
    let buffers = threads * 2 + 2;
    let (to_compress, blocks) = sync_channel(buffers);
    let (give_back, spare) = channel();
    let (tell, done) = sync_channel(buffers);
    for _ in 1..buffers {
        // Both ends are here.
        let _ = give_back.send(Vec::new());
    }
    let blocks = Mutex::new(blocks);
    std::thread::scope(|scope| {
        let walk = spawn(scope, "dunnage-pack", {
            let blocks = Blocks::new(to_compress, spare);
            move || Walk::new(root, blocks, &patterns, watch)?.run()
        })?;
        for compress in compress {
            let (blocks, tell) = (&blocks, tell.clone());
            spawn(scope, "dunnage-compress", move || compressing(compress, blocks, &tell))?;
        }
        drop(tell);
        let written = store(&done, |block| drop(give_back.send(block)), out, watch);
        // Whoever still works on it ends.
        drop((done, give_back));
        let walked = walk
            .join()
            .unwrap_or_else(|_| Err(Error::source(io::Error::other("a thread broke"), "cannot pack")));
        // What could not be stored is why the others ended.
        let packed = written?;
        Ok(Packed { packed, ..walked? })
    })
}

/// Packs a tree that is not there: the archive has no entry.
///
/// # Errors
/// As [`pack()`].
pub fn pack_nothing(options: &PackOptions, out: &mut dyn Write, watch: &Watch) -> Result<Packed> {
    let failed = |e| Error::target(e, "cannot write the archive");
    let mut packed = Vec::new();
    Compress::new(options.format, options.level)?.block(&[0; 1024], &mut packed).map_err(failed)?;
    out.write_all(&packed).and_then(|()| out.flush()).map_err(failed)?;
    watch.stored(packed.len() as u64);
    Ok(Packed { packed: packed.len() as u64, ..Packed::default() })
}

fn threads(asked: Option<usize>) -> usize {
    let there = || std::thread::available_parallelism().map_or(1, usize::from);
    asked.unwrap_or_else(there).clamp(1, MOST_THREADS)
}

fn spawn<'s, 'e, T: Send + 's>(
    scope: &'s Scope<'s, 'e>,
    name: &str,
    work: impl FnOnce() -> T + Send + 's,
) -> Result<std::thread::ScopedJoinHandle<'s, T>> {
    let started = Builder::new().name(name.to_owned()).spawn_scoped(scope, work);
    started.map_err(|e| Error::target(e, "cannot start a thread"))
}

fn compressing(mut compress: Compress, blocks: &Mutex<Receiver<Block>>, tell: &SyncSender<io::Result<Done>>) {
    loop {
        let Ok(next) = blocks.lock().map(|blocks| blocks.recv()) else { return };
        let Ok(block) = next else { return };
        let mut packed = Vec::new();
        let done = compress.block(&block.buffer, &mut packed).map(|()| Done { block, packed });
        if tell.send(done).is_err() {
            return;
        }
    }
}

/// Writes the blocks in their order. Returns how many bytes they have.
fn store(
    done: &Receiver<io::Result<Done>>,
    give_back: impl Fn(Vec<u8>),
    out: &mut dyn Write,
    watch: &Watch,
) -> Result<u64> {
    let failed = |e| Error::target(e, "cannot write the archive");
    let mut early = BTreeMap::new();
    let (mut next, mut bytes) = (0, 0);
    while let Ok(found) = done.recv() {
        let Done { block, packed } = found.map_err(failed)?;
        early.insert(block.index, (block.buffer, packed));
        while let Some((buffer, packed)) = early.remove(&next) {
            watch.check()?;
            out.write_all(&packed).map_err(failed)?;
            bytes += packed.len() as u64;
            watch.stored(packed.len() as u64);
            give_back(buffer);
            next += 1;
        }
    }
    out.flush().map_err(failed)?;
    Ok(bytes)
}

impl From<crate::blocks::Abandoned> for Error {
    fn from(_: crate::blocks::Abandoned) -> Self {
        Self::new(ErrorKind::Target, "the archive is not taken any more")
    }
}

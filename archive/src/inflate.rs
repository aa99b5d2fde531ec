//! The bytes of an archive, whatever they are compressed with.

use crate::error::{Error, ErrorKind, Result};
use crate::members::{self, Member};
use crate::watch::Watch;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

/// Bytes that are handed on at a time.
const CHUNK: usize = 256 << 10;

/// Inflates gzip of any number of members or zstd of any number of frames, or passes on what is neither, as the first four
/// bytes tell; zeros stand for what a shorter source does not have.
///
/// # Errors
/// When there is no memory for the decoder.
pub fn inflate<'a>(first: [u8; 4], source: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match first {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        // The second is a skippable frame, with which seekable archives may begin.
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(source)?)
        }
        _ => Box::new(source),
    })
}

/// Reads until the buffer is full or there is nothing more. Returns how much was read.
///
/// # Errors
/// Of what is read from.
pub fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(length)
}

/// What an inflated archive may be at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes out for each byte in, once there are more than `free`.
    pub(crate) ratio: u64,
    pub(crate) free: u64,
}

/// A part of the inflated bytes.
struct Chunk {
    index: u64,
    bytes: io::Result<Vec<u8>>,
}

/// The source of an archive. Its own errors are set apart from those of decoders, which have the same type.
struct Source<'a, R> {
    from: R,
    failed: &'a Failed,
    watch: &'a Watch,
}

/// The error of a source, if it has failed.
#[derive(Default)]
pub(crate) struct Failed(Mutex<Option<io::Error>>);

impl Failed {
    pub(crate) fn take(&self) -> Option<io::Error> {
        self.0.lock().ok()?.take()
    }
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.from.read(into) {
                Ok(length) => {
                    self.watch.stored(length as u64);
                    return Ok(length);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    if let Ok(mut failed) = self.failed.0.lock() {
                        *failed = Some(e);
                    }
                    return Err(io::Error::other("the source failed"));
                }
            }
        }
    }
}

/// The threads that inflate, and the bytes that come of it.
pub(crate) fn inflating<'s, 'e, R: Read + Send + 's>(
    scope: &'s std::thread::Scope<'s, 'e>,
    from: R,
    failed: &'s Failed,
    watch: &'s Watch,
    bounds: Bounds,
) -> Result<Inflated<'s>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let ahead = threads * 2 + 2;
    let (tell, chunks) = sync_channel(ahead);
    let (give_back, spare) = channel();
    for _ in 0..ahead {
        // Both ends are here.
        let _ = give_back.send(Vec::new());
    }
    let (members, jobs) = sync_channel::<(u64, Member)>(ahead);
    let jobs = Arc::new(Mutex::new(jobs));
    let no_thread = |e| Error::target(e, "cannot start a thread");
    for _ in 0..threads {
        let (jobs, tell) = (Arc::clone(&jobs), tell.clone());
        let work = move || {
            let mut inflater = members::Inflater::new();
            loop {
                let Ok(Ok((index, member))) = jobs.lock().map(|jobs| jobs.recv()) else { return };
                if tell.send(Chunk { index, bytes: inflater.inflate(member) }).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("dunnage-inflate".to_owned())
            .spawn_scoped(scope, work)
            .map_err(no_thread)?;
    }
    let feed = move || {
        let source = BufReader::with_capacity(CHUNK, Source { from, failed, watch });
        let mut feed = Feed { index: 0, tell, spare, members };
        // Nothing in it: the end.
        let bytes = feed.run(source).map(|()| Vec::new());
        // Nobody listens when the other side has failed; its error is the one that is told.
        let _ = feed.tell.send(Chunk { index: feed.index, bytes });
    };
    std::thread::Builder::new()
        .name("dunnage-read".to_owned())
        .spawn_scoped(scope, feed)
        .map_err(no_thread)?;
    Ok(Inflated {
        chunks,
        give_back,
        early: BTreeMap::new(),
        next: 0,
        current: Vec::new(),
        at: 0,
        ended: false,
        bytes: 0,
        watch,
        bounds,
    })
}

/// The side that reads the source.
struct Feed {
    index: u64,
    tell: SyncSender<Chunk>,
    spare: Receiver<Vec<u8>>,
    members: SyncSender<(u64, Member)>,
}

impl Feed {
    fn run<R: Read>(&mut self, mut source: BufReader<R>) -> io::Result<()> {
        let mut first = [0; 4];
        // A source may give a byte at a time.
        let mut head = Vec::new();
        (&mut source).take(4).read_to_end(&mut head)?;
        first[..head.len()].copy_from_slice(&head);
        let mut source = io::Cursor::new(head).chain(source);
        if first[..2] == [0x1f, 0x8b] {
            loop {
                match members::next(&mut source)? {
                    members::Next::Member(member) => {
                        let Ok(buffer) = self.spare.recv() else { return Ok(()) };
                        let member = Member { into: buffer, ..member };
                        if self.members.send((self.index, member)).is_err() {
                            return Ok(());
                        }
                        self.index += 1;
                    }
                    members::Next::End => return Ok(()),
                    members::Next::Other(begun) => {
                        let rest = io::Cursor::new(begun).chain(source);
                        return self.pump(&mut inflate(first, rest)?);
                    }
                }
            }
        }
        let mut decoder = inflate(first, source)?;
        self.pump(&mut decoder)
    }

    fn pump(&mut self, from: &mut dyn Read) -> io::Result<()> {
        loop {
            let Ok(mut buffer) = self.spare.recv() else { return Ok(()) };
            buffer.resize(CHUNK, 0);
            let length = fill(from, &mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            buffer.truncate(length);
            if self.tell.send(Chunk { index: self.index, bytes: Ok(buffer) }).is_err() {
                return Ok(());
            }
            self.index += 1;
        }
    }
}

/// The inflated bytes, in their order.
pub(crate) struct Inflated<'a> {
    chunks: Receiver<Chunk>,
    give_back: Sender<Vec<u8>>,
    early: BTreeMap<u64, io::Result<Vec<u8>>>,
    next: u64,
    current: Vec<u8>,
    at: usize,
    ended: bool,
    bytes: u64,
    watch: &'a Watch,
    bounds: Bounds,
}

impl Inflated<'_> {
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(bytes) = self.early.remove(&self.next) {
                self.next += 1;
                return bytes;
            }
            let Ok(chunk) = self.chunks.recv() else {
                return Err(io::Error::other("a thread that inflates the archive broke"));
            };
            self.early.insert(chunk.index, chunk.bytes);
        }
    }
}

impl BufRead for Inflated<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() && !self.ended {
            self.watch.check().map_err(io::Error::other)?;
            let chunk = self.receive()?;
            self.ended = chunk.is_empty();
            self.bytes += chunk.len() as u64;
            let packed = self.watch.packed();
            if self.bytes > self.bounds.free && self.bytes / self.bounds.ratio.max(1) > packed {
                let message = format!(
                    "the archive becomes more than {} times as large: raise the limit if you trust it",
                    self.bounds.ratio
                );
                return Err(io::Error::other(Error::new(ErrorKind::Limit, message)));
            }
            self.at = 0;
            let used = std::mem::replace(&mut self.current, chunk);
            // The reading side may be done already.
            let _ = self.give_back.send(used);
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.current.len());
    }
}

impl Read for Inflated<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(into.len());
        into[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

use super::source::Arriving;
use crate::registry::Hasher;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes that are handed on at a time.
const CHUNK: usize = 256 << 10;

/// Chunks that the inflating side may be ahead.
const AHEAD: usize = 8;

/// A part of the inflated layer. Its buffer goes back to be filled again.
struct Chunk {
    buffer: Vec<u8>,
    length: usize,
}

/// The inflating side of a layer.
pub(super) struct Inflating {
    to: SyncSender<Option<Chunk>>,
    back: Receiver<Vec<u8>>,
}

/// The inflated bytes of a layer, hashed as they are taken.
pub(super) struct Inflated {
    from: Receiver<Option<Chunk>>,
    back: Sender<Vec<u8>>,
    current: Chunk,
    at: usize,
    ended: bool,
    hasher: Hasher,
}

/// The two ends of a layer's pipe. The bytes are hashed for comparing with `diff_id`.
pub(super) fn pipe(hasher: Hasher) -> (Inflating, Inflated) {
    let (to, from) = sync_channel(AHEAD);
    let (give_back, back) = channel();
    let empty = Chunk { buffer: Vec::new(), length: 0 };
    (Inflating { to, back }, Inflated { from, back: give_back, current: empty, at: 0, ended: false, hasher })
}

impl Inflating {
    /// Inflates all of a layer: gzip of any number of members, zstd of any number of frames, or plain, as its first
    /// bytes tell. Ends early, without error, when the other side has gone.
    ///
    /// # Errors
    /// Malformed data, or a transfer that failed.
    pub(super) fn run(self, mut source: Arriving) -> io::Result<()> {
        let first = source.peek()?;
        self.pump(&mut dunnage_archive::inflate(first, source)?)
    }

    fn pump(&self, from: &mut dyn Read) -> io::Result<()> {
        loop {
            let mut buffer = self.back.try_recv().unwrap_or_default();
            buffer.resize(CHUNK, 0);
            let length = dunnage_archive::fill(from, &mut buffer)?;
            if length > 0 && self.to.send(Some(Chunk { buffer, length })).is_err() {
                return Ok(());
            }
            if length < CHUNK {
                // Nobody listens when the writing side has failed; its error is the one that is told.
                let _ = self.to.send(None);
                return Ok(());
            }
        }
    }
}

impl Inflated {
    /// Takes what is left and gives the digest of all.
    ///
    /// # Errors
    /// As reading.
    pub(super) fn finish(mut self) -> io::Result<String> {
        loop {
            let length = self.fill_buf()?.len();
            if length == 0 {
                return Ok(self.hasher.finish());
            }
            self.consume(length);
        }
    }
}

impl BufRead for Inflated {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.length && !self.ended {
            match self.from.recv() {
                Ok(Some(chunk)) => {
                    self.hasher.update(&chunk.buffer[..chunk.length]);
                    let used = std::mem::replace(&mut self.current, chunk);
                    self.at = 0;
                    // The inflating side may be done already.
                    let _ = self.back.send(used.buffer);
                }
                Ok(None) => {
                    self.ended = true;
                    self.current.length = 0;
                    self.at = 0;
                }
                Err(_) => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "inflating ended early"));
                }
            }
        }
        Ok(&self.current.buffer[self.at..self.current.length])
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.current.length);
    }
}

impl Read for Inflated {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(into.len());
        into[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::arriving;
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
        let (inflating, mut inflated) = pipe(Hasher::matching(&Hasher::sha256(b"")).unwrap());
        let source = arriving(pieces);
        let thread = std::thread::spawn(move || inflating.run(source));
        let mut all = Vec::new();
        let read = inflated.read_to_end(&mut all);
        thread.join().unwrap()?;
        read?;
        assert_eq!(inflated.finish().unwrap(), Hasher::sha256(&all));
        Ok(all)
    }

    #[test]
    fn every_form_gives_the_same_bytes_however_it_is_cut() {
        let plain: Vec<u8> = (0..900_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let (left, right) = plain.split_at(1_234_567);
        let members = [gzip(left), gzip(right)].concat();
        let frames = [zstd::encode_all(left, 1).unwrap(), zstd::encode_all(right, 1).unwrap()].concat();
        for packed in [gzip(&plain), members, frames, plain.clone()] {
            assert!(inflate(&[&packed]).unwrap() == plain);
            let small: Vec<&[u8]> = packed.chunks(1000).collect();
            assert!(inflate(&small).unwrap() == plain);
            assert!(inflate(&[&packed[..1], &packed[1..3], &packed[3..]]).unwrap() == plain);
        }
        assert!(inflate(&[]).unwrap().is_empty());
    }

    #[test]
    fn damage_is_told() {
        let packed = gzip(&vec![7; 100_000]);
        assert!(inflate(&[&packed[..packed.len() - 9]]).is_err());
        let mut flipped = packed.clone();
        let last = flipped.len() - 6;
        flipped[last] ^= 1;
        assert!(inflate(&[&flipped]).is_err());
        let frame = zstd::encode_all(&[7; 100_000][..], 1).unwrap();
        assert!(inflate(&[&frame[..frame.len() - 1]]).is_err());
    }

    #[test]
    fn a_feed_that_closes_is_no_end() {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        drop(sender);
        let (inflating, _inflated) = pipe(Hasher::matching(&Hasher::sha256(b"")).unwrap());
        let error = inflating.run(Arriving::new(receiver, None)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}

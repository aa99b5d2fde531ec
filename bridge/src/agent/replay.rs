//! The output that a session keeps.

use std::collections::VecDeque;

use prost::bytes::Bytes;

/// Changes between the streams that may be kept, whatever the pieces' lengths: so many, and one more for each
/// `BYTES_PER_RUN` bytes that may be.
const LEAST_RUNS: usize = 64;
const BYTES_PER_RUN: usize = 16;
/// Room that is made at first.
const FIRST_ROOM: usize = 4 << 10;

/// Which output of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Stdout,
    Stderr,
}

/// The latest output of both streams, in the order in which it was read. Each byte has a place: the number of bytes that
/// came before it.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    bytes: VecDeque<u8>,
    /// Bytes in a row that are of one stream, with the place where they end.
    runs: VecDeque<(Kind, u64)>,
    /// The place of the first byte kept.
    start: u64,
}

impl Replay {
    /// The place of the first byte kept.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The place after the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len() as u64
    }

    /// Bytes kept.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds output; of all of it the last `keep` bytes stay.
    pub(crate) fn push(&mut self, kind: Kind, piece: &[u8], keep: usize) {
        if piece.is_empty() {
            return;
        }
        // What would go again at once is not copied.
        let (skipped, piece) = piece.split_at(piece.len().saturating_sub(keep));
        if !skipped.is_empty() {
            self.trim(0);
            self.start += skipped.len() as u64;
        }
        self.trim(keep.saturating_sub(piece.len()));
        self.make_room(piece.len(), keep);
        self.bytes.extend(piece);
        let end = self.end();
        match self.runs.back_mut() {
            Some((last, until)) if *last == kind => *until = end,
            _ if piece.is_empty() => {}
            _ => self.runs.push_back((kind, end)),
        }
        while self.runs.len() > keep / BYTES_PER_RUN + LEAST_RUNS {
            let until = self.runs.front().map_or(end, |(_, until)| *until);
            self.trim(usize::try_from(end - until).unwrap_or(usize::MAX));
        }
    }

    /// Drops the oldest, so that at most `keep` bytes stay.
    pub(crate) fn trim(&mut self, keep: usize) {
        let dropped = self.len().saturating_sub(keep);
        self.bytes.drain(..dropped);
        self.start += dropped as u64;
        while self.runs.front().is_some_and(|(_, until)| *until <= self.start) {
            self.runs.pop_front();
        }
    }

    /// Gives back the room that is not used.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.runs.shrink_to_fit();
    }

    /// At most `most` bytes of one stream from a place on; `None` where nothing is kept.
    pub(crate) fn read(&self, from: u64, most: usize) -> Option<(Kind, Bytes)> {
        let run = self.runs.partition_point(|(_, until)| *until <= from);
        let (kind, until) = *self.runs.get(run)?;
        let skip = usize::try_from(from.checked_sub(self.start)?).ok()?;
        let length = usize::try_from(until - from).unwrap_or(usize::MAX).min(most);
        let (front, back) = self.bytes.as_slices();
        let rest = match front.get(skip..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => back.get(skip.checked_sub(front.len())?..)?,
        };
        let piece = rest.get(..length).unwrap_or(rest);
        (!piece.is_empty()).then(|| (kind, Bytes::copy_from_slice(piece)))
    }

    /// Room for more bytes, which doubles, but never past `keep`.
    fn make_room(&mut self, more: usize, keep: usize) {
        let needed = self.len() + more;
        if needed > self.bytes.capacity() {
            let room = (self.bytes.capacity() * 2).max(FIRST_ROOM).min(keep).max(needed);
            self.bytes.reserve_exact(room - self.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(replay: &Replay, from: u64) -> Vec<(Kind, Vec<u8>)> {
        let mut at = from;
        let mut all: Vec<(Kind, Vec<u8>)> = Vec::new();
        while let Some((kind, piece)) = replay.read(at, 3) {
            at += piece.len() as u64;
            match all.last_mut() {
                Some((last, bytes)) if *last == kind => bytes.extend_from_slice(&piece),
                _ => all.push((kind, piece.to_vec())),
            }
        }
        assert_eq!(at, replay.end());
        all
    }

    #[test]
    fn the_last_bytes_stay_with_their_streams_and_places() {
        let mut replay = Replay::default();
        replay.push(Kind::Stdout, b"abcd", 10);
        replay.push(Kind::Stderr, b"EF", 10);
        replay.push(Kind::Stdout, b"gh", 10);
        assert_eq!(
            all(&replay, 0),
            [
                (Kind::Stdout, b"abcd".to_vec()),
                (Kind::Stderr, b"EF".to_vec()),
                (Kind::Stdout, b"gh".to_vec())
            ]
        );
        replay.push(Kind::Stdout, b"ijklm", 10);
        assert_eq!((replay.start(), replay.end(), replay.len()), (3, 13, 10));
        assert_eq!(all(&replay, 3).first(), Some(&(Kind::Stdout, b"d".to_vec())));
        assert_eq!(all(&replay, 5), [(Kind::Stderr, b"F".to_vec()), (Kind::Stdout, b"ghijklm".to_vec())]);
        assert_eq!(replay.read(2, 9), None);
    }

    #[test]
    fn a_piece_longer_than_what_is_kept_leaves_its_end() {
        let mut replay = Replay::default();
        replay.push(Kind::Stderr, b"before", 4);
        replay.push(Kind::Stdout, b"0123456789", 4);
        assert_eq!((replay.start(), replay.end()), (12, 16));
        assert_eq!(all(&replay, 12), [(Kind::Stdout, b"6789".to_vec())]);
        replay.push(Kind::Stdout, b"xyz", 0);
        assert_eq!((replay.start(), replay.end(), replay.read(19, 9)), (19, 19, None));
        replay.push(Kind::Stderr, b"!", 4);
        assert_eq!(all(&replay, 19), [(Kind::Stderr, b"!".to_vec())]);
    }

    #[test]
    fn many_short_runs_cost_no_more_than_what_is_kept() {
        let mut replay = Replay::default();
        for round in 0..100_000_u32 {
            let kind = if round % 2 == 0 { Kind::Stdout } else { Kind::Stderr };
            replay.push(kind, b"x", 1600);
        }
        assert!(replay.runs.len() <= 164, "{}", replay.runs.len());
        assert_eq!(replay.end(), 100_000);
        assert_eq!(all(&replay, replay.start()).len(), replay.runs.len());
    }

    #[test]
    fn room_never_grows_past_what_is_kept() {
        let mut replay = Replay::default();
        for _ in 0..1000 {
            replay.push(Kind::Stdout, &[7; 999], 100_000);
        }
        assert!(replay.bytes.capacity() <= 100_000, "{}", replay.bytes.capacity());
        assert_eq!((replay.len(), replay.end()), (100_000, 999_000));
    }
}

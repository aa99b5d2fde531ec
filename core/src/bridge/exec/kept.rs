use bytes::Bytes;
use std::collections::VecDeque;

/// Room that is made at first for the last bytes.
const FIRST_ROOM: usize = 4 << 10;

/// The first bytes of a stream, its last ones, and counts of all of them.
#[derive(Debug)]
pub(super) struct Kept {
    head: Vec<u8>,
    /// The only piece so far, which is not copied if it stays the only one.
    only: Bytes,
    head_limit: u64,
    tail: VecDeque<u8>,
    tail_limit: u64,
    total: u64,
}

/// What is kept of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Collected {
    /// The first bytes, then the last ones.
    pub(super) bytes: Bytes,
    /// All bytes there were.
    pub(super) total: u64,
    /// Those between the first and the last.
    pub(super) dropped: u64,
    /// After how many of the bytes they were; none when there are none.
    pub(super) cut_at: Option<u64>,
}

impl Kept {
    pub(super) fn new(head_limit: u64, tail_limit: u64) -> Self {
        let (head, only, tail) = (Vec::new(), Bytes::new(), VecDeque::new());
        Self { head, only, head_limit, tail, tail_limit, total: 0 }
    }

    pub(super) fn push(&mut self, mut piece: Bytes) {
        self.total = self.total.saturating_add(piece.len() as u64);
        let kept = (self.head.len() + self.only.len()) as u64;
        let room = usize::try_from(self.head_limit.saturating_sub(kept)).unwrap_or(usize::MAX);
        let rest = piece.split_off(room.min(piece.len()));
        if !piece.is_empty() {
            if self.head.is_empty() && self.only.is_empty() {
                self.only = piece;
            } else {
                self.head.extend_from_slice(&std::mem::take(&mut self.only));
                self.head.extend_from_slice(&piece);
            }
        }
        self.push_tail(&rest);
    }

    fn push_tail(&mut self, piece: &[u8]) {
        let limit = usize::try_from(self.tail_limit).unwrap_or(usize::MAX);
        let piece = piece.get(piece.len().saturating_sub(limit)..).unwrap_or_default();
        let over = (self.tail.len() + piece.len()).saturating_sub(limit);
        self.tail.drain(..over);
        let needed = self.tail.len() + piece.len();
        if needed > self.tail.capacity() {
            let room = (self.tail.capacity() * 2).max(FIRST_ROOM).min(limit).max(needed);
            self.tail.reserve_exact(room - self.tail.len());
        }
        self.tail.extend(piece);
    }

    pub(super) fn finish(mut self) -> Collected {
        let head = self.head.len() + self.only.len();
        let dropped = self.total - (head + self.tail.len()) as u64;
        let cut_at = (dropped > 0).then_some(head as u64);
        if self.head.is_empty() && self.tail.is_empty() {
            return Collected { bytes: self.only, total: self.total, dropped, cut_at };
        }
        let mut bytes = self.head;
        bytes.extend_from_slice(&std::mem::take(&mut self.only));
        let (front, back) = self.tail.as_slices();
        bytes.extend_from_slice(front);
        bytes.extend_from_slice(back);
        Collected { bytes: bytes.into(), total: self.total, dropped, cut_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(head: u64, tail: u64, pieces: &[&'static str]) -> (String, u64, Option<u64>) {
        let mut kept = Kept::new(head, tail);
        for piece in pieces {
            kept.push(Bytes::from_static(piece.as_bytes()));
        }
        let all: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let Collected { bytes, total, dropped, cut_at } = kept.finish();
        assert_eq!(total, all);
        assert_eq!(bytes.len() as u64 + dropped, all);
        (String::from_utf8(bytes.to_vec()).unwrap(), dropped, cut_at)
    }

    #[test]
    fn what_is_beyond_the_limit_is_counted() {
        assert_eq!(collect(5, 0, &["abc", "def", "ghi"]), ("abcde".into(), 4, Some(5)));
        assert_eq!(collect(9, 0, &["abc", "def", "ghi"]), ("abcdefghi".into(), 0, None));
        assert_eq!(collect(9, 0, &["abc"]), ("abc".into(), 0, None));
        assert_eq!(collect(0, 0, &["abc"]), (String::new(), 3, Some(0)));
    }

    #[test]
    fn the_last_bytes_are_kept_too() {
        assert_eq!(collect(2, 3, &["abc", "def", "ghi"]), ("abghi".into(), 4, Some(2)));
        assert_eq!(collect(2, 3, &["abcdefghi"]), ("abghi".into(), 4, Some(2)));
        assert_eq!(collect(4, 9, &["abc", "def", "ghi"]), ("abcdefghi".into(), 0, None));
        assert_eq!(collect(0, 2, &["a", "b", "c"]), ("bc".into(), 1, Some(0)));
        assert_eq!(collect(1, u64::MAX, &["a", "b", "c"]), ("abc".into(), 0, None));
    }

    #[test]
    fn much_output_takes_no_more_room_than_is_kept() {
        let mut kept = Kept::new(10, 100_000);
        for _ in 0..1000 {
            kept.push(Bytes::from(vec![7; 999]));
        }
        assert!(kept.tail.capacity() <= 100_000);
        let collected = kept.finish();
        assert_eq!((collected.bytes.len(), collected.dropped), (100_010, 898_990));
    }
}

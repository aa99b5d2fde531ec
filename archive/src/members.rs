//! gzip members that tell their own length, inflated side by side.

use crate::compress::{BLOCK, MEMBER_FIELD, MEMBER_HEADER, MEMBER_TRAILER};
use libdeflater::{Decompressor, crc32};
use std::io::{self, Read};

/// The longest member of ours: a block that does not compress, with what deflate puts around it.
const LONGEST: usize = BLOCK + BLOCK / 8 + MEMBER_HEADER + MEMBER_TRAILER;

/// A whole member, and the buffer for what is in it.
pub(crate) struct Member {
    pub(crate) bytes: Vec<u8>,
    pub(crate) into: Vec<u8>,
}

/// What comes next in a gzip file.
pub(crate) enum Next {
    Member(Member),
    /// A member that does not tell its length, or something else: these bytes of it are taken already.
    Other(Vec<u8>),
    End,
}

fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive is damaged: {what}"))
}

/// Reads the next member.
pub(crate) fn next(source: &mut impl Read) -> io::Result<Next> {
    let mut bytes = Vec::with_capacity(MEMBER_HEADER);
    source.take(MEMBER_HEADER as u64).read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(Next::End);
    }
    let ours = bytes.len() == MEMBER_HEADER
        && bytes[..4] == [0x1f, 0x8b, 8, 4]
        && bytes[10..12] == 8_u16.to_le_bytes()
        && bytes[12..14] == MEMBER_FIELD
        && bytes[14..16] == 4_u16.to_le_bytes();
    if !ours {
        return Ok(Next::Other(bytes));
    }
    let length = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]) as usize;
    if !(MEMBER_HEADER + MEMBER_TRAILER..=LONGEST).contains(&length) {
        return Err(corrupt("a member has an impossible length"));
    }
    let rest = (length - MEMBER_HEADER) as u64;
    if source.take(rest).read_to_end(&mut bytes)? as u64 != rest {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a member"));
    }
    Ok(Next::Member(Member { bytes, into: Vec::new() }))
}

/// Inflates one member after the other.
pub(crate) struct Inflater(Decompressor);

impl Inflater {
    pub(crate) fn new() -> Self {
        Self(Decompressor::new())
    }

    pub(crate) fn inflate(&mut self, member: Member) -> io::Result<Vec<u8>> {
        let Member { bytes, mut into } = member;
        let (body, trailer) = bytes[MEMBER_HEADER..].split_at(bytes.len() - MEMBER_HEADER - MEMBER_TRAILER);
        let number =
            |at: usize| u32::from_le_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
        let (sum, length) = (number(0), number(4) as usize);
        // An empty one would look like the end.
        if !(1..=BLOCK).contains(&length) {
            return Err(corrupt("a member holds more or less than it may"));
        }
        into.resize(length, 0);
        let found = self.0.deflate_decompress(body, &mut into);
        if found.ok() != Some(length) || crc32(&into) != sum {
            return Err(corrupt("a member does not have the content that its checksum tells of"));
        }
        Ok(into)
    }
}

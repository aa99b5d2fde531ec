//! Blocks of an archive, compressed each by itself, so that all processors work on it and read it again.

use crate::error::{Error, Result};
use crate::pack::Format;
use libdeflater::{CompressionLvl, Compressor, Crc};
use std::io;

/// Bytes of the archive that are compressed together.
pub(crate) const BLOCK: usize = 1 << 20;

/// The gzip field that holds the length of its member (RFC 1952, section 2.3.1.1): whoever reads it finds the next member
/// without inflating this one.
pub(crate) const MEMBER_FIELD: [u8; 2] = *b"dn";

/// The header of a member: fixed part, the length of the fields, one field of four bytes.
pub(crate) const MEMBER_HEADER: usize = 10 + 2 + 4 + 4;
/// Checksum and length of what it holds.
pub(crate) const MEMBER_TRAILER: usize = 8;

const DEFLATE_DEFAULT: u32 = 1;
const ZSTD_DEFAULT: u32 = 3;

/// What compresses one block after the other.
pub(crate) enum Compress {
    Gzip(Compressor),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
    Plain,
}

impl Compress {
    pub(crate) fn new(format: Format, level: Option<u32>) -> Result<Self> {
        let bad = |most: u32| {
            let level = level.unwrap_or_default();
            Error::new(crate::ErrorKind::Invalid, format!("level {level} is not between 1 and {most}"))
        };
        match format {
            Format::TarGz => {
                let level = level.unwrap_or(DEFLATE_DEFAULT);
                let known = i32::try_from(level).ok().filter(|level| (1..=12).contains(level));
                let level = known.and_then(|level| CompressionLvl::new(level).ok()).ok_or_else(|| bad(12))?;
                Ok(Self::Gzip(Compressor::new(level)))
            }
            Format::TarZst => {
                let level = level.unwrap_or(ZSTD_DEFAULT);
                let known = i32::try_from(level).ok().filter(|level| (1..=19).contains(level));
                let made = zstd::bulk::Compressor::new(known.ok_or_else(|| bad(19))?).and_then(|mut made| {
                    made.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
                    Ok(made)
                });
                let made = made.map_err(|e| Error::target(e, "cannot set up the compression"))?;
                Ok(Self::Zstd(Box::new(made)))
            }
            Format::Tar => Ok(Self::Plain),
        }
    }

    /// Compresses a block into a buffer, which is emptied before.
    pub(crate) fn block(&mut self, block: &[u8], into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        match self {
            Self::Plain => into.extend_from_slice(block),
            Self::Zstd(zstd) => {
                into.reserve(zstd::zstd_safe::compress_bound(block.len()));
                zstd.compress_to_buffer(block, into)?;
            }
            Self::Gzip(deflate) => {
                let bound = deflate.deflate_compress_bound(block.len());
                into.resize(MEMBER_HEADER + bound + MEMBER_TRAILER, 0);
                let length = deflate
                    .deflate_compress(block, &mut into[MEMBER_HEADER..MEMBER_HEADER + bound])
                    .map_err(io::Error::other)?;
                let whole = MEMBER_HEADER + length + MEMBER_TRAILER;
                into.truncate(whole);
                into[..MEMBER_HEADER].copy_from_slice(&member_header(whole as u32));
                let mut crc = Crc::new();
                crc.update(block);
                into[whole - 8..whole - 4].copy_from_slice(&crc.sum().to_le_bytes());
                into[whole - 4..].copy_from_slice(&(block.len() as u32).to_le_bytes());
            }
        }
        Ok(())
    }
}

fn member_header(length: u32) -> [u8; MEMBER_HEADER] {
    let mut header = [0; MEMBER_HEADER];
    // gzip, deflate, with fields, no time, no flags, Unix.
    header[..10].copy_from_slice(&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3]);
    header[10..12].copy_from_slice(&8_u16.to_le_bytes());
    header[12..14].copy_from_slice(&MEMBER_FIELD);
    header[14..16].copy_from_slice(&4_u16.to_le_bytes());
    header[16..].copy_from_slice(&length.to_le_bytes());
    header
}

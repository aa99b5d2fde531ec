//! Reading tar archives from a stream: ustar, PAX and GNU, with what images in the wild need.
//!
//! The headers' fields are decoded by the `tar` crate. Its own iterator is not used: it splits PAX records at newlines,
//! which binary attribute values may hold, and copies every byte once more.

use crate::acl;
use crate::entry::{Entry, Kind, Moment};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use tar::Header;

const BLOCK: u64 = 512;

/// The longest description of one entry; names and attributes stay far below.
const LONGEST_EXTENSION: u64 = 1 << 20;

/// An archive being read.
pub struct Reader<R> {
    from: R,
    /// Bytes of the current entry that have not been taken.
    left: u64,
    /// Bytes after them up to the next header.
    padding: u64,
    marked: bool,
}

type Pax = BTreeMap<Vec<u8>, Vec<u8>>;

fn corrupt(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl<R: BufRead> Reader<R> {
    /// Reads an archive from its beginning.
    pub fn new(from: R) -> Self {
        Self { from, left: 0, padding: 0, marked: false }
    }

    /// Whether the end marker was met. An archive without one may have been cut off between two entries.
    pub fn is_marked(&self) -> bool {
        self.marked
    }

    /// What is read from.
    pub fn into_inner(self) -> R {
        self.from
    }

    /// The next entry; none at the end marker, or where the archive ends without one. Data of the entry before that
    /// was not taken is passed over.
    ///
    /// # Errors
    /// `InvalidData`, `UnexpectedEof` or `Unsupported` for the archive, else of what it is read from.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut pax: Option<Pax> = None;
        let mut long_path = None;
        let mut long_link = None;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                if pax.is_some() || long_path.is_some() || long_link.is_some() {
                    return Err(corrupt("the archive ends after the description of an entry"));
                }
                return Ok(None);
            };
            let size = length(&header)?;
            match header.as_bytes()[156] {
                b'x' => pax = Some(parse_pax(&self.extension(size)?)?),
                b'g' => drop(self.extension(size)?),
                b'L' => long_path = Some(until_nul(self.extension(size)?)),
                b'K' => long_link = Some(until_nul(self.extension(size)?)),
                kind => {
                    return self
                        .entry(&header, kind, size, pax.unwrap_or_default(), long_path, long_link)
                        .map(Some);
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: u8,
        size: u64,
        pax: Pax,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> io::Result<Entry> {
        let text = |key: &str| pax.get(key.as_bytes());
        let number = |key: &str| -> io::Result<Option<u64>> {
            text(key)
                .map(|v| parse_number(v).ok_or_else(|| corrupt(format!("malformed PAX record {key}"))))
                .transpose()
        };
        let size = number("size")?.unwrap_or(size);
        let path = text("path").cloned().or(long_path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = text("linkpath").cloned().or(long_link);
        let link = link.or_else(|| header.link_name_bytes().map(|l| l.into_owned())).unwrap_or_default();
        let kind = match kind {
            // Archives older than ustar mark directories by their name only.
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("unknown entry type {other:#04x}"),
                ));
            }
        };
        let id = |key: &str, own: &[u8]| -> io::Result<u32> {
            let value = match number(key)? {
                Some(value) => value,
                None => u64::try_from(field(own)?).unwrap_or(u64::MAX),
            };
            // The highest stands for none (chown(2)).
            let id = u32::try_from(value).ok().filter(|id| *id != u32::MAX);
            id.ok_or_else(|| corrupt(format!("the {key} {value} is too large")))
        };
        let moment = |key: &str| {
            let parse =
                |v: &Vec<u8>| parse_moment(v).ok_or_else(|| corrupt(format!("malformed PAX record {key}")));
            text(key).map(parse).transpose()
        };
        let raw = header.as_bytes();
        let own_time = Moment { seconds: field(&raw[136..148]).unwrap_or(0), nanoseconds: 0 };
        let modified = moment("mtime")?.unwrap_or(own_time);
        let uid = id("uid", &raw[108..116])?;
        let gid = id("gid", &raw[116..124])?;
        // The later of both, as containerd has it.
        let accessed = moment("atime")?.map_or(modified, |accessed| accessed.max(modified));
        // Only files carry data; what links and the like name as size is the size of what they point at.
        let data = if kind == Kind::File { size } else { 0 };
        self.left = data;
        self.padding = pad(data);
        let device = match kind {
            Kind::Character | Kind::Block => (field(&raw[329..337])? as u32, field(&raw[337..345])? as u32),
            _ => (0, 0),
        };
        let mut entry = Entry {
            kind,
            path,
            link,
            size: data,
            mode: (field(&raw[100..108])? & 0o7777) as u32,
            uid,
            gid,
            modified,
            accessed,
            device,
            xattrs: Vec::new(),
            sparse: None,
        };
        if header.as_bytes()[156] == b'S' {
            self.gnu_sparse(header, &mut entry)?;
        } else if text("GNU.sparse.major").is_some() || text("GNU.sparse.map").is_some() {
            self.pax_sparse(&pax, &mut entry)?;
        }
        const XATTR: &[u8] = b"SCHILY.xattr.";
        let binary: Vec<Vec<u8>> =
            pax.keys().filter_map(|key| Some(key.strip_prefix(XATTR)?.to_vec())).collect();
        for (key, value) in pax {
            if let Some(name) = key.strip_prefix(XATTR) {
                entry.xattrs.push((unescaped(name), value));
            } else if let Some(which @ (b"access" | b"default")) = key.strip_prefix(b"SCHILY.acl.") {
                let name = [b"system.posix_acl_", which].concat();
                // GNU tar may write both forms; the text may name users whose numbers are not known here.
                if !binary.contains(&name) {
                    entry.xattrs.push((name, acl::from_text(&value)?));
                }
            }
        }
        Ok(entry)
    }

    /// GNU's old form: a map in the header, continued in blocks after it.
    fn gnu_sparse(&mut self, header: &Header, entry: &mut Entry) -> io::Result<()> {
        let gnu = header.as_gnu().ok_or_else(|| corrupt("a sparse entry without a GNU header"))?;
        let mut map = Vec::new();
        take_blocks(&gnu.sparse, &mut map)?;
        let mut extended = gnu.is_extended();
        while extended {
            let mut block = tar::GnuExtSparseHeader::new();
            self.from.read_exact(block.as_mut_bytes())?;
            take_blocks(&block.sparse, &mut map)?;
            extended = block.is_extended();
            if map.len() > 1 << 20 {
                return Err(corrupt("a sparse map without end"));
            }
        }
        entry.size = gnu.real_size()?;
        entry.sparse = Some(map);
        check_map(entry, self.left)
    }

    /// The forms in PAX records: 0.1 has the map in a record, 1.0 before the data.
    fn pax_sparse(&mut self, pax: &Pax, entry: &mut Entry) -> io::Result<()> {
        let bad = || corrupt("malformed sparse map");
        let number = |key: &str| pax.get(key.as_bytes()).and_then(|v| parse_number(v));
        if let Some(name) = pax.get(&b"GNU.sparse.name"[..]) {
            entry.path.clone_from(name);
        }
        let mut numbers = Vec::new();
        if let Some(map) = pax.get(&b"GNU.sparse.map"[..]) {
            for part in map.split(|b| *b == b',').filter(|part| !part.is_empty()) {
                numbers.push(parse_number(part).ok_or_else(bad)?);
            }
            entry.size = number("GNU.sparse.size").ok_or_else(bad)?;
        } else {
            let mut used = 0;
            let mut wanted = 1;
            while numbers.len() < wanted {
                let mut line = Vec::new();
                (&mut self.from).take(32).read_until(b'\n', &mut line)?;
                used += line.len() as u64;
                let value = line.strip_suffix(b"\n").and_then(parse_number).ok_or_else(bad)?;
                if numbers.is_empty() {
                    wanted += usize::try_from(value).ok().filter(|n| *n <= 1 << 20).ok_or_else(bad)? * 2;
                }
                numbers.push(value);
            }
            numbers.remove(0);
            let map = used + pad(used);
            self.discard(map - used)?;
            self.left = self.left.checked_sub(map).ok_or_else(bad)?;
            entry.size = number("GNU.sparse.realsize").ok_or_else(bad)?;
        }
        if numbers.len() % 2 != 0 {
            return Err(bad());
        }
        entry.sparse = Some(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
        check_map(entry, self.left)
    }

    /// Gives at most `most` bytes of the entry's data to `take`. Returns how many; 0 at the data's end.
    ///
    /// # Errors
    /// Of `take` and of what the archive is read from; `UnexpectedEof` when it ends within the data.
    pub fn data(&mut self, most: u64, take: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<u64> {
        if self.left == 0 || most == 0 {
            return Ok(0);
        }
        let available = self.from.fill_buf()?;
        if available.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a file"));
        }
        let length = (available.len() as u64).min(self.left).min(most) as usize;
        take(&available[..length])?;
        self.from.consume(length);
        self.left -= length as u64;
        Ok(length as u64)
    }

    fn skip(&mut self) -> io::Result<()> {
        self.discard(self.left)?;
        self.left = 0;
        // Some archives end right after the last file's data.
        let padding = std::mem::take(&mut self.padding);
        self.discard(padding)
            .or_else(|e| if e.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(e) })
    }

    fn discard(&mut self, mut amount: u64) -> io::Result<()> {
        while amount > 0 {
            let available = self.from.fill_buf()?.len() as u64;
            if available == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within an entry"));
            }
            let length = available.min(amount);
            self.from.consume(length as usize);
            amount -= length;
        }
        Ok(())
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut length = 0;
        while length < bytes.len() {
            match self.from.read(&mut bytes[length..])? {
                0 if length == 0 => return Ok(None),
                0 => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the archive ends within a header",
                    ));
                }
                more => length += more,
            }
        }
        if bytes.iter().all(|b| *b == 0) {
            self.marked = true;
            return Ok(None);
        }
        let blank = 8 * u32::from(b' ');
        let others = || bytes[..148].iter().chain(&bytes[156..]);
        let unsigned: u32 = others().map(|b| u32::from(*b)).sum::<u32>() + blank;
        // Some old tools summed signed bytes.
        let signed: i32 = others().map(|b| i32::from(b.cast_signed())).sum::<i32>() + blank as i32;
        let stated = field(&header.as_bytes()[148..156])?;
        if stated != i64::from(unsigned) && stated != i64::from(signed) {
            return Err(corrupt("this is no tar archive, or it is damaged: a header has the wrong checksum"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > LONGEST_EXTENSION {
            return Err(corrupt("the description of an entry is too long"));
        }
        let mut bytes = vec![0; size as usize];
        self.from.read_exact(&mut bytes)?;
        self.discard(pad(size))?;
        Ok(bytes)
    }
}

fn take_blocks(blocks: &[tar::GnuSparseHeader], map: &mut Vec<(u64, u64)>) -> io::Result<()> {
    for block in blocks.iter().filter(|block| !block.is_empty()) {
        map.push((block.offset()?, block.length()?));
    }
    Ok(())
}

/// Each piece must follow the one before, within the file, and together they must be the data.
fn check_map(entry: &Entry, data: u64) -> io::Result<()> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for (offset, length) in entry.sparse.iter().flatten() {
        if *offset < end {
            return Err(corrupt("a sparse map that goes backwards"));
        }
        end = offset.checked_add(*length).ok_or_else(|| corrupt("a sparse map without end"))?;
        sum += length;
    }
    if end > entry.size || sum != data {
        return Err(corrupt("a sparse map that does not fit its file"));
    }
    Ok(())
}

/// A number of a header: octal text between blanks, or binary when its first bit is set. Empty is 0.
fn field(bytes: &[u8]) -> io::Result<i64> {
    let bad = || corrupt("a header holds a malformed number");
    if bytes[0] & 0x80 != 0 {
        // Two's complement, of which the first bit only marks the form.
        let negative = bytes[0] & 0x40 != 0;
        let first = if negative { bytes[0] } else { bytes[0] & 0x7f };
        let start = i128::from(first.cast_signed());
        // Twelve bytes at most: this cannot overflow.
        let value = bytes[1..].iter().fold(start, |value, byte| (value << 8) | i128::from(*byte));
        return i64::try_from(value).map_err(|_| bad());
    }
    let blank = |b: &u8| matches!(b, b' ' | 0);
    let start = bytes.iter().position(|b| !blank(b)).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    digits[..end]
        .iter()
        .try_fold(0_i64, |value, digit| match digit {
            b'0'..=b'7' => Some((value << 3) | i64::from(digit - b'0')),
            _ => None,
        })
        .ok_or_else(bad)
}

/// The length of what follows a header.
fn length(header: &Header) -> io::Result<u64> {
    u64::try_from(field(&header.as_bytes()[124..136])?).map_err(|_| corrupt("an entry of negative length"))
}

fn pad(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn parse_number(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// `[-]seconds[.fraction]`.
fn parse_moment(bytes: &[u8]) -> Option<Moment> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(match (negative, nanoseconds) {
        (true, 1..) => Moment { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds },
        _ => Moment { seconds, nanoseconds },
    })
}

/// An attribute's name, in which GNU tar escapes what separates keys from values.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, more @ ..] = rest {
        let (byte, after) = match rest {
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            _ => (*first, more),
        };
        out.push(byte);
        rest = after;
    }
    out
}

/// `length key=value\n`, where the length counts all of it.
fn parse_pax(mut bytes: &[u8]) -> io::Result<Pax> {
    let bad = || corrupt("malformed PAX records");
    let mut records = Pax::new();
    while bytes.iter().any(|b| *b != 0) {
        let space = bytes.iter().take(20).position(|b| *b == b' ').ok_or_else(bad)?;
        let length = parse_number(&bytes[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(bad)?;
        if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
            return Err(bad());
        }
        let record = &bytes[space + 1..length - 1];
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        // An empty value takes an earlier one back.
        if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") {
            records.remove(key);
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
        bytes = &bytes[length..];
    }
    Ok(records)
}

#[cfg(test)]
mod tests;

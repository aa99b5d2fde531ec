//! Headers, as they are written: ustar, with PAX records for what does not fit (POSIX.1-2017, pax, "pax Interchange Format").

use crate::acl;
use crate::entry::{Entry, Kind, Moment};

/// What a ustar field of so many octal digits holds.
const fn most(digits: u32) -> u64 {
    (1 << (3 * digits)) - 1
}

const BLOCK: usize = 512;
const NAME: usize = 100;

/// Appends an entry's header, with a PAX header before it where one is needed. A file's data has to follow: `stored` bytes,
/// padded to whole blocks. For a file with holes these are the map ([`sparse_map`]) and the pieces.
pub(crate) fn encode(out: &mut Vec<u8>, entry: &Entry, stored: u64) {
    let mut records = Records::default();
    let named = |field: &[u8]| field.len() <= NAME;
    let fits = named(&entry.path) && named(&entry.link);
    if !fits && (std::str::from_utf8(&entry.path).is_err() || std::str::from_utf8(&entry.link).is_err()) {
        // PAX values are UTF-8 unless this says otherwise. It counts for what follows it.
        records.put(b"hdrcharset", b"BINARY");
    }
    let sparse = entry.sparse.is_some();
    if sparse {
        // GNU's form 1.0, which bsdtar reads too. The name is for programs that do not know it.
        records.put(b"GNU.sparse.major", b"1");
        records.put(b"GNU.sparse.minor", b"0");
        records.put(b"GNU.sparse.name", &entry.path);
        records.put(b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
    } else if !named(&entry.path) {
        records.put(b"path", &entry.path);
    }
    if !named(&entry.link) {
        records.put(b"linkpath", &entry.link);
    }
    for (key, value, digits) in
        [(&b"size"[..], stored, 11), (b"uid", u64::from(entry.uid), 7), (b"gid", u64::from(entry.gid), 7)]
    {
        if value > most(digits) {
            records.put(key, value.to_string().as_bytes());
        }
    }
    let Moment { seconds, nanoseconds } = entry.modified;
    let whole = u64::try_from(seconds).ok().filter(|seconds| *seconds <= most(11));
    if nanoseconds != 0 || whole.is_none() {
        records.put(b"mtime", moment(entry.modified).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        records.put(&[b"SCHILY.xattr.", &escaped(name)[..]].concat(), value);
        // bsdtar knows access lists only as star has them.
        if let Some(which @ (b"access" | b"default")) = name.strip_prefix(b"system.posix_acl_")
            && let Some(text) = acl::to_text(value)
        {
            records.put(&[b"SCHILY.acl.", which].concat(), text.as_bytes());
        }
    }
    if !records.0.is_empty() {
        let name = pax_name(&entry.path);
        let header =
            Ustar { kind: b'x', name: &name, mode: 0o644, size: records.0.len() as u64, ..Ustar::default() };
        header.append(out);
        out.extend_from_slice(&records.0);
        pad(out);
    }
    let hidden;
    let name = if sparse {
        hidden = [b"./GNUSparseFile.0/", last(&entry.path)].concat();
        &hidden
    } else {
        &entry.path
    };
    let kind = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Character => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    let header = Ustar {
        kind,
        name,
        link: &entry.link,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        size: stored,
        seconds: whole.unwrap_or_default(),
        device: entry.device,
    };
    header.append(out);
}

/// The map of a file with holes: how many pieces, then offset and length of each, a number a line, in whole blocks.
pub(crate) fn sparse_map(pieces: &[(u64, u64)]) -> Vec<u8> {
    let mut map = format!("{}\n", pieces.len());
    for (offset, length) in pieces {
        map.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = map.into_bytes();
    pad(&mut map);
    map
}

/// Fills up to whole blocks.
pub(crate) fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    /// `length key=value\n`, where the length counts all of it.
    fn put(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + decimal_digits(length) != length {
            length = rest + decimal_digits(length);
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |digits| digits as usize + 1)
}

/// Attribute names may hold what separates keys from values: GNU tar writes those two as it does here.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            b'=' => out.extend_from_slice(b"%3D"),
            byte => out.push(*byte),
        }
    }
    out
}

/// `[-]seconds[.nanoseconds]`.
fn moment(moment: Moment) -> String {
    let Moment { mut seconds, mut nanoseconds } = moment;
    if seconds < 0 && nanoseconds > 0 {
        // The fraction is read away from zero.
        seconds += 1;
        nanoseconds = 1_000_000_000 - nanoseconds;
        return format!("-{}.{nanoseconds:09}", seconds.unsigned_abs());
    }
    match nanoseconds {
        0 => seconds.to_string(),
        nanoseconds => format!("{seconds}.{nanoseconds:09}"),
    }
}

fn last(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn pax_name(path: &[u8]) -> Vec<u8> {
    [b"./PaxHeaders/", last(path)].concat()
}

#[derive(Default)]
struct Ustar<'a> {
    kind: u8,
    name: &'a [u8],
    link: &'a [u8],
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    seconds: u64,
    device: (u32, u32),
}

impl Ustar<'_> {
    fn append(&self, out: &mut Vec<u8>) {
        let mut block = [0; BLOCK];
        // What is too long is cut here; the whole is in a PAX record.
        let text = |field: &mut [u8], value: &[u8]| {
            let length = value.len().min(field.len());
            field[..length].copy_from_slice(&value[..length]);
        };
        let octal = |field: &mut [u8], value: u64| {
            let digits = field.len() - 1;
            let mut value = value.min(most(digits as u32));
            for digit in field[..digits].iter_mut().rev() {
                *digit = b'0' + (value & 7) as u8;
                value >>= 3;
            }
        };
        text(&mut block[..100], self.name);
        octal(&mut block[100..108], u64::from(self.mode));
        octal(&mut block[108..116], u64::from(self.uid));
        octal(&mut block[116..124], u64::from(self.gid));
        octal(&mut block[124..136], self.size);
        octal(&mut block[136..148], self.seconds);
        block[156] = self.kind;
        text(&mut block[157..257], self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block[329..337], u64::from(self.device.0));
        octal(&mut block[337..345], u64::from(self.device.1));
        // The sum is made with blanks in its own place.
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut block[148..155], sum);
        block[155] = b' ';
        out.extend_from_slice(&block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Reader;

    fn entry(path: &[u8], kind: Kind) -> Entry {
        Entry {
            kind,
            path: path.to_vec(),
            link: Vec::new(),
            size: 0,
            mode: 0o4751,
            uid: 3,
            gid: u32::MAX - 1,
            modified: Moment { seconds: 1, nanoseconds: 2 },
            accessed: Moment { seconds: 1, nanoseconds: 2 },
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    fn back(entry: &Entry, data: &[u8]) -> Entry {
        let mut bytes = Vec::new();
        encode(&mut bytes, entry, data.len() as u64);
        bytes.extend_from_slice(data);
        pad(&mut bytes);
        let mut reader = Reader::new(&bytes[..]);
        let found = reader.next().unwrap().unwrap();
        assert!(reader.next().unwrap().is_none());
        found
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = [&b"d/".repeat(80)[..], b"\xff\n"].concat();
        for path in [&b"./a"[..], b"./\xff\xfe\nx", &long, &b"n".repeat(100), &b"n".repeat(101)] {
            let mut entry = entry(path, Kind::Symlink);
            entry.link = [path, b"?"].concat();
            entry.xattrs = vec![
                (b"user.a=%b".to_vec(), b"binary\n12 x=y\n\0".to_vec()),
                (b"user.empty".to_vec(), Vec::new()),
            ];
            for (seconds, nanoseconds) in [(0, 0), (-1, 1), (-5, 0), (-5, 999_999_999), (1 << 40, 7), (9, 10)]
            {
                entry.modified = Moment { seconds, nanoseconds };
                let found = back(&entry, b"");
                assert_eq!(found.path, path);
                assert_eq!(found.link, entry.link);
                assert_eq!(found.modified, entry.modified);
                assert_eq!((found.mode, found.uid, found.gid), (0o4751, 3, u32::MAX - 1));
                assert_eq!(found.xattrs, entry.xattrs);
            }
        }
    }

    #[test]
    fn devices_and_holes_are_written() {
        let mut device = entry(b"./tty", Kind::Character);
        device.device = (4095, 1_048_575);
        assert_eq!(back(&device, b"").device, device.device);
        let mut sparse = entry(b"./holes", Kind::File);
        let pieces = vec![(4096, 3), (1 << 40, 1)];
        sparse.size = (1 << 40) + 5;
        let data = [&sparse_map(&pieces)[..], b"abcd"].concat();
        sparse.sparse = Some(pieces);
        let found = back(&sparse, &data);
        assert_eq!((found.path, found.size, found.sparse), (sparse.path, sparse.size, sparse.sparse));
    }
}

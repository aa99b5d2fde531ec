//! Access lists as star, GNU tar and bsdtar write them, as text, made what the kernel stores (acl(5), and the kernel's
//! `posix_acl_xattr.h`).

use std::io;

const VERSION: u32 = 2;
const NOBODY: u32 = u32::MAX;

/// The value of a `system.posix_acl_…` attribute. Entries are separated by commas or lines: a word for whom, a name or
/// number, permissions, and, as star has it, the number. A name alone cannot be resolved here.
pub(crate) fn from_text(text: &[u8]) -> io::Result<Vec<u8>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "a malformed access list");
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    let mut entries: Vec<(u16, u32, u16)> = Vec::new();
    for entry in text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
        let mut parts = entry.split(':');
        let mut part = || parts.next().unwrap_or_default().trim();
        let (whom, name, bits, number) = (part(), part(), part(), part());
        let bits = permissions(bits).ok_or_else(bad)?;
        let tag = match (whom, name.is_empty()) {
            ("user" | "u", true) => 0x01,
            ("user" | "u", false) => 0x02,
            ("group" | "g", true) => 0x04,
            ("group" | "g", false) => 0x08,
            ("mask" | "m", _) => 0x10,
            ("other" | "o", _) => 0x20,
            _ => return Err(bad()),
        };
        let id = match tag {
            0x02 | 0x08 => number.parse().or_else(|_| name.parse()).map_err(|_| {
                let message = format!("an access list names {name:?} without a number");
                io::Error::new(io::ErrorKind::Unsupported, message)
            })?,
            _ => NOBODY,
        };
        entries.push((tag, id, bits));
    }
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, bits) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&bits.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    Ok(value)
}

/// A stored list as text, with numbers instead of names; none when it is not one.
pub(crate) fn to_text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_at_checked(4)?;
    if version != VERSION.to_le_bytes() || entries.len() % 8 != 0 {
        return None;
    }
    let entry = |entry: &[u8]| {
        let short = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let (whom, id) = match short(0) {
            0x01 => ("user", String::new()),
            0x02 => ("user", id.to_string()),
            0x04 => ("group", String::new()),
            0x08 => ("group", id.to_string()),
            0x10 => ("mask", String::new()),
            0x20 => ("other", String::new()),
            _ => return None,
        };
        let bit = |bit: u16, letter: char| if short(2) & bit == 0 { '-' } else { letter };
        Some(format!("{whom}:{id}:{}{}{}", bit(4, 'r'), bit(2, 'w'), bit(1, 'x')))
    };
    Some(entries.chunks_exact(8).map(entry).collect::<Option<Vec<_>>>()?.join(","))
}

fn permissions(text: &str) -> Option<u16> {
    text.bytes().try_fold(0, |bits, byte| match byte {
        b'r' => Some(bits | 4),
        b'w' => Some(bits | 2),
        b'x' => Some(bits | 1),
        b'-' => Some(bits),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_what_the_kernel_stores() {
        let star = from_text(b"user::rw-,user:me:r--:1000,group::r--,mask::rw-,other::---").unwrap();
        let gnu = from_text(b"user::rw-\ngroup::r--\nuser:1000:r--\nmask::rw-\nother::---\n").unwrap();
        assert_eq!(star, gnu);
        assert_eq!(star.len(), 4 + 5 * 8);
        let text = to_text(&star).unwrap();
        assert_eq!(text, "user::rw-,user:1000:r--,group::r--,mask::rw-,other::---");
        assert_eq!(from_text(text.as_bytes()).unwrap(), star);
        assert!(to_text(&star[..10]).is_none() && to_text(b"x").is_none());
        assert_eq!(star[12..20], [2, 0, 4, 0, 0xe8, 3, 0, 0]);
        assert!(from_text(b"someone::rwx").is_err());
        assert_eq!(from_text(b"user:me:rwx").unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}

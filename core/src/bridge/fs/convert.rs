//! What agents say about files, as this library says it.

use super::super::path;
use crate::types::{DirEntry, EntryKind};
use dunnage_bridge::{bridgepb, v1};
use jiff::Timestamp;

/// An entry as the new service tells it, under its absolute path.
pub(super) fn from_v1(info: &v1::FileInfo, path: String) -> DirEntry {
    let kind = match info.kind() {
        v1::FileKind::Regular => EntryKind::File,
        v1::FileKind::Directory => EntryKind::Dir,
        v1::FileKind::Symlink => EntryKind::Symlink,
        v1::FileKind::Fifo => EntryKind::Fifo,
        v1::FileKind::Socket => EntryKind::Socket,
        v1::FileKind::CharDevice => EntryKind::CharDevice,
        v1::FileKind::BlockDevice => EntryKind::BlockDevice,
        v1::FileKind::Unknown => EntryKind::Unknown,
    };
    let modified = Timestamp::from_nanosecond(i128::from(info.mtime_ns)).unwrap_or_default();
    DirEntry {
        name: path::name(&path).to_owned(),
        path,
        kind,
        is_dir: kind == EntryKind::Dir,
        size: info.size,
        mode: octal(info.mode & 0o7777),
        mod_time: modified.to_string(),
        uid: Some(info.uid),
        gid: Some(info.gid),
        link_target: (kind == EntryKind::Symlink && !info.link_target.is_empty())
            .then(|| String::from_utf8_lossy(&info.link_target).into_owned()),
        revision: None,
    }
}

/// An entry as the old service tells it: a kind that its letters do not tell is unknown.
pub(super) fn from_old(entry: &bridgepb::FileEntry, path: String) -> DirEntry {
    let (kind, mode) = from_letters(&entry.mode);
    DirEntry {
        name: path::name(&path).to_owned(),
        path,
        kind: if entry.is_dir { EntryKind::Dir } else { kind },
        is_dir: entry.is_dir,
        size: u64::try_from(entry.size).unwrap_or_default(),
        mode: octal(mode),
        mod_time: entry.mod_time.clone(),
        uid: None,
        gid: None,
        link_target: None,
        revision: None,
    }
}

fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

/// Reads `-rw-r--r--`, in the way of `ls` (`drwsr-xr-t`, `lrwxrwxrwx`) or of agents that write flags in front
/// (`dtrwxrwxrwx`, `urwxr-xr-x`, `Lrwxrwxrwx`, `Dcrw-rw-rw-`).
fn from_letters(letters: &str) -> (EntryKind, u32) {
    let Some(split) = letters.len().checked_sub(9).filter(|at| letters.is_char_boundary(*at)) else {
        return (EntryKind::Unknown, 0);
    };
    let (front, bits) = letters.split_at(split);
    let mut mode = 0;
    for (place, letter) in bits.bytes().enumerate() {
        let bit = 1 << (8 - place);
        let special = match place {
            2 => 0o4000,
            5 => 0o2000,
            _ => 0o1000,
        };
        match letter {
            b'r' | b'w' | b'x' => mode |= bit,
            b's' | b't' => mode |= bit | special,
            b'S' | b'T' => mode |= special,
            b'-' => {}
            _ => return (EntryKind::Unknown, 0),
        }
    }
    let mut kind = EntryKind::File;
    let mut device = false;
    for letter in front.chars() {
        match letter {
            'd' => kind = EntryKind::Dir,
            'l' | 'L' => kind = EntryKind::Symlink,
            'p' => kind = EntryKind::Fifo,
            's' | 'S' => kind = EntryKind::Socket,
            'c' => kind = EntryKind::CharDevice,
            'b' => kind = EntryKind::BlockDevice,
            'D' => device = true,
            'u' => mode |= 0o4000,
            'g' => mode |= 0o2000,
            't' => mode |= 0o1000,
            '-' => {}
            _ => kind = EntryKind::Unknown,
        }
    }
    if device && kind == EntryKind::File {
        kind = EntryKind::BlockDevice;
    }
    (kind, mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_both_ways_are_read() {
        for (letters, kind, mode) in [
            ("-rw-r--r--", EntryKind::File, 0o644),
            ("drwxr-xr-x", EntryKind::Dir, 0o755),
            ("dtrwxrwxrwx", EntryKind::Dir, 0o1777),
            ("drwxrwxrwt", EntryKind::Dir, 0o1777),
            ("-rwsr-xr-x", EntryKind::File, 0o4755),
            ("urwxr-xr-x", EntryKind::File, 0o4755),
            ("-rw-r-Sr--", EntryKind::File, 0o2644),
            ("Lrwxrwxrwx", EntryKind::Symlink, 0o777),
            ("lrwxrwxrwx", EntryKind::Symlink, 0o777),
            ("prw-------", EntryKind::Fifo, 0o600),
            ("Srwxr-xr-x", EntryKind::Socket, 0o755),
            ("Dcrw-rw-rw-", EntryKind::CharDevice, 0o666),
            ("Drw-rw----", EntryKind::BlockDevice, 0o660),
            ("", EntryKind::Unknown, 0),
            ("é", EntryKind::Unknown, 0),
            ("0644", EntryKind::Unknown, 0),
            ("?rw-r--r--", EntryKind::Unknown, 0o644),
        ] {
            assert_eq!(from_letters(letters), (kind, mode), "{letters}");
        }
    }

    #[test]
    fn times_are_rfc_3339_with_nanoseconds() {
        let info =
            v1::FileInfo { mtime_ns: 1_700_000_000_000_000_001, mode: 0o100_755, ..Default::default() };
        let entry = from_v1(&info, "/a/b".to_owned());
        assert_eq!(entry.mod_time, "2023-11-14T22:13:20.000000001Z");
        assert_eq!((entry.mode.as_str(), entry.name.as_str()), ("0755", "b"));
    }
}

use super::*;
use tar::{Builder, EntryType};

fn archive(build: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

fn header(path: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_path(path).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o4755);
    header.set_mtime(1_000_000_000);
    header.set_cksum();
    header
}

fn read_all(bytes: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
    let mut stream = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some(entry) = stream.next()? {
        let mut data = Vec::new();
        while stream.data(u64::MAX, |more| {
            data.extend_from_slice(more);
            Ok(())
        })? > 0
        {}
        found.push((entry, data));
    }
    Ok(found)
}

fn file(builder: &mut Builder<Vec<u8>>, path: &str, data: &[u8]) {
    builder.append(&header(path, EntryType::Regular, data.len() as u64), data).unwrap();
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        body.extend_from_slice(format!("{length} {key}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    body
}

fn with_pax(builder: &mut Builder<Vec<u8>>, records: &[(&str, &[u8])]) {
    let body = pax(records);
    builder.append(&header("PaxHeader", EntryType::XHeader, body.len() as u64), &body[..]).unwrap();
}

#[test]
fn entries_come_with_their_data_and_without_end_marker_or_padding() {
    let bytes = archive(|b| {
        file(b, "a", b"hello");
        file(b, "b", &[7; 513]);
    });
    let found = read_all(&bytes).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].1.as_slice(), found[1].1.len()), (&b"hello"[..], 513));
    assert_eq!((found[0].0.mode, found[0].0.modified.seconds), (0o4755, 1_000_000_000));
    let no_marker = &bytes[..bytes.len() - 1024];
    assert_eq!(read_all(no_marker).unwrap().len(), 2);
    let no_padding = &bytes[..512 + 512 + 512 + 513];
    assert_eq!(read_all(no_padding).unwrap().len(), 2);
    for cut in [100, 512 + 3, 1024 + 512 + 512] {
        assert!(read_all(&bytes[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn pax_records_may_hold_newlines_and_decide() {
    let long = "d/".repeat(200) + "file";
    let capability = b"\x01\x00\x00\x02\n=\x00\xff\n";
    let bytes = archive(|b| {
        let records: &[(&str, &[u8])] = &[
            ("path", long.as_bytes()),
            ("SCHILY.xattr.security.capability", capability),
            ("mtime", b"1700000000.25"),
            ("atime", b"-1.5"),
            ("uid", b"3000000"),
            ("size", b"3"),
        ];
        with_pax(b, records);
        file(b, "short", b"abc");
        file(b, "next", b"");
    });
    let found = read_all(&bytes).unwrap();
    let entry = &found[0].0;
    assert_eq!(entry.path, long.as_bytes());
    assert_eq!(entry.xattrs, [(b"security.capability".to_vec(), capability.to_vec())]);
    assert_eq!(entry.modified, Moment { seconds: 1_700_000_000, nanoseconds: 250_000_000 });
    assert_eq!(entry.accessed, entry.modified);
    assert_eq!((entry.uid, found[0].1.as_slice()), (3_000_000, &b"abc"[..]));
    assert_eq!(found[1].0.path, b"next");
    assert!(found[1].0.xattrs.is_empty());
}

#[test]
fn moments_before_the_epoch_round_down() {
    assert_eq!(parse_moment(b"-1.5"), Some(Moment { seconds: -2, nanoseconds: 500_000_000 }));
    assert_eq!(parse_moment(b"-0.5"), Some(Moment { seconds: -1, nanoseconds: 500_000_000 }));
    assert_eq!(parse_moment(b"5.1234567891"), Some(Moment { seconds: 5, nanoseconds: 123_456_789 }));
    assert_eq!(parse_moment(b"1.x"), None);
}

#[test]
fn numbers_are_octal_or_binary_and_may_be_empty() {
    assert_eq!(field(b"0000644\0").unwrap(), 0o644);
    assert_eq!(field(b"   644 \0").unwrap(), 0o644);
    assert_eq!(field(&[0; 8]).unwrap(), 0);
    assert_eq!(field(&[0x80, 0, 0, 0, 0, 0, 1, 0]).unwrap(), 256);
    assert_eq!(field(&[0xff; 12]).unwrap(), -1);
    assert!(field(b"0000999\0").is_err());
    assert!(field(&[0x80 | 0x3f, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]).is_err());
}

#[test]
fn long_names_of_gnu_and_directories_of_old_are_known() {
    let long = "x".repeat(300);
    let bytes = archive(|b| {
        let mut gnu = Header::new_gnu();
        gnu.set_size(2);
        gnu.set_cksum();
        b.append_data(&mut gnu, &long, &b"ok"[..]).unwrap();
        let mut old = Header::new_old();
        old.set_path("dir/").unwrap();
        old.set_size(0);
        old.set_cksum();
        b.append(&old, &b""[..]).unwrap();
    });
    let found = read_all(&bytes).unwrap();
    assert_eq!(found[0].0.path, long.as_bytes());
    assert_eq!(found[1].0.kind, Kind::Directory);
}

#[test]
fn sparse_maps_of_pax_are_read_and_checked() {
    let map = b"2\n0\n3\n1048576\n4\n";
    let mut body = map.to_vec();
    body.resize(512, 0);
    body.extend_from_slice(b"abcwxyz");
    let records = |size: &'static [u8]| -> Vec<u8> {
        archive(|b| {
            let records: &[(&str, &[u8])] = &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"real/name"),
                ("GNU.sparse.realsize", size),
            ];
            with_pax(b, records);
            file(b, "GNUSparseFile.0/name", &body);
            file(b, "after", b"z");
        })
    };
    let found = read_all(&records(b"2000000")).unwrap();
    let entry = &found[0].0;
    assert_eq!((entry.path.as_slice(), entry.size), (&b"real/name"[..], 2_000_000));
    assert_eq!(entry.sparse.as_deref(), Some(&[(0, 3), (1_048_576, 4)][..]));
    assert_eq!(found[0].1, b"abcwxyz");
    assert_eq!(found[1].1, b"z");
    assert!(read_all(&records(b"100")).is_err());
}

#[test]
fn rubbish_is_refused() {
    assert!(read_all(&[b'x'; 1024]).is_err());
    assert!(read_all(&archive(|b| with_pax(b, &[("path", b"lonely")]))).is_err());
    let unknown = archive(|b| b.append(&header("a", EntryType::new(b'Q'), 0), &b""[..]).unwrap());
    assert_eq!(read_all(&unknown).unwrap_err().kind(), io::ErrorKind::Unsupported);
    for records in [&b"5 a=b\n"[..], b"99 path=x\n", b"x path=x\n", b"6 path\n"] {
        assert!(parse_pax(records).is_err(), "{records:?}");
    }
}

//! Sealing and unsealing, against ourselves and against the reference implementation (`age`, `age-keygen`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use dunnage_transfer::{Error, ErrorKind, Keys, Seal, is_sealed, seal, unseal};
use proptest::prelude::*;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

const PASSPHRASE: &str = "correct horse battery staple";

/// An identity and its recipient, made by the reference implementation.
fn pair() -> (String, String) {
    let output = Command::new("age-keygen").output().expect("age is missing: run scripts/setup");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let identity = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    (identity.to_owned(), recipient.to_owned())
}

/// The same for every test that needs just one.
fn ours() -> &'static (String, String) {
    static PAIR: OnceLock<(String, String)> = OnceLock::new();
    PAIR.get_or_init(pair)
}

/// Bytes that do not repeat.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn sealed(plain: &[u8], with: &Seal) -> Vec<u8> {
    let mut sealer = seal(Vec::new(), with).unwrap();
    sealer.write_all(plain).unwrap();
    sealer.finish().unwrap()
}

/// All that comes out, or the error of this crate that stopped it.
fn opened(stream: &[u8], keys: &Keys) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    match unseal(stream, keys)?.read_to_end(&mut plain) {
        Ok(_) => Ok(plain),
        Err(error) => Err(carried(error)),
    }
}

/// The error of the crate that one of the standard library carries.
fn carried(error: io::Error) -> Error {
    *error.into_inner().unwrap().downcast().unwrap()
}

fn kind(stream: &[u8], keys: &Keys) -> ErrorKind {
    opened(stream, keys).unwrap_err().kind()
}

fn for_ours() -> Seal {
    Seal::recipients([&ours().1])
}

fn our_keys() -> Keys {
    Keys::identities([&ours().0])
}

#[test]
fn what_is_sealed_is_opened_whatever_its_length() {
    const PIECE: usize = 64 << 10;
    for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7, 64 << 20] {
        let plain = bytes(length);
        let stream = sealed(&plain, &for_ours());
        assert!(is_sealed(&stream) && stream.len() > length);
        assert!(opened(&stream, &our_keys()).unwrap() == plain, "{length}");
    }
}

#[test]
fn any_of_several_recipients_opens_it_and_nobody_else() {
    let (first, second, stranger) = (pair(), pair(), pair());
    let stream = sealed(b"content", &Seal::recipients([&first.1, &second.1]));
    for (identity, _) in [&first, &second] {
        let keys = Keys::identities([&stranger.0, identity]);
        assert_eq!(opened(&stream, &keys).unwrap(), b"content");
    }
    assert_eq!(kind(&stream, &Keys::identities([&stranger.0])), ErrorKind::WrongKey);
    assert_eq!(kind(&stream, &Keys::passphrase(PASSPHRASE)), ErrorKind::WrongKey);
}

#[test]
fn each_mistake_has_a_kind_of_its_own() {
    let stream = sealed(b"content", &Seal::passphrase(PASSPHRASE));
    assert_eq!(opened(&stream, &Keys::passphrase(PASSPHRASE)).unwrap(), b"content");
    assert_eq!(kind(&stream, &Keys::passphrase("wrong")), ErrorKind::WrongKey);
    assert_eq!(kind(&stream, &our_keys()), ErrorKind::WrongKey);
    assert_eq!(kind(&stream, &Keys::default()), ErrorKind::Locked);
    assert_eq!(kind(b"\x1f\x8b plain", &our_keys()), ErrorKind::NotSealed);
    let both = Keys { identities: vec![ours().0.clone()], ..Keys::passphrase(PASSPHRASE) };
    assert_eq!(opened(&stream, &both).unwrap(), b"content");

    // Without keys, what is not sealed is read as it is.
    for plain in [&b""[..], b"a", b"\x1f\x8b plain", b"age-encrypted?"] {
        assert!(!is_sealed(plain));
        assert_eq!(opened(plain, &Keys::default()).unwrap(), plain);
    }
}

#[test]
fn nonsense_is_refused_before_anything_is_written() {
    let recipient = ours().1.clone();
    // Another last character: of the checksum, which finds any single one that is wrong.
    let (most, last) = recipient.split_at(recipient.len() - 1);
    let broken = format!("{most}{}", if last == "x" { 'y' } else { 'x' });
    let both = Seal { recipients: vec![recipient.clone()], ..Seal::passphrase(PASSPHRASE) };
    let cases = [
        (Seal::default(), "either"),
        (both, "both"),
        (Seal::passphrase(""), "empty"),
        (Seal::recipients([&recipient, &broken]), broken.as_str()),
        (Seal::recipients(["ssh-ed25519 AAAA"]), "ssh-ed25519"),
        (Seal::recipients([&ours().0]), "public"),
        (Seal::recipients(std::iter::repeat_n(&recipient, 257)), "256"),
    ];
    for (with, says) in cases {
        let mut out = Vec::new();
        let error = seal(&mut out, &with).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{with:?}");
        let text = error.to_string();
        assert!(text.contains(says) || says == "either" && text.contains("passphrase or"), "{text}");
        assert!(!text.contains(&ours().0) && !text.contains(PASSPHRASE), "{text}");
        assert!(out.is_empty());
        assert_eq!(with.check().unwrap_err().kind(), ErrorKind::Invalid);
    }
    for keys in [
        Keys::passphrase(""),
        Keys::identities(["AGE-SECRET-KEY-1NOTREALLY"]),
        Keys::identities([&recipient]),
    ] {
        let error = unseal(&b"age-encryption.org/v1\n"[..], &keys).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(!error.to_string().contains("NOTREALLY"), "{error}");
        assert!(keys.check().is_err());
    }
}

#[test]
fn secrets_are_not_shown() {
    let with = Seal::passphrase(PASSPHRASE);
    let keys = Keys { identities: vec![ours().0.clone()], ..Keys::passphrase(PASSPHRASE) };
    let stream = sealed(b"content", &Seal::passphrase(PASSPHRASE));
    let wrong = opened(&stream, &Keys::passphrase("not this secret")).unwrap_err();
    let reader = unseal(&stream[..], &Keys::passphrase(PASSPHRASE)).unwrap();
    let sealer = seal(Vec::new(), &for_ours()).unwrap();
    let shown = format!("{with:?} {keys:?} {wrong:?} {wrong} {reader:?} {sealer:?}");
    for secret in [PASSPHRASE, "not this secret", ours().0.as_str(), &ours().0[16..]] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn what_is_returned_goes_to_other_threads() {
    let stream = sealed(b"content", &for_ours());
    let mut reader = unseal(&stream[..], &our_keys()).unwrap();
    assert!(reader.sealed());
    let mut sealer = seal(Vec::new(), &for_ours()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || assert_eq!(reader.read(&mut [0; 16]).unwrap(), 7));
        scope.spawn(move || sealer.write_all(b"content").unwrap());
    });
}

#[test]
fn many_recipients_fit_into_a_header() {
    let others = std::iter::repeat_n(ours().1.clone(), 255);
    let last = pair();
    let stream = sealed(b"content", &Seal::recipients(others.chain([last.1])));
    assert_eq!(opened(&stream, &Keys::identities([last.0])).unwrap(), b"content");
}

/// Reads so far, and fails then.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::Error::new(io::ErrorKind::ConnectionReset, "the cable was pulled")),
            read => Ok(read),
        }
    }
}

#[test]
fn a_source_that_fails_is_not_called_damaged() {
    let stream = sealed(&bytes(200_000), &for_ours());
    for length in [5, 60, 300, 100_000] {
        let read = unseal(Failing(&stream[..length]), &our_keys()).and_then(|mut reader| {
            let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
            Err(carried(error))
        });
        let error = read.map(drop::<()>).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{length}: {error}");
        assert!(error.cause().unwrap().to_string().contains("cable"));
    }
}

/// Repeats something for ever, and counts what is taken of it.
struct Endless<'a>(std::iter::Cycle<std::slice::Iter<'a, u8>>, &'a AtomicUsize);

impl Read for Endless<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        into.iter_mut().zip(&mut self.0).for_each(|(to, from)| *to = *from);
        // Who asks for this much holds it.
        assert!(self.1.fetch_add(into.len(), Ordering::Relaxed) < 8 << 20, "it is read for ever");
        Ok(into.len())
    }
}

#[test]
fn what_has_no_end_is_refused_before_it_is_held() {
    let stanza = b"-> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc\nEmECAEcKN+n/Vs9SbWiV+Hu0r+E8R77DdWYyd83nw7U\n";
    let armored = &streams()[1];
    // A header of entries, a header of one entry, armor without a line end in the header and far behind it.
    let cases: [(&[u8], &[u8]); 4] = [
        (b"age-encryption.org/v1\n", stanza),
        (b"age-encryption.org/v1\n-> X25519 ", b"A"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n", b"A"),
        (&armored[..36 + 65 * 2000], b"A"),
    ];
    for (begin, more) in cases {
        let taken = AtomicUsize::new(0);
        let source = begin.chain(Endless(more.iter().cycle(), &taken));
        let error = match unseal(source, &our_keys()) {
            Ok(mut reader) => carried(io::copy(&mut reader, &mut io::sink()).unwrap_err()),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(taken.load(Ordering::Relaxed) < 256 << 10);
    }
}

#[test]
fn too_much_work_is_refused() {
    let stream = sealed(b"content", &Seal::passphrase(PASSPHRASE));
    let line = stream.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let end = line + stream[line..].iter().position(|&byte| byte == b'\n').unwrap();
    let header = std::str::from_utf8(&stream[line..end]).unwrap();
    assert!(header.ends_with(" 18"), "{header}");
    for work in ["21", "62"] {
        let dear = [&stream[..end - 2], work.as_bytes(), &stream[end..]].concat();
        assert_eq!(kind(&dear, &Keys::passphrase(PASSPHRASE)), ErrorKind::Unsupported);
    }
}

/// Runs the reference implementation; a passphrase is typed into a terminal, since it takes it from nowhere else.
fn reference(arguments: &str, typed: &[&str], input: &Path, output: &Path) {
    let command = format!("age {arguments} -o '{}' '{}'", output.display(), input.display());
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--echo", "never", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for line in typed {
        writeln!(stdin, "{line}").unwrap();
    }
    // The end of the input is typed too, and would be taken for an empty answer: it comes when the program is gone.
    let told = child.wait_with_output();
    drop(stdin);
    let told = told.unwrap();
    assert!(told.status.success(), "{command}: {}", String::from_utf8_lossy(&told.stdout));
}

#[test]
fn the_reference_implementation_opens_what_we_seal() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let plain = bytes(300_000);
    fs::write(at("key"), &ours().0).unwrap();

    fs::write(at("one"), sealed(&plain, &for_ours())).unwrap();
    reference(&format!("-d -i '{}'", at("key").display()), &[], &at("one"), &at("one.plain"));
    assert!(fs::read(at("one.plain")).unwrap() == plain);

    fs::write(at("two"), sealed(&plain, &Seal::passphrase(PASSPHRASE))).unwrap();
    reference("-d", &[PASSPHRASE], &at("two"), &at("two.plain"));
    assert!(fs::read(at("two.plain")).unwrap() == plain);
}

#[test]
fn we_open_what_the_reference_implementation_seals() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let plain = bytes(300_000);
    fs::write(at("plain"), &plain).unwrap();
    for armor in ["", "-a "] {
        let output = at(&format!("key{armor}.age"));
        reference(&format!("{armor}-r {}", ours().1), &[], &at("plain"), &output);
        let stream = fs::read(&output).unwrap();
        assert_eq!(stream.starts_with(b"-----BEGIN"), !armor.is_empty());
        assert!(is_sealed(&stream) && opened(&stream, &our_keys()).unwrap() == plain);
        assert_eq!(kind(&stream, &Keys::default()), ErrorKind::Locked);

        let output = at(&format!("pass{armor}.age"));
        reference(&format!("{armor}-p"), &[PASSPHRASE, PASSPHRASE], &at("plain"), &output);
        let stream = fs::read(&output).unwrap();
        assert!(opened(&stream, &Keys::passphrase(PASSPHRASE)).unwrap() == plain);
        assert_eq!(kind(&stream, &Keys::passphrase("wrong")), ErrorKind::WrongKey);
    }
}

/// A sealed stream of 200,000 bytes, binary and in armor.
fn streams() -> &'static [Vec<u8>; 2] {
    static STREAMS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    STREAMS.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (plain, armored) = (dir.path().join("plain"), dir.path().join("armored"));
        fs::write(&plain, bytes(200_000)).unwrap();
        reference(&format!("-a -r {}", ours().1), &[], &plain, &armored);
        [sealed(&bytes(200_000), &for_ours()), fs::read(&armored).unwrap()]
    })
}

/// Damage is told, and nothing but what was sealed comes out before it is.
fn must_fail(damaged: &[u8], what: &str) {
    let whole = bytes(200_000);
    let mut plain = Vec::new();
    let error = match unseal(damaged, &our_keys()) {
        Err(error) => error,
        Ok(mut reader) => {
            let error = reader.read_to_end(&mut plain).expect_err(what);
            let kind = Error::of(&error).unwrap().kind();
            // It goes on failing.
            let again = reader.read(&mut [0; 16]).unwrap_err();
            assert_eq!(Error::of(&again).unwrap().kind(), kind);
            carried(error)
        }
    };
    assert!(whole.starts_with(&plain));
    // A damaged stanza cannot be told from one for somebody else, and the mark and the version say what all the rest is.
    let allowed = [ErrorKind::Corrupt, ErrorKind::WrongKey, ErrorKind::NotSealed, ErrorKind::Unsupported];
    assert!(allowed.contains(&error.kind()), "{what}: {error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_bit_counts(at in any::<prop::sample::Index>(), bit in 0..8_u8, head in any::<bool>()) {
        let stream = &streams()[0];
        // Half of the damage goes to the header, which is small.
        let at = at.index(if head { 250 } else { stream.len() });
        let mut damaged = stream.clone();
        damaged[at] ^= 1 << bit;
        must_fail(&damaged, &format!("bit {bit} of byte {at}"));
        if at > 250 {
            prop_assert_eq!(kind(&damaged, &our_keys()), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn every_byte_of_armor_counts(at in any::<prop::sample::Index>(), to in b'!'..b'~') {
        let stream = &streams()[1];
        let at = at.index(stream.len() - 36);
        prop_assume!(stream[at] != to && stream[at] != b'\n');
        let mut damaged = stream.clone();
        damaged[at] = to;
        must_fail(&damaged, &format!("byte {at}"));
    }

    #[test]
    fn every_missing_byte_counts(length in any::<prop::sample::Index>(), armor in any::<bool>()) {
        let stream = &streams()[usize::from(armor)];
        // The last line end of armor may be missing.
        let cut = &stream[..length.index(stream.len() - 1)];
        must_fail(cut, &format!("cut at {}", cut.len()));
        prop_assert!(matches!(kind(cut, &our_keys()), ErrorKind::Corrupt | ErrorKind::NotSealed));
    }

    #[test]
    fn nothing_may_follow(more in prop::collection::vec(any::<u8>(), 1..100)) {
        must_fail(&[&streams()[0][..], &more].concat(), "more than the end");
    }
}

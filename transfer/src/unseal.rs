//! Unsealing: what was encrypted is read plain again.

use std::fmt;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use age::armor::ArmoredReader;
use age::secrecy::SecretString;
use age::stream::StreamReader;
use age::{DecryptError, Decryptor, Identity, scrypt, x25519};

use crate::error::{Error, ErrorKind, Result};

const BINARY: &[u8] = b"age-encryption.org/";
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

/// How many bytes [`is_sealed`] needs to be sure.
pub const SEAL_MARK: usize = ARMOR.len();

/// The most work that a stream may ask for: four seconds and a gibibyte, four times what the reference implementation asks for.
const MOST_WORK: u8 = 20;

/// What of a stream is read before its header has to be over. Whoever makes a header without an end would fill the memory.
const HEADER: u64 = 96 << 10;

/// The longest line of armor; honest ones have 64 characters.
const LINE: u64 = 1024;

/// What may open a sealed stream. Empty for one that is not sealed.
#[derive(Clone, Default)]
pub struct Keys {
    /// The passphrase that it was sealed with.
    pub passphrase: Option<String>,
    /// X25519 identities: `AGE-SECRET-KEY-1…`.
    pub identities: Vec<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("passphrase", &self.passphrase.as_ref().map(|_| "(secret)"))
            .field("identities", &format_args!("{} (secret)", self.identities.len()))
            .finish()
    }
}

impl Keys {
    /// A passphrase.
    pub fn passphrase(passphrase: impl Into<String>) -> Self {
        Self { passphrase: Some(passphrase.into()), identities: Vec::new() }
    }

    /// Identities.
    pub fn identities(identities: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { passphrase: None, identities: identities.into_iter().map(Into::into).collect() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.passphrase.is_none() && self.identities.is_empty()
    }

    /// Whether these are keys at all. Nothing is read.
    ///
    /// # Errors
    /// Invalid for an empty passphrase, and for a malformed identity, which is told by its number.
    pub fn check(&self) -> Result<()> {
        self.parse().map(drop)
    }

    fn parse(&self) -> Result<Vec<Box<dyn Identity + Send>>> {
        let mut keys: Vec<Box<dyn Identity + Send>> = Vec::new();
        for (index, text) in self.identities.iter().enumerate() {
            let key: x25519::Identity = text.trim().parse().map_err(|why| {
                let number = index + 1;
                Error::invalid(format!(
                    "identity {number} is malformed ({why}): it has to be AGE-SECRET-KEY-1…"
                ))
            })?;
            keys.push(Box::new(key));
        }
        if let Some(passphrase) = &self.passphrase {
            if passphrase.is_empty() {
                return Err(Error::invalid("the passphrase is empty"));
            }
            let mut key = scrypt::Identity::new(SecretString::from(passphrase.clone()));
            key.set_max_work_factor(MOST_WORK);
            keys.push(Box::new(key));
        }
        Ok(keys)
    }
}

/// Whether a stream that begins with these bytes is sealed, in the binary form or in armor. The first [`SEAL_MARK`] bytes are
/// enough; with fewer than 19 the answer is no.
pub fn is_sealed(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(BINARY) || first_bytes.starts_with(ARMOR)
}

/// The plain bytes of a stream that may be sealed: what [`unseal`] returns.
pub struct Unsealed<R> {
    from: Inner<R>,
    broken: Arc<AtomicBool>,
    failed: Option<Error>,
}

enum Inner<R> {
    Plain(Source<R>),
    Binary(Box<StreamReader<BufReader<Source<R>>>>),
    Armor(Box<StreamReader<ArmoredReader<BufReader<Source<R>>>>>),
}

impl<R> fmt::Debug for Unsealed<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsealed").field("sealed", &self.sealed()).finish_non_exhaustive()
    }
}

impl<R> Unsealed<R> {
    /// Whether the stream was sealed.
    pub fn sealed(&self) -> bool {
        !matches!(self.from, Inner::Plain(_))
    }
}

/// Reads a stream plain, sealed or not: what it is, is seen by how it begins.
///
/// A sealed one is opened by the first key that fits, and each piece of 64 KiB is checked before it is handed out. That the stream
/// ends where it was meant to is known only when it has been read to its end. One that is not sealed is handed out as it is
/// when there are no keys. A passphrase takes about a second and 256 MiB, and never more than four seconds and a gibibyte, whatever the
/// stream asks for.
///
/// # Errors
/// Locked when it is sealed and there is no key, NotSealed when it is not and there is one, WrongKey when none fits, Corrupt when
/// the header is damaged or cut off, Unsupported for another version or too much work, Invalid for a malformed key. While
/// reading, Corrupt for what is damaged or cut off; see [`Error::of`]. What `source` says otherwise.
pub fn unseal<R: Read + Send>(mut source: R, keys: &Keys) -> Result<Unsealed<R>> {
    let parsed = keys.parse()?;
    let mut first = Vec::with_capacity(SEAL_MARK);
    (&mut source)
        .take(SEAL_MARK as u64)
        .read_to_end(&mut first)
        .map_err(|cause| Error::io(cause, "cannot read the stream"))?;
    let sealed = is_sealed(&first);
    let armored = first.starts_with(ARMOR);
    let cut = BINARY.starts_with(&first) || ARMOR.starts_with(&first);
    let broken = Arc::new(AtomicBool::new(false));
    let limit = Arc::new(AtomicU64::new(if sealed { HEADER } else { u64::MAX }));
    let source = Source {
        from: Cursor::new(first).chain(source),
        limit: Arc::clone(&limit),
        line: armored.then_some(0),
        broken: Arc::clone(&broken),
    };
    if !sealed {
        if !keys.is_empty() && cut {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the sealed archive is cut off at its very beginning",
            ));
        }
        if !keys.is_empty() {
            return Err(Error::new(ErrorKind::NotSealed, "the archive is not sealed: leave the keys away"));
        }
        return Ok(Unsealed { from: Inner::Plain(source), broken, failed: None });
    }
    if keys.is_empty() {
        return Err(Error::new(
            ErrorKind::Locked,
            "the archive is sealed: give its passphrase or an identity",
        ));
    }
    let identities = || parsed.iter().map(|key| key.as_ref() as &dyn Identity);
    let told = |error| explain(error, keys, &broken);
    let from = if armored {
        let decryptor = Decryptor::new_buffered(ArmoredReader::new(source)).map_err(told)?;
        Inner::Armor(Box::new(decryptor.decrypt(identities()).map_err(told)?))
    } else {
        let decryptor = Decryptor::new_buffered(BufReader::new(source)).map_err(told)?;
        Inner::Binary(Box::new(decryptor.decrypt(identities()).map_err(told)?))
    };
    limit.store(u64::MAX, Ordering::Relaxed);
    Ok(Unsealed { from, broken, failed: None })
}

/// Why a header could not be opened.
fn explain(error: DecryptError, keys: &Keys, broken: &AtomicBool) -> Error {
    match error {
        DecryptError::NoMatchingKeys if keys.identities.is_empty() => {
            Error::new(ErrorKind::WrongKey, "the archive is not sealed with a passphrase: give an identity")
        }
        DecryptError::NoMatchingKeys if keys.passphrase.is_some() => {
            Error::new(ErrorKind::WrongKey, "neither the passphrase nor an identity opens the archive")
        }
        DecryptError::NoMatchingKeys => {
            Error::new(ErrorKind::WrongKey, "none of the identities opens the archive")
        }
        DecryptError::KeyDecryptionFailed | DecryptError::DecryptionFailed => {
            Error::new(ErrorKind::WrongKey, "the key does not open the archive")
        }
        DecryptError::ExcessiveWork { required, .. } => Error::new(
            ErrorKind::Unsupported,
            format!(
                "the archive asks for 2^{required} rounds of work to try a passphrase, and 2^{MOST_WORK} is the most"
            ),
        ),
        DecryptError::UnknownFormat => {
            Error::new(ErrorKind::Unsupported, "the archive is sealed in a newer form than version 1 of age")
        }
        DecryptError::Io(cause) => damage(cause, broken),
        DecryptError::InvalidMac => {
            Error::new(ErrorKind::Corrupt, "the header of the sealed archive was changed")
        }
        _ => Error::new(ErrorKind::Corrupt, "the header of the sealed archive is damaged"),
    }
}

/// An error below is the source's own, or tells that what came from it is wrong.
fn damage(cause: io::Error, broken: &AtomicBool) -> Error {
    if broken.load(Ordering::Relaxed) {
        return Error::io(cause, "cannot read the stream");
    }
    let message = match cause.kind() {
        io::ErrorKind::UnexpectedEof => "the sealed archive is cut off",
        _ => "the sealed archive is damaged or cut off",
    };
    Error::new(ErrorKind::Corrupt, message).because(cause)
}

impl<R: Read> Read for Unsealed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // What comes after damage is nobody's business.
        if let Some(failed) = &self.failed {
            return Err(failed.again().into());
        }
        let read = match &mut self.from {
            Inner::Plain(from) => return from.read(into),
            Inner::Binary(from) => from.read(into),
            Inner::Armor(from) => from.read(into),
        };
        read.map_err(|cause| {
            if cause.kind() == io::ErrorKind::Interrupted {
                return cause;
            }
            let error = damage(cause, &self.broken);
            self.failed = Some(error.again());
            error.into()
        })
    }
}

/// The stream as it comes, with what is needed to tell its errors from damage and to bound what is held of it.
struct Source<R> {
    from: Chain<Cursor<Vec<u8>>, R>,
    /// How much may still be read.
    limit: Arc<AtomicU64>,
    /// How long the line of armor is so far.
    line: Option<u64>,
    /// The source has failed.
    broken: Arc<AtomicBool>,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the header has no end"));
        }
        let most = into.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        let into = into.get_mut(..most).unwrap_or_default();
        let read = self.from.read(into).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.broken.store(true, Ordering::Relaxed);
            }
        })?;
        if limit != u64::MAX {
            self.limit.store(limit - read as u64, Ordering::Relaxed);
        }
        if let Some(line) = &mut self.line {
            for &byte in into.get(..read).unwrap_or_default() {
                *line = if byte == b'\n' { 0 } else { *line + 1 };
                if *line > LINE {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of armor has no end"));
                }
            }
        }
        Ok(read)
    }
}

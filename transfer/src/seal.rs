//! Sealing: what is written comes out encrypted.

use std::fmt;
use std::io::{self, Write};
use std::iter;

use age::secrecy::SecretString;
use age::stream::StreamWriter;
use age::{Encryptor, Recipient, scrypt, x25519};

use crate::error::{Error, Result};

/// The cost of making a passphrase a key, as a power of two: about a second and 256 MiB. It is what the reference
/// implementation takes.
pub(crate) const WORK: u8 = 18;

/// More would not fit into the header that [`unseal`](crate::unseal()) is ready to read.
const MOST_RECIPIENTS: usize = 256;

/// For whom a stream is sealed: for whoever knows the passphrase, or for the owners of some keys. Exactly one of the two.
#[derive(Clone, Default)]
pub struct Seal {
    /// A passphrase that a person chose.
    pub passphrase: Option<String>,
    /// X25519 recipients: `age1…`. Any one of their keys opens the stream.
    pub recipients: Vec<String>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal")
            .field("passphrase", &self.passphrase.as_ref().map(|_| "(secret)"))
            .field("recipients", &self.recipients)
            .finish()
    }
}

impl Seal {
    /// Seals with a passphrase.
    pub fn passphrase(passphrase: impl Into<String>) -> Self {
        Self { passphrase: Some(passphrase.into()), recipients: Vec::new() }
    }

    /// Seals for recipients.
    pub fn recipients(recipients: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { passphrase: None, recipients: recipients.into_iter().map(Into::into).collect() }
    }

    /// Whether a stream can be sealed with this. Nothing is written.
    ///
    /// # Errors
    /// Invalid, with the recipient that is malformed.
    pub fn check(&self) -> Result<()> {
        self.keys().map(drop)
    }

    fn keys(&self) -> Result<Vec<x25519::Recipient>> {
        match &self.passphrase {
            Some(_) if !self.recipients.is_empty() => {
                return Err(Error::invalid("give either a passphrase or recipients, not both"));
            }
            Some(passphrase) if passphrase.is_empty() => {
                return Err(Error::invalid("the passphrase is empty"));
            }
            Some(_) => return Ok(Vec::new()),
            None if self.recipients.is_empty() => {
                return Err(Error::invalid("give a passphrase or at least one recipient to seal for"));
            }
            None => {}
        }
        if self.recipients.len() > MOST_RECIPIENTS {
            return Err(Error::invalid(format!("at most {MOST_RECIPIENTS} recipients can be sealed for")));
        }
        self.recipients.iter().map(|text| recipient(text)).collect()
    }
}

fn recipient(text: &str) -> Result<x25519::Recipient> {
    text.parse().map_err(|why| {
        // Somebody who mixes the two up shall not find the key in a log.
        if text.trim_start().to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Error::invalid(
                "a recipient is a secret key: give the public one, which begins with age1",
            );
        }
        Error::invalid(format!(
            "the recipient {text:?} is malformed ({why}): it has to be age1 and 58 characters"
        ))
    })
}

/// Seals what is written to it. Only [`Sealer::finish`] makes the stream whole: without it, the stream counts as cut off.
pub struct Sealer<W>(StreamWriter<W>);

impl<W> fmt::Debug for Sealer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// Begins a sealed stream: its header goes to `out` at once.
///
/// The form is the binary one of `age-encryption.org/v1`, which `age -d` opens. With a passphrase this takes about a second
/// and, for that time, 256 MiB. Many small writes to the result are one write of 64 KiB to `out`.
///
/// # Errors
/// Invalid when `seal` names both or neither, or a malformed recipient; nothing is written then. What `out` says otherwise.
pub fn seal<W: Write>(out: W, seal: &Seal) -> Result<Sealer<W>> {
    let recipients = seal.keys()?;
    let passphrase = seal.passphrase.as_ref().map(|text| {
        let mut with = scrypt::Recipient::new(SecretString::from(text.clone()));
        with.set_work_factor(WORK);
        with
    });
    let encryptor = match &passphrase {
        Some(with) => Encryptor::with_recipients(iter::once(with as &dyn Recipient)),
        None => Encryptor::with_recipients(recipients.iter().map(|one| one as &dyn Recipient)),
    };
    let encryptor =
        encryptor.map_err(|why| Error::invalid(format!("cannot seal for these recipients: {why}")))?;
    let writer = encryptor.wrap_output(out).map_err(|cause| Error::io(cause, "cannot write the header"))?;
    Ok(Sealer(writer))
}

impl<W: Write> Sealer<W> {
    /// Writes what is left and the end of the stream, and gives `out` back.
    ///
    /// # Errors
    /// What `out` says.
    pub fn finish(self) -> Result<W> {
        let mut out =
            self.0.finish().map_err(|cause| Error::io(cause, "cannot write the end of the stream"))?;
        out.flush().map_err(|cause| Error::io(cause, "cannot write the end of the stream"))?;
        Ok(out)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

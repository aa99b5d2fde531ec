use crate::error::{Error, Result};
use sha2::{Digest, Sha256, Sha512};

/// A digest in the making, of the algorithm that the expected one names.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// A hasher for comparing with `expected`, such as `sha256:…`.
    ///
    /// # Errors
    /// UNSUPPORTED for another algorithm, DATA_CORRUPT for what is no digest.
    pub(crate) fn matching(expected: &str) -> Result<Self> {
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        match expected.split_once(':') {
            Some(("sha256", rest)) if hex(rest, 64) => Ok(Self::Sha256(Sha256::new())),
            Some(("sha512", rest)) if hex(rest, 128) => Ok(Self::Sha512(Box::new(Sha512::new()))),
            Some((algorithm, _)) if !matches!(algorithm, "sha256" | "sha512") => {
                Err(Error::unsupported("the image uses a digest algorithm other than sha256 and sha512")
                    .with("digest", format!("{expected:?}")))
            }
            _ => Err(Error::data_corrupt("the image names a malformed digest")
                .with("digest", format!("{expected:?}"))),
        }
    }

    /// Takes more bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes taken, as `algorithm:hex`.
    pub(crate) fn finish(self) -> String {
        let (name, bytes) = match self {
            Self::Sha256(hasher) => ("sha256", hasher.finalize().to_vec()),
            Self::Sha512(hasher) => ("sha512", hasher.finalize().to_vec()),
        };
        let mut text = String::with_capacity(name.len() + 1 + bytes.len() * 2);
        text.push_str(name);
        text.push(':');
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        text
    }

    /// The sha256 digest of `bytes`.
    pub(crate) fn sha256(bytes: &[u8]) -> String {
        let mut hasher = Self::Sha256(Sha256::new());
        hasher.update(bytes);
        hasher.finish()
    }

    /// Compares `bytes` with `expected`.
    ///
    /// # Errors
    /// DATA_CORRUPT naming both digests, else as [`Hasher::matching`].
    pub(crate) fn check(bytes: &[u8], expected: &str, what: &str) -> Result<()> {
        let mut hasher = Self::matching(expected)?;
        hasher.update(bytes);
        let found = hasher.finish();
        if found == expected {
            return Ok(());
        }
        Err(Error::data_corrupt(format!("the {what} does not have the digest it was asked for"))
            .with("digest", expected)
            .with("found", found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn digests_are_made_and_compared() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Hasher::sha256(b""), empty);
        assert!(Hasher::check(b"", empty, "blob").is_ok());
        assert_eq!(Hasher::check(b"x", empty, "blob").unwrap_err().kind(), ErrorKind::DataCorrupt);
        let long = Hasher::matching(&format!("sha512:{}", "0".repeat(128))).unwrap().finish();
        assert!(long.starts_with("sha512:cf83e1357eefb8bd"));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for (text, kind) in [
            ("md5:00", ErrorKind::Unsupported),
            ("sha256:ABC", ErrorKind::DataCorrupt),
            ("sha256", ErrorKind::DataCorrupt),
            ("../../etc/passwd", ErrorKind::DataCorrupt),
        ] {
            assert_eq!(Hasher::matching(text).err().map(|e| e.kind()), Some(kind), "{text}");
        }
    }
}

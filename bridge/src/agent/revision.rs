//! Revisions: whether a file is still what somebody saw.

// The fields of `stat` have other types on other architectures.
#![allow(clippy::useless_conversion, clippy::unnecessary_cast)]

use std::path::Path;

use rustix::fs::Stat;
use tonic::Status;

use crate::consts::ABSENT;

/// Most bytes of a revision that a request may bring.
const MAX_BYTES: usize = 200;

/// What a file is now: another file, length or time of change is another revision. Reading changes nothing.
pub(crate) fn revision(stat: &Stat) -> String {
    format!(
        "{:x}-{:x}-{:x}.{:x}-{:x}.{:x}",
        stat.st_ino,
        stat.st_size,
        stat.st_mtime as i64,
        stat.st_mtime_nsec as i64,
        stat.st_ctime as i64,
        stat.st_ctime_nsec as i64
    )
}

/// What must be there for a write to happen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected(Option<String>);

impl Expected {
    /// Nothing in particular, a revision, or [`ABSENT`].
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what can be no revision.
    pub(crate) fn new(asked: Option<String>) -> Result<Self, Status> {
        if asked.as_ref().is_some_and(|asked| asked.is_empty() || asked.len() > MAX_BYTES) {
            return Err(Status::invalid_argument("a revision is what a stat or a write told, or \"absent\""));
        }
        Ok(Self(asked))
    }

    /// Whether it matters what is there.
    pub(crate) fn is_any(&self) -> bool {
        self.0.is_none()
    }

    /// Whether nothing must be there.
    pub(crate) fn is_absent(&self) -> bool {
        self.0.as_deref() == Some(ABSENT)
    }

    /// Compares with what is there.
    ///
    /// # Errors
    /// `ABORTED` when it is something else.
    pub(crate) fn check(&self, there: Option<&Stat>, path: &Path) -> Result<(), Status> {
        let Some(expected) = self.0.as_deref() else { return Ok(()) };
        let path = path.display();
        match there.map(revision) {
            None if expected == ABSENT => Ok(()),
            None => {
                Err(Status::aborted(format!("{path} is not there any more, look before you write it anew")))
            }
            Some(_) if expected == ABSENT => Err(exists(&path)),
            Some(found) if found == expected => Ok(()),
            Some(_) => {
                Err(Status::aborted(format!("{path} has changed since that revision, read it again first")))
            }
        }
    }
}

/// Something is where nothing should be.
pub(crate) fn exists(path: &impl std::fmt::Display) -> Status {
    Status::aborted(format!("{path} is there already, read it first or choose another name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn what_is_expected_is_compared_with_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let expected = |text: &str| Expected::new(Some(text.to_owned())).unwrap();
        assert!(expected(ABSENT).check(None, &path).is_ok());
        std::fs::write(&path, "1").unwrap();
        let first = rustix::fs::stat(&path).unwrap();
        assert!(expected(&revision(&first)).check(Some(&first), &path).is_ok());
        assert!(Expected::default().check(Some(&first), &path).is_ok());
        std::fs::write(&path, "longer").unwrap();
        let second = rustix::fs::stat(&path).unwrap();
        assert_ne!(revision(&first), revision(&second));
        for (expected, there) in [
            (expected(&revision(&first)), Some(&second)),
            (expected(ABSENT), Some(&second)),
            (expected("x"), None),
        ] {
            assert_eq!(expected.check(there, &path).unwrap_err().code(), Code::Aborted);
        }
        for bad in ["", &"x".repeat(201)] {
            assert_eq!(Expected::new(Some(bad.to_owned())).unwrap_err().code(), Code::InvalidArgument);
        }
    }
}

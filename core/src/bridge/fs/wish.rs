//! What a write asks for besides its bytes.

use super::super::connection::AgentInfo;
use super::super::failure::needs;
use crate::error::{Error, Result};
use tonic::Status;

/// The most bytes of a revision.
const MAX_REVISION: usize = 200;
/// The most a mode can be.
const MAX_MODE: u32 = 0o7777;

/// A mode and a revision, both checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Wish {
    pub(in super::super) mode: Option<u32>,
    pub(in super::super) expected: Option<String>,
}

impl Wish {
    /// Reads the options of a write.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for what is no mode or can be no revision.
    pub(super) fn new(mode: Option<&str>, expected: Option<&str>) -> Result<Self> {
        if expected.is_some_and(|revision| revision.is_empty() || revision.len() > MAX_REVISION) {
            return Err(Error::invalid_argument(
                "expected_revision is what a stat or a write told, or absent for a file that must not be there",
            )
            .with("expected_revision", expected.unwrap_or_default().escape_default()));
        }
        Ok(Self { mode: mode.map(parse_mode).transpose()?, expected: expected.map(str::to_owned) })
    }

    /// UNIMPLEMENTED when the agent cannot do what is asked for.
    pub(super) fn check(&self, agent: &AgentInfo) -> Result<(), Status> {
        needs(self.expected.is_none() || agent.revision, "write only where a file is as expected")?;
        needs(self.mode.is_none() || agent.write, "set the mode of what it writes")
    }
}

/// Reads permission bits in octal, such as `0644`.
///
/// # Errors
/// INVALID_ARGUMENT for anything else, and for bits over 7777.
pub(super) fn parse_mode(text: &str) -> Result<u32> {
    let octal = (1..=5).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= MAX_MODE => Ok(mode),
        _ => Err(Error::invalid_argument("a mode is permission bits in octal, such as 0644, up to 7777")
            .with("mode", text.escape_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn modes_are_octal_and_nothing_else() {
        for (text, mode) in [("0644", 0o644), ("7777", 0o7777), ("0", 0), ("04755", 0o4755)] {
            assert_eq!(parse_mode(text).unwrap(), mode, "{text}");
        }
        for text in ["", "8", "0o644", "+644", "-1", "10000", "77777", "000644", "u+x", " 644", "٦"] {
            assert_eq!(parse_mode(text).unwrap_err().kind(), ErrorKind::InvalidArgument, "{text}");
        }
        assert!(Wish::new(None, Some("")).is_err() && Wish::new(None, Some(&"x".repeat(201))).is_err());
    }
}

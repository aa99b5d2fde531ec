use crate::error::{Error, Result};
use std::fmt;

/// The id of a workspace: 1 to 64 characters of `[A-Za-z0-9_-]`.
///
/// The bound keeps `workspace-<id>` within containerd's 76 bytes. An id that does not start and end with a letter or
/// digit, or that doubles a separator, is valid here although containerd refuses it in a container name: see
/// [`WorkspaceId::container_suffix`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkspaceId(String);

impl WorkspaceId {
    /// The longest id, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Checks and takes an id.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when it is empty, longer than 64 bytes, or holds anything but `[A-Za-z0-9_-]`.
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        let valid = !id.is_empty()
            && id.len() <= Self::MAX_LEN
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if valid {
            return Ok(Self(id));
        }
        Err(Error::invalid_argument(
            "malformed workspace id: use 1 to 64 characters of A-Z, a-z, 0-9, _ and -",
        )
        .with("workspace", format!("{id:?}")))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the prefix in the container's name.
    ///
    /// containerd allows a separator only between letters or digits. An id that breaks this rule (`a--b`, `_x`) is
    /// spelled as `z.` and the id with `z` doubled and each separator as `z` and its hexadecimal code, so that the
    /// name is valid and no two ids share one.
    pub fn container_suffix(&self) -> String {
        let plain = self.0.split(['_', '-']).all(|part| !part.is_empty());
        if plain {
            return self.0.clone();
        }
        let mut name = String::from("z.");
        for c in self.0.chars() {
            match c {
                '-' => name.push_str("z2d"),
                '_' => name.push_str("z5f"),
                'z' => name.push_str("zz"),
                c => name.push(c),
            }
        }
        name
    }
}

impl AsRef<str> for WorkspaceId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for WorkspaceId {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::new(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_characters_pass() {
        for good in ["a", "A-b_9", "-", "__"] {
            assert!(WorkspaceId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "..", "a b", "ü", "a\0", "a.b", &"x".repeat(65)] {
            assert!(WorkspaceId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn odd_ids_get_container_names_that_are_valid_and_distinct() {
        let ids = ["a-b", "a--b", "a-_b", "-a", "z2d", "-", "_", "z-", "-z", "zz2d-"];
        let names: Vec<_> = ids.iter().map(|id| WorkspaceId::new(*id).unwrap().container_suffix()).collect();
        for (index, name) in names.iter().enumerate() {
            super::super::check_identifier("container", &format!("workspace-{name}")).unwrap();
            assert!(!names[..index].contains(name), "{name} twice");
        }
        assert_eq!(names[0], "a-b");
    }
}

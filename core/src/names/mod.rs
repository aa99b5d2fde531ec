//! Validated names: checked once where they enter, trusted everywhere inside.

mod image_ref;
mod workspace_id;

pub use image_ref::ImageRef;
pub use workspace_id::WorkspaceId;

use crate::error::{Error, Result};

/// The longest name containerd accepts for namespaces, containers and leases (its `identifiers` package).
const MAX_IDENTIFIER: usize = 76;

/// Checks a containerd identifier: letters and digits, joined by single `.`, `_` or `-`, at most 76 bytes.
///
/// # Errors
/// INVALID_ARGUMENT that names `what` and the value.
pub(crate) fn check_identifier(what: &'static str, value: &str) -> Result<()> {
    let ok = !value.is_empty()
        && value.len() <= MAX_IDENTIFIER
        && value.split(['.', '_', '-']).all(|part| !part.is_empty())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if ok {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "malformed {what}: use at most {MAX_IDENTIFIER} letters and digits, joined by single dots, underscores or dashes"
    ))
    .with(what, format!("{value:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_follow_containerd() {
        for good in ["default", "k8s.io", "a", "a-b_c.d", "moby"] {
            assert!(check_identifier("namespace", good).is_ok(), "{good}");
        }
        let long = "x".repeat(77);
        for bad in ["", "-a", "a-", "a--b", "a b", "ä", "a/b", "a\n", long.as_str()] {
            assert!(check_identifier("namespace", bad).is_err(), "{bad:?}");
        }
    }
}

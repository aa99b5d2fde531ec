//! Skills: folders with a `SKILL.md`, in one or more roots inside a workspace.
//!
//! | part | what it does |
//! |---|---|
//! | `document` | a `SKILL.md`: frontmatter and content, read and written |
//! | `list` | finds the skills of some roots |
//! | `change` | writes and deletes them in one root |
//!
//! What a workspace holds is never trusted: a file that is too large, no text or no YAML is reported and hides no other.

mod change;
mod document;
mod list;
#[cfg(test)]
mod tests;

pub(crate) use change::{delete, upsert};
pub(crate) use list::list;

/// The file that makes a folder a skill.
const FILE: &str = "SKILL.md";
/// What a skill is called whose file lies in the root itself.
const DEFAULT: &str = "default";
/// The longest `SKILL.md`, in bytes.
const MAX_FILE: usize = 1 << 20;

/// Whether a skill may be called so.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name.len() <= 255
        && !name.contains("..")
        && !name.contains(['/', '\\', '\0'])
}

//! Copying a file or a tree inside.
//!
//! | file | what |
//! |---|---|
//! | `place` | where the copy goes: refuses what cannot be, stages it, puts it in place |
//! | `tree` | everything but the bytes of files: directories, links, special files, who owns what |
//! | `content` | the bytes of files, with their holes |
//!
//! The copy is made under a hidden name beside its place, closed to everybody else while it grows, and takes its name when
//! it is whole. What fails before leaves nothing.

mod content;
mod place;
mod tree;

use std::path::Path;

use tonic::Status;

use super::long::Gone;
use place::Place;
pub(crate) use tree::Copied;

/// Copies a file or a tree. Modes, owners, times, attributes, links, hard links within what is copied and holes are as in
/// what is copied; sockets are left out and counted.
///
/// # Errors
/// `NOT_FOUND`; `ALREADY_EXISTS` when something is there, unless `overwrite` is set; `INVALID_ARGUMENT` for a directory
/// into itself or over what holds it; `FAILED_PRECONDITION` for a socket; `RESOURCE_EXHAUSTED` for a full disk;
/// `CANCELLED` when nobody waits any more.
pub(crate) fn copy(from: &Path, to: &Path, overwrite: bool, gone: &Gone) -> Result<Copied, Status> {
    let place = Place::new(from, to, overwrite)?;
    let (staged, copied) = place.stage(gone)?;
    place.take(staged)?;
    Ok(copied)
}

#[cfg(test)]
mod tests;

//! The history of a workspace: committed snapshots with numbers and names, each standing on the one before.
//!
//! A version is a committed snapshot of the backend, labelled with all that is known of it; the record of it in the
//! store is a cache. Making one and going back to one are the same move: the workspace leaves its writable snapshot,
//! which becomes a version or goes, for a new one on a version ([`relocate`]).

mod create;
#[cfg(test)]
mod lineage_tests;
mod list;
#[cfg(test)]
mod model;
mod relocate;
mod rollback;
#[cfg(test)]
mod tests;
mod version;

pub(crate) use create::create;
pub(crate) use list::list;
pub(crate) use rollback::rollback;

pub(super) use relocate::{recover, recover_lost};
pub(super) use version::{from_labels, versions};

//! The history of a workspace: committed snapshots with numbers and names, each standing on the one before.
//!
//! A version is a committed snapshot of the backend, labelled with all that is known of it; the record of it in the
//! store is a cache. Making one and going back to one are the same move: the workspace leaves its writable snapshot,
//! which becomes a version or goes, for a new one on a version ([`relocate`]).

mod create;
mod diff;
mod flatten;
mod fork;
mod history;
mod idle;
#[cfg(test)]
mod lineage_tests;
mod list;
#[cfg(test)]
mod model;
mod orphans;
mod prune;
mod relocate;
mod removal;
mod renew;
mod rollback;
mod squash;
#[cfg(test)]
mod tests;
mod tree;
mod version;

pub(crate) use create::create;
pub(crate) use diff::diff;
pub(crate) use fork::fork;
pub(crate) use list::list;
pub(crate) use prune::{delete, prune};
pub(crate) use rollback::rollback;
pub(crate) use tree::{tree, versions};

pub(super) use create::keep_version;
pub(super) use create::renew_from;
pub(super) use idle::{idle, left_to_nobody, owners};
pub(super) use orphans::{Orphans, Strays, adopt, keep_beside, orphans, strays};
pub(super) use prune::recover_prune;
pub(super) use relocate::{DataGraft, graft, recover, recover_lost};
pub(super) use removal::{all_but, left_of, remove};
pub(super) use renew::Renewal;
pub(super) use version::Position;

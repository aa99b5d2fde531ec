//! The data directory of a workspace, taken out and put back.
//!
//! Whatever is put in is made beside first, out of the workspace's sight, and takes its place at once: the data is the old
//! or the new, whatever happens in between.

mod carry;
mod channel;
mod descriptor;
mod export;
mod folder;
mod generation;
mod import;
mod options;
mod place;
mod preserve;
mod preserved;
mod restore;
mod stage;
mod still;
#[cfg(test)]
mod tests;

pub use channel::{DataFeed, DataPieces};
pub(crate) use export::export;
pub(crate) use folder::{archive, extract};
pub(in crate::lifecycle) use generation::{Generation, all as generations, number as generation, restored};
pub(crate) use import::import;
pub(crate) use place::{Inlet, Outlet};
pub(crate) use preserve::preserve;
pub(in crate::lifecycle) use preserve::{After, keep};
pub(crate) use preserved::{discard, preserved};
pub(crate) use restore::restore;
pub(in crate::lifecycle) use restore::{from_archive, from_directory, graft as graft_of};
pub(in crate::lifecycle) use still::recover;

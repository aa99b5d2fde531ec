//! Layers become directories: inflate, hash and write while the bytes still arrive.
//!
//! A layer is written into a directory of its own, in overlayfs form: a whiteout becomes a 0:0 character device, an
//! opaque directory gets its attribute. Nothing below is needed for that, so layers are written in any order and side
//! by side. The two things that may need what is below, attributes of directories that the archive leaves out and hard
//! links to files of lower layers, are noted and done at the end ([`Applied::settle`]).
//!
//! Two threads work on a layer, one inflates, the other hashes and writes; both end when the feed is dropped.

mod entry;
mod inflate;
mod settle;
mod source;
mod tree;
mod worker;

pub(super) use settle::Applied;
pub(super) use source::Piece;
pub(super) use worker::{Unpacking, failed, start};

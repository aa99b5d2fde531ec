//! Directory trees to tar archives and back.
//!
//! [`pack()`] writes a tree with all that it holds: owners, modes, times to the nanosecond, attributes, links, holes, devices and
//! names that are no text. [`unpack()`] makes a tree of an archive, whichever of tar's dialects it is in. Neither follows a
//! symbolic link, in the tree or in the archive, so nothing outside of the tree is reached, whoever made it and whatever
//! changes while it is read. Both block: call them on a thread of their own. What they hold in memory does not grow with
//! the size of files.
//!
//! [`copy()`] makes a tree of another in the same way, without an archive that is kept. [`Reader`] yields the entries of an archive to whoever has another use for them.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod acl;
mod blocks;
mod chain;
mod compress;
mod copy;
mod entry;
mod erase;
mod error;
mod header;
mod inflate;
mod measure;
mod members;
mod pack;
mod patterns;
mod reader;
mod sparse;
mod unpack;
mod verify;
mod walk;
mod watch;
pub mod write;

pub use copy::copy;
pub use entry::{Entry, Kind, Moment};
pub use erase::erase;
pub use error::{Error, ErrorKind, Result};
pub use inflate::{fill, inflate};
pub use measure::{Measured, measure};
pub use pack::{Format, PackOptions, Packed, pack, pack_nothing};
pub use reader::Reader;
pub use unpack::{Limits, Unpacked, unpack};
pub use verify::verify;
pub use watch::Watch;

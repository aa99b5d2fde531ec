//! Where archives go and come from: places by address, and sealing on the way.
//!
//! [`Place`] is a file or an object in S3, named by an address. What is written to it is visible when it is whole and not before, and
//! what is read from it is one state of it or an error. [`seal()`] encrypts what is written through it, for a passphrase or for
//! recipients, and [`unseal()`] reads it again, in the form that `age` has. All of it blocks: call it on a thread of its own, between
//! whatever makes the archive and wherever it goes:
//!
//! ```no_run
//! use dunnage_transfer::{Place, PlaceOptions, Seal, WriteOptions, seal};
//! use std::io::Write;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let place = Place::parse("s3://backups/bot-1.tar.gz.age", &PlaceOptions::default())?;
//! let mut sealer = seal(place.write(&WriteOptions::default())?, &Seal::passphrase("correct horse"))?;
//! sealer.write_all(b"what the archive holds")?;
//! let stored = sealer.finish()?.finish()?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod address;
mod error;
mod file;
mod options;
mod place;
mod s3;
mod seal;
mod unseal;

pub use error::{Error, ErrorKind, Result};
pub use options::{PlaceOptions, WriteOptions};
pub use place::{Place, PlaceReader, PlaceWriter, Stored};
pub use seal::{Seal, Sealer, seal};
pub use unseal::{Keys, SEAL_MARK, Unsealed, is_sealed, unseal};

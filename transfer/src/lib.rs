//! Where archives go and come from.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
mod seal;
mod unseal;

pub use error::{Error, ErrorKind, Result};
pub use seal::{Seal, Sealer, seal};
pub use unseal::{Keys, SEAL_MARK, Unsealed, is_sealed, unseal};

//! Copying between files of the host.

use super::super::fd::Abandoned;
use crate::error::{Error, Result};
use crate::operation::Copied;
use std::fs::File;
use std::io::{self, Read};

/// Bytes between two looks at whether anybody still waits.
const STRIDE: u64 = 16 << 20;

/// Copies from here to the end. The kernel does it where it can: a clone on file systems that share blocks, else a
/// copy without a detour through this process.
pub(super) fn copy(from: &File, to: &mut File, abandoned: &Abandoned, shown: &Copied) -> Result<u64> {
    let mut total = 0;
    loop {
        abandoned.check()?;
        let copied =
            io::copy(&mut from.take(STRIDE), to).map_err(|e| Error::io(e, "the file was not copied"))?;
        if copied == 0 {
            return Ok(total);
        }
        total += copied;
        shown.add(copied);
    }
}

use crate::error::{Error, ErrorKind, Result};
use crate::pack::{Format, PackOptions, Packed, pack};
use crate::unpack::{Limits, unpack};
use crate::watch::Watch;
use std::io;
use std::os::fd::BorrowedFd;

/// Makes a tree of another, in a directory that nobody else uses, with all that an archive of it would hold. The data goes
/// through a pipe. What was made is on the disk when this returns. Where the directory has something already it is as for
/// [`crate::unpack()`].
///
/// # Errors
/// Source, Target, Cancelled. The directory holds part of the tree then.
pub fn copy(from: BorrowedFd<'_>, into: BorrowedFd<'_>, watch: &Watch) -> Result<Packed> {
    let (reader, mut writer) = io::pipe().map_err(|e| Error::target(e, "cannot make a pipe"))?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let plain = PackOptions { format: Format::Tar, ..PackOptions::default() };
            // Once the other side ends, so does this one: nobody reads any more.
            pack(from, &plain, &mut writer, &Watch::default())
        });
        let unpacked = unpack(reader, into, &Limits::none(), watch);
        let packed = packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (unpacked, packed) {
            // The tree that cannot be read is why the archive is cut off.
            (Err(_), Err(error)) if error.kind() == ErrorKind::Source => Err(error),
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(_), Ok(packed)) => Ok(packed),
        }
    })
}

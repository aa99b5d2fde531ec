use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// How far a [`pack()`](crate::pack()) or [`unpack()`](crate::unpack()) has come, to be read from another thread, and the means to
/// end it. Each is for one of them.
#[derive(Debug, Default)]
pub struct Watch {
    entries: AtomicU64,
    bytes: AtomicU64,
    packed: AtomicU64,
    cancelled: AtomicBool,
}

impl Watch {
    /// Entries that are done.
    pub fn entries(&self) -> u64 {
        self.entries.load(Relaxed)
    }

    /// Bytes of files' data that are done; holes do not count.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Bytes of the archive, as it is stored, that are done.
    pub fn packed(&self) -> u64 {
        self.packed.load(Relaxed)
    }

    /// Ends it soon, with [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled). It does not interrupt a read or write of
    /// the archive that waits.
    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.cancelled.load(Relaxed) { Err(Error::cancelled()) } else { Ok(()) }
    }

    pub(crate) fn entry(&self) {
        self.entries.fetch_add(1, Relaxed);
    }

    pub(crate) fn moved(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn stored(&self, bytes: u64) {
        self.packed.fetch_add(bytes, Relaxed);
    }
}

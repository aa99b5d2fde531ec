//! Bytes by descriptor: the agent opens a file inside and passes the descriptor, so that the bytes never pass through it.
//!
//! A descriptor comes from inside the workspace and is checked before it is used: a regular file, of a file system that
//! keeps files and nothing else, opened the right way. On anything else the caller takes the other way, over gRPC.

mod check;
mod packet;
mod pool;

pub(super) use pool::{FdFault, FdPlace, FdPool, NewFile};

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a blocking job that nobody waits for it any more.
#[derive(Debug, Clone, Default)]
pub(super) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    /// CANCELLED when nobody waits any more.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Acquire) {
            return Err(Error::cancelled("nobody waits for the transfer any more"));
        }
        Ok(())
    }
}

struct AbandonOnDrop(Abandoned);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

/// Does blocking work off the runtime's threads. When the caller goes away, `Abandoned` tells the work so.
pub(super) async fn blocking<T, F>(work: F) -> Result<T>
where
    F: FnOnce(&Abandoned) -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    let abandoned = Abandoned::default();
    let _guard = AbandonOnDrop(abandoned.clone());
    match tokio::task::spawn_blocking(move || work(&abandoned)).await {
        Ok(result) => result,
        Err(error) => Err(Error::unexpected("a transfer ended before its time").caused_by(error)),
    }
}

//! Descriptors registered with the runtime.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;

use super::pty::set_nonblocking;

/// One end of a pipe or terminal, non-blocking.
pub(crate) type Channel = Arc<AsyncFd<OwnedFd>>;

/// Registers a descriptor and makes it non-blocking.
///
/// # Errors
/// When it cannot be waited for (a regular file), or the system is out of room for it.
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    set_nonblocking(&fd)?;
    // SAFETY: `OwnedFd` always returns the same descriptor and keeps it open until it is dropped, which `AsyncFd` does only
    // after it has deregistered it; nothing here ever takes the descriptor out of it.
    unsafe { Ok(AsyncFd::register(fd)?) }
}

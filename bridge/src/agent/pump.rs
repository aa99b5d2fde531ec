//! Output of a child, as fast as the client takes it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use prost::bytes::Bytes;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::channel::Channel;
use super::session::Event;

/// Most bytes of one piece of output.
const PIECE: usize = 64 << 10;
/// How long output is waited for after the child has gone, when something else still holds its pipe.
const GRACE: Duration = Duration::from_millis(100);

/// Sends output until its end, or until nobody listens; `wrap` makes an event of a piece.
///
/// A place in the queue is taken before anything is read, so that what a slow client does not take stays in the pipe
/// and, once that is full, holds up the child and nothing else.
///
/// # Cancel safety
/// Nothing is lost: what was read has been queued.
pub(crate) async fn run(
    channel: &AsyncFd<OwnedFd>,
    out: &mpsc::Sender<Event>,
    wrap: impl Fn(Bytes) -> Event,
) {
    loop {
        let Ok(mut ready) = channel.readable().await else { return };
        let Ok(place) = out.reserve().await else { return };
        match ready.try_io(|fd| read(fd.as_fd(), PIECE)) {
            Ok(Ok(Some(bytes))) => place.send(wrap(bytes)),
            Ok(Ok(None) | Err(_)) => return,
            Err(_would_block) => {}
        }
    }
}

/// Sends what a child that has gone left behind. Returns whether the output has ended.
///
/// The pipe may outlive the child in a process it left in the background. So: to the end if that comes within a short
/// grace, else whatever is in the pipe by then. How long the client takes does not count.
pub(crate) async fn drain(
    channel: &AsyncFd<OwnedFd>,
    out: &mpsc::Sender<Event>,
    wrap: impl Fn(Bytes) -> Event,
) -> bool {
    let grace = Instant::now() + GRACE;
    loop {
        let Ok(ready) = timeout_at(grace, channel.readable()).await else { break };
        let Ok(mut ready) = ready else { return true };
        let Ok(place) = out.reserve().await else { return false };
        match ready.try_io(|fd| read(fd.as_fd(), PIECE)) {
            Ok(Ok(Some(bytes))) => place.send(wrap(bytes)),
            Ok(Ok(None) | Err(_)) => return true,
            Err(_would_block) => {}
        }
        if Instant::now() >= grace {
            break;
        }
    }
    // The child's own output is all in the pipe, ahead of anything its survivors write from here on.
    let mut left = rustix::io::ioctl_fionread(channel).map_or(PIECE, |n| usize::try_from(n).unwrap_or(PIECE));
    while left > 0 {
        let Ok(place) = out.reserve().await else { return false };
        match read(channel.as_fd(), left.min(PIECE)) {
            Ok(Some(bytes)) => {
                left = left.saturating_sub(bytes.len());
                place.send(wrap(bytes));
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
    false
}

/// Throws away the output of processes that outlive their command: without a reader they would end at their next
/// line.
pub(crate) async fn discard(channel: Channel) {
    loop {
        let Ok(mut ready) = channel.readable().await else { return };
        if let Ok(Ok(None) | Err(_)) = ready.try_io(|fd| read(fd.as_fd(), PIECE)) {
            return;
        }
    }
}

/// One read: bytes, or `None` at the end.
fn read(fd: std::os::fd::BorrowedFd<'_>, most: usize) -> io::Result<Option<Bytes>> {
    let mut buffer = Vec::with_capacity(most);
    loop {
        match rustix::io::read(fd, rustix::buffer::spare_capacity(&mut buffer)) {
            Ok(0) => return Ok(None),
            // Short pieces are common and may wait in the queue: they must not hold a whole buffer each.
            Ok(n) if n < most / 4 => return Ok(Some(Bytes::copy_from_slice(&buffer))),
            Ok(_) => return Ok(Some(buffer.into())),
            Err(Errno::INTR) => {}
            // How a terminal says that its last program has closed it.
            Err(Errno::IO) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

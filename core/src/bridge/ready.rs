use super::client::BridgeClient;
use super::dial::BridgeTarget;
use crate::error::{Error, ErrorKind, Result};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, Mode, OFlags};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The first and the longest pause between two looks, where nothing tells of a change.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));
/// The pause between two looks where a watch tells of changes: for what the watch cannot see.
const WATCHED_PAUSE: Duration = Duration::from_millis(20);
/// How long a socket that does not listen yet is asked again without a pause: an agent listens some microseconds after
/// its socket appears.
const EAGER: Duration = Duration::from_micros(500);

impl BridgeClient {
    /// Waits until the agent answers a question, which it does within a fraction of a millisecond of its first moment:
    /// the directory of its socket is watched, not polled.
    ///
    /// # Errors
    /// TIMEOUT after `limit`, with what was wrong last; CANCELLED when `cancel` fires.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn wait_ready(&self, limit: Duration, cancel: &CancellationToken) -> Result<()> {
        let mut last = None;
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => {
                Err(Error::cancelled("the wait for the agent was cancelled"))
            }
            () = self.until_it_answers(&mut last) => Ok(()),
            () = sleep(limit) => {
                let message = format!("the agent did not answer within {} ms", limit.as_millis());
                let error = Error::timeout(message).with("address", &self.slot().target);
                Err(match last {
                    Some(last) => error.caused_by(last),
                    None => error,
                })
            }
        };
        outcome.map_err(|e| self.at(e))
    }

    async fn until_it_answers(&self, last: &mut Option<Error>) {
        // The watch comes first, so that nothing happens between a look and the wait for a change.
        let mut watch = None;
        let mut pause = PAUSES.0;
        let mut eager_until = None;
        loop {
            if watch.is_none()
                && let BridgeTarget::Socket(path) = &self.slot().target
            {
                watch = path.parent().and_then(|directory| Watch::new(directory).ok());
            }
            let error = match self.slot().connection().await {
                Ok(_) => return,
                Err(error) => error,
            };
            let listens_not =
                error.kind() == ErrorKind::Unavailable && error.message().starts_with("no agent");
            *last = Some(error);
            if listens_not {
                let until = *eager_until.get_or_insert_with(|| Instant::now() + EAGER);
                if Instant::now() < until {
                    tokio::task::yield_now().await;
                    continue;
                }
            }
            match &watch {
                Some(watch) => {
                    // A stale socket refuses as a new one does before it listens.
                    let most = if listens_not { pause } else { WATCHED_PAUSE };
                    tokio::select! {
                        () = watch.changed() => {
                            // Something new is there: pauses that grew while nothing was are not meant for it.
                            (eager_until, pause) = (None, PAUSES.0);
                            continue;
                        }
                        () = sleep(most) => {}
                    }
                }
                None => sleep(pause).await,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Tells when names in a directory come and go.
///
/// What the kernel tells is read as from a pipe: the one way to wait for any descriptor that needs no unsafe code here.
struct Watch(Receiver);

impl Watch {
    fn new(directory: &Path) -> std::io::Result<Self> {
        // As in dialling: what the name leads to must be a directory itself.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let changes = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, format!("/proc/self/fd/{}", held.as_raw_fd()), changes)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(inotify)?))
    }

    /// Completes once something has changed since the last call. Never completes when the watch fails: the caller
    /// looks from time to time anyway.
    async fn changed(&self) {
        let mut events = [0_u8; 4096];
        loop {
            if self.0.readable().await.is_err() {
                std::future::pending::<()>().await;
            }
            match self.0.try_read(&mut events) {
                Ok(1..) => break,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => std::future::pending().await,
            }
        }
        while self.0.try_read(&mut events).is_ok_and(|n| n > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_tells_of_names_that_appear_and_of_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let watch = Watch::new(root.path()).unwrap();
        let wait = Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, watch.changed()).await.is_err());
        std::fs::write(root.path().join("a"), "").unwrap();
        std::fs::rename(root.path().join("a"), root.path().join("b")).unwrap();
        tokio::time::timeout(Duration::from_secs(2), watch.changed()).await.unwrap();
        assert!(tokio::time::timeout(wait, watch.changed()).await.is_err());
    }
}

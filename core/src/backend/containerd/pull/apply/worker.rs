use super::entry::Writing;
use super::inflate::pipe;
use super::settle::Applied;
use super::source::{Arriving, Piece};
use crate::backend::LayerCounter;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::Hasher;
use dunnage_archive::Reader;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Pieces that the transfer may be ahead of the unpacking.
const AHEAD: usize = 64;

/// A layer being unpacked by its threads.
pub(in super::super) struct Unpacking {
    feed: mpsc::Sender<Piece>,
    done: oneshot::Receiver<Result<Applied>>,
}

/// Starts to unpack a layer into the directory `root`. `alive` is held as long as threads work on it. The bytes are
/// fed by [`Unpacking::feed`]; dropping the value stops the threads.
///
/// # Errors
/// RESOURCE_EXHAUSTED when no thread can be made; UNSUPPORTED or DATA_CORRUPT for a `diff_id` that cannot be checked.
pub(in super::super) fn start(
    root: OwnedFd,
    diff_id: &str,
    counter: Option<Arc<LayerCounter>>,
    alive: TaskTrackerToken,
) -> Result<Unpacking> {
    let hasher = Hasher::matching(diff_id)?;
    let (feed, receiver) = mpsc::channel(AHEAD);
    let (tell, done) = oneshot::channel();
    let diff_id = diff_id.to_owned();
    let thread = std::thread::Builder::new().name("dunnage-unpack".to_owned());
    let work = move || {
        let outcome = unpack(root, &diff_id, hasher, Arriving::new(receiver, counter));
        // Whoever waited may have given up.
        let _ = tell.send(outcome);
        drop(alive);
    };
    thread.spawn(work).map_err(no_thread)?;
    Ok(Unpacking { feed, done })
}

impl Unpacking {
    /// Hands bytes to the threads, waiting while they are behind. Returns false when they have stopped: the reason is
    /// told by [`Unpacking::finish`].
    pub(in super::super) async fn feed(&self, piece: Piece) -> bool {
        self.feed.send(piece).await.is_ok()
    }

    /// Waits until all bytes fed are written.
    ///
    /// # Errors
    /// DATA_CORRUPT for a damaged or malicious archive or a wrong `diff_id`, UNSUPPORTED for what this does not unpack,
    /// RESOURCE_EXHAUSTED on a full disk.
    pub(in super::super) async fn finish(self) -> Result<Applied> {
        let Self { feed, done } = self;
        drop(feed);
        done.await.unwrap_or_else(|_| Err(Error::unexpected("a thread that unpacks a layer broke")))
    }
}

fn no_thread(error: io::Error) -> Error {
    Error::resource_exhausted("cannot start a thread to unpack a layer").caused_by(error)
}

fn unpack(root: OwnedFd, diff_id: &str, hasher: Hasher, source: Arriving) -> Result<Applied> {
    let (inflating, inflated) = pipe(hasher);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("dunnage-inflate".to_owned());
        let inflate = thread.spawn_scoped(scope, move || inflating.run(source)).map_err(no_thread)?;
        let mut writing = Writing::new(root);
        let mut archive = Reader::new(inflated);
        let written = writing.all(&mut archive);
        // On failure this drops the pipe, which lets the other thread end.
        let written = match written {
            Ok(()) => archive.into_inner().finish(),
            Err(e) => {
                drop(archive);
                Err(e)
            }
        };
        let inflated =
            inflate.join().unwrap_or_else(|_| Err(io::Error::other("the thread that inflates broke")));
        // When inflating fails, writing only sees that its bytes end.
        inflated.map_err(failed)?;
        let found = written.map_err(failed)?;
        if found != diff_id {
            return Err(Error::data_corrupt(
                "the unpacked layer does not have the digest that the configuration names",
            )
            .with("diff_id", diff_id)
            .with("found", found));
        }
        Ok(writing.finish())
    })
}

/// What an error in unpacking means to the caller of a pull: the archive is bad unless the file system says why not.
pub(in super::super) fn failed(error: io::Error) -> Error {
    let kind = match ErrorKind::of_io(&error) {
        kind @ (ErrorKind::ResourceExhausted | ErrorKind::Unsupported | ErrorKind::PermissionDenied) => kind,
        // The wrapped error of an entry keeps only its kind.
        _ if error.kind() == io::ErrorKind::ConnectionAborted => ErrorKind::Cancelled,
        _ => ErrorKind::DataCorrupt,
    };
    Error::new(kind, "cannot unpack a layer").caused_by(error)
}

//! An archive between the thread that carries it and the program's own tasks: bounded, so that the slower side sets the pace.

use super::place::{Inlet, Outlet, one_place};
use crate::error::{Error, Result};
use crate::types::{DataExportOptions, DataImportOptions};
use bytes::{Buf, Bytes};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long a piece is at most: 256 KiB.
const PIECE: usize = 256 * 1024;
/// How many pieces wait to be taken.
const WAITING: usize = 4;

/// How the program's side tells that it has left, and why.
#[derive(Debug, Default)]
struct Leaving {
    left: CancellationToken,
    why: Mutex<Option<io::Error>>,
}

impl Leaving {
    /// The first reason is the one that counts.
    fn leave(&self, why: io::Error) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.left.cancel();
    }

    fn why(&self) -> io::Error {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(given_up)
    }
}

fn given_up() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the program let go of the stream before its end")
}

/// Waits on the thread that carries the archive, which belongs to no runtime.
fn wait<T>(
    cancel: &CancellationToken,
    leaving: &Leaving,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    futures::executor::block_on(async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(io::Error::other("cancelled")),
            () = leaving.left.cancelled() => Err(leaving.why()),
            done = work => done,
        }
    })
}

/// The archive of an export, piece by piece. An export waits for whoever does not take its pieces; one whose pieces are
/// dropped before the end fails with UNAVAILABLE.
#[derive(Debug)]
pub struct DataPieces {
    pieces: tokio::sync::Mutex<mpsc::Receiver<Bytes>>,
    leaving: Arc<Leaving>,
}

impl DataPieces {
    /// The next piece; none after the last one, and when the export has failed, which its result tells.
    ///
    /// # Cancel safety
    /// Cancel safe: a piece is taken only when it is returned.
    pub async fn next(&self) -> Option<Bytes> {
        let next = async { self.pieces.lock().await.recv().await };
        self.leaving.left.run_until_cancelled(next).await.flatten()
    }

    /// Ends the export with this error: the program can take no more.
    pub fn fail(&self, why: io::Error) {
        self.leaving.leave(why);
    }
}

impl Drop for DataPieces {
    fn drop(&mut self) {
        self.leaving.leave(given_up());
    }
}

/// What a program writes an archive to that is imported. One that is dropped unfinished ends the import with UNAVAILABLE.
#[derive(Debug)]
pub struct DataFeed {
    pieces: mpsc::Sender<Fed>,
    leaving: Arc<Leaving>,
}

#[derive(Debug)]
enum Fed {
    Piece(Bytes),
    End,
}

impl DataFeed {
    /// Gives the next bytes. Waits while the import is busy with those before.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when the import has ended, or was told of the end; its result tells why.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before its end, the bytes were not given.
    pub async fn write(&self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() { Ok(()) } else { self.send(Fed::Piece(bytes)).await }
    }

    /// Tells that the archive is whole. The import may begin to put it in its place.
    ///
    /// # Errors
    /// As [`DataFeed::write`].
    pub async fn finish(&self) -> Result<()> {
        self.send(Fed::End).await
    }

    /// Ends the import with this error: the program has no more to give.
    pub fn fail(&self, why: io::Error) {
        self.leaving.leave(why);
    }

    async fn send(&self, fed: Fed) -> Result<()> {
        self.pieces
            .send(fed)
            .await
            .map_err(|_| Error::failed_precondition("the import takes no more bytes: its result tells why"))
    }
}

/// The end of an export's channel that is written to.
#[derive(Debug)]
pub(crate) struct PiecesOut {
    pieces: mpsc::Sender<Bytes>,
    leaving: Arc<Leaving>,
    pub(super) cancel: CancellationToken,
}

impl Write for PiecesOut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE);
        let piece = Bytes::copy_from_slice(&bytes[..taken]);
        wait(&self.cancel, &self.leaving, async { self.pieces.send(piece).await.map_err(|_| given_up()) })?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end of an import's channel that is read from.
#[derive(Debug)]
pub(crate) struct PiecesIn {
    pieces: mpsc::Receiver<Fed>,
    leaving: Arc<Leaving>,
    rest: Bytes,
    ended: bool,
    pub(super) cancel: CancellationToken,
}

impl Read for PiecesIn {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() && !self.ended && !into.is_empty() {
            let next = async { self.pieces.recv().await.ok_or_else(given_up) };
            match wait(&self.cancel, &self.leaving, next)? {
                Fed::Piece(piece) => self.rest = piece,
                Fed::End => self.ended = true,
            }
        }
        let taken = into.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut into[..taken]);
        Ok(taken)
    }
}

impl Outlet {
    /// A channel, and what the program takes from it.
    pub(crate) fn pieces(options: &DataExportOptions) -> (Result<Self>, DataPieces) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let leaving = Arc::<Leaving>::default();
        let out = PiecesOut { pieces: sender, leaving: leaving.clone(), cancel: CancellationToken::new() };
        let outlet = match (&options.destination, options.fd) {
            (None, None) => Ok(Self::Pieces(out)),
            _ => Err(one_place("destination")),
        };
        (outlet, DataPieces { pieces: tokio::sync::Mutex::new(receiver), leaving })
    }
}

impl Inlet {
    /// A channel, and what the program gives into it.
    pub(crate) fn pieces(options: &DataImportOptions) -> (Result<Self>, DataFeed) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let leaving = Arc::<Leaving>::default();
        let cancel = CancellationToken::new();
        let source =
            PiecesIn { pieces: receiver, leaving: leaving.clone(), rest: Bytes::new(), ended: false, cancel };
        let inlet = match (&options.source, options.fd) {
            (None, None) => Ok(Self::Pieces(source)),
            _ => Err(one_place("source")),
        };
        (inlet, DataFeed { pieces: sender, leaving })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn out() -> (Box<dyn Write + Send>, DataPieces, CancellationToken) {
        let (outlet, pieces) = Outlet::pieces(&DataExportOptions::default());
        let cancel = CancellationToken::new();
        let Outlet::Pieces(mut out) = outlet.unwrap() else { unreachable!("it is a channel") };
        out.cancel = cancel.clone();
        (Box::new(out), pieces, cancel)
    }

    fn within() -> (Box<dyn Read + Send>, DataFeed, CancellationToken) {
        let (inlet, feed) = Inlet::pieces(&DataImportOptions::default());
        let cancel = CancellationToken::new();
        let Inlet::Pieces(mut within) = inlet.unwrap() else { unreachable!("it is a channel") };
        within.cancel = cancel.clone();
        (Box::new(within), feed, cancel)
    }

    fn sample() -> Vec<u8> {
        (0..3_000_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect()
    }

    #[tokio::test]
    async fn all_bytes_come_through_and_then_the_end() {
        let (mut out, pieces, _) = out();
        let writer = thread::spawn(move || out.write_all(&sample()));
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().await {
            assert!(piece.len() <= PIECE);
            all.extend_from_slice(&piece);
        }
        writer.join().unwrap().unwrap();
        assert!(all == sample());

        let (mut within, feed, _) = within();
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            within.read_to_end(&mut all).map(|_| all)
        });
        for piece in all.chunks(100_001) {
            feed.write(Bytes::copy_from_slice(piece)).await.unwrap();
            feed.write(Bytes::new()).await.unwrap();
        }
        feed.finish().await.unwrap();
        drop(feed);
        assert!(reader.join().unwrap().unwrap() == sample());
    }

    #[tokio::test]
    async fn who_leaves_is_noticed_and_his_reason_is_told() {
        for reason in [None, Some("the disk is full")] {
            let said = reason.unwrap_or("let go of the stream");
            let (mut out, pieces, _) = out();
            let writer = thread::spawn(move || out.write_all(&sample()));
            assert!(pieces.next().await.is_some());
            if let Some(reason) = reason {
                pieces.fail(io::Error::other(reason));
                assert!(pieces.next().await.is_none());
            }
            drop(pieces);
            let error = writer.join().unwrap().unwrap_err();
            assert!(error.to_string().contains(said), "{error}");

            let (mut within, feed, _) = within();
            feed.write(Bytes::from_static(b"half")).await.unwrap();
            let reader = thread::spawn(move || within.read_to_end(&mut Vec::new()).map(|_| within));
            if let Some(reason) = reason {
                feed.fail(io::Error::other(reason));
            }
            drop(feed);
            let error = reader.join().unwrap().err().unwrap();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[tokio::test]
    async fn a_wait_on_either_side_hears_the_cancellation() {
        let (mut out, pieces, cancel) = out();
        let stuck = thread::spawn(move || out.write_all(&sample()));
        cancel.cancel();
        assert!(stuck.join().unwrap().is_err());
        drop(pieces);
        let (mut within, feed, cancel) = within();
        let stuck = thread::spawn(move || within.read(&mut [0; 10]));
        cancel.cancel();
        assert!(stuck.join().unwrap().is_err());
        assert!(feed.write(Bytes::from_static(b"late")).await.is_err(), "nobody takes it");
    }
}

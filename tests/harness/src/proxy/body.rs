//! Blob bodies on their way through: slowed, cut, held back or bent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::{Mutex, mpsc};

use super::counts::{Counters, bump};

/// What is to happen to one body.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Drop the connection after so many bytes.
    pub(super) cut_at: Option<u64>,
    /// Send no more after so many bytes.
    pub(super) stall_at: Option<u64>,
    /// Flip one bit of the byte at this offset.
    pub(super) flip_at: Option<u64>,
    /// Not faster than this.
    pub(super) pace: Option<Arc<Pace>>,
}

/// A rate that several bodies share.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    free_at: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` more may be sent.
    async fn wait(&self, bytes: usize) {
        let until = {
            let mut free_at = self.free_at.lock().await;
            let start = (*free_at).max(Instant::now());
            *free_at = start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
            *free_at
        };
        tokio::time::sleep_until(until.into()).await;
    }

    /// Pieces are small enough that a slow stream trickles rather than gushes.
    fn piece(&self) -> usize {
        usize::try_from(self.bytes_per_second / 20).unwrap_or(usize::MAX).clamp(1, 64 * 1024)
    }
}

/// What the server sends: whatever comes through the channel.
#[derive(Debug)]
pub(super) struct Piped(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Piped {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|next| next.map(|piece| piece.map(Frame::data)))
    }
}

/// What a client sends, up to where it is cut. A body that ends earlier is whole.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) from: Incoming,
    pub(super) left: Option<u64>,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == Some(0) {
            return Poll::Ready(Some(Err(io::Error::other("dropped on purpose"))));
        }
        let frame = std::task::ready!(Pin::new(&mut self.from).poll_frame(cx));
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(io::Error::other)?;
        let (Some(left), true) = (self.left, frame.is_data()) else { return Poll::Ready(Some(Ok(frame))) };
        let Ok(mut data) = frame.into_data() else { return Poll::Ready(None) };
        data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        self.left = Some(left - data.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_none() && self.from.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.from.size_hint()
    }
}

/// Starts passing `upstream` on by `plan`.
pub(super) fn pipe(upstream: Incoming, plan: Plan, counters: Arc<Counters>) -> Piped {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let now = counters.blobs_now.fetch_add(1, Ordering::Relaxed) + 1;
        counters.most_blobs_at_once.fetch_max(now, Ordering::Relaxed);
        tokio::select! {
            () = pump(upstream, &plan, &sender, &counters) => {}
            () = sender.closed() => {}
        }
        counters.blobs_now.fetch_sub(1, Ordering::Relaxed);
    });
    Piped(receiver)
}

async fn pump(
    mut upstream: Incoming,
    plan: &Plan,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    counters: &Counters,
) {
    let mut sent: u64 = 0;
    while let Some(frame) = upstream.frame().await {
        let mut data = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => data,
            // Trailers; registries send none.
            Ok(Err(_)) => continue,
            Err(error) => {
                let _ = sender.send(Err(io::Error::other(error))).await;
                return;
            }
        };
        while !data.is_empty() {
            let mut room = plan.pace.as_ref().map_or(usize::MAX, |pace| pace.piece()).min(data.len());
            for stop in [plan.cut_at, plan.stall_at].into_iter().flatten() {
                room = room.min(usize::try_from(stop - sent.min(stop)).unwrap_or(usize::MAX));
            }
            if room == 0 {
                return stop(plan, sent, sender, counters).await;
            }
            let mut piece = data.split_to(room);
            if let Some(pace) = &plan.pace {
                pace.wait(piece.len()).await;
            }
            if let Some(offset) = plan.flip_at.and_then(|at| at.checked_sub(sent))
                && let Some(index) = usize::try_from(offset).ok().filter(|&index| index < piece.len())
            {
                bump(&counters.faults);
                let mut bent = piece.to_vec();
                if let Some(byte) = bent.get_mut(index) {
                    *byte ^= 0x10;
                }
                piece = bent.into();
            }
            sent += piece.len() as u64;
            counters.blob_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if sender.send(Ok(piece)).await.is_err() {
                return;
            }
        }
    }
}

/// The body has come as far as it may.
async fn stop(plan: &Plan, sent: u64, sender: &mpsc::Sender<io::Result<Bytes>>, counters: &Counters) {
    bump(&counters.faults);
    if plan.stall_at.is_some_and(|at| at <= sent) {
        std::future::pending::<()>().await;
    }
    // What was sent so far shall reach the client before the connection breaks.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let _ = sender.send(Err(io::Error::other("dropped on purpose"))).await;
}

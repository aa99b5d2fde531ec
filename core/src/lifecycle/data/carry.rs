//! Bytes on their way between a tree and an archive: on a thread of their own, watched and cancelled from the operation.

use crate::error::{Error, Result};
use crate::operation::{OperationContext, cancelled};
use crate::types::{Event, EventType};
use dunnage_archive::Watch;
use nix::sys::signal::{SigSet, Signal};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often progress is looked at: at most 20 events a second come of it.
const LOOK: Duration = Duration::from_millis(50);

/// How much there is to do, as far as it is known by now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total {
    pub(super) entries: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) archive_bytes: Option<u64>,
}

/// A carrying as its operation sees it.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) watch: Watch,
    pub(super) total: Mutex<Total>,
}

impl Load {
    fn event(&self, began: Instant) -> Event {
        let total = *self.total.lock().unwrap_or_else(PoisonError::into_inner);
        let (entries, bytes) = (self.watch.entries(), self.watch.bytes());
        let mut event = Event::new(EventType::DataProgress);
        event.entries = Some(entries);
        event.bytes = Some(bytes);
        event.archive_bytes = Some(self.watch.packed());
        // What is there may have grown since it was measured.
        event.total_entries = total.entries.map(|total| total.max(entries));
        event.total_bytes = total.bytes.map(|total| total.max(bytes));
        event.total_archive_bytes = total.archive_bytes;
        let micros = began.elapsed().as_micros().max(1);
        event.bytes_per_second = u64::try_from(u128::from(bytes) * 1_000_000 / micros).ok();
        event
    }
}

/// Does the work on a thread of its own, shows how far it is, and ends it soon once the caller cancels. Always waits for
/// the thread's end.
pub(super) async fn carry<T: Send + 'static>(
    context: &OperationContext,
    load: Arc<Load>,
    work: impl FnOnce(&Load) -> Result<T> + Send + 'static,
) -> Result<T> {
    let began = Instant::now();
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name("dunnage-carry".to_owned()).spawn({
        let load = load.clone();
        move || {
            // A reader that goes away is an error of the write, whatever the host program does with the signal. One that
            // is pending goes with the thread.
            let mut broken = SigSet::empty();
            broken.add(Signal::SIGPIPE);
            let _ = broken.thread_block();
            drop(tell.send(work(&load)));
        }
    });
    thread.map_err(|e| Error::io(e, "cannot start a thread"))?;
    tokio::pin!(told);
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut shown = None;
    let done = loop {
        tokio::select! {
            biased;
            done = &mut told => break done,
            () = context.cancel_token().cancelled(), if !context.cancel_token().is_cancelled() => {}
            _ = tick.tick() => {
                let seen = (load.watch.entries(), load.watch.bytes(), load.watch.packed());
                if shown != Some(seen) {
                    context.emit(load.event(began));
                    shown = Some(seen);
                }
            }
        }
        if context.cancel_token().is_cancelled() {
            load.watch.cancel();
        }
    };
    let done =
        done.map_err(|_| Error::unexpected("the thread that carries the data broke; please report it"))?;
    if done.is_err() && context.cancel_token().is_cancelled() {
        return Err(cancelled());
    }
    context.emit(load.event(began));
    done
}

/// What passes through it is digested.
pub(super) struct Digesting<T> {
    inner: T,
    sum: Arc<Mutex<(Sha256, u64)>>,
}

impl<T> Digesting<T> {
    /// The stream, and what tells the digest of all that has passed.
    pub(super) fn new(inner: T) -> (Self, Sum) {
        let sum = Arc::new(Mutex::new((Sha256::new(), 0)));
        (Self { inner, sum: sum.clone() }, Sum(sum))
    }

    fn add(&self, bytes: &[u8]) {
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.0.update(bytes);
        sum.1 += bytes.len() as u64;
    }
}

/// The digest of a stream.
pub(super) struct Sum(Arc<Mutex<(Sha256, u64)>>);

impl Sum {
    /// Of what has passed so far, as `sha256:` and hexadecimal digits.
    pub(super) fn digest(&self) -> String {
        let sum = self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
        format!("sha256:{:x}", sum.finalize())
    }

    /// How many bytes have passed so far.
    pub(super) fn bytes(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

impl<T: Write> Write for Digesting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Digesting<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.add(&bytes[..read]);
        Ok(read)
    }
}

//! One session: what is kept of it, and those who read it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::bytes::Bytes;
use rustix::process::Pid;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::channel::Channel;
use super::feed::Input;
use super::pty::{self, Size};
use super::replay::{Kind, Replay};
use super::session::Exit;
use crate::consts::ATTACH_QUEUE_BYTES;

/// Most bytes of one piece that a reader gets.
const PIECE: usize = 64 << 10;

/// What is known of a session from its start.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) id: String,
    /// The command line or the arguments, to be shown.
    pub(crate) command: String,
    pub(crate) pid: Pid,
    /// Whom it runs as, to be shown.
    pub(crate) user: String,
    /// Milliseconds since 1970.
    pub(crate) started_at_ms: i64,
    /// Bytes of output kept for those who attach later.
    pub(crate) replay_bytes: usize,
    /// Whether it runs on a terminal.
    pub(crate) pty: bool,
}

/// A session. Its output is taken in by one task, and read by any number of readers, each from its own place. One that
/// is slow is overtaken, and nobody waits for it.
pub(crate) struct Held {
    pub(crate) about: About,
    /// Where its standard input goes; full while the program reads none.
    pub(crate) input: mpsc::Sender<Input>,
    /// Whether its process has gone, which comes before the end of its output.
    gone: Arc<AtomicBool>,
    progress: watch::Sender<Progress>,
    state: Mutex<State>,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    end: u64,
    exit: Option<Exit>,
}

struct State {
    output: Replay,
    /// The places up to which each reader has read.
    readers: BTreeMap<u64, u64>,
    next_reader: u64,
    stdout_bytes: u64,
    stderr_bytes: u64,
    terminal: Option<Channel>,
    ended_at: Option<Instant>,
}

/// What a session tells a reader.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The reader was too slow for so many bytes, which would have come here.
    Omitted(u64),
    /// Output.
    Output(Kind, Bytes),
    /// The last one.
    Exited(Exit),
}

/// Numbers for a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) stdout_bytes: u64,
    pub(crate) stderr_bytes: u64,
    pub(crate) buffered_bytes: usize,
    pub(crate) readers: usize,
}

impl Held {
    /// A session whose program runs.
    pub(crate) fn new(
        about: About,
        input: mpsc::Sender<Input>,
        gone: Arc<AtomicBool>,
        terminal: Option<Channel>,
    ) -> Arc<Self> {
        let state = State {
            output: Replay::default(),
            readers: BTreeMap::new(),
            next_reader: 0,
            stdout_bytes: 0,
            stderr_bytes: 0,
            terminal,
            ended_at: None,
        };
        let progress = watch::Sender::new(Progress::default());
        Arc::new(Self { about, input, gone, progress, state: Mutex::new(state) })
    }

    /// Takes in output.
    pub(crate) fn push(&self, kind: Kind, bytes: &[u8]) {
        let mut state = self.lock();
        match kind {
            Kind::Stdout => state.stdout_bytes += bytes.len() as u64,
            Kind::Stderr => state.stderr_bytes += bytes.len() as u64,
        }
        let window = self.window();
        state.output.push(kind, bytes, window);
        self.trim(&mut state);
        let end = state.output.end();
        drop(state);
        self.progress.send_modify(|progress| progress.end = end);
    }

    /// Notes that all output has come, and how the program ended.
    pub(crate) fn finish(&self, exit: Exit) {
        let mut state = self.lock();
        state.terminal = None;
        state.ended_at = Some(Instant::now());
        state.output.shrink();
        drop(state);
        self.gone.store(true, Ordering::Relaxed);
        self.progress.send_modify(|progress| progress.exit = Some(exit));
    }

    /// How it ended, once it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        self.progress.borrow().exit
    }

    /// When it ended, once it has.
    pub(crate) fn ended_at(&self) -> Option<Instant> {
        self.lock().ended_at
    }

    /// Whether its process is no longer there to be signalled.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Waits until it has ended.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub(crate) async fn wait(&self) -> Exit {
        let mut progress = self.progress.subscribe();
        // The sender is in `self`.
        let ended = progress.wait_for(|progress| progress.exit.is_some()).await;
        ended.ok().and_then(|progress| progress.exit).unwrap_or(Exit::LOST)
    }

    /// Sets the size of its terminal, if it has one.
    pub(crate) fn resize(&self, size: Size) {
        if let Some(terminal) = &self.lock().terminal {
            let _ = pty::resize(terminal, size);
        }
    }

    /// Bytes of output kept now.
    pub(crate) fn buffered(&self) -> usize {
        self.lock().output.len()
    }

    /// Drops the output that is kept, and tells how much that was.
    pub(crate) fn forget_output(&self) -> usize {
        let mut state = self.lock();
        let dropped = state.output.len();
        state.output.trim(0);
        state.output.shrink();
        dropped
    }

    /// Numbers for a listing.
    pub(crate) fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            stdout_bytes: state.stdout_bytes,
            stderr_bytes: state.stderr_bytes,
            buffered_bytes: state.output.len(),
            readers: state.readers.len(),
        }
    }

    /// A reader, from the output that is kept, or from what comes from now on.
    pub(crate) fn attach(self: &Arc<Self>, replay: bool) -> Reader {
        let mut state = self.lock();
        let end = state.output.end();
        let kept = end.saturating_sub(self.about.replay_bytes as u64).max(state.output.start());
        let key = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(key, if replay { kept } else { end });
        drop(state);
        Reader { held: Arc::clone(self), key, progress: self.progress.subscribe(), ended: false }
    }

    /// How far a reader may be behind.
    fn window(&self) -> usize {
        self.about.replay_bytes.max(usize::try_from(ATTACH_QUEUE_BYTES).unwrap_or(usize::MAX))
    }

    /// Drops what is kept for nobody: older than what is replayed, and read by all.
    fn trim(&self, state: &mut State) {
        let behind =
            state.readers.values().min().map_or(0, |place| state.output.end().saturating_sub(*place));
        let behind = usize::try_from(behind).unwrap_or(usize::MAX).min(self.window());
        state.output.trim(self.about.replay_bytes.max(behind));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who reads a session.
pub(crate) struct Reader {
    held: Arc<Held>,
    key: u64,
    progress: watch::Receiver<Progress>,
    ended: bool,
}

impl Reader {
    /// What comes next; none after the exit.
    ///
    /// # Cancel safety
    /// Safe: what is taken is returned.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        if self.ended {
            return None;
        }
        loop {
            let exit = self.progress.borrow_and_update().exit;
            if let Some(told) = self.take() {
                return Some(told);
            }
            // All output was there when the exit was noted.
            if let Some(exit) = exit {
                self.ended = true;
                return Some(Told::Exited(exit));
            }
            self.progress.changed().await.ok()?;
        }
    }

    fn take(&self) -> Option<Told> {
        let mut state = self.held.lock();
        let State { output, readers, .. } = &mut *state;
        let place = readers.get_mut(&self.key)?;
        if *place < output.start() {
            let omitted = output.start() - *place;
            *place = output.start();
            return Some(Told::Omitted(omitted));
        }
        let (kind, bytes) = output.read(*place, PIECE)?;
        *place += bytes.len() as u64;
        self.held.trim(&mut state);
        Some(Told::Output(kind, bytes))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.held.lock();
        state.readers.remove(&self.key);
        self.held.trim(&mut state);
        drop(state);
        super::memory::settle_later();
    }
}

#[cfg(test)]
impl Held {
    /// A session without a program.
    pub(crate) fn of_test(id: &str, replay_bytes: usize) -> Arc<Self> {
        let about = About {
            id: id.to_owned(),
            command: String::new(),
            pid: rustix::process::getpid(),
            user: String::new(),
            started_at_ms: 0,
            replay_bytes,
            pty: false,
        };
        Self::new(about, mpsc::channel(1).0, Arc::default(), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Builder;

    fn run<T>(work: impl Future<Output = T>) -> T {
        Builder::new_current_thread().build().unwrap().block_on(work)
    }

    async fn output(reader: &mut Reader) -> (Vec<u8>, u64) {
        let (mut bytes, mut omitted) = (Vec::new(), 0);
        while let Some(told) = reader.next().await {
            match told {
                Told::Output(_, piece) => bytes.extend_from_slice(&piece),
                Told::Omitted(count) => omitted += count,
                Told::Exited(_) => {}
            }
        }
        (bytes, omitted)
    }

    #[test]
    fn readers_begin_where_they_asked_and_end_with_the_exit() {
        let held = Held::of_test("a", 4);
        held.push(Kind::Stdout, b"0123456789");
        assert_eq!(held.buffered(), 4);
        let (mut old, mut new) = (held.attach(true), held.attach(false));
        held.push(Kind::Stderr, b"end");
        held.finish(Exit::LOST);
        run(async {
            assert_eq!(output(&mut old).await, (b"6789end".to_vec(), 0));
            assert_eq!(output(&mut new).await, (b"end".to_vec(), 0));
            assert_eq!(old.next().await, None);
        });
        assert_eq!(held.counts().readers, 2);
        drop((old, new));
        let expected = Counts { stdout_bytes: 10, stderr_bytes: 3, buffered_bytes: 4, readers: 0 };
        assert_eq!(held.counts(), expected);
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_and_is_told() {
        let held = Held::of_test("a", 10);
        let (mut slow, fast) = (held.attach(true), held.attach(true));
        let mut taken = 0;
        run(async {
            for round in 0..300_u32 {
                held.push(Kind::Stdout, &[u8::try_from(round % 251).unwrap(); 10_000]);
                while let Some(told) = fast.take() {
                    let Told::Output(_, bytes) = told else { panic!("{told:?}") };
                    taken += bytes.len();
                }
            }
            held.finish(Exit::LOST);
            assert_eq!(taken, 3_000_000);
            let window = usize::try_from(ATTACH_QUEUE_BYTES).unwrap();
            assert!(held.buffered() <= window);
            let (bytes, omitted) = output(&mut slow).await;
            assert_eq!(bytes.len() as u64 + omitted, 3_000_000);
            assert_eq!(bytes.len(), window);
        });
        // Nobody is behind any more.
        assert_eq!(held.buffered(), 10);
    }
}

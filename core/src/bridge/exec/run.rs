use super::super::client::BridgeClient;
use super::input::InputStream;
use super::launch::Launch;
use super::stream::{ExecStream, Frame};
use crate::error::{Error, Result};
use crate::types::{ExecResult, ExitStatus, RunOptions};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// The most bytes kept of each stream, unless told otherwise.
const MAX_OUTPUT: u64 = 16 << 20;
/// What an agent may take, past a command's own time limit, to end it and say so.
const GRACE: Duration = Duration::from_secs(10);

/// A command that has run, with what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub result: ExecResult,
    /// Its stdout, up to `max_output_bytes`.
    pub stdout: Bytes,
    /// Its stderr, up to `max_output_bytes`.
    pub stderr: Bytes,
}

/// The first bytes of a stream, and a count of the rest.
struct Kept {
    bytes: Vec<u8>,
    /// The only piece so far, which is not copied if it stays the only one.
    only: Bytes,
    dropped: u64,
    limit: u64,
}

impl Kept {
    fn new(limit: u64) -> Self {
        Self { bytes: Vec::new(), only: Bytes::new(), dropped: 0, limit }
    }

    fn push(&mut self, mut piece: Bytes) {
        let kept = (self.bytes.len() + self.only.len()) as u64;
        let room = usize::try_from(self.limit.saturating_sub(kept)).unwrap_or(usize::MAX);
        if piece.len() > room {
            self.dropped += (piece.len() - room) as u64;
            piece.truncate(room);
        }
        if self.bytes.is_empty() && self.only.is_empty() {
            self.only = piece;
        } else {
            self.bytes.extend_from_slice(&std::mem::take(&mut self.only));
            self.bytes.extend_from_slice(&piece);
        }
    }

    fn take(self) -> Bytes {
        if self.bytes.is_empty() { self.only } else { self.bytes.into() }
    }
}

impl BridgeClient {
    /// Runs a command to its end with `stdin` as its input, and collects what it writes. A command that fails is a
    /// result, not an error.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for malformed options, before anything is sent; UNAVAILABLE when the agent cannot be reached
    /// or goes away; TIMEOUT only when the agent does not enforce the command's own limit.
    ///
    /// # Cancel safety
    /// Dropping it kills the command's process group.
    pub(crate) async fn run(&self, options: &RunOptions, stdin: Bytes) -> Result<Output> {
        self.run_inner(options, stdin).await.map_err(|e| self.at(e).in_operation("exec.run"))
    }

    async fn run_inner(&self, options: &RunOptions, stdin: Bytes) -> Result<Output> {
        let began = Instant::now();
        let launch = Launch::of_run(self, options, !stdin.is_empty())?;
        let stream = ExecStream::start(self, &launch, || {
            if stdin.is_empty() { InputStream::Closed } else { InputStream::Known(stdin.clone()) }
        })
        .await?;
        let limit = options.max_output_bytes.unwrap_or(MAX_OUTPUT);
        let collecting = self.collect(stream, limit);
        let (exit, stdout, stderr) = match launch.timeout().and_then(|limit| limit.checked_add(GRACE)) {
            Some(limit) => tokio::time::timeout(limit, collecting).await.map_err(|_| {
                Error::timeout("the agent did not end the command at its time limit; it was broken off")
                    .with("timeout_ms", limit.saturating_sub(GRACE).as_millis())
            })??,
            None => collecting.await?,
        };
        let result = ExecResult {
            exit_code: exit.exit_code,
            signal: exit.signal,
            timed_out: exit.timed_out,
            stdout_dropped: stdout.dropped,
            stderr_dropped: stderr.dropped,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Output { result, stdout: stdout.take(), stderr: stderr.take() })
    }

    async fn collect(&self, mut stream: ExecStream, limit: u64) -> Result<(ExitStatus, Kept, Kept)> {
        let (mut stdout, mut stderr) = (Kept::new(limit), Kept::new(limit));
        loop {
            match stream.next(self).await? {
                Frame::Stdout(bytes) => stdout.push(bytes),
                Frame::Stderr(bytes) => stderr.push(bytes),
                Frame::Exited(exit) => return Ok((exit, stdout, stderr)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_limit_is_counted() {
        let mut kept = Kept::new(5);
        kept.push(Bytes::from_static(b"abc"));
        kept.push(Bytes::from_static(b"def"));
        kept.push(Bytes::from_static(b"ghi"));
        assert_eq!(kept.dropped, 4);
        assert_eq!(kept.take(), Bytes::from_static(b"abcde"));
    }
}

use super::super::client::BridgeClient;
use super::input::InputStream;
use super::kept::{Collected, Kept};
use super::launch::Launch;
use super::stream::{ExecStream, Frame};
use crate::error::{Error, Result};
use crate::types::{ExecResult, ExitStatus, RunOptions};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// The most first bytes kept of each stream, unless told otherwise.
const MAX_OUTPUT: u64 = 16 << 20;
/// What an agent may take, past a command's own time limit, to end it and say so.
const GRACE: Duration = Duration::from_secs(10);

/// A command that has run, with what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub result: ExecResult,
    /// Its stdout: the first `max_output_bytes`, then the last `tail_bytes` of the rest.
    pub stdout: Bytes,
    /// Its stderr, in the same way.
    pub stderr: Bytes,
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
        let collecting = self.collect(stream, limit, options.tail_bytes);
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
            stdout_bytes: stdout.total,
            stderr_bytes: stderr.total,
            stdout_dropped: stdout.dropped,
            stderr_dropped: stderr.dropped,
            stdout_cut_at: stdout.cut_at,
            stderr_cut_at: stderr.cut_at,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Output { result, stdout: stdout.bytes, stderr: stderr.bytes })
    }

    async fn collect(
        &self,
        mut stream: ExecStream,
        head: u64,
        tail: u64,
    ) -> Result<(ExitStatus, Collected, Collected)> {
        let (mut stdout, mut stderr) = (Kept::new(head, tail), Kept::new(head, tail));
        loop {
            match stream.next(self).await? {
                Frame::Stdout(bytes) => stdout.push(bytes),
                Frame::Stderr(bytes) => stderr.push(bytes),
                Frame::Exited(exit) => return Ok((exit, stdout.finish(), stderr.finish())),
            }
        }
    }
}

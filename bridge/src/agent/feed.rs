//! Input of a child: bytes, sizes and signals from the client.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use futures::stream::{Stream, StreamExt};
use prost::bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::channel::Channel;
use super::pty::{self, Size};

/// How many pieces of input may wait for the child, so that a size or a signal behind them is not held up.
const AHEAD: usize = 4;

/// One frame from the client.
#[derive(Debug)]
pub(crate) enum Input {
    /// Bytes for standard input.
    Stdin(Bytes),
    /// The end of standard input.
    End,
    /// A new terminal size.
    Resize(Size),
    /// A signal for the process group.
    Signal(Signal),
    /// Nothing this agent knows.
    Ignored,
}

/// How the client's side came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was closed in order: no more input will come.
    Closed,
    /// The call was cancelled or the connection broke.
    Broken,
}

/// Carries input to the child until the client's side ends.
///
/// Input for a child that no longer reads is dropped; sizes and signals still count.
pub(crate) async fn run<S>(mut input: S, stdin: Option<Channel>, terminal: Option<Channel>, pid: Pid) -> End
where
    S: Stream<Item = Result<Input, tonic::Status>> + Unpin,
{
    let (queue, pieces) = mpsc::channel(AHEAD);
    let is_terminal = terminal.is_some();
    let mut writer = std::pin::pin!(write_all(pieces, stdin, is_terminal));
    let mut written = false;
    let mut queue = Some(queue);
    let end = {
        let mut reader = std::pin::pin!(async {
            while let Some(frame) = input.next().await {
                match frame {
                    Ok(Input::Stdin(bytes)) => {
                        if let Some(queue) = &queue {
                            // Fails once the child has closed its standard input.
                            let _ = queue.send(bytes).await;
                        }
                    }
                    Ok(Input::End) => queue = None,
                    Ok(Input::Resize(size)) => {
                        if let Some(terminal) = &terminal {
                            let _ = pty::resize(terminal, size);
                        }
                    }
                    Ok(Input::Signal(signal)) => {
                        let _ = kill_process_group(pid, signal);
                    }
                    Ok(Input::Ignored) => {}
                    Err(_) => return End::Broken,
                }
            }
            End::Closed
        });
        loop {
            tokio::select! {
                end = &mut reader => break end,
                () = &mut writer, if !written => written = true,
            }
        }
    };
    drop(queue);
    if end == End::Closed && !written {
        writer.await;
    }
    end
}

/// Writes every piece, then ends standard input: a pipe is closed, a terminal is typed its end-of-input character.
async fn write_all(mut pieces: mpsc::Receiver<Bytes>, stdin: Option<Channel>, terminal: bool) {
    let Some(stdin) = stdin else {
        // Closing the queue makes the reader drop what comes.
        return;
    };
    let mut half_line = false;
    while let Some(piece) = pieces.recv().await {
        half_line = piece.last().map_or(half_line, |last| *last != b'\n');
        if write(&stdin, &piece).await.is_err() {
            return;
        }
    }
    if terminal {
        let _ = write(&stdin, &pty::end_of_input(&*stdin, half_line)).await;
    }
}

async fn write(fd: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = fd
            .async_io(tokio::io::Interest::WRITABLE, |fd| Ok(rustix::io::write(fd.as_fd(), bytes)?))
            .await?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

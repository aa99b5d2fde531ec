use bytes::Bytes;
use dunnage_bridge::{bridgepb, v1};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio_stream::Stream;

/// Bytes of standard input in one message.
pub(super) const PIECE: usize = 64 << 10;
/// Pieces of standard input that wait for the agent.
const WAITING: usize = 4;

/// A piece of a command's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Stdin(Bytes),
    Eof,
    Resize(u32, u32),
    Signal(i32),
}

impl From<Piece> for v1::ExecRequest {
    fn from(piece: Piece) -> Self {
        use v1::exec_request::Frame;
        let frame = match piece {
            Piece::Stdin(bytes) => Frame::Stdin(bytes),
            Piece::Eof => Frame::StdinEof(v1::StdinEof {}),
            Piece::Resize(cols, rows) => Frame::Resize(v1::TerminalSize { cols, rows }),
            Piece::Signal(number) => Frame::Signal(v1::Signal { number }),
        };
        Self { frame: Some(frame) }
    }
}

/// None where the old service has no word for it: its end of input is the end of the stream.
impl From<Piece> for Option<bridgepb::ExecInput> {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Stdin(stdin_data) => Some(bridgepb::ExecInput { stdin_data, ..Default::default() }),
            Piece::Resize(cols, rows) => {
                let resize = Some(bridgepb::TerminalSize { cols, rows });
                Some(bridgepb::ExecInput { resize, ..Default::default() })
            }
            Piece::Eof | Piece::Signal(_) => None,
        }
    }
}

/// A command's input, as the call takes it. Sizes and signals overtake bytes that wait here.
pub(super) enum InputStream {
    /// None at all.
    Closed,
    /// Bytes that are known from the start, then their end.
    Known(Bytes),
    /// From the two ends of [`channel`]. The stream stays open after the end of stdin, for sizes and signals.
    Live { control: mpsc::UnboundedReceiver<Piece>, stdin: Option<mpsc::Receiver<Bytes>> },
}

/// The sending ends of a live input.
pub(super) struct InputSender {
    pub(super) control: mpsc::UnboundedSender<Piece>,
    pub(super) stdin: mpsc::Sender<Bytes>,
}

/// A live input.
pub(super) fn channel() -> (InputSender, InputStream) {
    let (control, control_pieces) = mpsc::unbounded_channel();
    let (stdin, stdin_pieces) = mpsc::channel(WAITING);
    let stream = InputStream::Live { control: control_pieces, stdin: Some(stdin_pieces) };
    (InputSender { control, stdin }, stream)
}

impl Stream for InputStream {
    type Item = Piece;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        let this = self.get_mut();
        match this {
            Self::Closed => Poll::Ready(None),
            Self::Known(bytes) if bytes.is_empty() => {
                *this = Self::Closed;
                Poll::Ready(Some(Piece::Eof))
            }
            Self::Known(bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                Poll::Ready(Some(Piece::Stdin(piece)))
            }
            Self::Live { control, stdin } => {
                match control.poll_recv(cx) {
                    Poll::Ready(Some(piece)) => return Poll::Ready(Some(piece)),
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => {}
                }
                match stdin.as_mut().map(|pieces| pieces.poll_recv(cx)) {
                    Some(Poll::Ready(Some(bytes))) => Poll::Ready(Some(Piece::Stdin(bytes))),
                    // Both ends were dropped since: the caller went away, and said nothing of the input's end.
                    Some(Poll::Ready(None)) if control.is_closed() => Poll::Ready(None),
                    Some(Poll::Ready(None)) => {
                        *stdin = None;
                        Poll::Ready(Some(Piece::Eof))
                    }
                    Some(Poll::Pending) | None => Poll::Pending,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;

    #[tokio::test]
    async fn signals_overtake_bytes_and_outlive_them() {
        let (sender, mut stream) = channel();
        sender.stdin.send(Bytes::from_static(b"a")).await.unwrap();
        sender.control.send(Piece::Signal(2)).unwrap();
        assert_eq!(stream.next().await, Some(Piece::Signal(2)));
        assert_eq!(stream.next().await, Some(Piece::Stdin(Bytes::from_static(b"a"))));
        drop(sender.stdin);
        assert_eq!(stream.next().await, Some(Piece::Eof));
        sender.control.send(Piece::Resize(1, 2)).unwrap();
        assert_eq!(stream.next().await, Some(Piece::Resize(1, 2)));
        drop(sender.control);
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test]
    async fn known_input_comes_in_pieces_and_ends() {
        let pieces: Vec<_> = InputStream::Known(Bytes::from(vec![1; PIECE + 1])).collect().await;
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces.get(1), Some(&Piece::Stdin(Bytes::from_static(&[1]))));
        assert_eq!(pieces.get(2), Some(&Piece::Eof));
    }
}

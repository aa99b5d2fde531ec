use crate::backend::LayerCounter;
use bytes::{Buf, Bytes, BytesMut};
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What is fed to a layer's threads.
#[derive(Debug)]
pub(in super::super) enum Piece {
    Data(Bytes),
    /// All bytes have come and have the right digest. A feed that closes without it is a transfer that failed.
    End,
}

/// The compressed bytes of a layer as they arrive. Counts what is used up.
pub(super) struct Arriving {
    feed: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
    used: u64,
    counter: Option<Arc<LayerCounter>>,
}

impl Arriving {
    pub(super) fn new(feed: mpsc::Receiver<Piece>, counter: Option<Arc<LayerCounter>>) -> Self {
        Self { feed, current: Bytes::new(), ended: false, used: 0, counter }
    }

    /// The first bytes, at least four unless the layer is shorter.
    pub(super) fn peek(&mut self) -> io::Result<[u8; 4]> {
        while self.current.len() < 4 && !self.ended {
            match self.receive()? {
                None => break,
                Some(more) if self.current.is_empty() => self.current = more,
                Some(more) => {
                    let mut joined = BytesMut::with_capacity(self.current.len() + more.len());
                    joined.extend_from_slice(&self.current);
                    joined.extend_from_slice(&more);
                    self.current = joined.freeze();
                }
            }
        }
        let mut first = [0; 4];
        let length = self.current.len().min(4);
        first[..length].copy_from_slice(&self.current[..length]);
        Ok(first)
    }

    fn receive(&mut self) -> io::Result<Option<Bytes>> {
        match self.feed.blocking_recv() {
            Some(Piece::Data(bytes)) => Ok(Some(bytes)),
            Some(Piece::End) => {
                self.ended = true;
                Ok(None)
            }
            None => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the transfer ended early")),
        }
    }
}

impl BufRead for Arriving {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            if let Some(bytes) = self.receive()? {
                self.current = bytes;
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
        self.used += amount as u64;
        if let Some(counter) = &self.counter {
            counter.unpacked(self.used);
        }
    }
}

impl Read for Arriving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(into.len());
        into[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
pub(super) fn arriving(pieces: &[&[u8]]) -> Arriving {
    let (sender, receiver) = mpsc::channel(pieces.len() + 1);
    for piece in pieces {
        sender.try_send(Piece::Data(Bytes::copy_from_slice(piece))).unwrap();
    }
    sender.try_send(Piece::End).unwrap();
    Arriving::new(receiver, None)
}

use crate::compress::BLOCK;
use std::sync::mpsc::{Receiver, SyncSender};

/// A block of the archive on its way to be compressed. Its buffer comes back to be filled again.
pub(crate) struct Block {
    pub(crate) index: u64,
    pub(crate) buffer: Vec<u8>,
}

/// The archive as it is written, cut into blocks.
pub(crate) struct Blocks {
    buffer: Vec<u8>,
    filled: usize,
    index: u64,
    to: SyncSender<Block>,
    spare: Receiver<Vec<u8>>,
}

/// Nobody takes blocks any more.
#[derive(Debug)]
pub(crate) struct Abandoned;

impl Blocks {
    pub(crate) fn new(to: SyncSender<Block>, spare: Receiver<Vec<u8>>) -> Self {
        Self { buffer: vec![0; BLOCK], filled: 0, index: 0, to, spare }
    }

    /// Room for what comes next: at least one byte. What is written there counts once [`Blocks::advance`] is called.
    pub(crate) fn room(&mut self) -> Result<&mut [u8], Abandoned> {
        if self.filled == BLOCK {
            self.send()?;
            self.buffer = self.spare.recv().map_err(|_| Abandoned)?;
            self.buffer.resize(BLOCK, 0);
        }
        Ok(&mut self.buffer[self.filled..])
    }

    pub(crate) fn advance(&mut self, length: usize) {
        self.filled += length;
    }

    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> Result<(), Abandoned> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let length = room.len().min(bytes.len());
            room[..length].copy_from_slice(&bytes[..length]);
            self.advance(length);
            bytes = &bytes[length..];
        }
        Ok(())
    }

    pub(crate) fn zeros(&mut self, mut amount: u64) -> Result<(), Abandoned> {
        while amount > 0 {
            let room = self.room()?;
            let length = usize::try_from(amount).map_or(room.len(), |amount| room.len().min(amount));
            room[..length].fill(0);
            self.advance(length);
            amount -= length as u64;
        }
        Ok(())
    }

    /// Sends what is left.
    pub(crate) fn finish(mut self) -> Result<(), Abandoned> {
        if self.filled > 0 { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), Abandoned> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.truncate(self.filled);
        let block = Block { index: self.index, buffer };
        self.index += 1;
        self.filled = 0;
        self.to.send(block).map_err(|_| Abandoned)
    }
}

//! Packets in, ciphertext chunks out, without an allocation per packet.

use crate::time::Timestamp;

use super::aead::{CHUNK, PLAINTEXT, Place, Seed, SegmentCipher, SegmentFull, TAG};
use super::chunk::{Chunk, ChunkBuffer};
use super::name::AssociatedData;
use super::rtpdump::{self, Preamble, RECORD_HEADER};

/// One segment in the making. Everything that was pushed and is not yet in a chunk is in one
/// buffer, which is zeroised when the encoder is dropped.
///
/// A chunk is closed only when another byte has to follow it, so that the last one is never empty.
pub(in crate::segment) struct SegmentEncoder {
    cipher: SegmentCipher,
    buffer: ChunkBuffer,
    /// Where the chunk's text begins in the buffer: after the header in the first chunk.
    text: usize,
    number: u32,
    start: Timestamp,
    /// Packets that end in the chunk in the making.
    ending_here: u32,
    /// When the last of the packets in finished chunks arrived.
    closed: Option<Timestamp>,
    last: Timestamp,
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::segment) enum NotPushed {
    /// It is longer than [`SegmentEncoder::LONGEST`], or empty.
    Oversized,
    /// The segment has no room for another chunk.
    Full,
}

impl From<SegmentFull> for NotPushed {
    fn from(_: SegmentFull) -> Self {
        NotPushed::Full
    }
}

impl SegmentEncoder {
    /// The longest packet that is taken, in bytes: one that closes at most one chunk. No audio
    /// packet within an Ethernet frame is longer than 1500.
    pub(in crate::segment) const LONGEST: usize = PLAINTEXT - RECORD_HEADER;

    /// Begins a segment in an empty buffer.
    pub(in crate::segment) fn new(
        data_key: &[u8; 32],
        seed: &Seed,
        associated: &AssociatedData,
        preamble: &Preamble,
        mut buffer: ChunkBuffer,
    ) -> Self {
        buffer.clear();
        buffer.extend(&seed.header());
        let text = buffer.bytes().len();
        // The longest preamble is a fraction of a chunk.
        buffer.extend(&preamble.encode());
        Self {
            cipher: SegmentCipher::new(data_key, seed, associated),
            buffer,
            text,
            number: 0,
            start: preamble.start,
            ending_here: 0,
            closed: None,
            last: preamble.start,
        }
    }

    /// Adds a packet. `spare` is called for an empty buffer when this closes a chunk, which is
    /// then returned; never for more than one.
    pub(in crate::segment) fn push(
        &mut self,
        packet: &[u8],
        arrival: Timestamp,
        spare: impl FnOnce() -> ChunkBuffer,
    ) -> Result<Option<Chunk>, NotPushed> {
        if packet.is_empty() || packet.len() > Self::LONGEST {
            return Err(NotPushed::Oversized);
        }
        let offset = arrival.since(self.start);
        let header = rtpdump::record_header(packet.len(), offset).ok_or(NotPushed::Oversized)?;

        let room = CHUNK - TAG - self.buffer.bytes().len();
        if header.len() + packet.len() <= room {
            self.buffer.extend(&header);
            self.buffer.extend(packet);
            self.ending_here += 1;
            self.last = arrival;
            return Ok(None);
        }
        if self.number == u32::MAX {
            return Err(NotPushed::Full);
        }
        let (header_now, header_later) = header.split_at(room.min(header.len()));
        let (now, later) = packet.split_at(room - header_now.len());
        self.buffer.extend(header_now);
        self.buffer.extend(now);
        self.close(Place::Inner)?;
        self.closed = Some(self.last);
        let mut fresh = spare();
        fresh.clear();
        let full = std::mem::replace(&mut self.buffer, fresh);
        let chunk = Chunk::new(full, std::mem::take(&mut self.ending_here));
        self.text = 0;
        self.number += 1;
        // What is left is no longer than PLAINTEXT, by LONGEST.
        self.buffer.extend(header_later);
        self.buffer.extend(later);
        self.ending_here = 1;
        self.last = arrival;
        Ok(Some(chunk))
    }

    /// Overwrites what the last packet carries, so far as it is not in a finished chunk: `length`
    /// bytes, which end `behind` bytes before the packet does.
    pub(in crate::segment) fn silence_last(&mut self, length: usize, behind: usize, silence: u8) {
        // A packet that began in the chunk before has less of itself here than its length says.
        let end = self.buffer.bytes().len().saturating_sub(behind).max(self.text);
        let start = end.saturating_sub(length).max(self.text);
        if self.ending_here > 0 {
            self.buffer.bytes_mut().get_mut(start..end).unwrap_or_default().fill(silence);
        }
    }

    /// Closes the segment.
    pub(in crate::segment) fn finish(mut self) -> Result<Chunk, SegmentFull> {
        self.close(Place::Last)?;
        let buffer = std::mem::replace(&mut self.buffer, ChunkBuffer::none());
        Ok(Chunk::new(buffer, self.ending_here))
    }

    /// When the last packet arrived that was pushed; the start before the first.
    pub(in crate::segment) fn last_arrival(&self) -> Timestamp {
        self.last
    }

    /// When the last packet arrived that ended in a finished chunk or the one before it; `None`
    /// before the first chunk.
    pub(in crate::segment) fn closed_until(&self) -> Option<Timestamp> {
        self.closed
    }

    fn close(&mut self, place: Place) -> Result<(), SegmentFull> {
        let text = self.buffer.bytes_mut().get_mut(self.text..).unwrap_or_default();
        let tag = self.cipher.seal(self.number, place, text)?;
        self.buffer.extend(&tag);
        Ok(())
    }
}

impl Drop for SegmentEncoder {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

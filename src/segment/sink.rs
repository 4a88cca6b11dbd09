//! Where a segment writer's chunks go.

use crate::ids::{Digest, PartyRef};
use crate::segment::format::{Chunk, ChunkBuffer, Codecs, Gap, KeyId, SegmentName};
use crate::time::Timestamp;

/// Takes the chunks of one media stream. No call ever waits.
pub trait SegmentSink {
    /// Takes a chunk. The first chunk of a segment is the first mention of it.
    ///
    /// # Errors
    ///
    /// [`NotTaken::Full`] gives the chunk back, to be offered again; [`NotTaken::Closed`] is for
    /// good.
    fn chunk(&mut self, head: &SegmentHead, chunk: Chunk) -> Result<(), NotTaken>;

    /// Takes the end of a segment, always: its chunks, at most two, count for no limit.
    fn end(&mut self, head: &SegmentHead, tail: SegmentTail);

    /// Counts packets that arrived and are not written.
    fn dropped(&mut self, packets: u64);

    /// An empty buffer, a used one where there is one.
    fn buffer(&mut self) -> ChunkBuffer {
        ChunkBuffer::new()
    }
}

/// What is known of a segment when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// Its name.
    pub name: SegmentName,
    /// Whose voice it is.
    pub party_ref: Option<PartyRef>,
    /// The codecs by payload type.
    pub codecs: Codecs,
    /// When the first packet arrived.
    pub start: Timestamp,
    /// The digest of the evidence record that permits it.
    pub evidence: Digest,
    /// Which data key encrypts it.
    pub key_id: KeyId,
}

/// What is known of a segment when it ends.
pub struct SegmentTail {
    /// A chunk that was not taken before.
    pub kept: Option<Chunk>,
    /// The last chunk; `None` leaves the segment truncated.
    pub last: Option<Chunk>,
    /// When it ended.
    pub end: Timestamp,
    /// How many packets are whole in its chunks.
    pub packets: u64,
    /// How many of them hold silence in place of a key's tone.
    pub masked: u64,
    /// What is not in it.
    pub gaps: Vec<Gap>,
}

/// Why a chunk was not taken.
pub enum NotTaken {
    /// There is no room now. Here it is again.
    Full(Chunk),
    /// The sink has failed or is closed, and takes nothing any more.
    Closed,
}

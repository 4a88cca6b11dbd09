//! The gate: a packet is written under a live grant, or not at all.

use crate::consent::{Grant, Standing, Stop};
use crate::keys::DataKey;
use crate::rtp::RtpPacket;
use crate::segment::format::{Codecs, GapReason};
use crate::segment::mask::Keys;
use crate::segment::sink::SegmentSink;
use crate::segment::stream::{Appended, Finished, StreamStart, StreamWriter};
use crate::time::Timestamp;

/// Writes one media stream for as long as its grant lives.
///
/// There is no other way to write one, and no way to make one without a [`Grant`]. A writer that
/// is dropped without [`finish`](Self::finish) leaves its segment truncated: whole chunks read,
/// the chunk in the making is zeroised and gone.
pub struct SegmentWriter<S: SegmentSink> {
    grant: Grant,
    keys: Keys,
    stream: StreamWriter<S>,
}

impl<S: SegmentSink> SegmentWriter<S> {
    /// Opens the stream that the grant is for. Nothing is written before the first packet.
    #[must_use]
    pub fn open(grant: Grant, key: DataKey, start: StreamStart, sink: S) -> Self {
        let stream = StreamWriter::new(grant.stream(), grant.evidence(), key, start, sink);
        Self { grant, keys: Keys::default(), stream }
    }

    /// Writes the tones of keys as they are received. Otherwise packets of G.711 that hold one are
    /// written with silence in its place.
    #[must_use]
    pub fn keep_keys(self) -> Self {
        Self { keys: Keys::Kept, ..self }
    }

    /// Writes a packet, if the grant is alive at this moment. While it is paused, packets make a
    /// gap that ends with the first one after.
    pub fn append(&mut self, packet: &RtpPacket<'_>, arrival: Timestamp) -> Appended {
        match self.grant.standing() {
            Standing::Live => self.keys.append(&mut self.stream, packet, arrival),
            Standing::Paused => {
                self.keys.forget();
                self.stream.pass_over(arrival)
            }
            Standing::Ended => Appended::Refused,
        }
    }

    /// Stops writing with this moment until the stop is noted by the grant's lease, if it is not
    /// already: see [`Grant::suspend`].
    pub fn suspend(&mut self, stop: Stop, at: Timestamp) {
        self.grant.suspend(stop);
        if self.grant.standing() == Standing::Paused {
            self.stream.begin_pause(at);
        }
    }

    /// Notes time without packets: a pause, a hold. It goes into the manifest of the segment that
    /// is open, or of the next one.
    pub fn mark_gap(&mut self, reason: GapReason, from: Timestamp, to: Timestamp) {
        self.stream.mark_gap(reason, from, to);
    }

    /// The leg was negotiated anew. If that changed the payload types, the next packet begins a
    /// new segment.
    pub fn renegotiated(&mut self, codecs: Codecs, source: std::net::SocketAddr) {
        self.stream.renegotiated(codecs, source);
    }

    /// Seals the stream's last segment. What was written under the grant is sealed also when the
    /// grant has died since.
    pub fn finish(self, at: Timestamp) -> Finished {
        self.stream.finish(at)
    }
}

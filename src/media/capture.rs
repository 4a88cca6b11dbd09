//! Where a leg's audio goes while its party may be recorded.

use crate::consent::Stop;
use crate::rtp::{LegMedia, RtpPacket};
use crate::segment::format::{Codecs, GapReason};
use crate::segment::{Appended, Finished, SegmentSink, SegmentWriter};
use crate::time::Timestamp;

/// A [`SegmentWriter`], whatever its sink. Private: outside the tests of this folder nothing else
/// takes packets, so that there is no recording without a grant.
pub(super) trait Capture: Send {
    fn append(&mut self, packet: &RtpPacket<'_>, at: Timestamp) -> Appended;
    /// Nothing is written from now on, unless this stop has been noted already, until the
    /// permission's lease says otherwise.
    fn suspend(&mut self, stop: Stop, at: Timestamp);
    fn renegotiated(&mut self, media: &LegMedia);
    fn held(&mut self, from: Timestamp, to: Timestamp);
    fn finish(self: Box<Self>, at: Timestamp) -> Finished;
}

/// Why a leg is no longer recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureEnd {
    /// It was ordered, or the call is over.
    Ordered,
    /// The permission is gone.
    Refused,
    /// Storage has failed.
    Failed,
}

impl<S: SegmentSink + Send> Capture for SegmentWriter<S> {
    fn append(&mut self, packet: &RtpPacket<'_>, at: Timestamp) -> Appended {
        SegmentWriter::append(self, packet, at)
    }

    fn suspend(&mut self, stop: Stop, at: Timestamp) {
        SegmentWriter::suspend(self, stop, at);
    }

    fn renegotiated(&mut self, media: &LegMedia) {
        SegmentWriter::renegotiated(self, Codecs::of(media), media.remote_rtp);
    }

    fn held(&mut self, from: Timestamp, to: Timestamp) {
        self.mark_gap(GapReason::Held, from, to);
    }

    fn finish(self: Box<Self>, at: Timestamp) -> Finished {
        SegmentWriter::finish(*self, at)
    }
}

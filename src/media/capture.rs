//! Where a leg's audio goes while its party may be recorded.

use crate::rtp::RtpPacket;
use crate::time::Timestamp;

/// Takes the packets of one media stream, as received. Called from a media thread: neither may
/// wait for a disk.
pub trait Capture: Send {
    /// Takes one packet that arrived at `at`. The packet has been sent on already.
    fn append(&mut self, packet: &RtpPacket<'_>, at: Timestamp) -> Appended;

    /// Seals what there is. The last call.
    fn finish(self: Box<Self>, at: Timestamp);
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the recording.
    Written,
    /// It is not, because the queue was full; the recording has a marked gap.
    Gap,
    /// It is not, and no later one will be: the permission is gone or the writer has failed. The
    /// caller finishes the capture.
    Ended,
}

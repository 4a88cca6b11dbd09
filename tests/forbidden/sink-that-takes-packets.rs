//! Would break "encrypted, or not at all": a sink is given encrypted chunks, never packets.

use assent::rtp::RtpPacket;
use assent::segment::format::Chunk;
use assent::segment::{NotTaken, SegmentHead, SegmentSink, SegmentTail};

struct Tap;

impl SegmentSink for Tap {
    fn chunk(&mut self, _: &SegmentHead, chunk: Chunk) -> Result<(), NotTaken> {
        drop(chunk);
        Ok(())
    }

    fn end(&mut self, _: &SegmentHead, _: SegmentTail) {}

    fn dropped(&mut self, _: u64) {}

    fn packet(&mut self, _: &RtpPacket<'_>) {}
}

fn main() {}

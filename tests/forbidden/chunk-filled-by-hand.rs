//! Would break "encrypted, or not at all": a voice in the buffer of a chunk.

use assent::rtp::RtpPacket;
use assent::segment::format::ChunkBuffer;

fn keep(buffer: &mut ChunkBuffer, packet: &RtpPacket<'_>) {
    buffer.extend(packet.bytes());
}

fn main() {
    let _ = keep;
}

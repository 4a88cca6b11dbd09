//! Would break "nothing is kept beyond the packet in hand": the packet before this one, still
//! there when its buffer is filled again.

use assent::rtp::RtpPacket;

fn receive(fill: impl Fn(&mut [u8])) {
    let mut buffer = [0; 1500];
    let mut earlier = None;
    loop {
        fill(&mut buffer);
        drop(earlier.take());
        earlier = RtpPacket::parse(&buffer).ok();
    }
}

fn main() {}

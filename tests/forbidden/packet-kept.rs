//! Would break "there is no pre-roll buffer": a packet that outlives the buffer it arrived in.

use assent::rtp::RtpPacket;

fn receive(earlier: &mut Vec<RtpPacket<'static>>) {
    let mut buffer = [0; 1500];
    loop {
        buffer[0] = 0x80;
        let Ok(packet) = RtpPacket::parse(&buffer) else { continue };
        earlier.push(packet);
    }
}

fn main() {
    let _ = receive;
}

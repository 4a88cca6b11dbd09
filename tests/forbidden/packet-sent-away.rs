//! Would break "nothing is queued for writing": a packet on its way to another thread.

use std::sync::mpsc::Sender;

use assent::rtp::RtpPacket;

fn queue(packet: RtpPacket<'_>, later: &Sender<RtpPacket<'static>>) {
    let _ = later.send(packet);
}

fn main() {
    let _ = queue;
}

//! What comes beside the signalling: descriptions, RTP, RTCP.

use std::time::Duration;

use crate::clock;
use crate::rtp::timeline::{Stamp, Timeline};
use crate::rtp::{Codec, Content, Direction, KeyDetector, Outgoing, Reception, RtpPacket, rtcp};
use crate::sdp::{
    Accepted, Keying, LocalDescription, LocalOffer, Offer, SrtpUse, answer, reanswer,
    record_preference,
};
use crate::time::Timestamp;

const USES: [SrtpUse; 3] = [SrtpUse::Off, SrtpUse::Offer, SrtpUse::Require];

fn local(srtp: SrtpUse) -> LocalDescription {
    LocalDescription {
        rtp: ([192, 0, 2, 9], 20_000).into(),
        rtcp_port: 20_001,
        session: 7,
        version: 1,
        codecs: vec![Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus],
        direction: Direction::SendRecv,
        record: None,
        keying: Keying::new(srtp, [7; Keying::SECRET].into()).with_certificate([9; 32]),
    }
}

/// An offer: read and answered. The answer is a description, with a line for each line, and stays
/// the same when the same is offered again.
pub fn sdp_offer(bytes: &[u8]) {
    let _ = record_preference(bytes);
    USES.into_iter().for_each(|srtp| offer_under(srtp, bytes));
}

fn offer_under(srtp: SrtpUse, bytes: &[u8]) {
    let Ok(offer) = Offer::parse(bytes, srtp) else { return };
    let _ = (offer.codecs().count(), offer.has_telephone_event(), offer.direction());
    let mut local = local(srtp);
    let Ok(answered) = answer(&offer, &local) else { return };
    assert!(answered.media.security.is_srtp() || srtp != SrtpUse::Require);
    let ours = Offer::parse(answered.sdp.as_bytes(), srtp);
    let ours = ours.unwrap_or_else(|why| panic!("no answer ({why}): {:?}", answered.sdp));
    assert_eq!(ours.codecs().next(), Some(answered.media.codec), "{:?}", answered.sdp);
    assert!(answered.sdp.split("\r\n").all(|line| !line.contains(['\r', '\n'])));
    local.keying = answered.keying;
    let again = reanswer(&offer, &mut local, &answered.sdp);
    assert_eq!(again.map(|again| again.sdp).ok(), Some(answered.sdp));
    assert_eq!(local.version, 1);
}

/// An answer to an offer of ours.
pub fn sdp_answer(bytes: &[u8]) {
    for srtp in USES {
        let offer = LocalOffer::new(local(srtp), true);
        assert!(Offer::parse(offer.to_sdp().as_bytes(), srtp).is_ok());
        if let Ok(Accepted { media, .. }) = offer.accept(bytes) {
            assert!(offer.local().codecs.contains(&media.codec));
            assert_ne!(media.remote_rtp.port(), 0);
            assert!(media.security.is_srtp() || srtp != SrtpUse::Require);
        }
    }
}

/// Packets, each behind a byte that is its length.
fn packets(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first()?;
        let (packet, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        bytes = rest;
        Some(packet)
    })
}

/// A stream of RTP: counted, put in order, and sent on under numbers of our own.
pub fn rtp(bytes: &[u8]) {
    let begin = clock::now();
    let start = Timestamp::from_micros(1_770_000_000_000_000);
    let mut reception: Option<Reception> = None;
    let mut outgoing = Outgoing::new(1, 0xfffe, 0xffff_ff00, 8000);
    let mut timeline = Timeline::new(start);
    let (mut sent, mut last) = (0u64, None);
    for (n, bytes) in packets(bytes).enumerate() {
        let Ok(packet) = RtpPacket::parse(bytes) else { continue };
        assert_eq!(packet.bytes(), bytes);
        assert_eq!(&bytes[packet.payload_range()], packet.payload());
        let millis = 20 * u64::try_from(n).expect("few");
        let arrived = Duration::from_millis(millis);
        let heard =
            reception.get_or_insert_with(|| Reception::new(packet.ssrc(), packet.sequence(), 8000));
        heard.receive(packet.sequence());
        heard.time(packet.timestamp(), arrived);
        let _ = (heard.report(), heard.lost(), heard.jitter());
        let content = if packet.payload_type() == 101 { Content::Event } else { Content::Audio };
        sent += u64::from(outgoing.relay(&packet, 0, content, begin + arrived).is_some());
        timeline.push(
            Stamp {
                arrival: start.plus(arrived),
                ssrc: packet.ssrc(),
                sequence: packet.sequence(),
                timestamp: packet.timestamp(),
                clock_rate: 8000,
                marker: packet.marker(),
            },
            n,
        );
        while let Some(placed) = timeline.pop() {
            last = last.max(Some(placed.item));
        }
    }
    while timeline.drain().is_some() {}
    assert!(sent <= bytes.len() as u64 && last <= Some(bytes.len()));
}

/// A stream of telephone-events. A key is one of the sixteen, and none counts more often than
/// there are packets.
pub fn telephone_event(bytes: &[u8]) {
    let mut detector = KeyDetector::new(8000);
    let (mut all, mut pressed) = (0, 0);
    for bytes in packets(bytes) {
        let Ok(packet) = RtpPacket::parse(bytes) else { continue };
        all += 1;
        pressed += usize::from(detector.observe(&packet).is_some());
    }
    assert!(pressed <= all);
}

/// A compound packet.
pub fn rtcp(bytes: &[u8]) {
    let Ok(parsed) = rtcp::parse(bytes) else { return };
    for packet in parsed.packets() {
        if let rtcp::Rtcp::SenderReport { ssrc, reports, .. }
        | rtcp::Rtcp::ReceiverReport { ssrc, reports } = packet
            && let Some(report) = reports.about(ssrc)
        {
            assert_eq!(report.ssrc, ssrc);
            assert!(report.cumulative_lost <= 0xff_ffff);
        }
    }
}

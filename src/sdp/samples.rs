//! Descriptions as real peers send them, and what each must come to.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::rtp::{Codec, Direction, LegMedia, PayloadType, Security, TelephoneEvent};

const ASTERISK: &str = "v=0\r
o=- 1821357541 1821357541 IN IP4 192.0.2.10\r
s=Asterisk\r
c=IN IP4 192.0.2.10\r
t=0 0\r
m=audio 14288 RTP/AVP 0 8 9 101\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:9 G722/8000\r
a=rtpmap:101 telephone-event/8000\r
a=fmtp:101 0-16\r
a=ptime:20\r
a=maxptime:140\r
a=sendrecv\r\n";

const FREESWITCH: &str = "v=0\r
o=FreeSWITCH 1699999999 1700000000 IN IP4 192.0.2.20\r
s=FreeSWITCH\r
c=IN IP4 192.0.2.20\r
t=0 0\r
m=audio 30126 RTP/AVP 102 9 0 8 103 101\r
a=rtpmap:102 opus/48000/2\r
a=fmtp:102 useinbandfec=1; maxaveragebitrate=30000; maxplaybackrate=48000; ptime=20\r
a=rtpmap:9 G722/8000\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:103 telephone-event/48000\r
a=fmtp:103 0-15\r
a=rtpmap:101 telephone-event/8000\r
a=fmtp:101 0-15\r
a=ptime:20\r\n";

const CISCO: &str = "v=0\r
o=CiscoSystemsCCM-SIP 47238 1 IN IP4 192.0.2.30\r
s=SIP Call\r
c=IN IP4 192.0.2.31\r
b=TIAS:64000\r
b=AS:64\r
t=0 0\r
m=audio 24594 RTP/AVP 18 8 101\r
a=rtpmap:18 G729/8000\r
a=fmtp:18 annexb=no\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:101 telephone-event/8000\r
a=fmtp:101 0-15\r
a=trafficclass:conversational.audio.aq:admitted\r\n";

const POLYCOM: &str = "v=0\r
o=- 1700000000 1700000000 IN IP4 192.0.2.40\r
s=Polycom IP Phone\r
c=IN IP4 192.0.2.40\r
t=0 0\r
a=sendrecv\r
m=audio 2222 RTP/AVP 9 115 0 8 18 127\r
a=rtpmap:9 G722/8000\r
a=rtpmap:115 G7221/32000\r
a=fmtp:115 bitrate=48000\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:18 G729/8000\r
a=fmtp:18 annexb=no\r
a=rtpmap:127 telephone-event/8000\r\n";

const LINPHONE: &str = "v=0\r
o=alice 3523 2374 IN IP6 2001:db8::5\r
s=Talk\r
c=IN IP6 2001:db8::5\r
t=0 0\r
a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics\r
m=audio 7078 RTP/AVPF 96 97 98 0 8 101 99\r
a=rtpmap:96 opus/48000/2\r
a=fmtp:96 useinbandfec=1\r
a=rtpmap:97 speex/16000\r
a=fmtp:97 vbr=on\r
a=rtpmap:98 speex/8000\r
a=rtpmap:101 telephone-event/48000\r
a=rtpmap:99 telephone-event/8000\r
a=rtcp-fb:* trr-int 1000\r
m=video 9078 RTP/AVPF 96\r
a=rtpmap:96 VP8/90000\r\n";

const BARESIP: &str = "v=0\r
o=- 3911238907 1234 IN IP4 127.0.0.1\r
s=-\r
c=IN IP4 127.0.0.1\r
t=0 0\r
a=tool:baresip 1.0.0\r
m=audio 26490 RTP/AVP 0 8 101\r
b=AS:128\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:101 telephone-event/8000\r
a=fmtp:101 0-15\r
a=rtcp:26491\r
a=sendrecv\r
a=label:1\r
a=rtcp-rsize\r
a=ssrc:3405692655 cname:sip:a@example.com\r
a=ptime:20\r\n";

const SIPP: &str = "v=0\r
o=user1 53655765 2353687637 IN IP4 127.0.0.1\r
s=-\r
c=IN IP4 127.0.0.1\r
t=0 0\r
m=audio 6000 RTP/AVP 0\r
a=rtpmap:0 PCMU/8000\r\n";

const WEBRTC_GATEWAY: &str = "v=0\r
o=- 4611731400430051336 2 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
a=group:BUNDLE 0 1\r
a=msid-semantic: WMS *\r
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r
c=IN IP4 0.0.0.0\r
a=rtcp:9 IN IP4 0.0.0.0\r
a=ice-ufrag:Zx9J\r
a=ice-pwd:x\r
a=fingerprint:sha-256 00:11\r
a=setup:actpass\r
a=mid:0\r
a=rtcp-mux\r
a=rtpmap:111 opus/48000/2\r
a=rtpmap:110 telephone-event/48000\r
m=video 9 UDP/TLS/RTP/SAVPF 96 97\r
c=IN IP4 0.0.0.0\r
a=mid:1\r
m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r
c=IN IP4 0.0.0.0\r
m=audio 5004 RTP/AVP 8 13 101\r
c=IN IP4 198.51.100.9\r
a=rtpmap:101 telephone-event/8000\r
a=rtcp:5010 IN IP4 198.51.100.10\r\n";

fn at(local: &str) -> LocalDescription {
    LocalDescription {
        rtp: local.parse().unwrap(),
        rtcp_port: local.rsplit(':').next().unwrap().parse::<u16>().unwrap() + 1,
        session: 77,
        version: 1,
        codecs: Codec::ALL.to_vec(),
        direction: Direction::SendRecv,
        record: None,
        keying: Keying::off(),
    }
}

fn answered(offer: &str) -> Answer {
    let offer = Offer::parse(offer.as_bytes(), SrtpUse::Offer).unwrap();
    let local =
        if offer.remote_rtp().ip().is_loopback() { "127.0.0.1:20000" } else { "192.0.2.1:20000" };
    answer(&offer, &at(local)).unwrap()
}

fn media_lines(sdp: &str) -> Vec<&str> {
    sdp.lines().filter(|line| line.starts_with("m=")).collect()
}

#[test]
fn offers_of_real_peers_are_answered_with_their_first_codec_that_we_have() {
    for (name, offer, codec, number, event, rtp, rtcp) in [
        ("Asterisk", ASTERISK, Codec::Pcmu, 0, Some((101, 8000)), "192.0.2.10:14288", 14289),
        ("FreeSWITCH", FREESWITCH, Codec::Opus, 102, Some((103, 48000)), "192.0.2.20:30126", 30127),
        ("Cisco", CISCO, Codec::Pcma, 8, Some((101, 8000)), "192.0.2.31:24594", 24595),
        ("Polycom", POLYCOM, Codec::G722, 9, Some((127, 8000)), "192.0.2.40:2222", 2223),
        ("Linphone", LINPHONE, Codec::Opus, 96, Some((101, 48000)), "[2001:db8::5]:7078", 7079),
        ("baresip", BARESIP, Codec::Pcmu, 0, Some((101, 8000)), "127.0.0.1:26490", 26491),
        ("SIPp", SIPP, Codec::Pcmu, 0, None, "127.0.0.1:6000", 6001),
        ("WebRTC", WEBRTC_GATEWAY, Codec::Pcma, 8, Some((101, 8000)), "198.51.100.9:5004", 5010),
    ] {
        let media = answered(offer).media;
        assert_eq!(media.codec, codec, "{name}");
        assert_eq!(media.payload_type, PayloadType { send: number, receive: number }, "{name}");
        let got = media.telephone_event.map(|e| (e.payload_type.send, e.clock_rate));
        assert_eq!(got, event, "{name}");
        assert_eq!(media.remote_rtp, rtp.parse::<SocketAddr>().unwrap(), "{name}");
        assert_eq!(media.remote_rtcp.port(), rtcp, "{name}");
        assert_eq!(media.direction, Direction::SendRecv, "{name}");
        assert_eq!(media.ptime, 20, "{name}");
    }
}

#[test]
fn an_answer_says_one_codec_its_telephone_event_and_nothing_else() {
    assert_eq!(
        answered(ASTERISK).sdp,
        "v=0\r\no=assent 77 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 20000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    );
}

#[test]
fn other_lines_are_refused_in_their_place() {
    let gateway = answered(WEBRTC_GATEWAY);
    assert_eq!(
        media_lines(&gateway.sdp),
        [
            "m=audio 0 UDP/TLS/RTP/SAVPF 111",
            "m=video 0 UDP/TLS/RTP/SAVPF 96",
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
            "m=audio 20000 RTP/AVP 8 101",
        ]
    );
    assert_eq!(gateway.media.remote_rtcp.to_string(), "198.51.100.10:5010");
    let linphone = answered(LINPHONE);
    assert_eq!(
        media_lines(&linphone.sdp),
        ["m=audio 20000 RTP/AVPF 96 101", "m=video 0 RTP/AVPF 96"]
    );
}

#[test]
fn a_description_of_ours_parses_and_names_its_rtcp_port_only_if_it_must() {
    let mut local = at("[::1]:20000");
    assert!(!LocalOffer::new(local.clone(), true).to_sdp().contains("a=rtcp"));
    local.rtcp_port = 20007;
    let sdp = LocalOffer::new(local, true).to_sdp();
    assert!(sdp.contains("a=rtcp:20007\r\n") && sdp.contains("c=IN IP6 ::1\r\n"));
    let offer = Offer::parse(sdp.as_bytes(), SrtpUse::Offer).unwrap();
    assert_eq!(offer.codecs().collect::<Vec<_>>(), Codec::ALL);
    assert!(offer.has_telephone_event());
    assert_eq!(answer(&offer, &at("[::1]:9")).unwrap().media.remote_rtcp.port(), 20007);
}

#[test]
fn directions_are_mirrored_and_hold_is_seen_in_both_its_forms() {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    for (attribute, address, expected) in [
        ("a=sendonly", "192.0.2.10", RecvOnly),
        ("a=recvonly", "192.0.2.10", SendOnly),
        ("a=inactive", "192.0.2.10", Inactive),
        ("a=sendrecv", "192.0.2.10", SendRecv),
        ("a=sendrecv", "0.0.0.0", RecvOnly),
        ("a=sendonly", "0.0.0.0", RecvOnly),
        ("a=recvonly", "0.0.0.0", Inactive),
    ] {
        let offer = ASTERISK
            .replace("a=sendrecv", attribute)
            .replace("c=IN IP4 192.0.2.10", &format!("c=IN IP4 {address}"));
        let answer = answered(&offer);
        assert_eq!(answer.media.direction, expected, "{attribute} {address}");
        assert!(answer.sdp.contains(&format!("a={}\r\n", expected.as_str())));
    }
    // At the session level it holds for every line that does not say otherwise.
    let offer = SIPP.replace("t=0 0", "a=sendonly\r\nt=0 0");
    assert_eq!(answered(&offer).media.direction, RecvOnly);
    // What we do not want is not answered.
    let offer = Offer::parse(ASTERISK.as_bytes(), SrtpUse::Offer).unwrap();
    let local = LocalDescription { direction: SendOnly, ..at("192.0.2.1:20000") };
    assert_eq!(answer(&offer, &local).unwrap().media.direction, SendOnly);
}

#[test]
fn a_description_that_cannot_be_served_says_why() {
    let replaced = |from: &str, to: &str| ASTERISK.replace(from, to);
    let connection = "c=IN IP4 192.0.2.10";
    let cases = [
        (replaced(connection, "c=IN IP4 224.2.1.1/127"), SdpError::Multicast),
        (replaced(connection, "c=IN IP6 ff02::1"), SdpError::Multicast),
        (replaced(connection, "c=IN IP6 ::ffff:224.2.1.1"), SdpError::Multicast),
        (replaced(connection, "c=IN IP4 255.255.255.255"), SdpError::Broadcast),
        (replaced(connection, "c=IN IP4 pbx.example.com"), SdpError::HostName),
        (replaced(&format!("{connection}\r\n"), ""), SdpError::NoAddress),
        (replaced("a=ptime:20", "a=rtcp:9 IN IP4 239.1.1.1"), SdpError::Multicast),
        (replaced("m=audio 14288", "m=audio 0"), SdpError::NoAudio),
        (replaced("m=audio", "m=image"), SdpError::NoAudio),
        (replaced("RTP/AVP", "RTP/SAVP"), SdpError::Unsupported(Profile::Savp)),
        (replaced("RTP/AVP", "UDP/TLS/RTP/SAVPF"), SdpError::Unsupported(Profile::DtlsSavpf)),
        (replaced("RTP/AVP", "TCP/MRCPv2"), SdpError::Unsupported(Profile::Other)),
        (replaced("14288", "99999"), SdpError::Syntax(6)),
        ("v=0\r\n".to_owned(), SdpError::NoAudio),
    ];
    for (offer, expected) in cases {
        assert_eq!(Offer::parse(offer.as_bytes(), SrtpUse::Offer), Err(expected), "{offer}");
    }
}

#[test]
fn without_a_codec_in_common_there_is_no_answer() {
    for formats in ["18 101", "0", "101"] {
        let offer = CISCO.replace("18 8 101", formats);
        let offer = Offer::parse(offer.as_bytes(), SrtpUse::Offer).unwrap();
        let local = LocalDescription { codecs: vec![Codec::Pcma], ..at("192.0.2.1:20000") };
        assert_eq!(answer(&offer, &local), Err(SdpError::NoCommonCodec), "{formats}");
    }
}

#[test]
fn a_loopback_address_is_refused_unless_we_are_on_loopback() {
    let offer = Offer::parse(SIPP.as_bytes(), SrtpUse::Offer).unwrap();
    assert_eq!(answer(&offer, &at("192.0.2.1:20000")), Err(SdpError::Loopback));
    assert!(answer(&offer, &at("127.0.0.1:20000")).is_ok());
}

#[test]
fn a_payload_type_means_what_its_rtpmap_says() {
    // A static number that is mapped to something else is that, and a wrong rate is no match.
    let offer = SIPP
        .replace("RTP/AVP 0", "RTP/AVP 0 8 98 9 99 200 x 99")
        .replace("a=rtpmap:0 PCMU/8000", "a=rtpmap:0 iLBC/8000\r\na=rtpmap:8 PCMA/16000\r\na=rtpmap:98 L16/8000\r\na=rtpmap:9 G722/16000\r\na=RTPMAP:99  pcmu/8000/1");
    let answer = answered(&offer);
    assert_eq!((answer.media.codec, answer.media.payload_type.send), (Codec::Pcmu, 99));
}

#[test]
fn a_telephone_event_is_taken_at_the_rate_of_the_codec_if_there_is_one() {
    let offer = FREESWITCH.replace("102 9 0 8 103 101", "9 103 101");
    assert_eq!(answered(&offer).media.telephone_event.unwrap().payload_type.send, 101);
    let offer = FREESWITCH.replace("102 9 0 8 103 101", "102 101");
    assert_eq!(answered(&offer).media.telephone_event.unwrap().clock_rate, 8000);
}

#[test]
fn odd_packet_times_become_usable_ones() {
    for (attribute, expected) in [
        ("a=ptime:30", 30),
        ("a=ptime:0", 20),
        ("a=ptime:60000", 20),
        ("a=ptime:x", 20),
        ("a=ptime:20.0", 20),
        ("a=ptime:40\r\na=maxptime:30", 30),
    ] {
        let offer = SIPP.replace("a=rtpmap", &format!("{attribute}\r\na=rtpmap"));
        assert_eq!(answered(&offer).media.ptime, expected, "{attribute}");
    }
}

fn our_offer() -> LocalOffer {
    let codecs = vec![Codec::Opus, Codec::Pcmu, Codec::Pcma];
    LocalOffer::new(LocalDescription { codecs, ..at("192.0.2.1:20000") }, true)
}

#[test]
fn our_offer_lists_our_codecs_and_a_telephone_event_for_each_clock_rate() {
    let sdp = our_offer().to_sdp();
    assert_eq!(media_lines(&sdp), ["m=audio 20000 RTP/AVP 111 0 8 110 101"]);
    assert!(sdp.contains("a=rtpmap:111 opus/48000/2\r\n"));
    assert!(sdp.contains("a=rtpmap:110 telephone-event/48000\r\n"));
    assert!(sdp.contains("a=rtpmap:101 telephone-event/8000\r\n"));
    let plain = LocalOffer::new(our_offer().local().clone(), false).to_sdp();
    assert!(!plain.contains("telephone-event"));
}

#[test]
fn an_answer_that_renumbers_is_understood_in_each_direction() {
    let answer = "v=0\r\no=x 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 96 97\r\na=rtpmap:96 opus/48000/2\r\n\
        a=rtpmap:97 telephone-event/48000\r\na=recvonly\r\n";
    assert_eq!(
        our_offer().accept(answer.as_bytes()).map(|accepted| accepted.media),
        Ok(LegMedia {
            remote_rtp: "192.0.2.9:4000".parse().unwrap(),
            remote_rtcp: "192.0.2.9:4001".parse().unwrap(),
            codec: Codec::Opus,
            payload_type: PayloadType { send: 96, receive: 111 },
            telephone_event: Some(TelephoneEvent {
                payload_type: PayloadType { send: 97, receive: 110 },
                clock_rate: 48000,
            }),
            direction: Direction::SendOnly,
            ptime: 20,
            security: Security::Plain,
        })
    );
}

#[test]
fn an_answer_that_does_not_fit_the_offer_is_refused() {
    let head = "v=0\r\nc=IN IP4 192.0.2.9\r\n";
    for (lines, expected) in [
        ("", SdpError::Inconsistent),
        ("m=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 96\r\n", SdpError::Inconsistent),
        ("m=video 4000 RTP/AVP 0\r\n", SdpError::Inconsistent),
        ("m=audio 4000 RTP/SAVP 0\r\n", SdpError::Inconsistent),
        ("m=audio 4000 RTP/AVP 9\r\n", SdpError::Inconsistent),
        ("m=audio 4000 RTP/AVP 101\r\n", SdpError::NoCommonCodec),
        ("m=audio 0 RTP/AVP 0\r\n", SdpError::Refused),
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 127.0.0.1\r\n", SdpError::Loopback),
    ] {
        let answer = format!("{head}{lines}");
        assert_eq!(our_offer().accept(answer.as_bytes()).err(), Some(expected));
    }
    let plain = LocalOffer::new(our_offer().local().clone(), false);
    let answer =
        format!("{head}m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n");
    assert_eq!(plain.accept(answer.as_bytes()).unwrap().media.telephone_event, None);
}

#[test]
fn a_new_answer_has_a_new_version_only_if_it_says_something_new() {
    let mut local = at("192.0.2.1:20000");
    let offer = Offer::parse(ASTERISK.as_bytes(), SrtpUse::Offer).unwrap();
    let first = answer(&offer, &local).unwrap();
    let again = reanswer(&offer, &mut local, &first.sdp).unwrap();
    assert_eq!((again, local.version), (first.clone(), 1));
    let hold = ASTERISK.replace("a=sendrecv", "a=sendonly");
    let hold = Offer::parse(hold.as_bytes(), SrtpUse::Offer).unwrap();
    let held = reanswer(&hold, &mut local, &first.sdp).unwrap();
    assert!(held.sdp.contains("o=assent 77 2 ") && local.version == 2);
    local.codecs = vec![Codec::Opus];
    assert_eq!(reanswer(&offer, &mut local, &held.sdp), Err(SdpError::NoCommonCodec));
    assert_eq!(local.version, 2);
}

const ALL: [&str; 8] =
    [ASTERISK, FREESWITCH, CISCO, POLYCOM, LINPHONE, BARESIP, SIPP, WEBRTC_GATEWAY];

/// Everything a peer's bytes reach; whatever they are, what we send back must parse.
fn exercise(bytes: &[u8]) {
    let _ = our_offer().accept(bytes);
    let Ok(offer) = Offer::parse(bytes, SrtpUse::Offer) else { return };
    for local in [at("192.0.2.1:20000"), at("127.0.0.1:20000")] {
        if let Ok(answer) = answer(&offer, &local) {
            let session = text::parse(answer.sdp.as_bytes()).unwrap();
            assert_eq!(session.medias.len(), offer.lines.len());
            assert!(session.medias.iter().filter(|m| m.port != 0).count() == 1);
            assert!(!answer.media.remote_rtp.ip().is_multicast());
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        exercise(&bytes);
    }

    #[test]
    fn no_mutation_of_a_real_description_makes_it_panic(
        which in 0..ALL.len(),
        edits in prop::collection::vec((any::<u16>(), any::<u8>(), 0..4_u8), 1..12),
    ) {
        let mut bytes = ALL[which].as_bytes().to_vec();
        for (place, byte, how) in edits {
            let place = usize::from(place) % bytes.len();
            match how {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                2 => { bytes.remove(place); }
                _ => bytes.extend_from_within(place..(place + 40).min(bytes.len())),
            }
        }
        exercise(&bytes);
    }

    #[test]
    fn no_line_of_odd_words_makes_it_panic(
        lines in prop::collection::vec("(c=IN IP[46]|m=audio|m=video|a=rtpmap:|a=rtcp:|a=ptime:|v=) ?[0-9a-f./: ]{0,24}", 0..12),
    ) {
        exercise(format!("v=0\r\nc=IN IP4 192.0.2.7\r\nm=audio 4000 RTP/AVP 0\r\n{}", lines.join("\r\n")).as_bytes());
    }
}

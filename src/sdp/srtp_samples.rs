//! Offers and answers of SRTP as real peers send them, and what each must come to.

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::rtp::{Codec, Direction, DtlsPeer, DtlsRole, LegMedia, Security, SrtpKeys, Suite};

const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
const OTHER: &str = "NzlmNTUwZDk2OGVlOTc3YzNkYTkwZWVkMTM1YWFj";

/// A description with one audio line of this profile and these attributes.
fn sdp(profile: &str, attributes: &[String]) -> String {
    let lines: String = attributes.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
         m=audio 4000 {profile} 0 101\r\na=rtpmap:101 telephone-event/8000\r\n{lines}"
    )
}

fn crypto(tag: u32, suite: &str, key: &str) -> String {
    format!("a=crypto:{tag} {suite} inline:{key}")
}

fn local(wanted: SrtpUse) -> LocalDescription {
    LocalDescription {
        rtp: "192.0.2.1:20000".parse().unwrap(),
        rtcp_port: 20001,
        session: 77,
        version: 1,
        codecs: vec![Codec::Pcmu],
        direction: Direction::SendRecv,
        record: None,
        keying: Keying::new(wanted, Zeroizing::new([7; Keying::SECRET])),
    }
}

fn answered(offer: &str, wanted: SrtpUse) -> Result<Answer, SdpError> {
    answer(&Offer::parse(offer.as_bytes(), wanted)?, &local(wanted))
}

fn keys(media: &LegMedia) -> &SrtpKeys {
    match &media.security {
        Security::Srtp(keys) => keys,
        other => panic!("{other:?}"),
    }
}

fn lines<'a>(sdp: &'a str, start: &str) -> Vec<&'a str> {
    sdp.lines().filter(|line| line.starts_with(start)).collect()
}

const AES80: &str = "AES_CM_128_HMAC_SHA1_80";
const AES32: &str = "AES_CM_128_HMAC_SHA1_32";

#[test]
fn the_first_line_that_we_can_take_is_answered_with_its_tag_and_a_key_of_ours() {
    let offer = sdp(
        "RTP/SAVP",
        &[
            crypto(3, "F8_128_HMAC_SHA1_80", KEY),
            crypto(4, AES80, KEY) + " UNENCRYPTED_SRTCP",
            crypto(5, AES32, KEY),
            crypto(6, AES80, OTHER),
        ],
    );
    let answer = answered(&offer, SrtpUse::Offer).unwrap();
    assert_eq!(lines(&answer.sdp, "m="), ["m=audio 20000 RTP/SAVP 0 101"]);
    let [line] = lines(&answer.sdp, "a=crypto")[..] else { panic!("{}", answer.sdp) };
    assert!(line.starts_with("a=crypto:5 AES_CM_128_HMAC_SHA1_32 inline:"), "{line}");
    let keys = keys(&answer.media);
    assert_eq!(keys.suite, Suite::Aes128CmHmacSha1_32);
    assert_eq!(keys.receive.expose(), &b"wDfvg&T+)xG7@fb5jU,RaA}\\|p0%*#"[..]);
    assert!(keys.send != keys.receive);
    assert!(!line.contains(KEY) && !format!("{answer:?}").contains("inline"));
}

#[test]
fn what_a_setting_takes_is_what_it_says() {
    use SrtpUse::{Off, Offer, Require};
    let with = |profile: &str| sdp(profile, &[crypto(1, AES80, KEY)]);
    let weak = |profile: &str| sdp(profile, &[crypto(1, AES80, KEY) + " UNAUTHENTICATED_SRTP"]);
    let without = |profile: &str| sdp(profile, &[]);
    let refused = |profile| Err(SdpError::Unsupported(profile));
    let cases = [
        (Off, without("RTP/AVP"), Ok(false)),
        (Off, with("RTP/AVP"), Ok(false)),
        (Off, with("RTP/SAVP"), refused(Profile::Savp)),
        (Offer, without("RTP/AVP"), Ok(false)),
        (Offer, with("RTP/AVP"), Ok(true)),
        (Offer, with("RTP/AVPF"), Ok(true)),
        (Offer, weak("RTP/AVP"), Ok(false)),
        (Offer, with("RTP/SAVP"), Ok(true)),
        (Offer, with("RTP/SAVPF"), Ok(true)),
        (Offer, weak("RTP/SAVP"), refused(Profile::Savp)),
        (Offer, without("RTP/SAVPF"), refused(Profile::Savpf)),
        (Require, without("RTP/AVP"), Err(SdpError::Unprotected)),
        (Require, weak("RTP/AVP"), Err(SdpError::Unprotected)),
        (Require, with("RTP/AVP"), Ok(true)),
        (Require, with("RTP/SAVP"), Ok(true)),
        (Require, weak("RTP/SAVP"), refused(Profile::Savp)),
    ];
    for (wanted, offer, expected) in cases {
        let answer = answered(&offer, wanted);
        assert_eq!(answer.clone().map(|a| a.media.security.is_srtp()), expected, "{offer}");
        assert_eq!(answer.err().map_or(488, SdpError::status), 488);
        if let (Ok(srtp), Ok(answer)) = (expected, answered(&offer, wanted)) {
            assert_eq!(answer.sdp.contains("a=crypto"), srtp);
            assert_eq!(
                lines(&offer, "m=")[0].split(' ').nth(2),
                lines(&answer.sdp, "m=")[0].split(' ').nth(2)
            );
        }
    }
}

#[test]
fn of_several_audio_lines_the_encrypted_one_is_taken() {
    let plain = sdp("RTP/AVP", &[]);
    let both = format!("{plain}m=audio 4002 RTP/SAVP 0\r\n{}\r\n", crypto(1, AES80, KEY));
    let answer = answered(&both, SrtpUse::Offer).unwrap();
    assert_eq!(lines(&answer.sdp, "m="), ["m=audio 0 RTP/AVP 0", "m=audio 20000 RTP/SAVP 0"]);
    let answer = answered(&both, SrtpUse::Off).unwrap();
    assert!(!answer.media.security.is_srtp() && answer.media.remote_rtp.port() == 4000);
}

#[test]
fn our_offer_proposes_srtp_beside_rtp_or_alone() {
    let offer = |wanted| LocalOffer::new(local(wanted), true).to_sdp();
    assert!(!offer(SrtpUse::Off).contains("crypto"));
    for (wanted, profile) in [(SrtpUse::Offer, "RTP/AVP"), (SrtpUse::Require, "RTP/SAVP")] {
        let sdp = offer(wanted);
        assert_eq!(lines(&sdp, "m="), [format!("m=audio 20000 {profile} 0 101")]);
        let lines = lines(&sdp, "a=crypto");
        let suites: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(suites, ["AEAD_AES_256_GCM", "AES_256_CM_HMAC_SHA1_80", AES80]);
        let keys: std::collections::BTreeSet<&str> =
            lines.iter().filter_map(|line| line.split("inline:").nth(1)).collect();
        assert_eq!(keys.len(), 3, "each has a key of its own");
        assert!(answered(&sdp, wanted).unwrap().media.security.is_srtp());
        assert!(sdp.len() < 700, "{} bytes", sdp.len());
    }
}

#[test]
fn an_answer_that_fits_is_taken_and_no_other() {
    use SrtpUse::{Off, Offer, Require};
    let ours = LocalOffer::new(local(Offer), true).to_sdp();
    let own = lines(&ours, "a=crypto:3")[0].to_owned();
    let chosen = |profile: &str| sdp(profile, &[crypto(3, AES80, KEY)]);
    let plain = sdp("RTP/AVP", &[]);
    let cases = [
        (Off, plain.clone(), Ok(false)),
        // What was not offered is not agreed on.
        (Off, chosen("RTP/AVP"), Ok(false)),
        (Off, chosen("RTP/SAVP"), Err(SdpError::Inconsistent)),
        (Offer, plain.clone(), Ok(false)),
        (Offer, chosen("RTP/AVP"), Ok(true)),
        (Offer, chosen("RTP/SAVP"), Ok(true)),
        (Offer, chosen("RTP/SAVPF"), Err(SdpError::Inconsistent)),
        (Offer, sdp("RTP/SAVP", &[]), Err(SdpError::Inconsistent)),
        (Offer, sdp("RTP/SAVP", &[crypto(1, AES80, KEY)]), Err(SdpError::Inconsistent)),
        (Offer, sdp("RTP/SAVP", &[crypto(9, AES80, KEY)]), Err(SdpError::Inconsistent)),
        (Offer, sdp("RTP/SAVP", &[crypto(3, AES32, KEY)]), Err(SdpError::Inconsistent)),
        (Offer, sdp("RTP/AVP", std::slice::from_ref(&own)), Err(SdpError::Inconsistent)),
        (Require, plain, Err(SdpError::Inconsistent)),
        (Require, chosen("RTP/AVP"), Err(SdpError::Inconsistent)),
        (Require, chosen("RTP/SAVP"), Ok(true)),
        (Require, sdp("RTP/SAVP", &[own]), Err(SdpError::Inconsistent)),
    ];
    for (wanted, answer, expected) in cases {
        let accepted = LocalOffer::new(local(wanted), true).accept(answer.as_bytes());
        assert_eq!(accepted.map(|a| a.media.security.is_srtp()), expected, "{wanted:?} {answer}");
    }
}

#[test]
fn a_hold_keeps_the_keys_and_a_new_key_brings_a_new_one_of_ours() {
    let offer = |key: &str, more: &str| sdp("RTP/SAVP", &[crypto(1, AES80, key), more.into()]);
    let first = answered(&offer(KEY, "a=sendrecv"), SrtpUse::Require).unwrap();
    let mut settled = LocalDescription { keying: first.keying.clone(), ..local(SrtpUse::Require) };
    let again = |settled: &mut LocalDescription, offer: String| {
        let offer = Offer::parse(offer.as_bytes(), SrtpUse::Require).unwrap();
        let next = reanswer(&offer, settled, "").unwrap();
        settled.keying = next.keying.clone();
        next.media
    };
    let held = again(&mut settled, offer(KEY, "a=sendonly"));
    assert_eq!((held.direction, &held.security), (Direction::RecvOnly, &first.media.security));
    let rekeyed = again(&mut settled, offer(OTHER, "a=sendrecv"));
    assert!(keys(&rekeyed).send != keys(&held).send);
    assert!(keys(&rekeyed).receive != keys(&held).receive);
    let back = again(&mut settled, offer(KEY, "a=sendrecv"));
    assert!(keys(&back).send != keys(&held).send, "no key of ours comes twice");

    // An offer of ours within the session names what is in use.
    let ours = LocalOffer::new(settled, true).to_sdp();
    assert!(lines(&ours, "m=")[0].contains("RTP/SAVP"));
    let [line] = lines(&ours, "a=crypto")[..] else { panic!("{ours}") };
    let read = Offer::parse(ours.as_bytes(), SrtpUse::Require).unwrap();
    let seen = answer(&read, &local(SrtpUse::Require)).unwrap();
    assert!(keys(&seen.media).receive == keys(&back).send, "{line}");
}

#[test]
fn a_leg_that_is_plain_stays_plain_in_our_own_offers() {
    let plain = answered(&sdp("RTP/AVP", &[]), SrtpUse::Offer).unwrap();
    let settled = LocalDescription { keying: plain.keying, ..local(SrtpUse::Offer) };
    assert!(!LocalOffer::new(settled, true).to_sdp().contains("crypto"));
}

#[test]
fn a_handshake_on_the_media_path_is_agreed_on_by_fingerprint() {
    let fingerprint = format!("a=fingerprint:sha-256 {}", ["AB"; 32].join(":"));
    let offer = |profile: &str, setup: &str| {
        let lines = [fingerprint.clone(), format!("a=setup:{setup}"), "a=rtcp-mux".into()];
        sdp(profile, &lines)
    };
    let local = |wanted| {
        let local = local(wanted);
        let keying = local.keying.clone().with_certificate([0x0c; 32]);
        LocalDescription { keying, ..local }
    };
    let answered =
        |offer: &str, wanted| answer(&Offer::parse(offer.as_bytes(), wanted)?, &local(wanted));
    for profile in ["UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"] {
        for wanted in [SrtpUse::Offer, SrtpUse::Require] {
            let answer = answered(&offer(profile, "actpass"), wanted).unwrap();
            let peer = DtlsPeer { fingerprint: [0xab; 32], role: DtlsRole::Active };
            assert_eq!(answer.media.security, Security::Dtls(peer));
            assert_eq!(lines(&answer.sdp, "m="), [format!("m=audio 20000 {profile} 0 101")]);
            assert_eq!(lines(&answer.sdp, "a=setup"), ["a=setup:active"]);
            let ours = format!("a=fingerprint:sha-256 {}", ["0C"; 32].join(":"));
            assert_eq!(lines(&answer.sdp, "a=fingerprint"), [ours]);

            // An offer of ours keeps the association, and so does the peer's answer.
            let settled = LocalDescription { keying: answer.keying, ..local(wanted) };
            let again = LocalOffer::new(settled, true);
            assert_eq!(lines(&again.to_sdp(), "a=setup"), ["a=setup:active"]);
            let accepted = again.accept(offer(profile, "passive").as_bytes()).unwrap();
            assert_eq!(accepted.media.security, answer.media.security);
            let bare = sdp(profile, &[]);
            assert_eq!(again.accept(bare.as_bytes()), Err(SdpError::Inconsistent));
        }
        let refused = answered(&offer(profile, "actpass"), SrtpUse::Off);
        assert!(matches!(refused, Err(SdpError::Unsupported(_))));
        let weak = offer(profile, "actpass").replace("sha-256", "sha-1");
        assert!(matches!(answered(&weak, SrtpUse::Offer), Err(SdpError::Unsupported(_))));
    }
}

proptest! {
    #[test]
    fn no_crypto_line_makes_it_panic(
        lines in prop::collection::vec(
            "a=crypto:[0-9]{0,3} ?(AES_CM_128_HMAC_SHA1_80|AEAD_AES_256_GCM|X)? ?(inline:)?[A-Za-z0-9+/=|:^ ;_]{0,70}",
            0..6,
        ),
    ) {
        for profile in ["RTP/AVP", "RTP/SAVP"] {
            for wanted in [SrtpUse::Off, SrtpUse::Offer, SrtpUse::Require] {
                let sdp = sdp(profile, &lines);
                let _ = LocalOffer::new(local(wanted), true).accept(sdp.as_bytes());
                if let Ok(answer) = answered(&sdp, wanted) {
                    prop_assert!(answer.media.security.is_srtp() || wanted != SrtpUse::Require);
                }
            }
        }
    }
}

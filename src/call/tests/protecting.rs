//! SRTP: each leg by itself, never plain where it is required, and said in the evidence.

use super::*;
use crate::consent::MediaTransport;
use crate::sdp::{Keying, SrtpUse};

const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

/// A description with one line of PCMA on this profile.
fn sdp(version: u32, profile: &str, more: &str) -> Bytes {
    let text = format!(
        "v=0\r\no=- 1 {version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio 4000 {profile} 8 101\r\na=rtpmap:101 telephone-event/8000\r\n{more}"
    );
    text.into()
}

fn with_key(version: u32, profile: &str, tag: u32, more: &str) -> Bytes {
    let key = format!("a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n{more}");
    sdp(version, profile, &key)
}

fn calling(policy: Policy, wanted: SrtpUse, offer: Bytes) -> Rig {
    let mut setup = setup(policy, true);
    setup.invite.body = offer;
    setup.caller.keying = Keying::new(wanted, [1; Keying::SECRET].into());
    if let Plan::Inline(inline) = &mut setup.plan {
        inline.callee.keying = Keying::new(wanted, [2; Keying::SECRET].into());
    }
    Rig::start(setup)
}

fn answer_of(rig: &mut Rig, status: u16, body: Bytes) {
    let (txn, mut response) = (rig.dialled(), answered(status, ""));
    response.body = body;
    rig.feed(Input::Response { txn, response });
}

fn reinvite(rig: &mut Rig, cseq: u32, body: Bytes) -> Vec<u16> {
    let mut request = incoming(Method::Invite, cseq);
    request.to.tag = Some("caller-side".into());
    request.body = body;
    let txn = ServerTxn(u64::from(cseq) + 10);
    rig.feed(Input::Request { leg: Leg::Caller, txn, request }).statuses()
}

fn connected(rig: &Rig) -> Vec<(Leg, bool)> {
    let each = rig.out.iter().filter_map(|output| match output {
        Output::Media(MediaCommand::Connect { leg, media }) => {
            Some((*leg, media.security.is_srtp()))
        }
        _ => None,
    });
    each.collect()
}

#[test]
fn where_it_is_required_a_plain_caller_is_refused_and_nobody_is_dialled() {
    for policy in [opt_in(), standing()] {
        let rig = calling(policy, SrtpUse::Require, sdp(1, "RTP/AVP", ""));
        assert_eq!(rig.statuses(), [488]);
        assert!(rig.sent(&Method::Invite).is_none());
    }
}

#[test]
fn where_it_is_required_a_plain_answer_ends_the_call() {
    for answer in [sdp(1, "RTP/AVP", ""), sdp(1, "RTP/SAVP", ""), with_key(1, "RTP/SAVP", 1, "")] {
        let mut rig = calling(standing(), SrtpUse::Require, with_key(1, "RTP/SAVP", 1, ""));
        let offer = rig.sent(&Method::Invite).expect("an INVITE").body.clone();
        assert!(String::from_utf8_lossy(&offer).contains("m=audio 6002 RTP/SAVP "));
        answer_of(&mut rig, 183, answer.clone());
        assert!(connected(&rig).is_empty(), "nor is there early media");
        answer_of(&mut rig, 200, answer);
        assert_eq!(rig.statuses(), [488]);
        assert!(rig.sent(&Method::Bye).is_some());
        assert!(connected(&rig).is_empty());
    }
}

#[test]
fn where_it_is_required_no_reinvite_makes_a_leg_plain() {
    let mut rig = calling(opt_in(), SrtpUse::Require, with_key(1, "RTP/SAVP", 1, ""));
    assert_eq!((rig.statuses(), connected(&rig)), (vec![200], vec![(Leg::Caller, true)]));
    rig.ack();
    assert_eq!(reinvite(&mut rig, 2, sdp(2, "RTP/AVP", "")), [488]);
    assert_eq!(reinvite(&mut rig, 3, sdp(3, "RTP/SAVP", "")), [488]);
    assert!(connected(&rig).is_empty());
    assert_eq!(reinvite(&mut rig, 4, with_key(4, "RTP/SAVP", 1, "a=sendonly\r\n")), [200]);
    assert_eq!(connected(&rig), [(Leg::Caller, true)]);
}

#[test]
fn a_protected_caller_may_have_a_plain_callee_and_the_evidence_says_which_is_which() {
    let mut rig = calling(standing(), SrtpUse::Offer, with_key(1, "RTP/SAVP", 1, ""));
    let offer = rig.sent(&Method::Invite).expect("an INVITE").body.clone();
    let offer = String::from_utf8_lossy(&offer).into_owned();
    assert!(offer.contains("m=audio 6002 RTP/AVP ") && offer.contains("a=crypto:1 "), "{offer}");
    assert!(!offer.contains(KEY), "a key is for one leg");
    answer_of(&mut rig, 200, sdp(1, "RTP/AVP", ""));
    let mut legs = connected(&rig);
    legs.sort_by_key(|(leg, _)| *leg == Leg::Callee);
    assert_eq!(legs, [(Leg::Caller, true), (Leg::Callee, false)]);
    rig.ack();
    let mut transports: Vec<_> = rig
        .out
        .iter()
        .filter_map(|output| match output {
            Output::Commit(decision) => Some((decision.facts().leg, decision.facts().transport)),
            _ => None,
        })
        .collect();
    transports.sort_by_key(|(leg, _)| *leg == Leg::Callee);
    let [caller, callee] = [MediaTransport::Srtp, MediaTransport::Rtp];
    assert_eq!(transports, [(Leg::Caller, caller), (Leg::Callee, callee)]);
}

#[test]
fn nothing_that_is_shown_of_a_call_shows_a_key_of_ours() {
    let rig = calling(opt_in(), SrtpUse::Offer, with_key(1, "RTP/SAVP", 1, ""));
    let answer = String::from_utf8_lossy(&rig.responses()[0].body).into_owned();
    let ours = answer.split("inline:").nth(1).and_then(|rest| rest.lines().next());
    let media: Vec<_> = rig
        .out
        .iter()
        .filter(|output| matches!(output, Output::Media(_)))
        .map(|output| format!("{output:?}"))
        .collect();
    assert!(media.iter().any(|text| text.contains("Srtp(AES_CM_128_HMAC_SHA1_80)")));
    assert!(!media.concat().contains(ours.expect("a key")));
    assert!(!media.concat().contains(KEY));
}

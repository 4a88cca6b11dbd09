//! An INVITE that reaches several telephones: early dialogs of their own, and one that answers.

use super::rig::*;
use super::*;

const OTHER: &str = "v=0\r\no=- 3 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 5500 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";

fn says(tag: &str, status: u16, rseq: Option<&'static str>, body: &'static str) -> Input {
    let mut response = answered(status, body);
    response.to_tag = Some(tag.to_owned());
    response.contact = Some(format!("sip:{tag}@127.0.0.1:5090"));
    if let Some(rseq) = rseq {
        response.headers.push("Require", "100rel");
        response.headers.push("RSeq", rseq);
    }
    Input::Response { txn: ClientTxn(65_536), response }
}

fn header(of: &Headers, name: &str) -> String {
    String::from_utf8_lossy(of.first(name).expect("a header")).into_owned()
}

/// The port of the callee's stream that is connected last.
fn heard(rig: &Rig) -> Option<u16> {
    rig.out.iter().rev().find_map(|output| match output {
        Output::Media(MediaCommand::Connect { leg: Leg::Callee, media }) => {
            Some(media.remote_rtp.port())
        }
        _ => None,
    })
}

fn update(rig: &mut Rig, tag: &str, cseq: u32) {
    let mut request = incoming(Method::Update, cseq);
    request.call_id = "other-leg".into();
    request.to.tag = Some("callee-side".into());
    request.from.tag = Some(tag.to_owned());
    request.body = Bytes::from_static(OTHER.as_bytes());
    rig.feed(Input::Request { leg: Leg::Callee, txn: ServerTxn(u64::from(cseq)), request });
}

#[test]
fn each_fork_is_acknowledged_in_its_own_dialog_and_the_newest_is_heard() {
    let mut rig = Rig::inline(standing());
    rig.feed(says("a", 183, Some("5"), ANSWER));
    assert_eq!(heard(&rig), Some(5000));
    let first = rig.sent(&Method::Prack).expect("a PRACK").clone();
    rig.feed(says("b", 183, Some("5"), OTHER));
    let second = rig.sent(&Method::Prack).expect("a PRACK").clone();
    assert_eq!(heard(&rig), Some(5500));
    assert_eq!(
        (first.uri.as_str(), second.uri.as_str()),
        ("sip:a@127.0.0.1:5090", "sip:b@127.0.0.1:5090")
    );
    assert!(header(&second.headers, "To").ends_with(";tag=b"));
    // The first one answers; its description was in the 183.
    rig.feed(says("a", 200, None, ""));
    assert_eq!(heard(&rig), Some(5000));
    assert_eq!(rig.call.phase(), Phase::Talking);
    // The other one does too, and is let go with a number that it has not seen.
    rig.feed(says("b", 200, None, OTHER));
    assert!(rig.has(|o| matches!(o, Output::Ack(_))));
    let bye = rig.sent(&Method::Bye).expect("a BYE");
    assert!(header(&bye.headers, "To").ends_with(";tag=b"));
    let number: u32 = header(&bye.headers, "CSeq").split(' ').next().unwrap().parse().unwrap();
    let used: u32 = header(&second.headers, "CSeq").split(' ').next().unwrap().parse().unwrap();
    assert!(number > used);
    assert_eq!(rig.ended(), None);
}

#[test]
fn a_fork_may_offer_again_once_it_has_answered_reliably() {
    let mut rig = Rig::inline(standing());
    rig.feed(says("a", 183, None, ANSWER));
    update(&mut rig, "a", 7);
    assert_eq!(rig.statuses(), [491], "our offer is open: this answer may yet change");
    rig.feed(says("a", 183, Some("5"), ANSWER));
    update(&mut rig, "a", 8);
    assert_eq!(rig.statuses(), [200]);
    assert!(String::from_utf8_lossy(&rig.responses()[0].body).contains("m=audio"));
    assert_eq!(heard(&rig), Some(5500));
    update(&mut rig, "stranger", 9);
    assert_ne!(rig.statuses(), [200]);
    // What was agreed last is what the answer confirms.
    rig.feed(says("a", 200, None, ""));
    assert_eq!(heard(&rig), Some(5500));
}

#[test]
fn a_flood_of_forks_leaves_the_call_as_it_is() {
    let mut rig = Rig::inline(standing());
    let mut acknowledged = 0;
    for fork in 0..200 {
        rig.feed(says(&format!("fork-{fork}"), 183, Some("5"), ANSWER));
        acknowledged += usize::from(rig.sent(&Method::Prack).is_some());
    }
    assert_eq!(acknowledged, 16);
    rig.feed(says("fork-199", 200, None, ANSWER));
    assert_eq!(rig.statuses(), [200], "whoever answers is talked to");
}

#[test]
fn early_media_that_the_caller_was_not_promised_is_not_relayed() {
    let pcmu = "v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        m=audio 5500 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
    let mut rig = Rig::inline(standing());
    rig.feed(says("a", 183, None, ANSWER));
    assert_eq!(rig.relays(), 1);
    rig.feed(says("b", 183, None, pcmu));
    assert_eq!((rig.relays(), heard(&rig)), (0, None));
    rig.feed(says("b", 200, None, pcmu));
    rig.ack();
    assert!(rig.sent(&Method::Invite).is_some(), "the caller is offered the codec of who answers");
}

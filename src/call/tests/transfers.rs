//! A party who hands the other one over is replaced by somebody who is asked, and the call is never
//! lost over it.

use super::rig::*;
use super::*;
use crate::call::machine::Names;
use crate::call::message::{Answered, Request};
use crate::call::replaces::{Replaces, When};
use crate::consent::machine::PartyFacts;
use crate::ids::PartyRef;

/// Both are recorded and talk.
fn recorded() -> Rig {
    let mut rig = announced(opt_in());
    rig.played(1, true).key('1');
    rig.durable();
    rig.callee_says(200, ANSWER);
    rig
}

fn refer(to: &str) -> Headers {
    Headers::new().with("Refer-To", to.to_owned()).with("Referred-By", "<sip:200@pbx>")
}

impl Rig {
    /// The party asks to hand the other one over, and there are names for the new dialog.
    fn refers(&mut self, leg: Leg, to: &str) -> ClientTxn {
        self.asks(leg, Method::Refer, refer(to), "");
        assert_eq!(self.statuses(), [202]);
        assert_eq!(self.notified(), ["SIP/2.0 100 Trying"]);
        self.named(None)
    }

    fn named(&mut self, replaces: Option<Replaces>) -> ClientTxn {
        assert!(self.has(|o| matches!(o, Output::Refer { .. })));
        let names = Names { call_id: "third-leg".into(), tag: "third-side".into() };
        self.feed(Input::Referable { names, replaces });
        self.passed(&Method::Invite).expect("an INVITE").0
    }

    /// What was told of how the transfer stands.
    fn notified(&self) -> Vec<String> {
        let notify = |output: &Output| match output {
            Output::Send { request, .. } if request.method == Method::Notify => {
                Some(String::from_utf8_lossy(&request.body).trim().to_owned())
            }
            _ => None,
        };
        self.out.iter().filter_map(notify).collect()
    }

    fn by_new_party(&mut self, leg: Leg, method: Method) {
        let mut request = incoming(method, 50);
        request.call_id = "third-leg".into();
        request.from.tag = Some("new-tag".into());
        request.to.tag = Some("third-side".into());
        request.body = Bytes::new();
        self.feed(Input::Request { leg, txn: ServerTxn(900), request });
    }
}

fn new_party(status: u16, body: &'static str) -> Answered {
    Answered { to_tag: Some("new-tag".into()), ..answered(status, body) }
}

fn header(request: &Request, name: &str) -> String {
    request.headers.first(name).map_or_else(String::new, |v| String::from_utf8_lossy(v).into())
}

#[test]
fn whoever_is_named_is_dialled_at_the_calls_own_next_hop_by_who_stays() {
    for (leg, from) in [(Leg::Callee, "<sip:100@127.0.0.1>"), (Leg::Caller, "<sip:200@127.0.0.1>")]
    {
        let mut rig = talking();
        rig.refers(leg, "<sip:300@203.0.113.9:6666;maddr=198.51.100.1>");
        let (_, invite) = rig.passed(&Method::Invite).expect("an INVITE");
        assert_eq!((invite.uri.as_str(), invite.hop), ("sip:300@127.0.0.1:5080", hop(5080)));
        assert!(header(invite, "From").starts_with(from), "{}", header(invite, "From"));
        assert_eq!(header(invite, "Referred-By"), "<sip:200@pbx>");
        assert!(!header(invite, "X-Assent-Call").is_empty());
        let port = if leg == Leg::Callee { "m=audio 6002" } else { "m=audio 6000" };
        assert!(String::from_utf8_lossy(&invite.body).contains(port));
    }
}

#[test]
fn a_transfer_is_told_and_heard_and_puts_the_new_party_in_the_place_of_who_asked() {
    for leg in Leg::BOTH {
        let mut rig = recorded();
        let txn = rig.refers(leg, "sip:300@pbx");
        rig.answers(txn, new_party(180, ""));
        assert_eq!(rig.notified(), ["SIP/2.0 180 Ringing"]);
        assert_eq!(rig.prompts(), ["ringback"]);
        rig.answers(txn, new_party(180, ""));
        assert!(rig.prompts().is_empty(), "one ringback is enough");
        rig.answers(txn, new_party(200, ANSWER));
        assert_eq!(rig.notified(), ["SIP/2.0 200 OK"]);
        assert!(rig.has(|o| matches!(o, Output::Ack(_))));
        // Nobody hears or records the new voice under the permission of the one before.
        let place = |wanted: &dyn Fn(&Output) -> bool| rig.out.iter().position(wanted);
        let identified = place(&|o| matches!(o, Output::Identify { .. })).expect("a new party");
        let connected = place(&|o| matches!(o, Output::Media(MediaCommand::Connect { .. })));
        assert!(connected.is_some_and(|connected| identified < connected));
        let party = PartyFacts { party_ref: PartyRef([99; 32]), ..party(leg) };
        rig.feed(Input::Replaced { party });
        let released = rig.out.iter().filter(|o| matches!(o, Output::Release { .. })).count();
        assert_eq!(released, 2);
        // Who asked hangs up: that ends nothing.
        rig.asks(leg, Method::Bye, Headers::new(), "");
        assert_eq!((rig.statuses(), rig.ended()), (vec![200], None));
        // The new party's BYE does.
        rig.by_new_party(leg, Method::Bye);
        assert_eq!(rig.ended(), Some(Cause::HungUp(leg)));
        assert!(
            rig.has(|o| matches!(o, Output::Send { request, .. } if request.method == Method::Bye))
        );
    }
}

#[test]
fn who_asked_and_does_not_hang_up_is_helped_to() {
    let mut rig = talking();
    let txn = rig.refers(Leg::Callee, "sip:300@pbx");
    rig.answers(txn, new_party(200, ANSWER));
    assert!(rig.sent(&Method::Bye).is_none());
    rig.wait(Duration::from_secs(10));
    let bye = rig.sent(&Method::Bye).expect("a BYE");
    assert_eq!(header(bye, "Call-ID"), "other-leg");
    assert_eq!(rig.ended(), None);
}

#[test]
fn a_transfer_that_fails_leaves_the_call_as_it_was() {
    for status in [486, 404, 603] {
        let mut rig = recorded();
        let txn = rig.refers(Leg::Callee, "sip:300@pbx");
        rig.answers(txn, new_party(180, "")).answers(txn, new_party(status, ""));
        assert!(rig.notified()[0].starts_with(&format!("SIP/2.0 {status}")));
        assert!(
            rig.has(|o| matches!(o, Output::Media(MediaCommand::Silence { leg: Leg::Caller })))
        );
        assert!(!rig.has(|o| matches!(o, Output::Release { .. })));
        assert_eq!(rig.ended(), None);
        rig.refers_again(Leg::Callee);
    }
}

impl Rig {
    /// Another one, whose subscription is told from the first.
    fn refers_again(&mut self, leg: Leg) {
        self.asks(leg, Method::Refer, refer("sip:301@pbx"), "");
        let event = self.passed(&Method::Notify).map(|(_, notify)| header(notify, "Event"));
        assert_eq!(event, Some(format!("refer;id={}", self.cseq)));
    }
}

#[test]
fn who_hangs_up_while_the_new_party_rings_leaves_the_other_with_them_or_with_nobody() {
    for (status, ended) in [(200, None), (486, Some(Cause::Rejected(486)))] {
        let mut rig = talking();
        let txn = rig.refers(Leg::Callee, "sip:300@pbx");
        rig.asks(Leg::Callee, Method::Bye, Headers::new(), "");
        assert_eq!((rig.statuses(), rig.ended()), (vec![200], None));
        let released = |o: &Output| matches!(o, Output::Release { leg: Leg::Callee });
        assert!(rig.has(released), "nothing more is written of who has left");
        rig.answers(txn, new_party(status, if status == 200 { ANSWER } else { "" }));
        assert!(rig.notified().is_empty(), "nobody is left to be told");
        assert_eq!(rig.ended(), ended);
    }
}

#[test]
fn the_end_of_the_call_ends_a_transfer_also_when_its_answer_crosses() {
    let mut rig = talking();
    let txn = rig.refers(Leg::Callee, "sip:300@pbx");
    rig.answers(txn, new_party(180, ""));
    rig.asks(Leg::Caller, Method::Bye, Headers::new(), "");
    assert_eq!(rig.ended(), Some(Cause::HungUp(Leg::Caller)));
    assert!(rig.has(|o| matches!(o, Output::Cancel { txn: t, .. } if *t == txn)));
    assert!(!rig.is_over());
    rig.answers(txn, new_party(200, ANSWER));
    assert!(rig.has(|o| matches!(o, Output::Ack(_))));
    assert!(rig.sent(&Method::Bye).is_some());
}

#[test]
fn who_never_answers_is_given_up_and_told_of() {
    let mut rig = talking();
    let txn = rig.refers(Leg::Callee, "sip:300@pbx");
    rig.answers(txn, new_party(180, ""));
    rig.at = rig.at.plus(Duration::from_secs(200));
    rig.feed(Input::Tick);
    assert_eq!(rig.notified(), ["SIP/2.0 480 Temporarily Unavailable"]);
    assert!(rig.has(|o| matches!(o, Output::Cancel { .. })));
    assert_eq!(rig.ended(), None);
}

#[test]
fn an_attended_transfer_names_the_dialog_that_the_new_party_is_in() {
    let mut rig = talking();
    rig.asks(
        Leg::Callee,
        Method::Refer,
        refer("<sip:300@pbx?Replaces=abc%3Bto-tag%3Dours%3Bfrom-tag%3Dtheirs>"),
        "",
    );
    let asked = rig.out.iter().find_map(|output| match output {
        Output::Refer { replaces, .. } => replaces.clone(),
        _ => None,
    });
    assert_eq!(asked.expect("a dialog").to_value(), "abc;to-tag=ours;from-tag=theirs");
    let there = Replaces::parse("xyz;to-tag=t;from-tag=f");
    rig.named(there);
    let (_, invite) = rig.passed(&Method::Invite).expect("an INVITE");
    assert_eq!(header(invite, "Replaces"), "xyz;to-tag=t;from-tag=f");
}

#[test]
fn what_cannot_be_followed_is_refused_with_its_reason() {
    let cases: [(Headers, u16); 5] = [
        (Headers::new(), 400),
        (refer("<sip:1@h>").with("Refer-To", "<sip:2@h>"), 400),
        (refer("<http://example.com>"), 416),
        (refer("<sip:1@h;method=BYE>"), 603),
        (refer("<sip:1@h"), 400),
    ];
    for (headers, status) in cases {
        let mut rig = talking();
        rig.asks(Leg::Callee, Method::Refer, headers, "");
        assert_eq!(rig.statuses(), [status]);
        assert!(!rig.has(|o| matches!(o, Output::Refer { .. })));
    }
    let mut rig = announced(opt_in());
    rig.asks(Leg::Caller, Method::Refer, refer("sip:1@h"), "");
    assert_eq!(rig.statuses(), [480], "nobody is there to be handed over");
    let mut rig = talking();
    rig.refers(Leg::Callee, "sip:300@pbx");
    rig.asks(Leg::Caller, Method::Refer, refer("sip:1@h"), "");
    assert_eq!(rig.statuses(), [480], "one at a time");
}

#[test]
fn a_refer_without_a_subscription_is_told_nothing() {
    let mut rig = talking();
    rig.asks(Leg::Callee, Method::Refer, refer("sip:300@pbx").with("Refer-Sub", "false"), "");
    assert_eq!(rig.statuses(), [200]);
    assert!(rig.notified().is_empty());
    let txn = rig.named(None);
    rig.answers(txn, new_party(200, ANSWER));
    assert!(rig.notified().is_empty());
}

fn replacing(from_tag: &str, when: When) -> Replaces {
    Replaces {
        call_id: "other-leg".into(),
        to_tag: "callee-side".into(),
        from_tag: from_tag.into(),
        when,
    }
}

#[test]
fn an_invite_that_replaces_a_party_takes_their_place_and_ends_their_dialog() {
    let mut rig = recorded();
    let by = replacing("callee-tag", When::Always);
    assert_eq!(rig.call.replaceable(Leg::Callee, &by), Ok(()));
    let mut request = incoming(Method::Invite, 1);
    request.call_id = "third-leg".into();
    request.from = address("sip:300@127.0.0.1", Some("new-tag"));
    let txn = ServerTxn(77);
    rig.feed(Input::Replacement { leg: Leg::Callee, txn, tag: "third-side".into(), request });
    let [response] = rig.responses()[..] else { panic!("{:?}", rig.out) };
    assert_eq!((response.status, response.to_tag.as_deref()), (200, Some("third-side")));
    assert!(String::from_utf8_lossy(&response.body).contains("m=audio 6002 RTP/AVP 8 101"));
    assert_eq!(header(rig.sent(&Method::Bye).expect("a BYE"), "Call-ID"), "other-leg");
    assert!(rig.has(|o| matches!(o, Output::Identify { leg: Leg::Callee, .. })));
    assert_eq!(rig.ended(), None);
    rig.by_new_party(Leg::Callee, Method::Bye);
    assert_eq!(rig.ended(), Some(Cause::HungUp(Leg::Callee)));
}

#[test]
fn only_the_dialog_that_is_meant_is_replaced() {
    let rig = recorded();
    let may = |replaces: &Replaces| rig.call.replaceable(Leg::Callee, replaces);
    assert_eq!(may(&replacing("guessed", When::Always)), Err(481));
    assert_eq!(may(&replacing("callee-tag", When::Early)), Err(486));
    let there = rig.call.other_side_of(Leg::Callee, &replacing("callee-tag", When::Always));
    let there = there.expect("the caller's dialog").to_value();
    assert_eq!(there, "caller-leg;to-tag=caller-tag;from-tag=caller-side");
    assert_eq!(rig.call.other_side_of(Leg::Callee, &replacing("guessed", When::Always)), None);
    let asked = announced(opt_in());
    let by = replacing("callee-tag", When::Always);
    assert_eq!(asked.call.replaceable(Leg::Callee, &by), Err(481));
}

#[test]
fn a_new_party_gets_keys_that_the_one_before_never_had() {
    use crate::call::setup::Plan;
    use crate::sdp::{Keying, SrtpUse};

    let mut setup = setup(standing(), true);
    if let Plan::Inline(inline) = &mut setup.plan {
        inline.callee.keying = Keying::new(SrtpUse::Offer, [2; Keying::SECRET].into());
    }
    let keys = |rig: &Rig| {
        let (_, invite) = rig.passed(&Method::Invite).expect("an INVITE");
        let body = String::from_utf8_lossy(&invite.body).into_owned();
        let keys = body.lines().filter_map(|line| line.split("inline:").nth(1));
        keys.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut rig = Rig::start(setup);
    let mut seen = keys(&rig);
    rig.callee_says(200, ANSWER).ack();
    for round in 0..2 {
        rig.asks(Leg::Callee, Method::Refer, refer("sip:300@pbx"), "");
        let names = Names { call_id: format!("leg-{round}"), tag: format!("side-{round}") };
        rig.feed(Input::Referable { names, replaces: None });
        let offered = keys(&rig);
        assert!(!offered.is_empty() && offered.iter().all(|key| !seen.contains(key)));
        seen.extend(offered);
        let (txn, _) = rig.passed(&Method::Invite).expect("an INVITE");
        rig.answers(txn, new_party(486, ""));
    }
}

#[test]
fn who_has_the_same_name_as_the_one_before_is_asked_all_the_same() {
    let mut rig = recorded();
    let txn = rig.refers(Leg::Callee, "sip:200@pbx");
    rig.answers(txn, new_party(200, ANSWER));
    assert!(rig.has(|o| matches!(o, Output::Identify { leg: Leg::Callee, .. })));
}

#[test]
fn a_permission_that_comes_when_its_party_has_left_records_nobody() {
    for leaves in [false, true] {
        let mut rig = announced(Policy { scope: Scope::PerParty, ..opt_in() });
        rig.played(1, true).key('1');
        rig.durable();
        rig.callee_says(200, ANSWER);
        let on_its_way = std::mem::take(&mut rig.out);
        assert!(on_its_way.iter().any(|o| matches!(o, Output::Commit(_))));
        rig.refers(Leg::Callee, "sip:300@pbx");
        if leaves {
            rig.asks(Leg::Callee, Method::Bye, Headers::new(), "");
        }
        rig.out = on_its_way;
        rig.durable();
        let captured = rig.has(|o| matches!(o, Output::Capture { leg: Leg::Callee, .. }));
        assert_eq!(captured, !leaves);
    }
}

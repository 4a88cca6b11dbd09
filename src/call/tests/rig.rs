//! A call under test, and what it is made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;

use crate::call::machine::{Call, Cause, Fact, Input, Output};
use crate::call::media::{MediaCommand, MediaEvent, PlaybackId, Sound};
use crate::call::message::{
    Address, Answered, ClientTxn, Headers, Hop, Incoming, Method, Request, Response, ServerTxn,
    Transport,
};
use crate::call::session_timer::{LEAST, Terms};
use crate::call::setup::{InfoKeys, Inline, Plan, Recorder, Setup, Side, Transfers};
use crate::catalog::Receipt;
use crate::consent::machine::{Denial, PartyFacts};
use crate::consent::policy::{
    AcceptAgain, Ask, Basis, ByLeg, Gate, OnRefusal, OnUnavailable, OnWithdrawal, Policy, Scope,
};
use crate::consent::{Decision, DecisionNumber, MediaTransport, NoticePlayed, Prior, Stops};
use crate::ids::{CallId, Digest, Leg, PartyRef, Pii, RecordingId};
use crate::rtp::Codec;
use crate::sdp::Keying;
use crate::time::{Moment, Timestamp};

pub(super) const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
pub(super) const ANSWER: &str = "v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 5000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";

pub(super) const INVITE: ServerTxn = ServerTxn(1);

/// A call under test: what went in last, what has come out since.
pub(super) struct Rig {
    pub(super) call: Call,
    pub(super) at: Moment,
    pub(super) out: Vec<Output>,
    pub(super) txn: u64,
    pub(super) cseq: u32,
    /// The last decision of each leg that is to be made durable.
    pub(super) decided: BTreeMap<Leg, DecisionNumber>,
}

impl Rig {
    pub(super) fn inline(policy: Policy) -> Self {
        Self::start(setup(policy, true))
    }

    pub(super) fn start(setup: Setup) -> Self {
        let at = Moment { instant: Instant::now(), wall: Timestamp::from_micros(1_000_000) };
        let (call, out) = Call::start(at, setup);
        let mut rig = Self { call, at, out, txn: 100, cseq: 1, decided: BTreeMap::new() };
        rig.note_decisions();
        rig
    }

    pub(super) fn feed(&mut self, input: Input) -> &mut Self {
        self.out = self.call.handle(self.at, input);
        self.note_decisions();
        self
    }

    fn note_decisions(&mut self) {
        for output in &self.out {
            if let Output::Commit(decision) = output {
                self.decided.insert(decision.facts().leg, decision.number());
            }
        }
    }

    /// The leg's last decision cannot be made durable.
    pub(super) fn not_durable(&mut self, leg: Leg) -> &mut Self {
        let number = self.decided.get(&leg).copied().unwrap_or_default();
        self.feed(Input::NotDurable { leg, number })
    }

    /// Every decision that is to be made durable is; what comes of it is in `out`.
    pub(super) fn durable(&mut self) -> &mut Self {
        let decisions: Vec<Decision> = std::mem::take(&mut self.out)
            .into_iter()
            .filter_map(|output| match output {
                Output::Commit(decision) => Some(decision),
                _ => None,
            })
            .collect();
        let mut out = Vec::new();
        for decision in decisions {
            let evidence = Digest::of(decision.facts().leg.to_string().as_bytes());
            self.feed(Input::Durable(Receipt::assumed(decision, evidence)));
            out.append(&mut self.out);
        }
        self.out = out;
        self
    }

    /// Lets time pass up to the next deadline within `limit`, and ticks there.
    pub(super) fn wait(&mut self, limit: Duration) -> &mut Self {
        let end = self.at.instant + limit;
        let due = self.call.deadline().filter(|due| *due <= end).unwrap_or(end);
        self.at = self.at.plus(due.saturating_duration_since(self.at.instant));
        self.feed(Input::Tick)
    }

    pub(super) fn by_caller(&mut self, method: Method) -> &mut Self {
        self.cseq += 1;
        self.txn += 1;
        let mut request = incoming(method, self.cseq);
        request.to.tag = Some("caller-side".into());
        let txn = ServerTxn(self.txn);
        self.feed(Input::Request { leg: Leg::Caller, txn, request })
    }

    pub(super) fn ack(&mut self) -> &mut Self {
        let mut request = incoming(Method::Ack, 1);
        request.to.tag = Some("caller-side".into());
        self.feed(Input::Ack { leg: Leg::Caller, request })
    }

    pub(super) fn key(&mut self, key: char) -> &mut Self {
        let (leg, at) = (Leg::Caller, self.at.instant);
        self.feed(Input::Media(MediaEvent::Key {
            leg,
            at,
            key,
            rtp_timestamp: 7,
            stops: Stops::NONE,
        }))
    }

    pub(super) fn played(&mut self, playback: u32, completed: bool) -> &mut Self {
        let notice = NoticePlayed { completed, ..self.notice(if completed { 1000 } else { 900 }) };
        self.end_of(playback, notice)
    }

    pub(super) fn played_so_much(&mut self, playback: u32, played_ms: u64) -> &mut Self {
        let notice = self.notice(played_ms);
        self.end_of(playback, notice)
    }

    pub(super) fn end_of(&mut self, playback: u32, notice: NoticePlayed) -> &mut Self {
        let playback = PlaybackId(playback);
        self.feed(Input::Media(MediaEvent::Played { leg: Leg::Caller, playback, notice }))
    }

    /// A notice of a second, cut after so many milliseconds.
    pub(super) fn notice(&self, played_ms: u64) -> NoticePlayed {
        NoticePlayed {
            prompt: "notice-opt-in".into(),
            locale: "en-US".into(),
            sha256: Digest::of(b"prompt"),
            played_ms,
            total_ms: 1000,
            packets: played_ms / 20,
            received: 9,
            started: self.at.wall,
            ended: self.at.wall,
            held: false,
            loss_percent: None,
            completed: false,
        }
    }

    pub(super) fn callee_says(&mut self, status: u16, body: &'static str) -> &mut Self {
        let txn = self.dialled();
        let response = answered(status, body);
        self.feed(Input::Response { txn, response })
    }

    pub(super) fn dialled(&self) -> ClientTxn {
        ClientTxn(65_536)
    }

    pub(super) fn responses(&self) -> Vec<&Response> {
        self.out
            .iter()
            .filter_map(|output| match output {
                Output::Respond { response, .. } => Some(response),
                _ => None,
            })
            .collect()
    }

    pub(super) fn statuses(&self) -> Vec<u16> {
        self.responses().iter().map(|response| response.status).collect()
    }

    pub(super) fn sent(&self, method: &Method) -> Option<&Request> {
        self.out.iter().find_map(|output| match output {
            Output::Send { request, .. } if request.method == *method => Some(request),
            _ => None,
        })
    }

    pub(super) fn decision(&self) -> Option<&Decision> {
        self.out.iter().find_map(|output| match output {
            Output::Commit(decision) => Some(decision),
            _ => None,
        })
    }

    pub(super) fn prompts(&self) -> Vec<&str> {
        self.out
            .iter()
            .filter_map(|output| match output {
                Output::Media(MediaCommand::Play { sound, .. }) => Some(match sound {
                    Sound::Prompt { name, .. } => name.as_str(),
                    Sound::Ringback { .. } => "ringback",
                    Sound::Waiting => "waiting",
                }),
                _ => None,
            })
            .collect()
    }

    pub(super) fn has(&self, wanted: impl Fn(&Output) -> bool) -> bool {
        self.out.iter().any(wanted)
    }

    pub(super) fn blocked(&self) -> Option<Denial> {
        self.out.iter().find_map(|output| match output {
            Output::Tell(Fact::Blocked { why }) => Some(*why),
            _ => None,
        })
    }

    pub(super) fn ended(&self) -> Option<Cause> {
        self.out.iter().find_map(|output| match output {
            Output::Tell(Fact::Ended { cause, .. }) => Some(*cause),
            _ => None,
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.has(|output| matches!(output, Output::Over))
    }

    pub(super) fn relays(&self) -> usize {
        let relay = |o: &&Output| matches!(o, Output::Media(MediaCommand::Relay { on: true, .. }));
        self.out.iter().filter(relay).count()
    }
}

pub(super) fn opt_in() -> Policy {
    Policy {
        name: "default".into(),
        basis: Basis::Consent,
        purposes: vec!["quality".into()],
        controller: "Example GmbH".into(),
        gate: Gate::OptIn,
        fallback: Gate::OptIn,
        on_file: ByLeg::default(),
        caller: Ask::OnCall,
        callee: Ask::Standing("agreement".into()),
        scope: Scope::All,
        notice: "notice-opt-in".into(),
        locale: [("*".to_owned(), "en-US".to_owned())].into(),
        locale_header: ByLeg::default(),
        accept: '1',
        refuse: '2',
        withdraw: "*9".into(),
        pause: "*7".into(),
        pause_by: vec![Leg::Callee],
        pause_limit: Duration::from_secs(300),
        accept_again: AcceptAgain::Never,
        loss_limit: 20,
        attempts: 2,
        answer_within: Duration::from_secs(8),
        on_refusal: OnRefusal::Continue,
        acknowledge: None,
        on_withdrawal: OnWithdrawal::Erase,
        on_unavailable: OnUnavailable::Proceed,
        beep: None,
        retention: Duration::from_secs(86_400),
    }
}

pub(super) fn no_objection() -> Policy {
    Policy { basis: Basis::LegitimateInterests, gate: Gate::NoObjection, ..opt_in() }
}

pub(super) fn standing() -> Policy {
    Policy { caller: Ask::Standing("contract".into()), ..opt_in() }
}

pub(super) fn setup(policy: Policy, inline: bool) -> Setup {
    let callee = Inline {
        callee: side("callee-side", 6002),
        callee_party: party(Leg::Callee),
        uri: "sip:200@127.0.0.1:5080".into(),
        call_id: "other-leg".into(),
        hop: hop(5080),
        ring_for: Duration::from_secs(180),
        transfers: Transfers::Followed,
    };
    Setup {
        call: CallId(Uuid::from_u128(1)),
        recording: RecordingId(Uuid::from_u128(2)),
        invite: incoming(Method::Invite, 1),
        txn: INVITE,
        policy_digest: policy.digest(),
        policy: Arc::new(policy),
        plan: if inline { Plan::Inline(Box::new(callee)) } else { Plan::Endpoint },
        caller: side("caller-side", 6000),
        caller_party: party(Leg::Caller),
        codecs: Codec::ALL.to_vec(),
        info_keys: InfoKeys::Counted,
        timers: Terms { expires: Some(Duration::from_secs(1800)), least: LEAST },
        first_txn: 65_536,
        recorder: Recorder::Ready,
    }
}

pub(super) fn side(tag: &str, port: u16) -> Side {
    Side {
        tag: tag.into(),
        contact: "sip:127.0.0.1:5060".into(),
        rtp: ([127, 0, 0, 1], port).into(),
        rtcp: ([127, 0, 0, 1], port + 1).into(),
        locale: "en-US".into(),
        record: None,
        keying: Keying::off(),
    }
}

pub(super) fn party(leg: Leg) -> PartyFacts {
    PartyFacts {
        leg,
        party_ref: PartyRef([leg.stream().0; 32]),
        locale: "en-US".into(),
        transport: MediaTransport::Rtp,
        prior: Prior::Nothing,
    }
}

pub(super) fn hop(port: u16) -> Hop {
    Hop { transport: Transport::Udp, addr: ([127, 0, 0, 1], port).into() }
}

pub(super) fn address(uri: &str, tag: Option<&str>) -> Address {
    Address {
        value: Pii::new(Bytes::from(format!("<{uri}>"))),
        uri: Pii::new(uri.to_owned()),
        user: Pii::new("100".into()),
        tag: tag.map(str::to_owned),
    }
}

pub(super) fn incoming(method: Method, cseq: u32) -> Incoming {
    let body = if method == Method::Invite { OFFER } else { "" };
    Incoming {
        method,
        uri: Pii::new("sip:200@127.0.0.1".into()),
        user: Pii::new("200".into()),
        from: address("sip:100@127.0.0.1", Some("caller-tag")),
        to: address("sip:200@127.0.0.1", None),
        call_id: "caller-leg".into(),
        cseq,
        max_forwards: 70,
        contact: Some("sip:100@127.0.0.1:5070".into()),
        record_route: Vec::new(),
        headers: Headers::new().with("X-Kept", "yes"),
        body: Bytes::from_static(body.as_bytes()),
        source: hop(5070),
    }
}

pub(super) fn answered(status: u16, body: &'static str) -> Answered {
    Answered {
        status,
        reason: "whatever".into(),
        to_tag: (status > 100).then(|| "callee-tag".into()),
        cseq: 1,
        contact: Some("sip:200@127.0.0.1:5090".into()),
        record_route: Vec::new(),
        headers: Headers::new(),
        body: Bytes::from_static(body.as_bytes()),
        reached: None,
    }
}

/// To the point where the caller's notice plays.
pub(super) fn announced(policy: Policy) -> Rig {
    let mut rig = Rig::inline(policy);
    assert_eq!(rig.statuses(), [200]);
    rig.ack();
    assert!(rig.prompts()[0].starts_with("notice"));
    rig
}

/// To the point where the callee's phone is dialled, unrecorded because a disk failed.
pub(super) fn dialling() -> Rig {
    let mut rig = announced(opt_in());
    rig.played(1, true).key('1');
    rig.not_durable(Leg::Caller);
    assert_eq!(rig.blocked(), Some(Denial::Unavailable));
    assert!(rig.sent(&Method::Invite).is_some());
    rig
}

/// Both talk.
pub(super) fn talking() -> Rig {
    let mut rig = dialling();
    rig.callee_says(200, ANSWER);
    assert_eq!(rig.relays(), 2);
    rig
}

impl Rig {
    /// A request in a leg's dialog.
    pub(super) fn asks(
        &mut self,
        leg: Leg,
        method: Method,
        headers: Headers,
        body: &str,
    ) -> ServerTxn {
        self.cseq += 1;
        self.txn += 1;
        let mut request = incoming(method, self.cseq);
        if leg == Leg::Callee {
            request.call_id = "other-leg".into();
            request.from.tag = Some("callee-tag".into());
        }
        request.to.tag = Some(format!("{leg}-side"));
        request.headers = headers;
        request.body = Bytes::from(body.to_owned());
        let txn = ServerTxn(self.txn);
        self.feed(Input::Request { leg, txn, request });
        txn
    }

    /// The request that goes to the other side, with its transaction.
    pub(super) fn passed(&self, method: &Method) -> Option<(ClientTxn, &Request)> {
        self.out.iter().find_map(|output| match output {
            Output::Send { txn, request } if request.method == *method => Some((*txn, request)),
            _ => None,
        })
    }

    pub(super) fn answers(&mut self, txn: ClientTxn, response: Answered) -> &mut Self {
        self.feed(Input::Response { txn, response })
    }

    pub(super) fn acks(&mut self, leg: Leg) {
        let mut request = incoming(Method::Ack, self.cseq);
        if leg == Leg::Callee {
            request.call_id = "other-leg".into();
            request.from.tag = Some("callee-tag".into());
        }
        request.to.tag = Some(format!("{leg}-side"));
        request.body = Bytes::new();
        self.feed(Input::Ack { leg, request });
    }
}

//! The call machine: what happens goes in, what is to be done comes out.
//!
//! The two legs and the permission machine meet here. Signalling of the caller's side is in
//! `caller.rs`, of the callee's in `callee.rs`, sounds and permission in `asking.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::call::departing::Departing;
use crate::call::dialog::Dialog;
pub use crate::call::fact::{Cause, Cut, Fact};
use crate::call::identity::{Identities, asserted};
use crate::call::leg::{CalleeLeg, CallerLeg, Indicated, Invited, Overtaken};
use crate::call::media::{MediaCommand, MediaEvent, PlaybackId};
use crate::call::message::{
    Answered, ClientTxn, Headers, Incoming, Request, Response, ServerTxn, Unanswered,
};
use crate::call::provisional::Provisional;
pub use crate::call::referring::Names;
use crate::call::referring::{Referred, Transfer};
use crate::call::relaying::{Parting, Relayed};
use crate::call::renegotiating::Reoffer;
use crate::call::replaces::Replaces;
use crate::call::session_timer::Terms;
use crate::call::setup::{InfoKeys, Inline, Plan, Recorder, Setup, Side};
use crate::catalog::Receipt;
use crate::consent::machine::{Denial, Input as Asked, Order, PartyFacts, Permission, Verdict};
use crate::consent::policy::{OnUnavailable, Policy};
use crate::consent::{Decision, DecisionNumber, Grant};
use crate::ids::{CallId, Leg, RecordingId};
use crate::number::PartyNumber;
use crate::rtp::{Codec, LegMedia};
use crate::time::{Moment, Timestamp};

/// What happens to a call.
#[derive(Debug)]
pub enum Input {
    /// The ACK of a 2xx of ours.
    Ack {
        /// On which leg's dialog.
        leg: Leg,
        /// The ACK.
        request: Incoming,
    },
    /// The caller's INVITE was cancelled.
    Cancelled {
        /// The INVITE's transaction.
        txn: ServerTxn,
        /// The CANCEL's headers.
        headers: Headers,
    },
    /// A request in a leg's dialog.
    Request {
        /// Which leg's.
        leg: Leg,
        /// Its transaction.
        txn: ServerTxn,
        /// The request.
        request: Incoming,
    },
    /// A response to a request of ours.
    Response {
        /// The request's transaction.
        txn: ClientTxn,
        /// The response.
        response: Answered,
    },
    /// A request of ours will not be answered.
    Unanswered {
        /// The request's transaction.
        txn: ClientTxn,
        /// Why.
        why: Unanswered,
    },
    /// Something about the media.
    Media(MediaEvent),
    /// A decision is durable.
    Durable(Receipt<Decision>),
    /// A decision could not be made durable in time.
    NotDurable {
        /// Whose.
        leg: Leg,
        /// Which.
        number: DecisionNumber,
    },
    /// Somebody else speaks on a leg: the answer to [`Output::Identify`].
    Replaced {
        /// Who.
        party: PartyFacts,
    },
    /// There are names for the dialog that [`Output::Refer`] asked for.
    Referable {
        /// The names.
        names: Names,
        /// The dialog at the new party's side that theirs is to take the place of.
        replaces: Option<Replaces>,
    },
    /// An INVITE takes the place of a leg's dialog, which [`Call::replaceable`] allows.
    Replacement {
        /// Which leg's.
        leg: Leg,
        /// Its transaction.
        txn: ServerTxn,
        /// Our tag in its dialog.
        tag: String,
        /// The INVITE.
        request: Incoming,
    },
    /// A command from outside.
    Command {
        /// What is wanted.
        order: Order,
        /// The command's identifier, for the evidence.
        id: String,
    },
    /// The call's media has ended by itself, by a defect.
    MediaLost,
    /// The agent wants this call to end.
    HangUp,
    /// The time that [`Call::deadline`] named has come.
    Tick,
}

/// What a call wants done.
#[derive(Debug)]
pub enum Output {
    /// Answer a request.
    Respond {
        /// Its transaction.
        txn: ServerTxn,
        /// The answer.
        response: Response,
    },
    /// Send a request.
    Send {
        /// Its transaction's number.
        txn: ClientTxn,
        /// The request.
        request: Request,
    },
    /// Cancel an INVITE of ours.
    Cancel {
        /// Its transaction.
        txn: ClientTxn,
        /// What the CANCEL says besides, such as its `Reason` (RFC 3326).
        headers: Headers,
    },
    /// Send the ACK of a 2xx.
    Ack(Request),
    /// Tell the media threads.
    Media(MediaCommand),
    /// Close the media of this call, finishing what is being written.
    CloseMedia,
    /// Make a decision durable; answer with [`Input::Durable`] or [`Input::NotDurable`].
    Commit(Decision),
    /// Write the leg's voice from now on.
    Capture {
        /// Which leg's.
        leg: Leg,
        /// The right to.
        grant: Grant,
    },
    /// Somebody else speaks on a leg; answer with [`Input::Replaced`].
    Identify {
        /// Which leg.
        leg: Leg,
        /// Who, as the leg's peer says.
        number: PartyNumber,
    },
    /// Somebody is to be dialled in the place of a leg's party; answer with
    /// [`Input::Referable`].
    Refer {
        /// Which leg's.
        leg: Leg,
        /// The dialog that the one who asked for it wants replaced, as they know it.
        replaces: Option<Replaces>,
    },
    /// Stop writing the leg's voice: its permission is gone.
    Release {
        /// Which leg's.
        leg: Leg,
    },
    /// Nothing will be written to this recording any more, although the call goes on.
    EndRecording {
        /// Which.
        recording: RecordingId,
    },
    /// Something that others want to know.
    Tell(Fact),
    /// Nothing is left of the call; the machine can be dropped.
    Over,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Somebody is asked, or the caller is the only party.
    Asking,
    /// A goodbye plays; the call ends with it.
    Farewell,
    /// The other leg is dialled.
    Dialling,
    /// Both hear each other, or the caller talks to the endpoint.
    Talking,
    /// The call is being taken down.
    Over,
}

/// What a playing is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The permission machine asked for it and waits for its end.
    Question,
    /// Tells what was decided; nothing waits for it.
    Courtesy,
    /// The call ends with it, for this reason.
    Farewell(Cause),
    /// Ringback, or a tone for who waits.
    Comfort,
}

/// The last client transaction of a call, counted from its first.
const LAST_TXN: u64 = 65_535;

/// Whether the media threads beep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beeping {
    On,
    Off,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    pub(super) id: CallId,
    pub(super) policy: std::sync::Arc<Policy>,
    pub(super) invite: Incoming,
    pub(super) inline: Option<Inline>,
    pub(super) side: Side,
    pub(super) codecs: Vec<Codec>,
    pub(super) info_keys: InfoKeys,
    pub(super) timers: Terms,
    pub(super) recorder: Recorder,
    pub(super) permission: Permission,
    /// The recording that the first permission is for.
    pub(super) first_recording: RecordingId,
    pub(super) phase: Phase,
    /// What the caller is told before the final answer.
    pub(super) provisional: Provisional,
    pub(super) caller: CallerLeg,
    pub(super) callee: CalleeLeg,
    pub(super) overtaken: Option<Overtaken>,
    pub(super) playing: BTreeMap<Leg, (PlaybackId, Purpose)>,
    /// Permissions for parties who are not on the line yet.
    pub(super) grants: Vec<(Leg, Grant)>,
    pub(super) joined: Vec<Leg>,
    /// Legs on which nothing is heard.
    pub(super) silent: BTreeSet<Leg>,
    pub(super) identities: Identities,
    /// What the caller asked to be told of recording.
    pub(super) indication: Indicated,
    /// Whether a beep is heard now and then.
    pub(super) beeping: Beeping,
    /// When a goodbye is given up, and why it is said.
    pub(super) farewell: Option<(Instant, Cause)>,
    /// Requests of one leg that the other one is to answer.
    pub(super) relayed: Vec<Relayed>,
    /// Somebody who is to be dialled once there are names for it.
    pub(super) referred: Option<Referred>,
    /// Somebody who is dialled in the place of a party.
    pub(super) transfer: Option<Box<Transfer>>,
    /// How many transfers were asked for.
    pub(super) refers: u32,
    /// Dialogs of parties who have been replaced.
    pub(super) departing: Vec<Departing>,
    /// One party's new offer, while the other one is asked about it.
    pub(super) passing: Option<Reoffer>,
    /// What the callee's answer said besides, for a caller who is still to be answered.
    pub(super) connected: Headers,
    /// What a peer said as it left.
    pub(super) parting: Option<Parting>,
    pub(super) started: Timestamp,
    next_playback: u32,
    first_txn: u64,
    sent: u64,
    over_said: bool,
    blocked_said: bool,
}

impl Call {
    /// Takes over an INVITE and does the first thing about it.
    #[must_use]
    pub fn start(at: Moment, setup: Setup) -> (Self, Vec<Output>) {
        let (inline, parties) = match setup.plan {
            Plan::Endpoint => (None, vec![setup.caller_party]),
            Plan::Inline(inline) => {
                let callee = inline.callee_party.clone();
                (Some(*inline), vec![setup.caller_party, callee])
            }
        };
        let policy = setup.policy;
        let policy_too = std::sync::Arc::clone(&policy);
        let permission =
            Permission::new(policy_too, setup.policy_digest, setup.call, setup.recording, parties);
        let indication = Indicated::to(&setup.invite.headers);
        let mut identities = Identities::default();
        let from = PartyNumber::parse(setup.invite.from.uri.expose());
        identities.note(Leg::Caller, from);
        identities.note(Leg::Caller, asserted(&setup.invite.headers));
        identities.note(Leg::Callee, PartyNumber::parse(setup.invite.uri.expose()));
        let tag = &setup.caller.tag;
        let dialog = Dialog::uas(&setup.invite, tag, setup.caller.contact.clone());
        let provisional = Provisional::to(&setup.invite.headers, setup.invite.cseq, tag);
        let mut call = Self {
            id: setup.call,
            policy,
            invite: setup.invite,
            inline,
            side: setup.caller,
            codecs: setup.codecs,
            info_keys: setup.info_keys,
            timers: setup.timers,
            recorder: setup.recorder,
            permission,
            first_recording: setup.recording,
            phase: Phase::Asking,
            provisional,
            caller: CallerLeg::Invited(Box::new(Invited { txn: setup.txn, dialog, early: None })),
            callee: CalleeLeg::Idle,
            overtaken: None,
            playing: BTreeMap::new(),
            grants: Vec::new(),
            joined: Vec::new(),
            silent: BTreeSet::new(),
            identities,
            indication,
            beeping: Beeping::Off,
            farewell: None,
            relayed: Vec::new(),
            referred: None,
            transfer: None,
            refers: 0,
            departing: Vec::new(),
            passing: None,
            connected: Headers::new(),
            parting: None,
            started: at.wall,
            next_playback: 0,
            first_txn: setup.first_txn,
            sent: 0,
            over_said: false,
            blocked_said: false,
        };
        let mut outputs = Vec::new();
        call.begin(at, &mut outputs);
        call.finish_if_over(&mut outputs);
        (call, outputs)
    }

    /// Takes what happened, and says what to do.
    pub fn handle(&mut self, at: Moment, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        let out = &mut outputs;
        match input {
            Input::Ack { leg, request } => self.on_ack(at, leg, &request, out),
            Input::Cancelled { txn, headers } => self.on_cancelled(at, txn, &headers, out),
            Input::Request { leg, txn, request } => self.on_request(at, leg, txn, request, out),
            Input::Response { txn, response } => self.on_response(at, txn, &response, out),
            Input::Unanswered { txn, why } => self.on_unanswered(at, txn, why, out),
            Input::Media(event) => self.on_media(at, event, out),
            Input::Durable(receipt) => {
                self.permit(at, Asked::Durable(receipt), out);
            }
            Input::NotDurable { leg, number } => {
                self.permit(at, Asked::NotDurable { leg, number }, out);
            }
            Input::Replaced { party } => {
                match party.leg {
                    Leg::Caller => self.side.locale.clone_from(&party.locale),
                    Leg::Callee => {
                        if let Some(inline) = &mut self.inline {
                            inline.callee.locale.clone_from(&party.locale);
                        }
                    }
                }
                self.permit(at, Asked::Replaced { party }, out);
            }
            Input::Referable { names, replaces } => self.on_referable(at, names, replaces, out),
            Input::Replacement { leg, txn, tag, request } => {
                self.on_replacement(at, leg, (txn, tag), &request, out);
            }
            Input::Command { order, id } => self.permit(at, Asked::Command { order, id }, out),
            Input::MediaLost => self.end(at, Cause::MediaLost, out),
            Input::HangUp => self.end(at, Cause::Agent, out),
            Input::Tick => self.on_tick(at, out),
        }
        self.finish_if_over(out);
        outputs
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let farewell = self.farewell.map(|(until, _)| until);
        let overtaken = self.overtaken.as_ref().map(|overtaken| overtaken.until);
        let transfer = self.transfer.as_ref().map(|transfer| transfer.calling.give_up);
        let departing = self.departing.iter().map(|one| one.until).min();
        let provisional = match &self.caller {
            CallerLeg::Invited(_) => self.provisional.deadline(),
            _ => None,
        };
        let legs = [self.caller.deadline(), self.callee.deadline(), overtaken, transfer, departing];
        legs.into_iter()
            .chain([provisional])
            .chain([self.permission.deadline(), farewell])
            .flatten()
            .min()
    }

    /// The policy under which the call is.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Where the call stands, for counters.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What was negotiated on a leg, once it is.
    #[must_use]
    pub fn media(&self, leg: Leg) -> Option<&LegMedia> {
        match leg {
            Leg::Caller => match &self.caller {
                CallerLeg::Established(established) => established.session.media(),
                _ => None,
            },
            Leg::Callee => match &self.callee {
                CalleeLeg::Established(established) => established.session.media(),
                _ => None,
            },
        }
    }

    /// A leg's dialog, where it is established.
    pub(super) fn dialog(&self, leg: Leg) -> Option<&Dialog> {
        match (leg, &self.caller, &self.callee) {
            (Leg::Caller, CallerLeg::Established(established), _)
            | (Leg::Callee, _, CalleeLeg::Established(established)) => Some(&established.dialog),
            _ => None,
        }
    }

    /// Our own end of a leg.
    pub(super) fn side_of(&self, leg: Leg) -> Option<&Side> {
        match leg {
            Leg::Caller => Some(&self.side),
            Leg::Callee => self.inline.as_ref().map(|inline| &inline.callee),
        }
    }

    fn begin(&mut self, at: Moment, out: &mut Vec<Output>) {
        if self.recorder == Recorder::OutOfOrder {
            return self.begin_unrecorded(at, Denial::Unavailable, out);
        }
        if !self.permission.covers() {
            return self.begin_unrecorded(at, Denial::NotCovered, out);
        }
        self.permit(at, Asked::Begin, out);
        let offer = self.invite.body.clone();
        self.prefer(at, Leg::Caller, &offer, out);
        if !self.permission.possible() {
            // What is known of a party rules it out: the call goes on when that is written down.
            return;
        }
        if self.inline.is_none() || self.permission.asks(Leg::Caller) {
            self.answer_caller(at, out);
        }
        // Both are asked side by side. Who is alone to be asked is asked before the other is
        // bothered.
        let first = !self.permission.asks(Leg::Caller) || self.permission.asks(Leg::Callee);
        if self.inline.is_some() && first && self.phase != Phase::Over {
            self.dial(at, out);
        }
    }

    fn begin_unrecorded(&mut self, at: Moment, why: Denial, out: &mut Vec<Output>) {
        if why == Denial::Unavailable && self.policy.on_unavailable == OnUnavailable::Refuse {
            self.blocked(why, out);
            return self.refuse_caller(at, 603, Cause::Unavailable, out);
        }
        self.blocked(why, out);
        if self.inline.is_some() {
            self.dial(at, out);
        } else {
            self.answer_caller(at, out);
        }
    }

    fn on_tick(&mut self, at: Moment, out: &mut Vec<Output>) {
        self.tick_caller(at, out);
        self.tick_callee(at, out);
        self.tick_sessions(at, out);
        self.tick_provisional(at, out);
        self.tick_transfer(at, out);
        self.end_departing(Some(at.instant), out);
        if let Some((until, cause)) = self.farewell
            && until <= at.instant
        {
            self.end(at, cause, out);
        }
        if self.permission.deadline().is_some_and(|due| due <= at.instant) {
            self.permit(at, Asked::Tick, out);
        }
    }

    pub(super) fn next_txn(&mut self) -> ClientTxn {
        let txn = ClientTxn(self.first_txn + self.sent);
        // After the last one those that are long over are used again; the first never is, for it
        // names the INVITE.
        self.sent = if self.sent == LAST_TXN { 1 } else { self.sent + 1 };
        txn
    }

    pub(super) fn next_playback(&mut self) -> PlaybackId {
        self.next_playback += 1;
        PlaybackId(self.next_playback)
    }

    /// Takes the call down: everything that is open is closed, cancelled or said goodbye to.
    pub(super) fn end(&mut self, at: Moment, cause: Cause, out: &mut Vec<Output>) {
        if self.phase == Phase::Over {
            return;
        }
        self.phase = Phase::Over;
        self.farewell = None;
        // Who hung up goes first: theirs is an answer, the other's question only ends.
        let first = match cause {
            Cause::HungUp(leg) => leg,
            _ => Leg::Caller,
        };
        for leg in [first, first.other()] {
            self.permit(at, Asked::Left { leg }, out);
        }
        self.grants.clear();
        out.push(Output::CloseMedia);
        self.end_relays(out);
        self.end_transfer(at, out);
        self.end_departing(None, out);
        self.leave_caller(at, cause, out);
        self.leave_callee(at, cause, out);
        for leg in std::mem::take(&mut self.joined) {
            out.push(Output::Tell(Fact::Left { leg, reason: cause }));
        }
        out.push(Output::Tell(Fact::Ended { started: self.started, cause }));
    }

    fn finish_if_over(&mut self, out: &mut Vec<Output>) {
        let legs_gone = self.caller.is_gone() && self.callee.is_gone();
        let gone = legs_gone && self.overtaken.is_none() && self.transfer.is_none();
        let done = gone && !self.permission.owes_decision();
        if self.phase == Phase::Over && done && !self.over_said {
            self.over_said = true;
            out.push(Output::Over);
        }
    }

    /// Says once that the call is not recorded.
    fn blocked(&mut self, why: Denial, out: &mut Vec<Output>) {
        if !self.blocked_said {
            self.blocked_said = true;
            out.push(Output::Tell(Fact::Blocked { why }));
        }
    }

    /// Every question of the call is answered.
    pub(super) fn settled(&mut self, at: Moment, verdict: Verdict, out: &mut Vec<Output>) {
        if let Verdict::Unrecorded { why, .. } = verdict
            && !self.permission.may_record()
        {
            self.blocked(why, out);
        }
        let asked = Leg::BOTH.into_iter().any(|leg| self.permission.asks(leg));
        match (self.phase, verdict) {
            (Phase::Asking, verdict) => self.go_on(at, verdict, out),
            (Phase::Dialling, verdict) if asked => self.go_on(at, verdict, out),
            (
                Phase::Dialling | Phase::Talking,
                Verdict::Unrecorded { why: Denial::Unavailable, .. },
            ) if self.policy.on_unavailable == OnUnavailable::Refuse => {
                self.end(at, Cause::Unavailable, out);
            }
            _ => {}
        }
    }
}

//! What happened to a call, as rows of the catalog and events for everybody.

use crate::agent::scribe::Told;
use crate::call::machine::{Cause, Cut, Fact};
use crate::catalog::Change;
use crate::consent::machine::{self, Denial};
use crate::event::{
    BlockReason, CallEnded, CallMode, CallParty, CallStarted, CutReason, EndCause, JoinReason,
    LeaveReason, NoticeEnded, NoticeStarted, PartyJoined, PartyLeft, PausedBy, RecordingBlocked,
    RecordingPaused, RecordingResumed, Word,
};
use crate::ids::{CallId, Digest, Leg, PartyRef, RecordingId};
use crate::number::PartyNumber;
use crate::time::Timestamp;

/// A call as the catalog and the events know it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) call: CallId,
    pub(super) recording: RecordingId,
    pub(super) mode: CallMode,
    pub(super) direction: crate::event::CallDirection,
    pub(super) route: u32,
    pub(super) policy: String,
    pub(super) policy_digest: Digest,
    pub(super) parties: Vec<Party>,
}

/// Somebody on a call.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) leg: Leg,
    pub(super) party_ref: PartyRef,
    pub(super) number: PartyNumber,
}

impl Known {
    pub(super) fn party(&self, leg: Leg) -> Option<&Party> {
        self.parties.iter().find(|party| party.leg == leg)
    }

    /// The call's first entry.
    pub(super) fn started(&self, at: Timestamp) -> Told {
        let legs = self
            .parties
            .iter()
            .map(|party| CallParty { role: party.leg, party_ref: party.party_ref })
            .collect();
        let call = CallStarted {
            call: self.call,
            mode: self.mode,
            direction: self.direction,
            legs,
            route: self.route,
            policy: Word::new(&self.policy),
            policy_digest: self.policy_digest,
        };
        let change = Change::CallStarted { call: call.clone(), at };
        Told::change(change, call)
    }

    /// Somebody else is on a leg.
    pub(super) fn replace(&mut self, at: Timestamp, party: Party) -> Told {
        let leg = party.leg;
        let mut told = self.gone(at, leg, LeaveReason::Transferred);
        if let Some(known) = self.parties.iter_mut().find(|known| known.leg == leg) {
            *known = party;
        }
        told.extend(self.come(at, leg, JoinReason::Transferred));
        told
    }

    /// The entry for a fact; nothing where a fact is of no interest to others.
    pub(super) fn tell(&self, at: Timestamp, fact: &Fact) -> Told {
        match fact {
            Fact::Joined { leg } => self.joined(at, *leg),
            Fact::Left { leg, reason } => self.left(at, *leg, *reason),
            Fact::NoticeStarted { leg, playback, prompt, locale } => {
                let Some(party) = self.party(*leg) else { return Told::default() };
                Told::event(NoticeStarted {
                    call: self.call,
                    role: *leg,
                    party_ref: party.party_ref,
                    playback: playback.0,
                    prompt: Word::new(prompt),
                    sha256: None,
                    locale: Word::new(locale),
                })
            }
            Fact::NoticeEnded { leg, playback, notice, cut } => {
                let Some(party) = self.party(*leg) else { return Told::default() };
                let reason = cut.map(cut_reason);
                Told::event(NoticeEnded::of(
                    self.call,
                    *leg,
                    party.party_ref,
                    *playback,
                    notice,
                    reason,
                ))
            }
            Fact::Paused { recording, by } => {
                let (call, recording, by) = (self.call, *recording, paused_by(*by));
                let paused = RecordingPaused { call, recording, at, by };
                Told::change(Change::Paused { recording }, paused)
            }
            Fact::Resumed { recording, by, at } => {
                let (call, recording, by, at) = (self.call, *recording, paused_by(*by), *at);
                let resumed = RecordingResumed { call, recording, at, by };
                Told::change(Change::Capturing { recording, at }, resumed)
            }
            Fact::Blocked { why } => Told::event(RecordingBlocked {
                call: self.call,
                recording: self.recording,
                reason: block_reason(*why),
            }),
            Fact::Bridged { .. } => Told::default(),
            Fact::Ended { started, cause } => {
                let call = CallEnded {
                    call: self.call,
                    duration_ms: millis(at.since(*started)),
                    cause: end_cause(*cause),
                    by: match cause {
                        Cause::HungUp(leg) => Some(*leg),
                        Cause::Cancelled => Some(Leg::Caller),
                        Cause::Rejected(_) => Some(Leg::Callee),
                        _ => None,
                    },
                    status: cause.status(),
                };
                let change = Change::CallEnded { call: call.clone(), at };
                Told::change(change, call)
            }
        }
    }

    fn joined(&self, at: Timestamp, leg: Leg) -> Told {
        let reason = match leg {
            Leg::Caller => JoinReason::Called,
            Leg::Callee => JoinReason::Answered,
        };
        self.come(at, leg, reason)
    }

    fn come(&self, at: Timestamp, leg: Leg, reason: JoinReason) -> Told {
        let Some(party) = self.party(leg) else { return Told::default() };
        let change = Change::PartyJoined {
            call: self.call,
            leg,
            party_ref: party.party_ref,
            number: party.number.clone(),
            at,
        };
        let joined = PartyJoined { call: self.call, role: leg, party_ref: party.party_ref, reason };
        Told::change(change, joined)
    }

    fn left(&self, at: Timestamp, leg: Leg, cause: Cause) -> Told {
        let reason = match cause {
            Cause::HungUp(by) if by == leg => LeaveReason::HungUp,
            Cause::NoAck | Cause::Expired => LeaveReason::Lost,
            _ => LeaveReason::Released,
        };
        self.gone(at, leg, reason)
    }

    fn gone(&self, at: Timestamp, leg: Leg, reason: LeaveReason) -> Told {
        let Some(party) = self.party(leg) else { return Told::default() };
        let left = PartyLeft { call: self.call, role: leg, party_ref: party.party_ref, reason };
        Told::change(Change::PartyLeft { party: left, at }, left)
    }
}

/// A span in whole milliseconds.
pub(super) fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn block_reason(why: Denial) -> BlockReason {
    match why {
        Denial::Refused => BlockReason::Refused,
        Denial::Objected => BlockReason::Objected,
        Denial::Withdrawn => BlockReason::Withdrawn,
        Denial::NotHeard => BlockReason::NotHeard,
        Denial::Left => BlockReason::CallEnded,
        Denial::NotCovered => BlockReason::NotAsked,
        Denial::Unavailable => BlockReason::EvidenceNotStored,
    }
}

fn paused_by(by: machine::PausedBy) -> PausedBy {
    match by {
        machine::PausedBy::Keys(leg) => leg.into(),
        machine::PausedBy::Command => PausedBy::Command,
        machine::PausedBy::Limit => PausedBy::Limit,
    }
}

fn cut_reason(cut: Cut) -> CutReason {
    match cut {
        Cut::Key => CutReason::Key,
        Cut::Held => CutReason::Held,
        Cut::HungUp => CutReason::HungUp,
        Cut::Stopped => CutReason::Stopped,
    }
}

fn end_cause(cause: Cause) -> EndCause {
    match cause {
        Cause::HungUp(_) => EndCause::HungUp,
        Cause::Cancelled => EndCause::Cancelled,
        Cause::Rejected(486 | 600) => EndCause::Busy,
        Cause::Rejected(_) | Cause::NoCommonCodec => EndCause::Rejected,
        Cause::Unreachable(408 | 480) => EndCause::NoAnswer,
        Cause::Unreachable(_) => EndCause::Unreachable,
        Cause::RefusalEndsCall => EndCause::Refused,
        Cause::NoAck | Cause::Dead => EndCause::Dead,
        Cause::Expired => EndCause::Expired,
        Cause::Unavailable => EndCause::Unavailable,
        Cause::MediaLost => EndCause::Failed,
        // A transfer ends a leg; the call is over only with its last one.
        Cause::Agent | Cause::Transferred => EndCause::Drained,
    }
}

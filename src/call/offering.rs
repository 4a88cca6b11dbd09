//! Offers of ours within an established dialog (RFC 3264, 8): another codec, or word of what becomes
//! of the peer's stream (RFC 7866).

use std::time::Duration;

use bytes::Bytes;

use crate::call::leg::{Aim, Established, Indicated, Offering};
use crate::call::machine::{Call, Cause, Output, Phase};
use crate::call::message::{ALLOW, Answered, ClientTxn, Method};
use crate::call::negotiate;
use crate::consent::Standing;
use crate::consent::machine::{Input, Order};
use crate::ids::Leg;
use crate::rtp::{Codec, Direction};
use crate::sdp::{self, RecordPreference, RecordState};
use crate::time::Moment;

/// How often an offer is made that meets one of the peer's.
const OFFERS: u8 = 4;

/// The pause after that. The Call-ID is the caller's, so it is theirs to wait longer (RFC 3261,
/// 14.1: 0 to 2 s for us).
const GLARE_PAUSE: Duration = Duration::from_millis(700);

impl Call {
    /// One party speaks another codec than the other was answered with: it is to be offered to the
    /// latter.
    pub(super) fn want_codec(&mut self, leg: Leg, codec: Codec) {
        if let Some(established) = self.established(leg) {
            let aim = Aim::Codec(codec);
            established.offering = Offering::Wanted { aim, not_before: None, tries: 0 };
        }
    }

    /// Peers are told when the other party holds the call or takes it back and, where they ask for
    /// it, when the recording of their stream begins, pauses or ends.
    pub(super) fn indicate(&mut self, out: &mut Vec<Output>) {
        for leg in Leg::BOTH {
            let stream = self.stream_of(leg);
            let asked = self.passing.is_some();
            let Some(established) = self.established(leg) else { continue };
            let free = matches!(established.offering, Offering::None | Offering::Answered { .. });
            let known = stream.record == established.indicated.state()
                && stream.direction == established.told;
            if free && !asked && !known {
                let aim = Aim::Indication;
                established.offering = Offering::Wanted { aim, not_before: None, tries: 0 };
                self.send_offer(leg, out);
            }
        }
    }

    /// What a leg's description says of recording; `None` for a peer that does not ask.
    pub(super) fn indication_of(&mut self, leg: Leg) -> Option<RecordState> {
        let state = self.record_state(leg);
        self.established(leg)?.indicated.state().map(|_| state)
    }

    pub(super) fn record_state(&self, leg: Leg) -> RecordState {
        match self.permission.standing(leg) {
            Standing::Live => RecordState::On,
            Standing::Paused => RecordState::Paused,
            Standing::Ended => RecordState::Off,
        }
    }

    /// What a peer's description says that it would like: not to be recorded is an objection, at
    /// any time; to be recorded is no permission.
    pub(super) fn prefer(
        &mut self,
        at: Moment,
        leg: Leg,
        description: &Bytes,
        out: &mut Vec<Output>,
    ) {
        match sdp::record_preference(description) {
            Some(RecordPreference::Off) => self.permit(at, Input::Preferred { leg }, out),
            Some(RecordPreference::Pause) if self.policy.pause_by.contains(&leg) => {
                let order = Order::Pause;
                self.permit(at, Input::Command { order, id: "recordpref".to_owned() }, out);
            }
            Some(RecordPreference::Pause | RecordPreference::On) | None => {}
        }
    }

    /// Makes the offer that is wanted, if its time has come.
    pub(super) fn offer(&mut self, at: Moment, leg: Leg, out: &mut Vec<Output>) {
        let due = self.established(leg).is_some_and(|established| match established.offering {
            Offering::Wanted { not_before, .. } => not_before.is_none_or(|time| time <= at.instant),
            _ => false,
        });
        if due {
            self.send_offer(leg, out);
        }
    }

    /// Sends the offer that is wanted, once the peer has acknowledged our answer.
    fn send_offer(&mut self, leg: Leg, out: &mut Vec<Output>) {
        let (txn, stream) = (self.next_txn(), self.stream_of(leg));
        let passed = self.passing.as_ref().map(|reoffer| reoffer.codecs().to_vec());
        if self.phase == Phase::Over {
            return;
        }
        let Some(established) = self.established(leg) else { return };
        let Offering::Wanted { aim, tries, .. } = established.offering else { return };
        let agreed = established.session.media().map(|media| media.codec);
        let (Some(agreed), None) = (agreed, &established.unacknowledged) else { return };
        let codecs = match aim {
            Aim::Codec(codec) => vec![codec],
            Aim::Indication | Aim::Refresh => vec![agreed],
            Aim::Passed => passed.unwrap_or_default(),
        };
        if let Some(state) = stream.record {
            established.indicated = Indicated::State(state);
        }
        let session = if aim == Aim::Refresh {
            negotiate::offer_same(&established.session, stream.record)
        } else {
            established.told = stream.direction;
            negotiate::offer_again(&established.session, &codecs, stream)
        };
        let mut request = established.dialog.request(Method::Invite);
        request.headers.push("Allow", ALLOW);
        established.timer.write(&mut request.headers);
        request.headers.push("Content-Type", "application/sdp");
        request.body = session.description();
        let session = Box::new(session);
        established.offering = Offering::Sent { txn, aim, session, tries: tries + 1 };
        out.push(Output::Send { txn, request });
    }

    /// On which leg a re-INVITE of ours has this transaction.
    pub(super) fn offered_on(&mut self, txn: ClientTxn) -> Option<Leg> {
        let offered = |established: &mut Established| established.offered_by(txn);
        Leg::BOTH.into_iter().find(|leg| self.established(*leg).is_some_and(offered))
    }

    /// A re-INVITE of ours will not be answered.
    pub(super) fn offer_unanswered(&mut self, at: Moment, leg: Leg, out: &mut Vec<Output>) {
        let Some(established) = self.established(leg) else { return };
        let offering = std::mem::replace(&mut established.offering, Offering::None);
        match offering {
            Offering::Sent { aim: Aim::Codec(_), .. } => self.end(at, Cause::NoCommonCodec, out),
            Offering::Sent { aim: Aim::Refresh, .. } => self.end(at, Cause::Expired, out),
            Offering::Sent { aim: Aim::Passed, .. } => self.other_said(at, Err(408), out),
            _ => {}
        }
    }

    /// The answer to a re-INVITE of ours.
    pub(super) fn on_offer_answer(
        &mut self,
        at: Moment,
        leg: Leg,
        response: &Answered,
        out: &mut Vec<Output>,
    ) {
        if response.status < 200 {
            return;
        }
        let Some(established) = self.established(leg) else { return };
        if response.status < 300 {
            out.push(Output::Ack(established.dialog.ack(response.cseq)));
        }
        let offering = std::mem::replace(&mut established.offering, Offering::None);
        let Offering::Sent { txn, aim, session, tries } = offering else {
            established.offering = offering;
            return;
        };
        self.note_refresh(at, leg, response, out);
        let Some(established) = self.established(leg) else { return };
        match (response.status, aim) {
            (200..=299, _) => established.offering = Offering::Answered { txn },
            // Whoever waits for this answer meets the same glare, and tries again.
            (491, Aim::Passed) => return self.other_said(at, Err(491), out),
            // Both sides offered at once: theirs goes first (RFC 3261, 14.1).
            (491, _) if tries < OFFERS => {
                let not_before = Some(at.instant + GLARE_PAUSE);
                established.offering = Offering::Wanted { aim, not_before, tries };
                return;
            }
            (_, Aim::Codec(_)) => return self.end(at, Cause::NoCommonCodec, out),
            // The session stays as it was (RFC 3261, 14.1), and the peer knows no more than before.
            (_, Aim::Indication | Aim::Refresh) => return,
            (status, Aim::Passed) => return self.other_said(at, Err(status), out),
        }
        let agreed = negotiate::accept(&session, &response.body).ok();
        let Some((session, codec)) = agreed.and_then(|session| {
            let codec = session.media()?.codec;
            Some((session, codec))
        }) else {
            return match aim {
                Aim::Codec(_) => self.end(at, Cause::NoCommonCodec, out),
                Aim::Passed => self.other_said(at, Err(488), out),
                Aim::Indication | Aim::Refresh => {}
            };
        };
        established.dialog.refresh_target(response.contact.as_ref());
        if let Some(media) = session.media().filter(|_| established.told == Direction::SendRecv) {
            established.wish = media.direction;
        }
        self.take_over(at, leg, session, out);
        match aim {
            Aim::Codec(_) => self.bridge(codec, out),
            Aim::Passed => self.other_said(at, Ok(codec), out),
            Aim::Indication | Aim::Refresh => {}
        }
        self.prefer(at, leg, &response.body, out);
        // What has changed meanwhile.
        self.indicate(out);
    }

    /// Takes the answer to a re-INVITE of ours that a BYE has overtaken; `false` for any other.
    pub(super) fn on_overtaken(
        &mut self,
        txn: ClientTxn,
        response: &Answered,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(overtaken) = self.overtaken.take_if(|overtaken| overtaken.txn == txn) else {
            return false;
        };
        match response.status {
            ..=199 => self.overtaken = Some(overtaken),
            200..=299 => out.push(Output::Ack(overtaken.dialog.ack(response.cseq))),
            _ => {}
        }
        true
    }
}

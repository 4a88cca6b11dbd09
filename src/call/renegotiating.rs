//! A peer's new offer within its dialog: hold and resume, another address, another codec, a session
//! refresh (RFC 3264, 8; RFC 3311).
//!
//! What concerns one leg alone is answered there. What the other party has to know follows by a
//! re-INVITE of ours (`offering.rs`): at once when this one is answered where the party cannot
//! refuse, as with a hold, and before that where it can, as with another codec.

use crate::call::caller::{contacting, described};
use crate::call::dialog::Unacknowledged;
use crate::call::leg::{Aim, Indicated, Offering};
use crate::call::machine::{Call, Output};
use crate::call::media::MediaCommand;
use crate::call::message::{Incoming, Method, Response, ServerTxn};
use crate::call::negotiate::{self, Proposal, Session, Stream};
use crate::call::timer::Backoff;
use crate::consent::machine::Input;
use crate::ids::Leg;
use crate::rtp::{Codec, Direction};
use crate::time::Moment;

/// A peer's offer, and what it wants.
#[derive(Debug)]
pub(super) struct Reoffer {
    /// Whose.
    leg: Leg,
    txn: ServerTxn,
    request: Incoming,
    proposal: Proposal,
}

impl Reoffer {
    /// The transaction that waits for our answer.
    pub(super) fn txn(&self) -> ServerTxn {
        self.txn
    }

    /// The codecs that we have too, in the peer's order.
    pub(super) fn codecs(&self) -> &[Codec] {
        &self.proposal.codecs
    }
}

impl Call {
    /// A re-INVITE or UPDATE of a peer.
    pub(super) fn on_reoffer(
        &mut self,
        at: Moment,
        leg: Leg,
        txn: ServerTxn,
        request: Incoming,
        out: &mut Vec<Output>,
    ) {
        let invite = request.method == Method::Invite;
        let asks_other = self.passing.is_some();
        let Some(established) = self.established(leg) else { return };
        if established.is_offering() || asks_other {
            // Both sides offer at once (RFC 3261, 14.2).
            return out.push(Output::Respond { txn, response: Response::new(491, None) });
        }
        if invite && established.unacknowledged.is_some() {
            // RFC 3261, 14.2: the previous one is not done.
            let mut response = Response::new(500, None);
            response.headers.push("Retry-After", "1");
            return out.push(Output::Respond { txn, response });
        }
        if let Err(too_short) = established.timer.consider(&request.headers) {
            return out.push(Output::Respond { txn, response: too_short.response(None) });
        }
        if request.body.is_empty() {
            if invite {
                self.offer_on_request(at, leg, txn, &request, out);
            } else {
                self.refresh(at, leg, txn, &request, out);
            }
            return;
        }
        let agreed = established.session.media().map(|media| media.codec);
        let srtp = established.session.srtp();
        let proposal = match negotiate::proposed(&request.body, srtp, &self.codecs) {
            Ok(proposal) => proposal,
            Err(refusal) => {
                let response = Response::new(refusal.status(), None);
                return out.push(Output::Respond { txn, response });
            }
        };
        let kept = agreed.filter(|codec| proposal.codecs.contains(codec));
        let reoffer = Reoffer { leg, txn, request, proposal };
        match kept {
            Some(codec) => self.agree_again(at, &reoffer, &[codec], out),
            None if self.bridged(leg.other()).is_some() => self.ask_other(at, reoffer, out),
            None => self.agree_again(at, &reoffer, reoffer.codecs(), out),
        }
    }

    /// An UPDATE without an offer: a session refresh, or word of who speaks.
    fn refresh(
        &mut self,
        at: Moment,
        leg: Leg,
        txn: ServerTxn,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) {
        let Some(established) = self.established(leg) else { return };
        established.dialog.refresh_target(request.contact.as_ref());
        let mut response = contacting(Response::new(200, None), &established.dialog);
        established.refreshed_by(at, &request.headers, &mut response);
        out.push(Output::Respond { txn, response });
        self.identify(leg, &request.headers, out);
    }

    /// The other party decides about codecs that were not in use before.
    fn ask_other(&mut self, at: Moment, reoffer: Reoffer, out: &mut Vec<Output>) {
        let (leg, txn) = (reoffer.leg.other(), reoffer.txn);
        let free = self.established(leg).is_some_and(|other| {
            matches!(other.offering, Offering::None | Offering::Answered { .. })
                && other.unacknowledged.is_none()
        });
        if !free {
            return out.push(Output::Respond { txn, response: Response::new(491, None) });
        }
        self.passing = Some(reoffer);
        if let Some(other) = self.established(leg) {
            other.offering = Offering::Wanted { aim: Aim::Passed, not_before: None, tries: 0 };
        }
        self.offer(at, leg, out);
    }

    /// The other party agreed to one of the codecs, or to none.
    pub(super) fn other_said(
        &mut self,
        at: Moment,
        said: Result<Codec, u16>,
        out: &mut Vec<Output>,
    ) {
        let Some(reoffer) = self.passing.take() else { return };
        match said {
            Ok(codec) => self.agree_again(at, &reoffer, &[codec], out),
            Err(status) => {
                let (txn, response) = (reoffer.txn, Response::new(status, None));
                out.push(Output::Respond { txn, response });
            }
        }
    }

    /// Answers an offer on the leg that it came from.
    fn agree_again(
        &mut self,
        at: Moment,
        reoffer: &Reoffer,
        codecs: &[Codec],
        out: &mut Vec<Output>,
    ) {
        let Reoffer { leg, txn, request, proposal } = reoffer;
        let (leg, txn) = (*leg, *txn);
        let stream = self.stream_of(leg);
        let Some(established) = self.established(leg) else { return };
        let session =
            match negotiate::answer_again(&established.session, &request.body, codecs, stream) {
                Ok(session) => session,
                Err(refusal) => {
                    let response = Response::new(refusal.status(), None);
                    return out.push(Output::Respond { txn, response });
                }
            };
        established.dialog.refresh_target(request.contact.as_ref());
        if let Some(record) = stream.record {
            established.indicated = Indicated::State(record);
        }
        established.told = stream.direction;
        let mut response = described(200, None, &established.dialog, &session);
        established.refreshed_by(at, &request.headers, &mut response);
        if request.method == Method::Invite {
            established.unacknowledged = Some(Unacknowledged {
                txn,
                response: response.clone(),
                cseq: request.cseq,
                offered: None,
                again: Backoff::starting(at.instant),
            });
        }
        out.push(Output::Respond { txn, response });
        established.wish = proposal.direction;
        self.take_over(at, leg, session, out);
        self.prefer(at, leg, &request.body, out);
        self.identify(leg, &request.headers, out);
        self.indicate(out);
    }

    /// A leg's session is another one from now on.
    pub(super) fn take_over(
        &mut self,
        at: Moment,
        leg: Leg,
        session: Session,
        out: &mut Vec<Output>,
    ) {
        let Some(established) = self.established(leg) else { return };
        let changed = session.media() != established.session.media();
        established.session = session;
        let Some(media) = established.session.media().cloned().filter(|_| changed) else { return };
        let held = !media.direction.sends();
        out.push(Output::Media(MediaCommand::Connect { leg, media }));
        if held {
            self.permit(at, Input::Held { leg }, out);
        }
    }

    /// What a description for this leg says of the stream: what the other party wants done with
    /// theirs, and whether it is recorded.
    pub(super) fn stream_of(&mut self, leg: Leg) -> Stream {
        let others = self.bridged(leg.other()).map(|other| other.wish.reversed());
        let direction = others.unwrap_or(Direction::SendRecv);
        Stream { direction, record: self.indication_of(leg) }
    }
}

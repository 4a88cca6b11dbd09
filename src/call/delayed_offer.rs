//! An INVITE without a description: our offer goes out in the 2xx, and its answer comes in the ACK
//! (RFC 3261, 13.2.1).

use bytes::Bytes;

use crate::call::caller::described;
use crate::call::dialog::Unacknowledged;
use crate::call::machine::{Call, Cause, Output, Phase};
use crate::call::message::{Incoming, ServerTxn};
use crate::call::negotiate::{self, Session};
use crate::call::timer::Backoff;
use crate::ids::Leg;
use crate::rtp::Direction;
use crate::time::Moment;

/// Whether the call can go on with what an ACK brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    /// The leg has its media, be it new or as before.
    Reached,
    /// The call's first offer was not answered: it is being taken down.
    Missed,
}

impl Call {
    /// Our side of the caller's session: the answer to the INVITE's offer, or an offer of our own
    /// where it had none.
    pub(super) fn describe_to_caller(&self) -> Result<Session, negotiate::Refusal> {
        // A callee who is there already has chosen the codec.
        let chosen = self.media(Leg::Callee).map(|media| vec![media.codec]);
        let codecs = chosen.unwrap_or_else(|| self.codecs.clone());
        if self.invite.body.is_empty() {
            return Ok(negotiate::offer(&self.side, &codecs, self.id));
        }
        negotiate::answer(&self.invite.body, &self.side, &codecs, self.id)
    }

    /// A re-INVITE without a description asks for an offer of ours: the codec as it is, both ways,
    /// which is how a held call is taken back (RFC 6337, 3.2).
    pub(super) fn offer_on_request(
        &mut self,
        at: Moment,
        leg: Leg,
        txn: ServerTxn,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) {
        let Some(codec) = self.media(leg).map(|media| media.codec) else { return };
        let stream = self.stream_of(leg);
        let Some(established) = self.established(leg) else { return };
        let offered = negotiate::offer_again(&established.session, &[codec], stream);
        established.told = stream.direction;
        established.dialog.refresh_target(request.contact.as_ref());
        let mut response = described(200, None, &established.dialog, &offered);
        established.refreshed_by(at, &request.headers, &mut response);
        established.unacknowledged = Some(Unacknowledged {
            txn,
            response: response.clone(),
            cseq: request.cseq,
            offered: Some(offered),
            again: Backoff::starting(at.instant),
        });
        out.push(Output::Respond { txn, response });
    }

    /// Takes the answer in the ACK of a 2xx that bore an offer.
    pub(super) fn settle(
        &mut self,
        at: Moment,
        leg: Leg,
        offered: &Session,
        answer: &Bytes,
        out: &mut Vec<Output>,
    ) -> Agreement {
        let Some(established) = self.established(leg) else { return Agreement::Missed };
        let first = established.session.media().is_none();
        let agreed = negotiate::accept(offered, answer).ok();
        let Some((session, media)) = agreed.and_then(|s| s.media().cloned().map(|m| (s, m))) else {
            if first {
                self.end(at, Cause::NoCommonCodec, out);
                return Agreement::Missed;
            }
            // RFC 3261, 14.1: a new session that is not agreed on leaves the old one as it was.
            return Agreement::Reached;
        };
        // Asked for both ways, and only restricted where the other party holds the call.
        if established.told == Direction::SendRecv {
            established.wish = media.direction;
        }
        self.take_over(at, leg, session, out);
        if first && self.phase == Phase::Talking {
            self.meet(at, out);
        }
        self.indicate(out);
        Agreement::Reached
    }

    /// Both legs have answered: they are bridged in the callee's codec. A caller who is still to
    /// say what it takes is waited for, one with another codec is offered the callee's.
    pub(super) fn meet(&mut self, at: Moment, out: &mut Vec<Output>) {
        let Some(codec) = self.media(Leg::Callee).map(|media| media.codec) else { return };
        match self.media(Leg::Caller).map(|media| media.codec) {
            Some(theirs) if theirs == codec => self.bridge(codec, out),
            Some(_) => {
                self.want_codec(Leg::Caller, codec);
                self.offer(at, Leg::Caller, out);
            }
            None => {}
        }
    }
}

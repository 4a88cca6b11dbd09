//! INVITE with `Replaces` (RFC 3891): somebody takes the place of one party of the call.

use crate::call::caller::described;
use crate::call::dialog::{Dialog, Unacknowledged};
use crate::call::identity::asserted;
use crate::call::leg::{Established, Indicated, Offering};
use crate::call::machine::{Call, Output, Phase};
use crate::call::message::{Incoming, Response, ServerTxn};
use crate::call::negotiate;
use crate::call::replaces::{Replaces, When};
use crate::call::session_timer::{self, SessionTimer};
use crate::call::timer::Backoff;
use crate::ids::Leg;
use crate::number::PartyNumber;
use crate::rtp::Direction;
use crate::time::Moment;

impl Call {
    /// Whether this leg's dialog is the one that is meant, and may be replaced; the status that
    /// says why not (RFC 3891, 3).
    ///
    /// # Errors
    /// A status.
    pub fn replaceable(&self, leg: Leg, replaces: &Replaces) -> Result<(), u16> {
        let dialog = self.dialog(leg).filter(|dialog| dialog.is_with(&replaces.from_tag));
        match (dialog, replaces.when) {
            (None, _) => Err(481),
            (Some(_), When::Early) => Err(486),
            (Some(_), When::Always) if self.phase() == Phase::Over => Err(603),
            (Some(_), When::Always) => Ok(()),
        }
    }

    /// The other leg's dialog as its peer knows it: what a `Replaces` that names this leg's is to
    /// name there.
    #[must_use]
    pub fn other_side_of(&self, leg: Leg, replaces: &Replaces) -> Option<Replaces> {
        self.dialog(leg).filter(|dialog| dialog.is_with(&replaces.from_tag))?;
        let (call_id, ours, theirs) = self.dialog(leg.other())?.names()?;
        Some(Replaces {
            call_id: call_id.to_owned(),
            to_tag: theirs.to_owned(),
            from_tag: ours.to_owned(),
            when: replaces.when,
        })
    }

    /// Takes a new peer's INVITE for a leg that [`Call::replaceable`] allows.
    pub(super) fn on_replacement(
        &mut self,
        at: Moment,
        leg: Leg,
        (txn, tag): (ServerTxn, String),
        request: &Incoming,
        out: &mut Vec<Output>,
    ) {
        let refuse = |status| {
            let response = Response::new(status, Some(tag.clone()));
            Output::Respond { txn, response }
        };
        let busy = self.passing.is_some() || self.transfer.is_some();
        let granted = match session_timer::grant(self.timers, &request.headers) {
            Ok(granted) => granted,
            Err(too_short) => {
                let response = too_short.response(Some(tag));
                return out.push(Output::Respond { txn, response });
            }
        };
        let first = self.media(leg).or_else(|| self.media(leg.other())).map(|media| media.codec);
        let aware = Indicated::to(&request.headers);
        let record = aware.state().map(|_| self.record_state(leg));
        let indicated = record.map_or(Indicated::Nothing, Indicated::State);
        let Some(side) = self.side_of(leg).filter(|_| self.phase != Phase::Over && !busy) else {
            return out.push(refuse(if busy { 491 } else { 481 }));
        };
        let side = side.in_dialog(&tag);
        let codecs = super::callee::dialled_codecs(first, &self.codecs);
        let agreed = if request.body.is_empty() {
            Ok(negotiate::offer(&side, &codecs, self.id))
        } else {
            // The codec in use, where it is offered: another costs a re-INVITE to who stays.
            negotiate::answer(&request.body, &side, first.as_slice(), self.id)
                .or_else(|_| negotiate::answer(&request.body, &side, &codecs, self.id))
        };
        let session = match agreed {
            Ok(session) => session,
            Err(why) => return out.push(refuse(why.status())),
        };
        let dialog = Dialog::uas(request, &tag, side.contact.clone());
        let response = described(200, Some(tag), &dialog, &session);
        let mut response = super::caller::with_record_route(response, request);
        granted.write(&mut response.headers);
        let timer = SessionTimer::granted_to(self.timers, &request.headers, granted, at.instant);
        let unacknowledged = Unacknowledged {
            txn,
            response: response.clone(),
            cseq: request.cseq,
            offered: session.media().is_none().then(|| session.clone()),
            again: Backoff::starting(at.instant),
        };
        out.push(Output::Respond { txn, response });
        let wish = session.media().map_or(Direction::SendRecv, |media| media.direction);
        let established = Established {
            dialog,
            session,
            unacknowledged: Some(unacknowledged),
            invite: None,
            offering: Offering::None,
            indicated,
            wish,
            told: Direction::SendRecv,
            timer,
        };
        let number =
            asserted(&request.headers).or_else(|| PartyNumber::parse(request.from.uri.expose()));
        self.put_in_place(at, leg, established, number, out);
        // Whoever is replaced is told at once: they did not ask for it.
        self.end_departing(None, out);
    }
}

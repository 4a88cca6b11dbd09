//! Requests within early dialogs: PRACK (RFC 3262) and UPDATE with an offer (RFC 3311), each
//! answered on its leg.

use crate::call::caller::described;
use crate::call::dialog::Stray;
use crate::call::leg::{CalleeLeg, CallerLeg, Progress};
use crate::call::machine::{Call, Cause, Output, Phase};
use crate::call::media::MediaCommand;
use crate::call::message::{Incoming, Method, Response, ServerTxn};
use crate::call::negotiate::{self, Session, Stream};
use crate::call::provisional::{Carries, Overdue};
use crate::ids::Leg;
use crate::rtp::Direction;
use crate::time::Moment;

impl Call {
    /// Tells the caller something before the final answer.
    pub(super) fn say_provisional(
        &mut self,
        at: Moment,
        response: Response,
        carries: Carries,
        out: &mut Vec<Output>,
    ) {
        let CallerLeg::Invited(invited) = &self.caller else { return };
        let txn = invited.txn;
        if let Some(response) = self.provisional.send(at.instant, response, carries) {
            out.push(Output::Respond { txn, response });
        }
    }

    pub(super) fn tick_provisional(&mut self, at: Moment, out: &mut Vec<Output>) {
        let CallerLeg::Invited(invited) = &self.caller else { return };
        let txn = invited.txn;
        match self.provisional.due(at.instant) {
            Overdue::Nothing => {}
            Overdue::Again(response) => out.push(Output::Respond { txn, response }),
            Overdue::GiveUp => self.refuse_caller(at, 504, Cause::NoAck, out),
        }
    }

    /// Takes a PRACK, or an UPDATE with an offer, within an early dialog; `false` for anything
    /// else.
    pub(super) fn on_early_request(
        &mut self,
        at: Moment,
        leg: Leg,
        txn: ServerTxn,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) -> bool {
        let admitted = match (leg, &mut self.caller, &mut self.callee) {
            (Leg::Caller, CallerLeg::Invited(invited), _) => invited.dialog.admit(request),
            (Leg::Callee, _, CalleeLeg::Calling(calling)) => {
                match calling.forks.with(request.from.tag.as_deref()) {
                    Some(fork) => fork.dialog.admit(request),
                    None => return false,
                }
            }
            _ => return false,
        };
        let refuse = |status| Output::Respond { txn, response: Response::new(status, None) };
        match (admitted, &request.method, leg) {
            (Err(Stray::Unknown), _, _) => out.push(refuse(481)),
            (Err(Stray::OutOfOrder), _, _) => out.push(refuse(500)),
            (Ok(()), Method::Prack, Leg::Caller) => self.on_prack(at, txn, request, out),
            (Ok(()), Method::Update, _) if !request.body.is_empty() => {
                return self.on_early_update(leg, txn, request, out);
            }
            _ => return false,
        }
        true
    }

    /// The caller acknowledges a provisional response while the INVITE is open.
    fn on_prack(&mut self, at: Moment, txn: ServerTxn, request: &Incoming, out: &mut Vec<Output>) {
        let Some(carries) = self.provisional.acknowledge(&request.headers) else {
            return out.push(Output::Respond { txn, response: Response::new(481, None) });
        };
        let CallerLeg::Invited(invited) = &mut self.caller else { return };
        let invite = invited.txn;
        let ours = carries == Carries::Description
            && invited.early.as_ref().is_some_and(|early| early.media().is_none());
        let mut response = Response::new(200, None);
        if ours {
            // Our offer was in the response; its answer is here.
            let offered = invited.early.take();
            let agreed = offered.and_then(|offer| negotiate::accept(&offer, &request.body).ok());
            out.push(Output::Respond { txn, response });
            match agreed {
                Some(session) => self.agree_early(Leg::Caller, session, out),
                None => return self.refuse_caller(at, 488, Cause::NoCommonCodec, out),
            }
        } else {
            if !request.body.is_empty() {
                match self.answer_early(Leg::Caller, request, out) {
                    Ok(answered) => response = answered,
                    Err(status) => response = Response::new(status, None),
                }
            }
            out.push(Output::Respond { txn, response });
        }
        if let Some(response) = self.provisional.next(at.instant) {
            out.push(Output::Respond { txn: invite, response });
        }
        if self.provisional.releases_answer() {
            self.answer_caller(at, out);
            if self.phase == Phase::Talking {
                self.meet(at, out);
            }
        }
    }

    /// The caller acknowledges a provisional response that the final answer has overtaken.
    pub(super) fn on_late_prack(
        &mut self,
        txn: ServerTxn,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) {
        let status = match self.provisional.acknowledge(&request.headers) {
            Some(_) if request.body.is_empty() => 200,
            Some(_) => 488,
            None => 481,
        };
        out.push(Output::Respond { txn, response: Response::new(status, None) });
    }

    fn on_early_update(
        &mut self,
        leg: Leg,
        txn: ServerTxn,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) -> bool {
        let response = match self.answer_early(leg, request, out) {
            Ok(response) => response,
            // An offer is still without its answer: ours or theirs (RFC 3311, 5.2).
            Err(491) if leg == Leg::Caller => return false,
            Err(status) => Response::new(status, None),
        };
        out.push(Output::Respond { txn, response });
        true
    }

    /// Answers a new offer within an early dialog whose first offer was answered reliably.
    fn answer_early(
        &mut self,
        leg: Leg,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) -> Result<Response, u16> {
        let stream = Stream { direction: Direction::SendRecv, record: self.side.record };
        let stream = if leg == Leg::Caller { stream } else { Stream { record: None, ..stream } };
        let described_already = self.provisional.is_described();
        let (dialog, agreed) = match (leg, &mut self.caller, &mut self.callee) {
            (Leg::Caller, CallerLeg::Invited(invited), _) if described_already => {
                (&mut invited.dialog, invited.early.as_ref())
            }
            (Leg::Callee, _, CalleeLeg::Calling(calling)) => {
                let fork = calling.forks.with(request.from.tag.as_deref()).ok_or(481_u16)?;
                (&mut fork.dialog, fork.agreed.as_ref())
            }
            _ => return Err(491),
        };
        let agreed = agreed.ok_or(491_u16)?;
        let codec = agreed.media().ok_or(491_u16)?.codec;
        let session = negotiate::answer_again(agreed, &request.body, &[codec], stream)
            .map_err(negotiate::Refusal::status)?;
        dialog.refresh_target(request.contact.as_ref());
        let response = described(200, None, dialog, &session);
        match leg {
            Leg::Caller => self.agree_early(leg, session, out),
            Leg::Callee => self.agree_fork(request, session, out),
        }
        Ok(response)
    }

    fn agree_early(&mut self, leg: Leg, session: Session, out: &mut Vec<Output>) {
        let CallerLeg::Invited(invited) = &mut self.caller else { return };
        if let Some(media) = session.media().cloned() {
            out.push(Output::Media(MediaCommand::Connect { leg, media }));
        }
        invited.early = Some(session);
    }

    fn agree_fork(&mut self, request: &Incoming, session: Session, out: &mut Vec<Output>) {
        let CalleeLeg::Calling(calling) = &mut self.callee else { return };
        let Some(fork) = calling.forks.with(request.from.tag.as_deref()) else { return };
        let media = session.media().cloned().filter(|_| calling.progress == Progress::EarlyMedia);
        fork.agreed = Some(session);
        if let Some(media) = media {
            out.push(Output::Media(MediaCommand::Connect { leg: Leg::Callee, media }));
        }
    }
}

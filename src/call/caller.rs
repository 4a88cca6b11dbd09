//! Signalling towards the caller, and what both dialogs have in common.

use bytes::Bytes;

use crate::call::delayed_offer::Agreement;
use crate::call::dialog::{Dialog, Leaving, Stray, Unacknowledged};
use crate::call::leg::{CalleeLeg, CallerLeg, Established, Indicated, Offering, Overtaken};
use crate::call::machine::{Call, Cause, Output, Phase};
use crate::call::media::MediaCommand;
use crate::call::message::{ALLOW, Headers, Incoming, Method, Response, ServerTxn};
use crate::call::negotiate::Session;
use crate::call::relaying::Parting;
use crate::call::session_timer::{self, SessionTimer};
use crate::call::timer::{Backoff, Due};
use crate::ids::Leg;
use crate::rtp::Direction;
use crate::time::Moment;

impl Call {
    /// Answers the caller's INVITE with a 200 that negotiates one codec.
    pub(super) fn answer_caller(&mut self, at: Moment, out: &mut Vec<Output>) {
        if let Indicated::State(_) = self.indication {
            self.side.record = Some(self.record_state(Leg::Caller));
        }
        let CallerLeg::Invited(invited) = &self.caller else { return };
        if self.provisional.delays_answer() {
            return;
        }
        let session = match invited.early.clone() {
            Some(session) => Ok(session),
            None => self.describe_to_caller(),
        };
        match session {
            Ok(session) => self.accept_caller(at, session, out),
            Err(refusal) => {
                self.refuse_caller(at, refusal.status(), Cause::NoCommonCodec, out);
            }
        }
    }

    fn accept_caller(&mut self, at: Moment, session: Session, out: &mut Vec<Output>) {
        let indicated = self.side.record.map_or(Indicated::Nothing, Indicated::State);
        let CallerLeg::Invited(invited) = &self.caller else { return };
        let (dialog, tag) = (invited.dialog.clone(), Some(self.side.tag.clone()));
        let response = match self.provisional.is_described() {
            // Both have said all there is to say (RFC 6337, 2.1).
            true => contacting(Response::new(200, tag), &dialog),
            false => described(200, tag, &dialog, &session),
        };
        let mut response = with_record_route(response, &self.invite);
        response.headers.extend(std::mem::take(&mut self.connected));
        // One that is too short was refused before there was a call.
        let granted = session_timer::grant(self.timers, &self.invite.headers).unwrap_or_default();
        granted.write(&mut response.headers);
        let invite = &self.invite.headers;
        let timer = SessionTimer::granted_to(self.timers, invite, granted, at.instant);
        let unacknowledged = Unacknowledged {
            txn: invited.txn,
            response: response.clone(),
            cseq: self.invite.cseq,
            offered: session.media().is_none().then(|| session.clone()),
            again: Backoff::starting(at.instant),
        };
        out.push(Output::Respond { txn: invited.txn, response });
        if let Some(media) = session.media() {
            out.push(Output::Media(MediaCommand::Connect {
                leg: Leg::Caller,
                media: media.clone(),
            }));
        }
        let wish = session.media().map_or(Direction::SendRecv, |media| media.direction);
        self.caller = CallerLeg::Established(Box::new(Established {
            dialog,
            session,
            unacknowledged: Some(unacknowledged),
            invite: None,
            offering: Offering::None,
            indicated,
            timer,
            wish,
            told: Direction::SendRecv,
        }));
    }

    /// Ends the caller's INVITE with a final error and the call with it.
    pub(super) fn refuse_caller(
        &mut self,
        at: Moment,
        status: u16,
        cause: Cause,
        out: &mut Vec<Output>,
    ) {
        if let CallerLeg::Invited(invited) = &self.caller {
            let mut response = Response::new(status, Some(self.side.tag.clone()));
            if let Some(parting) = self.parting_for(cause) {
                response.headers.extend(parting.headers.clone());
            }
            if status == 503 && response.headers.first("Retry-After").is_none() {
                response.headers.push("Retry-After", "10");
            }
            out.push(Output::Respond { txn: invited.txn, response });
            self.caller = CallerLeg::Gone;
        }
        self.end(at, cause, out);
    }

    pub(super) fn on_ack(
        &mut self,
        at: Moment,
        leg: Leg,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) {
        let Some(established) = self.established(leg) else { return };
        if established.dialog.admit(request).is_err() {
            return;
        }
        if established.unacknowledged.as_ref().is_some_and(|u| u.cseq == request.cseq) {
            let acknowledged = established.unacknowledged.take();
            if let Some(offered) = acknowledged.and_then(|unacknowledged| unacknowledged.offered)
                && self.settle(at, leg, &offered, &request.body, out) == Agreement::Missed
            {
                return;
            }
        }
        if leg == Leg::Caller && self.phase != Phase::Over {
            self.join(at, Leg::Caller, out);
        }
        if self.phase != Phase::Over {
            self.indicate(out);
            self.offer(at, leg, out);
        }
    }

    pub(super) fn on_cancelled(
        &mut self,
        at: Moment,
        txn: ServerTxn,
        headers: &Headers,
        out: &mut Vec<Output>,
    ) {
        match &self.caller {
            CallerLeg::Invited(invited) if invited.txn == txn => {
                let mut parting = Parting::default();
                for reason in headers.all("Reason") {
                    parting.headers.push("Reason", reason.clone());
                }
                self.parting = Some(parting);
                self.refuse_caller(at, 487, Cause::Cancelled, out);
            }
            // Too late: the final answer is out, and a BYE will follow (RFC 3261, 9.2).
            _ => {}
        }
    }

    pub(super) fn on_request(
        &mut self,
        at: Moment,
        leg: Leg,
        txn: ServerTxn,
        request: Incoming,
        out: &mut Vec<Output>,
    ) {
        if self.on_departing(leg, txn, &request, out) {
            return;
        }
        let Some(established) = self.established(leg) else {
            return self.without_dialog(at, leg, txn, &request, out);
        };
        if let Err(stray) = established.dialog.admit(&request) {
            let status = match stray {
                Stray::Unknown => 481,
                Stray::OutOfOrder => 500,
            };
            out.push(Output::Respond { txn, response: Response::new(status, None) });
            return;
        }
        match request.method {
            Method::Bye => self.on_bye(at, leg, txn, &request, out),
            Method::Info => self.on_info(at, leg, txn, &request, out),
            Method::Invite | Method::Update => self.on_reoffer(at, leg, txn, request, out),
            Method::Prack if leg == Leg::Caller => self.on_late_prack(txn, &request, out),
            Method::Prack => {
                out.push(Output::Respond { txn, response: Response::new(481, None) });
            }
            Method::Options => {
                let response = allowing(Response::new(200, None));
                out.push(Output::Respond { txn, response });
            }
            Method::Refer => self.on_refer(leg, txn, &request, out),
            Method::Message | Method::Notify | Method::Subscribe | Method::Other(_) => {
                self.relay(leg, txn, &request, out);
            }
            _ => {
                let response = allowing(Response::new(405, None));
                out.push(Output::Respond { txn, response });
            }
        }
    }

    fn on_bye(
        &mut self,
        at: Moment,
        leg: Leg,
        txn: ServerTxn,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) {
        self.parting = Some(Parting::of(request));
        out.push(Output::Respond { txn, response: Response::new(200, None) });
        if self.leaves_by_transfer(leg, out) {
            return;
        }
        match leg {
            Leg::Caller => {
                let caller = std::mem::replace(&mut self.caller, CallerLeg::Gone);
                if let CallerLeg::Established(caller) = caller {
                    self.overtaken = Overtaken::by_bye(&caller, at.instant);
                }
            }
            Leg::Callee => self.callee = CalleeLeg::Gone,
        }
        self.end(at, Cause::HungUp(leg), out);
    }

    pub(super) fn tick_caller(&mut self, at: Moment, out: &mut Vec<Output>) {
        for leg in Leg::BOTH {
            self.offer(at, leg, out);
        }
        self.overtaken.take_if(|overtaken| overtaken.until <= at.instant);
        for leg in Leg::BOTH {
            let Some(established) = self.established(leg) else { continue };
            let Some(unacknowledged) = &mut established.unacknowledged else { continue };
            match unacknowledged.again.due(at.instant) {
                Due::NotYet => {}
                Due::Again => out.push(Output::Respond {
                    txn: unacknowledged.txn,
                    response: unacknowledged.response.clone(),
                }),
                Due::GiveUp => {
                    established.unacknowledged = None;
                    self.end(at, Cause::NoAck, out);
                }
            }
        }
    }

    /// Says goodbye to the caller, in the way that the leg's state asks for.
    pub(super) fn leave_caller(&mut self, at: Moment, cause: Cause, out: &mut Vec<Output>) {
        match std::mem::replace(&mut self.caller, CallerLeg::Gone) {
            CallerLeg::Invited(invited) => {
                let status = cause.status().unwrap_or(480);
                let response = Response::new(status, Some(self.side.tag.clone()));
                out.push(Output::Respond { txn: invited.txn, response });
            }
            CallerLeg::Established(established) => {
                self.overtaken = Overtaken::by_bye(&established, at.instant);
                let leaving = self.say_bye(established.dialog, cause, out);
                self.caller = CallerLeg::Leaving(leaving);
            }
            leaving @ CallerLeg::Leaving(_) => self.caller = leaving,
            CallerLeg::Gone => {}
        }
    }

    pub(super) fn say_bye(
        &mut self,
        mut dialog: Dialog,
        cause: Cause,
        out: &mut Vec<Output>,
    ) -> Leaving {
        let txn = self.next_txn();
        let mut request = dialog.request(Method::Bye);
        if let Some((status, text)) = cause.reason() {
            let reason = format!("SIP;cause={status};text=\"{text}\"");
            request.headers.push("Reason", reason);
        }
        if let Some(parting) = self.parting_for(cause) {
            request.headers.extend(parting.headers.clone());
            request.body.clone_from(&parting.body);
        }
        out.push(Output::Send { txn, request });
        Leaving { txn }
    }

    pub(super) fn established(&mut self, leg: Leg) -> Option<&mut Established> {
        match leg {
            Leg::Caller => match &mut self.caller {
                CallerLeg::Established(established) => Some(established),
                _ => None,
            },
            Leg::Callee => match &mut self.callee {
                CalleeLeg::Established(established) => Some(established),
                _ => None,
            },
        }
    }

    /// A request in a dialog that is not established yet, or no longer.
    fn without_dialog(
        &mut self,
        at: Moment,
        leg: Leg,
        txn: ServerTxn,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) {
        if self.on_early_request(at, leg, txn, request, out) {
            return;
        }
        let (leaving, early) = match leg {
            Leg::Caller => (
                matches!(self.caller, CallerLeg::Leaving(_)),
                matches!(self.caller, CallerLeg::Invited(_))
                    && request.from.tag == self.invite.from.tag,
            ),
            Leg::Callee => (
                matches!(self.callee, CalleeLeg::Leaving(_)),
                matches!(self.callee, CalleeLeg::Calling(_)),
            ),
        };
        let mut response = Response::new(
            match &request.method {
                // Both sides said BYE at once: theirs is in order too.
                Method::Bye if leaving => 200,
                // RFC 3261, 15: a caller may end an early dialog so.
                Method::Bye if early && leg == Leg::Caller => 200,
                Method::Info | Method::Options if early => 200,
                Method::Update if early && request.body.is_empty() => 200,
                // RFC 3311, 5.2: an offer while another is open.
                Method::Update if early => 500,
                _ => 481,
            },
            None,
        );
        let ends = request.method == Method::Bye && response.status == 200 && early;
        if response.status == 500 {
            response.headers.push("Retry-After", "2");
        }
        out.push(Output::Respond { txn, response });
        if ends {
            self.refuse_caller(at, 487, Cause::HungUp(Leg::Caller), out);
        }
    }
}

/// A response with our description and contact.
pub(super) fn described(
    status: u16,
    to_tag: Option<String>,
    dialog: &Dialog,
    session: &Session,
) -> Response {
    let mut response = contacting(Response::new(status, to_tag), dialog);
    response.headers.push("Content-Type", "application/sdp");
    response.body = session.description();
    response
}

pub(super) fn contacting(response: Response, dialog: &Dialog) -> Response {
    let mut response = allowing(response);
    response.headers.push("Contact", dialog.contact_value());
    response
}

fn allowing(mut response: Response) -> Response {
    response.headers.push("Allow", ALLOW);
    response
}

/// RFC 3261, 12.1.1: the response that makes a dialog repeats the request's Record-Route.
pub(super) fn with_record_route(mut response: Response, invite: &Incoming) -> Response {
    for value in invite.headers.all("Record-Route") {
        response.headers.push("Record-Route", value.clone());
    }
    response
}

/// The key in a body of `application/dtmf-relay` (`Signal=1`) or `application/dtmf` (`1`).
pub(super) fn info_key(body: &Bytes) -> Option<char> {
    let text = std::str::from_utf8(body).ok()?;
    let value = text
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once('=')?;
            name.trim().eq_ignore_ascii_case("signal").then(|| value.trim())
        })
        .unwrap_or_else(|| text.trim());
    match value {
        "10" => return Some('*'),
        "11" => return Some('#'),
        _ => {}
    }
    let mut chars = value.chars();
    let key = chars.next()?.to_ascii_uppercase();
    let fits = key.is_ascii_digit() || matches!(key, '*' | '#' | 'A'..='D');
    (fits && chars.next().is_none()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_keys_from_both_kinds_of_info() {
        let cases = [
            ("Signal=1\r\nDuration=160\r\n", Some('1')),
            ("signal = *\r\n", Some('*')),
            ("Duration=100\nSignal= 11\n", Some('#')),
            ("5", Some('5')),
            (" d \r\n", Some('D')),
            ("12", None),
            ("Signal=\r\n", None),
            ("", None),
            ("Signal=é", None),
        ];
        for (body, key) in cases {
            assert_eq!(info_key(&Bytes::from_static(body.as_bytes())), key, "{body:?}");
        }
    }
}

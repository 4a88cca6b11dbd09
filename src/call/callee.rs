//! Signalling towards the callee: dialling, progress, answer, failure.

use crate::call::caller::{described, with_record_route};
use crate::call::dialog::{Dialog, Outgoing};
use crate::call::forks::{Forks, Heard};
use crate::call::identity::asserted;
use crate::call::leg::{CalleeLeg, CallerLeg, Calling, Established, Indicated, Offering, Progress};
use crate::call::machine::{Call, Cause, Fact, Output, Phase};
use crate::call::media::MediaCommand;
use crate::call::message::{
    ALLOW, Answered, ClientTxn, Headers, Method, Request, Response, SUPPORTED, Unanswered,
};
use crate::call::negotiate::{self, Session};
use crate::call::passing;
use crate::call::provisional::Carries;
use crate::call::relaying::Parting;
use crate::call::session_timer::{self, Raised, SessionTimer};
use crate::call::timer::PATIENCE;
use crate::ids::Leg;
use crate::rtp::{Codec, Direction};
use crate::time::Moment;

/// The INVITE is under way once more.
struct Again;

impl Call {
    /// Sends the INVITE to the next hop.
    pub(super) fn dial(&mut self, at: Moment, out: &mut Vec<Output>) {
        let Some(inline) = &self.inline else { return };
        let invite = &self.invite;
        let codecs = match &self.caller {
            CallerLeg::Invited(_) if invite.body.is_empty() => self.codecs.clone(),
            CallerLeg::Invited(_) => {
                match negotiate::offered(&invite.body, self.side.keying.wanted(), &self.codecs) {
                    Ok(codecs) => codecs,
                    Err(refusal) => {
                        let status = refusal.status();
                        return self.refuse_caller(at, status, Cause::NoCommonCodec, out);
                    }
                }
            }
            CallerLeg::Established(leg) => {
                let first = leg.session.media().map(|media| media.codec);
                let wanted = self.side.keying.wanted();
                let others = negotiate::offered(&invite.body, wanted, &self.codecs);
                dialled_codecs(first, &others.unwrap_or_else(|_| self.codecs.clone()))
            }
            CallerLeg::Leaving(_) | CallerLeg::Gone => return,
        };
        let mut dialog = Dialog::uac(Outgoing {
            call_id: inline.call_id.clone(),
            from: invite.from.value.clone(),
            to: invite.to.value.clone(),
            local_tag: inline.callee.tag.clone(),
            uri: inline.uri.clone(),
            contact: inline.callee.contact.clone(),
            hop: inline.hop,
        });
        let session = negotiate::offer(&inline.callee, &codecs, self.id);
        let raised = Raised::default();
        let request = self.invite_to_callee(&mut dialog, &session, raised);
        let give_up = at.instant + inline.ring_for;
        let txn = self.next_txn();
        out.push(Output::Send { txn, request });
        // While the caller is asked, that is where the call stands.
        if !(self.permission.asks(Leg::Caller) && self.is_undecided()) {
            self.phase = Phase::Dialling;
        }
        self.callee = CalleeLeg::Calling(Box::new(Calling {
            txn,
            dialog,
            session,
            give_up,
            progress: Progress::Nothing,
            raised,
            forks: Forks::default(),
        }));
    }

    /// The INVITE to the next hop, with the dialog's next `CSeq`.
    fn invite_to_callee(&self, dialog: &mut Dialog, session: &Session, raised: Raised) -> Request {
        let mut request = dialog.request(Method::Invite);
        let hops = self.invite.max_forwards.saturating_sub(1);
        request.headers = passing::forwarded(&request.headers, hops);
        request.headers.extend(passing::passed_on(&self.invite.headers));
        request.headers.push(passing::CALL_HEADER, self.id.to_string());
        request.headers.push("Allow", ALLOW);
        request.headers.push("Supported", format!("100rel, {SUPPORTED}"));
        session_timer::propose(self.timers, raised.least, &mut request.headers);
        request.headers.push("Content-Type", "application/sdp");
        request.body = session.description();
        request
    }

    /// The callee's side wants fewer refreshes: the INVITE goes out again with its interval (RFC
    /// 4028, 7.3). `None` where that is of no use.
    fn dial_again(
        &mut self,
        mut calling: Calling,
        refusal: &Answered,
        out: &mut Vec<Output>,
    ) -> Option<Again> {
        let raised = calling.raised.by(&refusal.headers)?;
        calling.raised = raised;
        calling.txn = self.next_txn();
        calling.forks = Forks::default();
        let request = self.invite_to_callee(&mut calling.dialog, &calling.session, raised);
        out.push(Output::Send { txn: calling.txn, request });
        self.callee = CalleeLeg::Calling(Box::new(calling));
        Some(Again)
    }

    pub(super) fn on_response(
        &mut self,
        at: Moment,
        txn: ClientTxn,
        response: &Answered,
        out: &mut Vec<Output>,
    ) {
        if self.is_bye(txn) {
            if response.status >= 200 {
                self.bye_is_done(txn);
            }
            return;
        }
        if self.on_overtaken(txn, response, out) {
            return;
        }
        if self.on_relayed_answer(txn, response, out)
            || self.on_transfer_answer(at, txn, response, out)
        {
            return;
        }
        if let Some(leg) = self.offered_on(txn) {
            return self.on_offer_answer(at, leg, response, out);
        }
        if let Some(leg) = self.updated_on(txn) {
            return self.on_update_answer(at, leg, response, out);
        }
        if let Some(dialog) = self.answered_by(txn) {
            return self.on_repeated_answer(&dialog, response, out);
        }
        match std::mem::replace(&mut self.callee, CalleeLeg::Gone) {
            CalleeLeg::Calling(calling) if calling.txn == txn => {
                self.identities.note(Leg::Callee, asserted(&response.headers));
                self.on_progress(at, *calling, response, out);
            }
            CalleeLeg::Cancelling(calling) if calling.txn == txn => {
                self.on_cancelled_answer(*calling, response, out);
            }
            other => self.callee = other,
        }
    }

    pub(super) fn on_unanswered(
        &mut self,
        at: Moment,
        txn: ClientTxn,
        why: Unanswered,
        out: &mut Vec<Output>,
    ) {
        if self.is_bye(txn) {
            return self.bye_is_done(txn);
        }
        if self.overtaken.take_if(|overtaken| overtaken.txn == txn).is_some() {
            return;
        }
        if self.relayed_unanswered(txn, why, out) || self.transfer_unanswered(at, txn, why, out) {
            return;
        }
        if let Some(leg) = self.offered_on(txn) {
            return self.offer_unanswered(at, leg, out);
        }
        if self.updated_on(txn).is_some() {
            return self.refresh_unanswered(at, out);
        }
        match &self.callee {
            CalleeLeg::Calling(calling) if calling.txn == txn => {
                let status = why.status();
                self.callee = CalleeLeg::Gone;
                self.callee_failed(at, status, Cause::Unreachable(status), out);
            }
            CalleeLeg::Cancelling(calling) if calling.txn == txn => self.callee = CalleeLeg::Gone,
            _ => {}
        }
    }

    fn on_progress(
        &mut self,
        at: Moment,
        mut calling: Calling,
        response: &Answered,
        out: &mut Vec<Output>,
    ) {
        match response.status {
            ..=100 => self.callee = CalleeLeg::Calling(Box::new(calling)),
            101..=199 => {
                let Calling { forks, dialog, session, .. } = &mut calling;
                match forks.hear(dialog, session, response) {
                    Heard::New => {}
                    Heard::Reliable(request) => {
                        let txn = self.next_txn();
                        out.push(Output::Send { txn, request });
                    }
                    Heard::Nothing => {
                        self.callee = CalleeLeg::Calling(Box::new(calling));
                        return;
                    }
                }
                let early = negotiate::accept(&calling.session, &response.body)
                    .ok()
                    .filter(|_| !response.body.is_empty());
                if let Some(session) = early {
                    calling.progress = Progress::EarlyMedia;
                    self.callee = CalleeLeg::Calling(Box::new(calling));
                    self.early_media(at, response, &session, out);
                } else {
                    if calling.progress == Progress::Nothing {
                        calling.progress = Progress::Ringing;
                    }
                    self.callee = CalleeLeg::Calling(Box::new(calling));
                    self.pass_progress(at, response.status, &response.headers, out);
                    self.comfort(out);
                }
            }
            200..=299 => self.on_answer(at, calling, response, out),
            status => {
                if status == 422 && self.dial_again(calling, response, out).is_some() {
                    return;
                }
                self.callee = CalleeLeg::Gone;
                let headers = passing::passed_on(&response.headers);
                self.parting = Some(Parting { headers, ..Parting::default() });
                let passed = passed_back(status);
                self.callee_failed(at, passed, Cause::Rejected(passed), out);
            }
        }
    }

    fn on_answer(
        &mut self,
        at: Moment,
        calling: Calling,
        response: &Answered,
        out: &mut Vec<Output>,
    ) {
        let Some((dialog, early)) = calling.forks.confirm(&calling.dialog, response) else {
            self.callee = CalleeLeg::Gone;
            return self.callee_failed(at, 502, Cause::Rejected(502), out);
        };
        out.push(Output::Ack(dialog.ack(response.cseq)));
        // An answer that came reliably is the only one (RFC 3262, 5).
        let agreed = match early {
            Some(session) => Ok(session),
            None => negotiate::accept(&calling.session, &response.body),
        };
        let session = match agreed {
            Ok(session) => session,
            Err(_) => {
                let leaving = self.say_bye(dialog, Cause::NoCommonCodec, out);
                self.callee = CalleeLeg::Leaving(leaving);
                return self.callee_failed(at, 488, Cause::NoCommonCodec, out);
            }
        };
        let Some(media) = session.media().cloned() else { return };
        self.callee = CalleeLeg::Established(Box::new(Established {
            dialog,
            session,
            unacknowledged: None,
            invite: Some(calling.txn),
            offering: Offering::None,
            indicated: Indicated::to(&response.headers),
            timer: SessionTimer::answered_by(
                self.timers,
                calling.raised,
                &response.headers,
                at.instant,
            ),
            wish: media.direction,
            told: Direction::SendRecv,
        }));
        out.push(Output::Media(MediaCommand::Connect { leg: Leg::Callee, media }));
        if self.is_undecided() {
            self.phase = Phase::Asking;
            if calling.progress == Progress::Nothing {
                // A caller who waits for the callee's answer to the question hears it ring.
                self.pass_progress(at, 180, &response.headers, out);
            }
        }
        self.prefer(at, Leg::Callee, &response.body, out);
        self.connected = passing::passed_on(&response.headers);
        self.talk(at, out);
        if self.phase != Phase::Over {
            self.join(at, Leg::Callee, out);
        }
    }

    /// Lets both parties hear each other.
    pub(super) fn bridge(&mut self, codec: Codec, out: &mut Vec<Output>) {
        for from in Leg::BOTH {
            out.push(Output::Media(MediaCommand::Relay { from, on: true }));
        }
        out.push(Output::Tell(Fact::Bridged { codec }));
    }

    /// The callee's side sends sound before it answers: the caller hears it. Of several telephones
    /// the one that has said so last is heard.
    fn early_media(
        &mut self,
        at: Moment,
        progress: &Answered,
        session: &Session,
        out: &mut Vec<Output>,
    ) {
        let Answered { status, headers, .. } = progress;
        let Some(media) = session.media().cloned() else { return };
        if let CallerLeg::Invited(invited) = &mut self.caller {
            let body = &self.invite.body;
            if invited.early.is_none() && !body.is_empty() {
                let answer = negotiate::answer(body, &self.side, &[media.codec], self.id);
                if let Some(media) = answer.as_ref().ok().and_then(|answer| answer.media()) {
                    let (leg, media) = (Leg::Caller, media.clone());
                    out.push(Output::Media(MediaCommand::Connect { leg, media }));
                }
                invited.early = answer.ok();
            } else if invited.early.is_none() && self.provisional.is_reliable() {
                // A caller who left the offer to us gets it in a reliable answer alone.
                invited.early = Some(negotiate::offer(&self.side, &[media.codec], self.id));
            }
            match &invited.early {
                Some(early)
                    if !(self.provisional.is_reliable() && self.provisional.has_description()) =>
                {
                    let tag = Some(self.side.tag.clone());
                    let response = described(*status, tag, &invited.dialog, early);
                    let mut response = with_record_route(response, &self.invite);
                    response.headers.extend(passing::passed_on(headers));
                    self.say_provisional(at, response, Carries::Description, out);
                }
                _ => self.pass_progress(at, *status, headers, out),
            }
        }
        if self.callers_codec().is_some_and(|codec| codec != media.codec) || self.is_undecided() {
            // The caller would not understand it, or is being asked: ringback says as much.
            if let CalleeLeg::Calling(calling) = &mut self.callee {
                calling.progress = Progress::Ringing;
            }
            return self.comfort(out);
        }
        self.playing.remove(&Leg::Caller);
        out.push(Output::Media(MediaCommand::Connect { leg: Leg::Callee, media }));
        out.push(Output::Media(MediaCommand::Relay { from: Leg::Callee, on: true }));
    }

    /// The codec that the caller was answered with, be it early.
    fn callers_codec(&self) -> Option<Codec> {
        let media = match &self.caller {
            CallerLeg::Invited(invited) => invited.early.as_ref()?.media(),
            _ => self.media(Leg::Caller),
        };
        media.map(|media| media.codec)
    }

    /// 180 and its like reach a caller who has no answer yet.
    fn pass_progress(&mut self, at: Moment, status: u16, headers: &Headers, out: &mut Vec<Output>) {
        let CallerLeg::Invited(invited) = &mut self.caller else { return };
        // RFC 3261, 13.2.1: the first reliable response to an INVITE without an offer bears one.
        let offers = self.provisional.is_always_reliable()
            && self.invite.body.is_empty()
            && invited.early.is_none();
        let tag = Some(self.side.tag.clone());
        let (response, carries) = if offers {
            let offer = negotiate::offer(&self.side, &self.codecs, self.id);
            let response = described(status, tag, &invited.dialog, &offer);
            invited.early = Some(offer);
            (response, Carries::Description)
        } else {
            let mut response = Response::new(status, tag);
            response.headers.push("Contact", invited.dialog.contact_value());
            (response, Carries::Nothing)
        };
        let mut response = with_record_route(response, &self.invite);
        response.headers.extend(passing::passed_on(headers));
        self.say_provisional(at, response, carries, out);
    }

    /// The callee cannot be had: the caller is told, with the callee's status while the INVITE
    /// is open, else with a BYE that names it (RFC 3326).
    fn callee_failed(&mut self, at: Moment, status: u16, cause: Cause, out: &mut Vec<Output>) {
        if matches!(self.caller, CallerLeg::Invited(_)) {
            self.refuse_caller(at, status, cause, out);
        } else {
            self.end(at, cause, out);
        }
    }

    fn on_cancelled_answer(
        &mut self,
        calling: Calling,
        response: &Answered,
        out: &mut Vec<Output>,
    ) {
        match response.status {
            ..=199 => self.callee = CalleeLeg::Cancelling(Box::new(calling)),
            200..=299 => {
                // The answer and our CANCEL crossed: take the call, then end it.
                if let Some(dialog) = calling.dialog.established(response) {
                    out.push(Output::Ack(dialog.ack(response.cseq)));
                    let leaving = self.say_bye(dialog, Cause::Cancelled, out);
                    self.callee = CalleeLeg::Leaving(leaving);
                }
            }
            _ => {}
        }
    }

    /// A 2xx after the first: a retransmission is acknowledged again, another fork's answer is
    /// acknowledged and ended (RFC 3261, 13.2.2.4).
    fn on_repeated_answer(&mut self, dialog: &Dialog, response: &Answered, out: &mut Vec<Output>) {
        if !(200..300).contains(&response.status) {
            return;
        }
        if response.to_tag.as_deref() == dialog.remote_tag() {
            out.push(Output::Ack(dialog.ack(response.cseq)));
        } else if let Some(other) = dialog.established(response) {
            out.push(Output::Ack(other.ack(response.cseq)));
            // Its answer is not waited for: this fork was never part of the call.
            let _ = self.say_bye(other, Cause::Agent, out);
        }
    }

    pub(super) fn tick_callee(&mut self, at: Moment, out: &mut Vec<Output>) {
        match &self.callee {
            CalleeLeg::Calling(calling) if calling.give_up <= at.instant => {
                self.callee_failed(at, 480, Cause::Unreachable(480), out);
            }
            CalleeLeg::Cancelling(calling) if calling.give_up <= at.instant => {
                self.callee = CalleeLeg::Gone;
            }
            _ => {}
        }
    }

    /// Says goodbye to the callee, in the way that the leg's state asks for.
    pub(super) fn leave_callee(&mut self, at: Moment, cause: Cause, out: &mut Vec<Output>) {
        match std::mem::replace(&mut self.callee, CalleeLeg::Gone) {
            CalleeLeg::Calling(mut calling) => {
                let parting = self.parting_for(cause).cloned().unwrap_or_default();
                out.push(Output::Cancel { txn: calling.txn, headers: parting.headers });
                calling.give_up = at.instant + PATIENCE;
                self.callee = CalleeLeg::Cancelling(calling);
            }
            CalleeLeg::Established(established) => {
                let leaving = self.say_bye(established.dialog, cause, out);
                self.callee = CalleeLeg::Leaving(leaving);
            }
            other => self.callee = other,
        }
    }

    /// The dialog that the answer to our INVITE of this transaction has made.
    fn answered_by(&mut self, txn: ClientTxn) -> Option<Dialog> {
        let made = |established: &&mut Established| established.invite == Some(txn);
        Leg::BOTH.into_iter().find_map(|leg| {
            self.established(leg).filter(made).map(|established| established.dialog.clone())
        })
    }

    fn is_bye(&self, txn: ClientTxn) -> bool {
        matches!(&self.caller, CallerLeg::Leaving(leaving) if leaving.txn == txn)
            || matches!(&self.callee, CalleeLeg::Leaving(leaving) if leaving.txn == txn)
    }

    fn bye_is_done(&mut self, txn: ClientTxn) {
        if matches!(&self.caller, CallerLeg::Leaving(leaving) if leaving.txn == txn) {
            self.caller = CallerLeg::Gone;
        }
        if matches!(&self.callee, CalleeLeg::Leaving(leaving) if leaving.txn == txn) {
            self.callee = CalleeLeg::Gone;
        }
    }
}

/// The other party's codec first, and then the others: another one costs them a re-INVITE.
pub(super) fn dialled_codecs(first: Option<Codec>, all: &[Codec]) -> Vec<Codec> {
    let others = all.iter().copied().filter(|codec| Some(*codec) != first);
    first.into_iter().chain(others).collect()
}

/// The status that the caller gets for the callee's. Challenges and redirects are between us and
/// the next hop, and mean nothing to the caller.
fn passed_back(status: u16) -> u16 {
    match status {
        300..=399 => 480,
        401 | 407 => 502,
        other => other,
    }
}

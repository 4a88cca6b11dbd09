//! REFER (RFC 3515, 5589): a party hands the other one over to somebody else. We dial them at the
//! call's own next hop, whatever host is named, and put them in the place of who asked for it: the
//! call goes on, and they are asked as the policy says.
//!
//! ```text
//! REFER ─▶ 202, NOTIFY 100 ─▶ INVITE ─▶ NOTIFY 18x … ─▶ 2xx: NOTIFY 200, the leg is the new party's
//!                                                   └─▶ else: NOTIFY status, the call is as it was
//! ```

use bytes::Bytes;

use crate::call::callee::dialled_codecs;
use crate::call::dialog::{Dialog, Outgoing};
use crate::call::forks::Forks;
use crate::call::identity::asserted;
use crate::call::leg::{CalleeLeg, CallerLeg, Calling, Established, Indicated, Offering, Progress};
use crate::call::machine::{Call, Cause, Output, Purpose};
use crate::call::media::{MediaCommand, Sound};
use crate::call::message::{
    ALLOW, Answered, ClientTxn, Headers, Incoming, Method, Response, SUPPORTED, ServerTxn,
    Unanswered, reason_phrase,
};
use crate::call::negotiate;
use crate::call::passing;
use crate::call::replaces::{ReferTo, Replaces, with_user};
use crate::call::session_timer::{self, Raised, SessionTimer};
use crate::call::setup::Transfers;
use crate::call::timer::PATIENCE;
use crate::ids::Leg;
use crate::number::PartyNumber;
use crate::rtp::Direction;
use crate::time::Moment;

/// A transfer under way.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Whose place is taken.
    leg: Leg,
    pub(super) calling: Calling,
    stage: Stage,
    /// Where its progress is told.
    subscription: Subscription,
    /// The new party, as dialled.
    number: Option<PartyNumber>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Dialling,
    /// The call is over; the INVITE's final answer is still to come.
    Cancelling,
}

/// The implicit subscription of a REFER (RFC 3515, 2.4.4).
#[derive(Clone, Debug)]
enum Subscription {
    /// `Refer-Sub: false` (RFC 4488), or the one who asked has hung up.
    None,
    /// The value of `Event`.
    Active { event: String },
}

/// A REFER that was admitted: whom to dial, before there is a dialog for it.
#[derive(Debug)]
pub(super) struct Referred {
    leg: Leg,
    to: ReferTo,
    subscription: Subscription,
    /// Headers of the REFER that go with the INVITE.
    headers: Headers,
}

/// What a new dialog is called by us: both random.
#[derive(Clone, Debug)]
pub struct Names {
    /// `Call-ID`.
    pub call_id: String,
    /// Our tag.
    pub tag: String,
}

impl Call {
    /// A party asks us to hand the other one over.
    pub(super) fn on_refer(
        &mut self,
        leg: Leg,
        txn: ServerTxn,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) {
        let referred = match self.referred(leg, request) {
            Ok(referred) => referred,
            Err(status) => {
                return out.push(Output::Respond { txn, response: Response::new(status, None) });
            }
        };
        let subscribed = matches!(referred.subscription, Subscription::Active { .. });
        let mut response = Response::new(if subscribed { 202 } else { 200 }, None);
        if !subscribed {
            response.headers.push("Refer-Sub", "false");
        }
        if let Some(established) = self.established(leg) {
            established.dialog.refresh_target(request.contact.as_ref());
            response.headers.push("Contact", established.dialog.contact_value());
        }
        out.push(Output::Respond { txn, response });
        self.notify(leg, &referred.subscription, 100, out);
        let replaces = referred.to.replaces.clone();
        self.referred = Some(referred);
        out.push(Output::Refer { leg, replaces });
    }

    fn referred(&mut self, leg: Leg, request: &Incoming) -> Result<Referred, u16> {
        let mut values = request.headers.all("Refer-To");
        let (Some(value), None) = (values.next(), values.next()) else { return Err(400) };
        let to = ReferTo::parse(value).map_err(|why| why.status())?;
        let Some(inline) = self.inline.as_ref().filter(|i| i.transfers == Transfers::Followed)
        else {
            return Err(603);
        };
        let side = self.side_of(leg).ok_or(481_u16)?;
        if side.rtp.is_ipv4() != inline.hop.addr.is_ipv4() {
            return Err(603);
        }
        if self.transfer.is_some() || self.bridged(leg).is_none() {
            return Err(480);
        }
        if self.bridged(leg.other()).is_none() {
            return Err(480);
        }
        let declined = request
            .headers
            .first("Refer-Sub")
            .is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"false"));
        let first = self.refers == 0;
        self.refers = self.refers.saturating_add(1);
        let event = if first { "refer".to_owned() } else { format!("refer;id={}", request.cseq) };
        let subscription =
            if declined { Subscription::None } else { Subscription::Active { event } };
        let mut headers = Headers::new();
        for name in ["Referred-By", "Session-ID", "User-to-User"] {
            for value in request.headers.all(name) {
                headers.push(name, value.clone());
            }
        }
        Ok(Referred { leg, to, subscription, headers })
    }

    /// There are names for the dialog: the new party is dialled. `replaces` is the dialog at the new
    /// party's side that ours is to take the place of.
    pub(super) fn on_referable(
        &mut self,
        at: Moment,
        names: Names,
        replaces: Option<Replaces>,
        out: &mut Vec<Output>,
    ) {
        let Some(Referred { leg, to, subscription, headers }) = self.referred.take() else {
            return;
        };
        let stays = leg.other();
        let first = self.media(stays).map(|media| media.codec);
        let (Some(inline), Some(side)) = (&self.inline, self.side_of(leg)) else { return };
        let side = side.in_dialog(&names.tag);
        // Whoever stays is who calls: named as the other side knew them.
        let from = match stays {
            Leg::Caller => self.invite.from.value.clone(),
            Leg::Callee => self.invite.to.value.clone(),
        };
        let uri = with_user(&inline.uri, to.user.expose());
        let number = PartyNumber::parse(&uri);
        let to = crate::ids::Pii::new(Bytes::from(format!("<{uri}>")));
        let mut dialog = Dialog::uac(Outgoing {
            call_id: names.call_id,
            from,
            to,
            local_tag: names.tag,
            uri,
            contact: inline.callee.contact.clone(),
            hop: inline.hop,
        });
        let give_up = at.instant + inline.ring_for;
        let codecs = dialled_codecs(first, &self.codecs);
        let session = negotiate::offer(&side, &codecs, self.id);
        let mut request = dialog.request(Method::Invite);
        request.headers.extend(headers);
        if stays == Leg::Caller {
            request.headers.extend(passing::identity(&self.invite.headers));
        }
        if let Some(replaces) = replaces {
            request.headers.push("Replaces", replaces.to_value());
        }
        request.headers.push(passing::CALL_HEADER, self.id.to_string());
        request.headers.push("Allow", ALLOW);
        request.headers.push("Supported", SUPPORTED);
        session_timer::propose(self.timers, None, &mut request.headers);
        request.headers.push("Content-Type", "application/sdp");
        request.body = session.description();
        let txn = self.next_txn();
        out.push(Output::Send { txn, request });
        let progress = Progress::Nothing;
        let raised = Raised::default();
        let forks = Forks::default();
        let calling = Calling { txn, dialog, session, give_up, progress, raised, forks };
        let stage = Stage::Dialling;
        self.transfer = Some(Box::new(Transfer { leg, calling, stage, subscription, number }));
    }

    /// Takes the answer to the INVITE of a transfer; `false` for any other.
    pub(super) fn on_transfer_answer(
        &mut self,
        at: Moment,
        txn: ClientTxn,
        response: &Answered,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(mut transfer) = self.transfer.take_if(|transfer| transfer.calling.txn == txn)
        else {
            return false;
        };
        match (response.status, transfer.stage) {
            (..=100, _) | (..=199, Stage::Cancelling) => self.transfer = Some(transfer),
            (101..=199, Stage::Dialling) => {
                self.notify(transfer.leg, &transfer.subscription, response.status, out);
                if transfer.calling.progress == Progress::Nothing {
                    transfer.calling.progress = Progress::Ringing;
                    self.ring_to(transfer.leg.other(), out);
                }
                self.transfer = Some(transfer);
            }
            (200..=299, stage) => self.on_transferred(at, *transfer, stage, response, out),
            (status, Stage::Dialling) => self.transfer_failed(at, &transfer, status, out),
            (_, Stage::Cancelling) => {}
        }
        true
    }

    /// Takes note that the INVITE of a transfer will not be answered; `false` for any other.
    pub(super) fn transfer_unanswered(
        &mut self,
        at: Moment,
        txn: ClientTxn,
        why: Unanswered,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(transfer) = self.transfer.take_if(|transfer| transfer.calling.txn == txn) else {
            return false;
        };
        if transfer.stage == Stage::Dialling {
            self.transfer_failed(at, &transfer, why.status(), out);
        }
        true
    }

    fn on_transferred(
        &mut self,
        at: Moment,
        transfer: Transfer,
        stage: Stage,
        response: &Answered,
        out: &mut Vec<Output>,
    ) {
        let Transfer { leg, calling, subscription, number, .. } = &transfer;
        let (leg, number) = (*leg, number.clone());
        let Some(dialog) = calling.dialog.established(response) else {
            return self.transfer_failed(at, &transfer, 502, out);
        };
        out.push(Output::Ack(dialog.ack(response.cseq)));
        if stage == Stage::Cancelling {
            // The answer and our CANCEL crossed: take the call, then end it.
            let _ = self.say_bye(dialog, Cause::Cancelled, out);
            return;
        }
        let agreed = negotiate::accept(&calling.session, &response.body).ok();
        let Some((session, media)) = agreed.and_then(|s| s.media().cloned().map(|m| (s, m))) else {
            let _ = self.say_bye(dialog, Cause::NoCommonCodec, out);
            return self.transfer_failed(at, &transfer, 488, out);
        };
        self.notify(leg, subscription, 200, out);
        let established = Established {
            dialog,
            session,
            unacknowledged: None,
            invite: Some(calling.txn),
            offering: Offering::None,
            indicated: Indicated::to(&response.headers),
            wish: media.direction,
            told: Direction::SendRecv,
            timer: SessionTimer::answered_by(
                self.timers,
                calling.raised,
                &response.headers,
                at.instant,
            ),
        };
        let number = asserted(&response.headers).or(number);
        self.put_in_place(at, leg, established, number, out);
    }

    /// The leg is this dialog's from now on, and somebody else speaks on it. What was permitted to
    /// the one before ends before their voice can arrive.
    pub(super) fn put_in_place(
        &mut self,
        at: Moment,
        leg: Leg,
        established: Established,
        number: Option<PartyNumber>,
        out: &mut Vec<Output>,
    ) {
        self.stop_ringing(leg.other(), out);
        self.identify_as(leg, number, out);
        let media = established.session.media().cloned();
        let established = Box::new(established);
        let before = match leg {
            Leg::Caller => {
                match std::mem::replace(&mut self.caller, CallerLeg::Established(established)) {
                    CallerLeg::Established(before) => Some(before),
                    _ => None,
                }
            }
            Leg::Callee => {
                match std::mem::replace(&mut self.callee, CalleeLeg::Established(established)) {
                    CalleeLeg::Established(before) => Some(before),
                    _ => None,
                }
            }
        };
        if let Some(before) = before {
            self.depart(at, leg, before.dialog, out);
        }
        if let Some(media) = media {
            let codec = media.codec;
            out.push(Output::Media(MediaCommand::Connect { leg, media }));
            let other = leg.other();
            if self.media(other).is_some_and(|media| media.codec != codec) {
                self.want_codec(other, codec);
                self.offer(at, other, out);
            }
        }
        self.indicate(out);
    }

    fn transfer_failed(
        &mut self,
        at: Moment,
        transfer: &Transfer,
        status: u16,
        out: &mut Vec<Output>,
    ) {
        let Transfer { leg, subscription, .. } = transfer;
        self.notify(*leg, subscription, status, out);
        self.stop_ringing(leg.other(), out);
        if self.established(*leg).is_none() {
            // Who asked for it has hung up: nobody is left to talk to.
            self.end(at, Cause::Rejected(status), out);
        }
    }

    /// Who asked for a transfer may hang up before it is done, and the call waits for the new
    /// party; `false` where there is none.
    pub(super) fn leaves_by_transfer(&mut self, leg: Leg, out: &mut Vec<Output>) -> bool {
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.leg == leg) else {
            return false;
        };
        transfer.subscription = Subscription::None;
        match leg {
            Leg::Caller => self.caller = CallerLeg::Gone,
            Leg::Callee => self.callee = CalleeLeg::Gone,
        }
        // Whatever their telephone still sends: who has left is not recorded.
        out.push(Output::Release { leg });
        true
    }

    pub(super) fn tick_transfer(&mut self, at: Moment, out: &mut Vec<Output>) {
        let due = |transfer: &mut Box<Transfer>| transfer.calling.give_up <= at.instant;
        let Some(transfer) = self.transfer.take_if(due) else { return };
        if transfer.stage == Stage::Dialling {
            self.transfer_failed(at, &transfer, 480, out);
            self.cancel_transfer(at, transfer, out);
        }
    }

    /// The call ends while somebody is dialled.
    pub(super) fn end_transfer(&mut self, at: Moment, out: &mut Vec<Output>) {
        self.referred = None;
        match self.transfer.take() {
            Some(transfer) if transfer.stage == Stage::Dialling => {
                self.notify(transfer.leg, &transfer.subscription, 487, out);
                self.cancel_transfer(at, transfer, out);
            }
            other => self.transfer = other,
        }
    }

    fn cancel_transfer(&mut self, at: Moment, mut transfer: Box<Transfer>, out: &mut Vec<Output>) {
        out.push(Output::Cancel { txn: transfer.calling.txn, headers: Headers::new() });
        transfer.stage = Stage::Cancelling;
        transfer.calling.give_up = at.instant + PATIENCE;
        self.transfer = Some(transfer);
    }

    /// Tells who asked how the transfer stands (RFC 3515, 2.4.5).
    fn notify(
        &mut self,
        leg: Leg,
        subscription: &Subscription,
        status: u16,
        out: &mut Vec<Output>,
    ) {
        let Subscription::Active { event } = subscription else { return };
        let txn = self.next_txn();
        let Some(established) = self.established(leg) else { return };
        let mut request = established.dialog.request(Method::Notify);
        let state =
            if status < 200 { "active;expires=180" } else { "terminated;reason=noresource" };
        request.headers.push("Event", event.clone());
        request.headers.push("Subscription-State", state);
        request.headers.push("Content-Type", "message/sipfrag;version=2.0");
        request.body = Bytes::from(format!("SIP/2.0 {status} {}\r\n", reason_phrase(status)));
        out.push(Output::Send { txn, request });
    }

    /// Whoever waits for the new party hears it ring.
    fn ring_to(&mut self, leg: Leg, out: &mut Vec<Output>) {
        if !self.playing.contains_key(&leg) {
            let locale = self.side_of(leg).map_or_else(String::new, |side| side.locale.clone());
            self.play(leg, Sound::Ringback { locale }, Purpose::Comfort, out);
        }
    }

    fn stop_ringing(&mut self, leg: Leg, out: &mut Vec<Output>) {
        if matches!(self.playing.get(&leg), Some((_, Purpose::Comfort))) {
            self.playing.remove(&leg);
            out.push(Output::Media(MediaCommand::Silence { leg }));
        }
    }
}

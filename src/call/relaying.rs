//! Requests within a dialog that concern the two parties and not us: they go on to the other leg,
//! and its answer comes back.

use bytes::Bytes;

use crate::call::caller::info_key;
use crate::call::leg::Established;
use crate::call::machine::{Call, Cause, Output, Phase};
use crate::call::message::{
    Answered, ClientTxn, Headers, Incoming, Response, ServerTxn, Unanswered,
};
use crate::call::passing;
use crate::call::setup::InfoKeys;
use crate::ids::Leg;
use crate::time::Moment;

/// How many may wait for their answers at once, in both directions together.
const AT_ONCE: usize = 16;

/// A request that waits for the other leg's answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relayed {
    /// Ours, on the other leg.
    sent: ClientTxn,
    /// The one that it answers.
    asked: ServerTxn,
}

/// What came with a BYE or a CANCEL, and goes with ours.
#[derive(Clone, Debug, Default)]
pub(super) struct Parting {
    pub(super) headers: Headers,
    pub(super) body: Bytes,
}

impl Parting {
    pub(super) fn of(request: &Incoming) -> Self {
        Self { headers: passing::within_dialog(&request.headers), body: request.body.clone() }
    }
}

impl Call {
    /// A request that is not for us goes on to the other leg, if there is one.
    pub(super) fn relay(
        &mut self,
        leg: Leg,
        txn: ServerTxn,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) {
        let refuse = |status| Output::Respond { txn, response: Response::new(status, None) };
        if self.relayed.len() >= AT_ONCE {
            let mut response = Response::new(500, None);
            response.headers.push("Retry-After", "1");
            return out.push(Output::Respond { txn, response });
        }
        if request.max_forwards == 0 {
            return out.push(refuse(483));
        }
        let sent = self.next_txn();
        let Some(other) = self.bridged(leg.other()) else {
            // There is nobody yet; the dialog stays as it is (RFC 5057, 5.1).
            return out.push(refuse(480));
        };
        let mut onward = other.dialog.request(request.method.clone());
        onward.headers = passing::forwarded(&onward.headers, request.max_forwards - 1);
        onward.headers.extend(passing::within_dialog(&request.headers));
        onward.body.clone_from(&request.body);
        self.relayed.push(Relayed { sent, asked: txn });
        out.push(Output::Send { txn: sent, request: onward });
        if let Some(established) = self.established(leg) {
            established.dialog.refresh_target(request.contact.as_ref());
        }
    }

    /// Keys by INFO count here, and reach the other party as everything else does.
    pub(super) fn on_info(
        &mut self,
        at: Moment,
        leg: Leg,
        txn: ServerTxn,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) {
        let keys = ["application/dtmf-relay", "application/dtmf"];
        let kind = request.content_type();
        let is_key = kind.as_deref().is_some_and(|kind| keys.contains(&kind));
        if self.bridged(leg.other()).is_some() {
            self.relay(leg, txn, request, out);
        } else {
            let mut response =
                Response::new(if is_key || kind.is_none() { 200 } else { 415 }, None);
            if response.status == 415 {
                response.headers.push("Accept", keys.join(", "));
            }
            out.push(Output::Respond { txn, response });
        }
        if let Some(key) = info_key(&request.body).filter(|_| is_key)
            && self.info_keys == InfoKeys::Counted
        {
            self.pressed(at, leg, key, out);
        }
    }

    /// Takes the answer to a request that was relayed; `false` for any other.
    pub(super) fn on_relayed_answer(
        &mut self,
        txn: ClientTxn,
        response: &Answered,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(index) = self.relayed.iter().position(|relayed| relayed.sent == txn) else {
            return false;
        };
        if response.status >= 200 {
            let Relayed { asked, .. } = self.relayed.swap_remove(index);
            let mut answer = Response::new(response.status, None);
            answer.reason.clone_from(&response.reason);
            answer.headers = passing::within_dialog(&response.headers);
            answer.body.clone_from(&response.body);
            out.push(Output::Respond { txn: asked, response: answer });
        }
        true
    }

    /// Takes note that a request that was relayed will not be answered; `false` for any other.
    pub(super) fn relayed_unanswered(
        &mut self,
        txn: ClientTxn,
        why: Unanswered,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(index) = self.relayed.iter().position(|relayed| relayed.sent == txn) else {
            return false;
        };
        let Relayed { asked, .. } = self.relayed.swap_remove(index);
        let response = Response::new(why.status(), None);
        out.push(Output::Respond { txn: asked, response });
        true
    }

    /// The call ends: what still waits for an answer has this one (RFC 3261, 15.1.2).
    pub(super) fn end_relays(&mut self, out: &mut Vec<Output>) {
        for Relayed { asked, .. } in self.relayed.drain(..) {
            out.push(Output::Respond { txn: asked, response: Response::new(487, None) });
        }
        if let Some(reoffer) = self.passing.take() {
            out.push(Output::Respond { txn: reoffer.txn(), response: Response::new(487, None) });
        }
    }

    /// What the other side said as it left, for a leg that is left for that reason.
    pub(super) fn parting_for(&self, cause: Cause) -> Option<&Parting> {
        let theirs = matches!(cause, Cause::HungUp(_) | Cause::Cancelled | Cause::Rejected(_));
        self.parting.as_ref().filter(|_| theirs)
    }

    /// A leg whose party talks with the other one.
    pub(super) fn bridged(&mut self, leg: Leg) -> Option<&mut Established> {
        if self.phase == Phase::Talking { self.established(leg) } else { None }
    }
}

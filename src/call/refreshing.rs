//! Sessions kept alive and given up (RFC 4028): refreshes of ours.

use crate::call::leg::{Aim, Established, Offering};
use crate::call::machine::{Call, Cause, Output, Phase};
use crate::call::message::{ALLOW, Answered, ClientTxn, Headers, Method, Response};
use crate::call::session_timer::{Due, Refusal, Way};
use crate::ids::Leg;
use crate::time::Moment;

impl Established {
    /// Adds what the peer's re-INVITE or UPDATE is granted of the session timer to its 2xx, which
    /// refreshes the session.
    pub(super) fn refreshed_by(&mut self, at: Moment, request: &Headers, response: &mut Response) {
        // One that is too short was refused when it came.
        let granted = self.timer.consider(request).unwrap_or_default();
        granted.write(&mut response.headers);
        self.timer.grant(granted, at.instant);
    }
}

impl Call {
    /// Refreshes the sessions whose time has come, and ends the call when one has expired.
    pub(super) fn tick_sessions(&mut self, at: Moment, out: &mut Vec<Output>) {
        for leg in Leg::BOTH {
            let Some(established) = self.established(leg) else { continue };
            match established.timer.due(at.instant) {
                Due::NotYet => {}
                Due::Refresh(way) => self.refresh_session(at, leg, way, out),
                Due::Expired => self.end(at, Cause::Expired, out),
            }
        }
    }

    fn refresh_session(&mut self, at: Moment, leg: Leg, way: Way, out: &mut Vec<Output>) {
        let txn = self.next_txn();
        let Some(established) = self.established(leg) else { return };
        match way {
            Way::Update => {
                let mut request = established.dialog.request(Method::Update);
                request.headers.push("Allow", ALLOW);
                established.timer.write(&mut request.headers);
                established.timer.updating(txn);
                out.push(Output::Send { txn, request });
            }
            Way::Invite => {
                established.timer.offering();
                // Any other offer of ours that is under way refreshes as well.
                if matches!(established.offering, Offering::None | Offering::Answered { .. }) {
                    let aim = Aim::Refresh;
                    established.offering = Offering::Wanted { aim, not_before: None, tries: 0 };
                    self.offer(at, leg, out);
                }
            }
        }
    }

    /// On which leg an UPDATE of ours has this transaction.
    pub(super) fn updated_on(&mut self, txn: ClientTxn) -> Option<Leg> {
        Leg::BOTH.into_iter().find(|leg| {
            self.established(*leg).is_some_and(|established| established.timer.updates_by(txn))
        })
    }

    /// The answer to an UPDATE of ours.
    pub(super) fn on_update_answer(
        &mut self,
        at: Moment,
        leg: Leg,
        response: &Answered,
        out: &mut Vec<Output>,
    ) {
        if response.status < 200 || self.phase == Phase::Over {
            return;
        }
        if (200..300).contains(&response.status)
            && let Some(established) = self.established(leg)
        {
            established.dialog.refresh_target(response.contact.as_ref());
        }
        self.note_refresh(at, leg, response, out);
    }

    /// Takes note of a final answer to an UPDATE or re-INVITE of ours: a 2xx refreshes the session.
    pub(super) fn note_refresh(
        &mut self,
        at: Moment,
        leg: Leg,
        response: &Answered,
        out: &mut Vec<Output>,
    ) {
        let Some(established) = self.established(leg) else { return };
        let (status, headers) = (response.status, &response.headers);
        if (200..300).contains(&status) {
            return established.timer.answered(headers, at.instant);
        }
        match established.timer.refused(status, headers, at.instant) {
            Refusal::TryAgain => {}
            Refusal::Gone => self.end(at, Cause::Expired, out),
        }
    }

    /// An UPDATE or re-INVITE of ours that was to refresh was not answered (RFC 4028, 10).
    pub(super) fn refresh_unanswered(&mut self, at: Moment, out: &mut Vec<Output>) {
        self.end(at, Cause::Expired, out);
    }
}

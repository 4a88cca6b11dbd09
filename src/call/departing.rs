//! Dialogs whose party is in the call no longer: another one has taken their place. They end by
//! themselves, or by a BYE of ours after a while.

use std::time::{Duration, Instant};

use crate::call::dialog::Dialog;
use crate::call::machine::{Call, Cause, Output};
use crate::call::message::{Incoming, Method, Response, ServerTxn};
use crate::ids::Leg;
use crate::time::Moment;

/// Who referred somebody hangs up when the transfer is done (RFC 5589, 7.1); others are helped to.
const PATIENCE: Duration = Duration::from_secs(3);

/// More than these are ended at once.
const AT_ONCE: usize = 4;

/// Such a dialog.
#[derive(Debug)]
pub(super) struct Departing {
    leg: Leg,
    dialog: Dialog,
    /// When it is ended.
    pub(super) until: Instant,
}

impl Call {
    /// The dialog's party has been replaced.
    pub(super) fn depart(&mut self, at: Moment, leg: Leg, dialog: Dialog, out: &mut Vec<Output>) {
        if self.departing.len() < AT_ONCE {
            self.departing.push(Departing { leg, dialog, until: at.instant + PATIENCE });
        } else {
            let _ = self.say_bye(dialog, Cause::Transferred, out);
        }
    }

    /// A request in such a dialog; `false` for any other.
    pub(super) fn on_departing(
        &mut self,
        leg: Leg,
        txn: ServerTxn,
        request: &Incoming,
        out: &mut Vec<Output>,
    ) -> bool {
        let of = |one: &mut Departing| one.leg == leg && one.dialog.admit(request).is_ok();
        let Some(index) = self.departing.iter_mut().position(of) else { return false };
        let status = match request.method {
            Method::Bye => {
                self.departing.swap_remove(index);
                200
            }
            _ => 481,
        };
        out.push(Output::Respond { txn, response: Response::new(status, None) });
        true
    }

    /// Ends those that have had their time, or all of them.
    pub(super) fn end_departing(&mut self, until: Option<Instant>, out: &mut Vec<Output>) {
        let (over, on) = std::mem::take(&mut self.departing)
            .into_iter()
            .partition(|one| until.is_none_or(|until| one.until <= until));
        self.departing = on;
        for Departing { dialog, .. } in over {
            let _ = self.say_bye(dialog, Cause::Transferred, out);
        }
    }
}

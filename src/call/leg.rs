//! The states of the two legs.

use std::time::Instant;

use crate::call::dialog::{Dialog, Leaving, Unacknowledged};
use crate::call::message::{ClientTxn, ServerTxn};
use crate::call::negotiate::Session;

/// The leg towards the caller: a dialog in which we are the UAS.
#[derive(Debug)]
pub(super) enum CallerLeg {
    /// The INVITE waits for its final answer.
    Invited(Box<Invited>),
    /// The INVITE is answered with a 2xx.
    Established(Box<Established>),
    /// Our BYE is under way.
    Leaving(Leaving),
    /// Nothing is left of it.
    Gone,
}

/// The leg towards the callee: a dialog in which we are the UAC.
#[derive(Debug)]
pub(super) enum CalleeLeg {
    /// Not dialled.
    Idle,
    /// Our INVITE waits for its final answer.
    Calling(Box<Calling>),
    /// Our INVITE is cancelled; its final answer is still to come.
    Cancelling(Box<Calling>),
    /// The callee has answered.
    Established(Box<Established>),
    /// Our BYE is under way.
    Leaving(Leaving),
    /// Nothing is left of it.
    Gone,
}

/// An INVITE without a final answer.
#[derive(Debug)]
pub(super) struct Invited {
    pub(super) txn: ServerTxn,
    /// The answer that went out in a 183, so that the 200 repeats it.
    pub(super) early: Option<Session>,
}

/// An INVITE of ours without a final answer.
#[derive(Debug)]
pub(super) struct Calling {
    pub(super) txn: ClientTxn,
    pub(super) dialog: Dialog,
    pub(super) session: Session,
    pub(super) give_up: Instant,
    /// Early media or ringing: what the caller hears.
    pub(super) progress: Progress,
}

/// What the callee's side has told so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Nothing,
    Ringing,
    EarlyMedia,
}

/// An answered leg.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) dialog: Dialog,
    pub(super) session: Session,
    pub(super) unacknowledged: Option<Unacknowledged>,
    /// A re-INVITE of ours that waits for its final answer.
    pub(super) offering: Option<Offering>,
}

/// A re-INVITE of ours without a final answer.
#[derive(Debug)]
pub(super) struct Offering {
    pub(super) txn: ClientTxn,
    pub(super) session: Session,
}

impl CallerLeg {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            CallerLeg::Established(leg) => leg.deadline(),
            _ => None,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self, CallerLeg::Gone)
    }
}

impl CalleeLeg {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            CalleeLeg::Calling(leg) | CalleeLeg::Cancelling(leg) => Some(leg.give_up),
            CalleeLeg::Established(leg) => leg.deadline(),
            _ => None,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self, CalleeLeg::Idle | CalleeLeg::Gone)
    }
}

impl Established {
    /// Whether an offer of ours is still without its answer.
    pub(super) fn is_offering(&self) -> bool {
        let offered = self.offering.as_ref().and_then(|offering| offering.session.codec());
        offered.is_some_and(|codec| self.session.media().is_none_or(|media| media.codec != codec))
    }

    fn deadline(&self) -> Option<Instant> {
        self.unacknowledged.as_ref().map(|unacked| unacked.again.deadline())
    }
}

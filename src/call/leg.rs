//! The states of the two legs.

use std::time::Instant;

use crate::call::dialog::{Dialog, Leaving, Unacknowledged};
use crate::call::forks::Forks;
use crate::call::message::{ClientTxn, Headers, ServerTxn};
use crate::call::negotiate::Session;
use crate::call::session_timer::{Raised, SessionTimer};
use crate::call::timer::PATIENCE;
use crate::rtp::{Codec, Direction};
use crate::sdp::RecordState;

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
    /// The dialog to be, for requests that come before the final answer.
    pub(super) dialog: Dialog,
    /// What went out in a 183, so that the 200 repeats it: the answer, or our offer.
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
    /// What its 422s have said.
    pub(super) raised: Raised,
    /// The telephones that it has reached.
    pub(super) forks: Forks,
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
    /// Our own INVITE that it answered, for its 2xx that come again.
    pub(super) invite: Option<ClientTxn>,
    /// An offer of ours within the dialog.
    pub(super) offering: Offering,
    /// What the peer was told of recording.
    pub(super) indicated: Indicated,
    pub(super) timer: SessionTimer,
    /// What the peer by itself lets us do with the stream: less than both while it holds the call.
    pub(super) wish: Direction,
    /// What our last description let the peer do, seen from us, whatever came of it.
    pub(super) told: Direction,
}

/// What a peer was told of recording (RFC 7866, 6.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Indicated {
    /// It does not ask to be told: it did not say `record-aware`.
    Nothing,
    /// The state of its stream's recording.
    State(RecordState),
}

impl Indicated {
    /// For a peer with these headers.
    pub(super) fn to(headers: &Headers) -> Self {
        let lists = headers.all("Supported").filter_map(|value| std::str::from_utf8(value).ok());
        let aware = lists
            .flat_map(|list| list.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case("record-aware"));
        if aware { Indicated::State(RecordState::Off) } else { Indicated::Nothing }
    }

    /// What our description says.
    pub(super) fn state(self) -> Option<RecordState> {
        match self {
            Indicated::Nothing => None,
            Indicated::State(state) => Some(state),
        }
    }
}

/// What a re-INVITE of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// The codec of the other leg: without it the two do not understand each other.
    Codec(Codec),
    /// To tell what becomes of the stream: its recording, or that the other party holds the call
    /// or takes it back. The call goes on whatever the peer says to it.
    Indication,
    /// To keep the session alive (RFC 4028). Nothing changes.
    Refresh,
    /// To ask whether the other party's new offer can be agreed to.
    Passed,
}

/// An offer of ours within an established dialog: a re-INVITE.
#[derive(Debug)]
pub(super) enum Offering {
    /// There is none.
    None,
    /// It is to be made when the peer has acknowledged ours, and not before a time.
    Wanted { aim: Aim, not_before: Option<Instant>, tries: u8 },
    /// It waits for its final answer.
    Sent { txn: ClientTxn, aim: Aim, session: Box<Session>, tries: u8 },
    /// It was answered; a 2xx that comes again is acknowledged again.
    Answered { txn: ClientTxn },
}

/// An offer of ours that a BYE has overtaken. Its 2xx is acknowledged all the same: without an ACK
/// it would come again and again (RFC 3261, 13.2.2.4).
#[derive(Debug)]
pub(super) struct Overtaken {
    pub(super) txn: ClientTxn,
    pub(super) dialog: Dialog,
    /// When it is not waited for any more.
    pub(super) until: Instant,
}

impl Overtaken {
    pub(super) fn by_bye(leg: &Established, now: Instant) -> Option<Self> {
        let Offering::Sent { txn, .. } = leg.offering else { return None };
        Some(Self { txn, dialog: leg.dialog.clone(), until: now + PATIENCE })
    }
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
    /// Whether a re-INVITE of ours has this transaction.
    pub(super) fn offered_by(&self, txn: ClientTxn) -> bool {
        match &self.offering {
            Offering::Sent { txn: sent, .. } | Offering::Answered { txn: sent } => *sent == txn,
            Offering::None | Offering::Wanted { .. } => false,
        }
    }

    /// Whether an offer of ours is still without its answer.
    pub(super) fn is_offering(&self) -> bool {
        matches!(self.offering, Offering::Sent { .. })
    }

    fn deadline(&self) -> Option<Instant> {
        let again = self.unacknowledged.as_ref().map(|unacked| unacked.again.deadline());
        let offer = match &self.offering {
            Offering::Wanted { not_before, .. } => *not_before,
            _ => None,
        };
        [again, offer, self.timer.deadline()].into_iter().flatten().min()
    }
}

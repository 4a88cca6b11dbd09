//! Orders from outside the call, and how it stands with its recording for who gives them.

use serde::{Deserialize, Serialize};

use crate::call::machine::{Call, Input, Output, Phase};
use crate::call::setup::Recorder;
use crate::consent::DecisionNumber;
use crate::consent::machine::{Denial, Order};
use crate::ids::{Leg, RecordingId};
use crate::time::{Moment, Timestamp};

/// How it stands with a call's recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recorded {
    /// Somebody is asked, or their agreement is on its way to the disk.
    Asking,
    /// Somebody's voice is written.
    Recording,
    /// It goes on when somebody resumes it, or at the policy's limit.
    Paused,
    /// Nothing is written.
    Unrecorded,
}

impl Recorded {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Recorded::Asking => "asking",
            Recorded::Recording => "recording",
            Recorded::Paused => "paused",
            Recorded::Unrecorded => "unrecorded",
        }
    }
}

/// What came of an order.
#[derive(Debug)]
pub struct Ordered {
    /// What the call wants done.
    pub outputs: Vec<Output>,
    /// Whether it was carried out.
    pub carried: Result<Carried, Declined>,
    /// The recording that it was about, where there was one.
    pub recording: Option<RecordingId>,
    /// The decision among the outputs with which a withdrawal becomes durable.
    pub decision: Option<DecisionNumber>,
}

/// How an order was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It changed something.
    Changed,
    /// It was so already.
    Unchanged,
}

/// Why an order was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// Nothing of the call, or of the party, is recorded.
    NotRecorded,
    /// The call has no party on that leg.
    NoSuchParty,
    /// The call is being taken down.
    Ended,
}

impl Call {
    /// Whether a recording is, was or will be one of this call.
    #[must_use]
    pub fn owns(&self, recording: RecordingId) -> bool {
        recording.is_between(self.first_recording, self.permission.newest_recording())
    }

    /// When it began.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// How it stands with the recording.
    #[must_use]
    pub fn recorded(&self) -> Recorded {
        let permission = &self.permission;
        if self.phase == Phase::Over || self.recorder != Recorder::Ready || !permission.covers() {
            return Recorded::Unrecorded;
        }
        let unsettled = permission.settled().is_none();
        let asking = unsettled || Leg::BOTH.iter().any(|leg| permission.is_open(*leg));
        if permission.is_writing() {
            Recorded::Recording
        } else if permission.is_recording() {
            Recorded::Paused
        } else if asking && permission.may_record() {
            Recorded::Asking
        } else {
            Recorded::Unrecorded
        }
    }

    /// The recording that somebody is permitted to be in now; the newest, where there are two.
    #[must_use]
    pub fn recording(&self) -> Option<RecordingId> {
        Leg::BOTH.into_iter().filter_map(|leg| self.permission.recording_of(leg)).max()
    }

    /// Carries out an order, or says why not. One that asks for what is so already is carried out
    /// without doing anything.
    pub fn order(&mut self, at: Moment, order: Order, id: String) -> Ordered {
        let recording = match order {
            Order::Withdraw(leg) => self.permission.recording_of(leg),
            Order::Pause | Order::Resume => self.recording(),
        };
        let told = |carried| Ordered { outputs: Vec::new(), carried, recording, decision: None };
        if self.phase == Phase::Over {
            return told(Err(Declined::Ended));
        }
        let carried = match (order, self.recorded()) {
            (Order::Withdraw(leg), _) => return self.withdraw(at, leg, id, recording),
            (_, Recorded::Asking | Recorded::Unrecorded) => Err(Declined::NotRecorded),
            (Order::Pause, Recorded::Paused) | (Order::Resume, Recorded::Recording) => {
                Ok(Carried::Unchanged)
            }
            (Order::Pause, Recorded::Recording) | (Order::Resume, Recorded::Paused) => {
                Ok(Carried::Changed)
            }
        };
        if carried != Ok(Carried::Changed) {
            return told(carried);
        }
        let outputs = self.handle(at, Input::Command { order, id });
        Ordered { outputs, ..told(carried) }
    }

    fn withdraw(
        &mut self,
        at: Moment,
        leg: Leg,
        id: String,
        recording: Option<RecordingId>,
    ) -> Ordered {
        if !self.permission.has(leg) {
            let carried = Err(Declined::NoSuchParty);
            return Ordered { outputs: Vec::new(), carried, recording, decision: None };
        }
        let asked = self.permission.is_open(leg);
        let outputs = self.handle(at, Input::Command { order: Order::Withdraw(leg), id });
        let decision = outputs.iter().find_map(|output| match output {
            Output::Commit(decision) if decision.facts().leg == leg => Some(decision.number()),
            _ => None,
        });
        let carried = match self.permission.denial(leg) {
            // Who is being asked has their answer with this, whatever it was going to be.
            _ if decision.is_some() || asked => Ok(Carried::Changed),
            None | Some(Denial::Withdrawn) => Ok(Carried::Unchanged),
            Some(_) => Err(Declined::NotRecorded),
        };
        Ordered { outputs, carried, recording, decision }
    }
}

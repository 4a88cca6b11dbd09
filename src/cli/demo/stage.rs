//! Where a call is played: two phones, the agent between them, and a script of who does what.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::events::{Events, LOOK};
use super::screen::{Screen, Who};
use super::{failed, setting};
use crate::cli::failure::Failure;
use crate::clock;
use crate::ids::RecordingId;
use crate::phone::{Call, Happening, Order, Phone, PhoneEvent, Plan, Report, Target, Teller};

/// How long a call may take before something must be wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a recording may take to be sealed once the call is over.
const SEALED_WITHIN: Duration = Duration::from_secs(10);

/// What the two do in a call, and what is told of it.
pub(super) trait Script {
    /// What each does from the beginning.
    fn plan(&self, who: Who) -> Plan;
    /// Something happened on a phone. Returns what a person is told of it, if anything.
    fn happened(&mut self, who: Who, what: &Happening, phones: &Phones) -> Option<String>;
    /// Time has passed, and the events are read.
    fn look(&mut self, now: Instant, events: &Events, phones: &Phones);
    /// Where the call is, if it is not where it is to end.
    fn unfinished(&self) -> Option<&'static str>;
}

/// The two phones, to be told what to do.
#[derive(Debug)]
pub(super) struct Phones {
    caller: mpsc::Sender<Order>,
    callee: mpsc::Sender<Order>,
}

impl Phones {
    /// Orders something. A script orders a few things in a call, seconds apart.
    pub(super) fn order(&self, who: Who, order: Order) {
        let to = if who == Who::Callee { &self.callee } else { &self.caller };
        let _ = to.try_send(order);
    }
}

/// Where a call is played and told.
pub(super) struct Stage<'a, 'b> {
    pub(super) screen: &'a mut Screen<'b>,
    pub(super) events: &'a mut Events,
    /// Where the agent takes calls.
    pub(super) agent: SocketAddr,
}

impl Stage<'_, '_> {
    /// Plays a call to its end, and returns the recording that came of it.
    pub(super) async fn play(
        &mut self,
        caller: Phone,
        callee: Phone,
        script: &mut impl Script,
    ) -> Result<RecordingId, Failure> {
        let before = self.events.recording();
        let target: Target = format!("sip:{}@{}", setting::CALLEE, self.agent)
            .parse()
            .map_err(|why| Failure::Failed(format!("the agent's address: {why}")))?;
        let (to_caller, orders) = mpsc::channel(8);
        let (teller, mut from_caller) = Teller::new();
        let call = Call { plan: script.plan(Who::Caller), orders, teller };
        let calling = caller.call(&target, self.agent, call);
        let (to_callee, orders) = mpsc::channel(8);
        let (teller, mut from_callee) = Teller::new();
        let answering = callee.answer(Call { plan: script.plan(Who::Callee), orders, teller });
        let phones = Phones { caller: to_caller, callee: to_callee };
        tokio::pin!(calling, answering);

        let mut look = tokio::time::interval(LOOK);
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        let mut callee_done = false;
        let report = loop {
            tokio::select! {
                report = &mut calling => break report.map_err(failed)?,
                report = &mut answering, if !callee_done => {
                    report.map_err(failed)?;
                    callee_done = true;
                }
                Some(event) = from_caller.recv() => {
                    self.phone(Who::Caller, &event, script, &phones)?;
                }
                Some(event) = from_callee.recv() => {
                    self.phone(Who::Callee, &event, script, &phones)?;
                }
                _ = look.tick() => {
                    self.events.show(self.screen)?;
                    script.look(clock::now(), self.events, &phones);
                }
                () = &mut patience => {
                    return Err(Failure::Failed(format!(
                        "the call did not come to its end within {} s",
                        PATIENCE.as_secs()
                    )));
                }
            }
        };
        // The callee's own end of the call.
        let _ = tokio::time::timeout(Duration::from_secs(2), async {
            while !callee_done {
                tokio::select! {
                    _ = &mut answering => callee_done = true,
                    Some(event) = from_callee.recv() => {
                        let _ = self.phone(Who::Callee, &event, script, &phones);
                    }
                }
            }
        })
        .await;
        while let Ok(event) = from_caller.try_recv() {
            self.phone(Who::Caller, &event, script, &phones)?;
        }
        while let Ok(event) = from_callee.try_recv() {
            self.phone(Who::Callee, &event, script, &phones)?;
        }
        judge(&report, script)?;
        self.events.show(self.screen)?;
        let recording = self.events.recording().filter(|it| Some(*it) != before);
        recording.ok_or_else(|| Failure::Failed("the call was not recorded".to_owned()))
    }

    /// Waits until a recording is sealed, and returns what was told of it.
    pub(super) async fn sealed(&mut self, recording: RecordingId) -> Result<Value, Failure> {
        let deadline = clock::now() + SEALED_WITHIN;
        loop {
            self.events.show(self.screen)?;
            if let Some(sealed) = self.events.sealed(recording) {
                return Ok(sealed.clone());
            }
            if clock::now() >= deadline {
                return Err(Failure::Failed("the recording was not sealed".to_owned()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What a phone does often follows from what the agent has done: that comes first.
    fn phone(
        &mut self,
        who: Who,
        event: &PhoneEvent,
        script: &mut impl Script,
        phones: &Phones,
    ) -> Result<(), Failure> {
        self.events.show(self.screen)?;
        let said = script.happened(who, &event.what, phones);
        if self.screen.is_json() {
            let mut value = serde_json::to_value(event).unwrap_or_default();
            if let Value::Object(members) = &mut value {
                members.insert("who".to_owned(), json!(who.name()));
                members.insert("said".to_owned(), json!(said));
            }
            return self.screen.value(&value);
        }
        match said {
            Some(text) => self.screen.line(who, &text, ""),
            None => Ok(()),
        }
    }
}

fn judge(report: &Report, script: &impl Script) -> Result<(), Failure> {
    let Some(stage) = script.unfinished() else { return Ok(()) };
    let outcome = serde_json::to_value(&report.outcome).unwrap_or_default();
    Err(Failure::Failed(format!("the call ended {stage}: {outcome}")))
}

//! Commands from outside, by the control socket and by NATS: each carried out once, answered
//! truthfully, and written down, refused or not.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use tokio::sync::{OnceCell, mpsc, oneshot};

use crate::agent::answers::Answers;
use crate::agent::command::{CallOrder, Refusal, Stated};
use crate::agent::core::Inward;
use crate::agent::scribe::{Scribe, Told};
use crate::bus;
use crate::catalog::{Change, CommandEntry, CommandOutcome, CommandWay};
use crate::clock;
use crate::control::{self, OrderDone};
use crate::event::Word;

/// Takes commands and sees to it that they are carried out. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Clerk {
    inward: mpsc::UnboundedSender<Inward>,
    scribe: Scribe,
    answers: Arc<Mutex<Answers<Result<OrderDone, Refusal>>>>,
}

impl Clerk {
    pub(super) fn new(inward: mpsc::UnboundedSender<Inward>, scribe: Scribe) -> Self {
        Self { inward, scribe, answers: Arc::default() }
    }

    /// A command from the control socket, which only this agent hears.
    pub(super) async fn by_socket(&self, verb: &str, body: &Map<String, Value>) -> control::Reply {
        let done = match CallOrder::read(verb, body, clock::wall()) {
            Ok(order) => self.carry_out(CommandWay::Socket, order, Stated::of(body)).await,
            Err(refusal) => self.refuse(CommandWay::Socket, verb, body, refusal),
        };
        match done {
            Ok(done) => control::Reply::Done(done),
            Err(refusal) => control::Reply::Refused {
                code: refusal.code().to_owned(),
                message: refusal.to_string(),
            },
        }
    }

    /// Writes down a command that nobody carries out.
    fn refuse(
        &self,
        way: CommandWay,
        verb: &str,
        body: &Map<String, Value>,
        refusal: Refusal,
    ) -> Result<OrderDone, Refusal> {
        let stated = Stated::of(body);
        self.note(CommandEntry {
            id: stated.id,
            verb: Word::new(verb),
            way,
            actor: stated.actor,
            reason: stated.reason,
            call: None,
            recording: None,
            party: None,
            at: clock::wall(),
            outcome: CommandOutcome::Refused,
            code: Some(refusal.code()),
        });
        Err(refusal)
    }

    /// Carries out an order, once: who sends it again gets the same answer, or waits for it.
    async fn carry_out(
        &self,
        way: CommandWay,
        order: CallOrder,
        stated: Stated,
    ) -> Result<OrderDone, Refusal> {
        let answer = {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.to(order.id, clock::now())
        };
        let clerk = self.clone();
        // In a task of its own: it goes on, and is written down, when nobody waits any more.
        let task = tokio::spawn(async move { clerk.once(&answer, way, order, stated).await });
        task.await.unwrap_or(Err(Refusal::Stopping))
    }

    async fn once(
        &self,
        answer: &OnceCell<Result<OrderDone, Refusal>>,
        way: CommandWay,
        order: CallOrder,
        stated: Stated,
    ) -> Result<OrderDone, Refusal> {
        let carried_out = async {
            let (reply, done) = oneshot::channel();
            let _ = self.inward.send(Inward::Order { order: order.clone(), reply });
            let done = done.await.unwrap_or(Err(Refusal::Stopping));
            self.note(entry(way, &order, stated, &done));
            done
        };
        answer.get_or_init(|| carried_out).await.clone()
    }

    fn note(&self, entry: CommandEntry) {
        let (verb, way, outcome) = (&entry.verb, entry.way, entry.outcome);
        let (id, code) = (entry.id.unwrap_or_default(), entry.code.unwrap_or("-"));
        // Commands for other agents of the fleet come by here too.
        match (way, code) {
            (CommandWay::Nats, "not-found") => tracing::debug!(%id, %verb, "not our call"),
            _ => tracing::info!(%id, %verb, ?way, ?outcome, code, "command"),
        }
        self.scribe.tell(Told { changes: vec![Change::Commanded(entry)], events: Vec::new() });
    }
}

impl bus::Commands for Clerk {
    async fn run(&self, command: bus::Command) -> Option<bus::Reply> {
        let bus::Command { verb, body, .. } = command;
        let order = CallOrder::read(verb.as_str(), &body, clock::wall()).ok()?;
        match self.carry_out(CommandWay::Nats, order, Stated::of(&body)).await {
            Ok(done) => Some(reply(&done)),
            // Another agent's call, it may be: that one answers.
            Err(Refusal::NotFound) => None,
            Err(refusal) => Some(refused(&refusal)),
        }
    }

    async fn refuse(&self, command: bus::Command) -> Option<bus::Reply> {
        let bus::Command { verb, body, .. } = command;
        let refusal = CallOrder::read(verb.as_str(), &body, clock::wall()).err()?;
        let refusal = self.refuse(CommandWay::Nats, verb.as_str(), &body, refusal).err()?;
        Some(refused(&refusal))
    }
}

fn reply(done: &OrderDone) -> bus::Reply {
    match serde_json::to_value(done) {
        Ok(Value::Object(done)) => bus::Reply::ok(done),
        _ => bus::Reply::ok(Map::new()),
    }
}

fn refused(refusal: &Refusal) -> bus::Reply {
    bus::Reply::refused(refusal.code(), &refusal.to_string())
}

fn entry(
    way: CommandWay,
    order: &CallOrder,
    stated: Stated,
    done: &Result<OrderDone, Refusal>,
) -> CommandEntry {
    let (outcome, code) = match done {
        Ok(OrderDone { changed: true, .. }) => (CommandOutcome::Done, None),
        Ok(OrderDone { changed: false, .. }) => (CommandOutcome::Unchanged, None),
        Err(refusal) => (CommandOutcome::Refused, Some(refusal.code())),
    };
    let done = done.as_ref().ok();
    CommandEntry {
        id: Some(order.id),
        verb: Word::new(order.verb()),
        way,
        actor: stated.actor,
        reason: stated.reason,
        call: done.map(|done| done.call).or(order.about.call()),
        recording: done.and_then(|done| done.recording).or(order.about.recording()),
        party: order.party(),
        at: clock::wall(),
        outcome,
        code,
    }
}

//! Orders from outside, and the list of calls for who gives them.

use std::cmp::Reverse;
use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::agent::command::{About, CallOrder, Refusal};
use crate::agent::core::{Core, Table};
use crate::call::order::{Carried, Ordered};
use crate::clock;
use crate::consent::DecisionNumber;
use crate::control::{CallInProgress, CallList, OrderDone};
use crate::ids::{CallId, RecordingId};

/// The most calls that are listed: what a reply on the control socket has room for.
const LISTED: usize = 1_000;

/// Withdrawals that are answered when they are durable. Each waits for one decision, which comes
/// back in any case.
#[derive(Default)]
pub(super) struct Awaited(HashMap<(CallId, DecisionNumber), Waiting>);

struct Waiting {
    done: OrderDone,
    reply: oneshot::Sender<Result<OrderDone, Refusal>>,
}

impl Awaited {
    /// A decision is durable, or is not in time.
    pub(super) fn decided(&mut self, call: CallId, number: DecisionNumber, durable: bool) {
        let Some(Waiting { done, reply }) = self.0.remove(&(call, number)) else { return };
        let _ = reply.send(if durable { Ok(done) } else { Err(Refusal::NotStored) });
    }
}

impl Core {
    pub(super) fn on_order(
        &mut self,
        order: &CallOrder,
        reply: oneshot::Sender<Result<OrderDone, Refusal>>,
    ) {
        let refuse = |refusal, reply: oneshot::Sender<_>| drop(reply.send(Err(refusal)));
        let found = self.table.find(order.about);
        let Some((call, live)) = found.and_then(|id| Some((id, self.table.calls.get_mut(&id)?)))
        else {
            return refuse(Refusal::NotFound, reply);
        };
        let Ordered { outputs, carried, recording, decision } =
            live.call.order(clock::moment(), order.order, order.id.to_string());
        let state = live.call.recorded();
        match carried {
            Err(declined) => refuse(Refusal::of(order.order, declined), reply),
            Ok(carried) => {
                let changed = carried == Carried::Changed;
                let done = OrderDone { call, recording, party: order.party(), state, changed };
                match decision {
                    // Before the decision is sent: it may come back at once.
                    Some(number) => {
                        self.table.awaited.0.insert((call, number), Waiting { done, reply });
                    }
                    None => drop(reply.send(Ok(done))),
                }
            }
        }
        self.carry_out(call, outputs);
    }

    pub(super) fn calls(&self) -> CallList {
        let mut calls: Vec<CallInProgress> = self
            .table
            .calls
            .values()
            .map(|live| CallInProgress {
                call: live.known.call,
                since: live.call.started(),
                state: live.call.recorded(),
                recording: live.call.recording(),
                mode: live.known.mode,
                policy: live.known.policy.clone(),
            })
            .collect();
        calls.sort_by_key(|line| Reverse((line.since, line.call)));
        let left_out = calls.len().saturating_sub(LISTED) as u64;
        calls.truncate(LISTED);
        CallList { calls, left_out }
    }
}

impl Table {
    fn find(&self, about: About) -> Option<CallId> {
        match about {
            About::Call(call) => Some(call).filter(|call| self.has(*call)),
            About::Recording(recording) => self.owner(recording),
            About::Either(id) => {
                self.find(About::Call(CallId(id))).or_else(|| self.owner(RecordingId(id)))
            }
        }
    }

    fn owner(&self, recording: RecordingId) -> Option<CallId> {
        let mut calls = self.calls.iter();
        calls.find(|(_, live)| live.call.owns(recording)).map(|(call, _)| *call)
    }
}

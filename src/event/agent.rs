//! `agent`: the state of the program itself.

use serde::Serialize;

use crate::consent::chain_head::SignedHead;
use crate::event::Word;

/// `agent.ready`: calls are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentReady {
    /// Of this program.
    pub version: Word,
}

/// `agent.degraded`: something is missing, and calls are still taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentDegraded {
    /// What is missing, such as `catalog`, `storage`, `nats`.
    pub component: Word,
    /// What follows from it for calls and recordings.
    pub effect: Word,
}

/// `agent.draining`: no new calls, those there are may end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentDraining {
    /// Calls that are still there.
    pub calls: u32,
    /// How long they may take, in milliseconds.
    pub limit_ms: u64,
}

/// `agent.stopped`: the last event of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentStopped {
    /// Calls that had to be ended.
    pub calls_ended: u32,
}

/// `agent.chain`: where the agent's chain of evidence stands. Whoever keeps it can tell later
/// that no record up to it was removed or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentChain {
    /// The head, signed.
    #[serde(flatten)]
    pub head: SignedHead,
}

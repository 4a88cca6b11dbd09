//! Grants, earned the only way there is: from the real machine, with receipts of a real catalog.

mod asking;
mod grants;
mod known;
mod leases;
mod model;
mod pausing;
mod scripts;
mod withdrawal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::catalog::{
    Catalog, DecisionEntry, Erase, NewRecording, Permitted, QUEUE, Receipt, Settings,
};
use crate::clock;
use crate::consent::machine::{Input, Output, PartyFacts, PausedBy, Permission, Verdict};
use crate::consent::policy::{
    AcceptAgain, Ask, Basis, ByLeg, Gate, OnRefusal, OnUnavailable, OnWithdrawal, Policy, Scope,
};
use crate::consent::{
    Decision, Grant, KeyVia, MediaTransport, NoticePlayed, Prior, Standing, Stops,
};
use crate::event::Origin;
use crate::ids::{CallId, Digest, Leg, PartyRef, RecordingId};
use crate::keys::{Epoch, ReferenceKey, SigningKey, WrappedKey};
use crate::time::Moment;

/// A catalog in a folder of its own.
struct Scratch {
    catalog: Catalog,
    runtime: tokio::runtime::Runtime,
    _dir: TempDir,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(Settings {
            data: dir.path().to_owned(),
            origin: Origin { tenant: "default".parse().unwrap(), node: "node-1".parse().unwrap() },
            signing: SigningKey::from_seed(&[3; 32]),
            reference: ReferenceKey::from_bytes(&[4; 32]),
            queue: QUEUE,
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { catalog: catalog.unwrap(), runtime, _dir: dir }
    }

    /// Makes a decision durable.
    fn commit(&self, decision: Decision) -> Receipt<Decision> {
        let permitted = decision.permits().map(|stream| Permitted {
            recording: NewRecording {
                began: decision.facts().time,
                scope: Scope::All,
                retention: Duration::from_secs(3600),
            },
            key: WrappedKey { epoch: Epoch(1), bytes: [stream.index.0; WrappedKey::LENGTH] },
            codecs: "{}".to_owned(),
        });
        let (erase, events) = (Erase::Nothing, Vec::new());
        let entry = DecisionEntry { decision, number: None, permitted, erase, events };
        self.runtime.block_on(self.catalog.decide(entry)).unwrap()
    }
}

/// The machine of one call, and what it has said so far.
struct Rig<'a> {
    scratch: &'a Scratch,
    machine: Permission,
    at: Moment,
    /// Decisions that wait to be made durable, oldest first.
    pending: Vec<Decision>,
    playing: Vec<(Leg, String)>,
    grants: Vec<Grant>,
    verdict: Option<Verdict>,
    /// What parties are told.
    said: Vec<(Leg, &'static str)>,
    released: Vec<Leg>,
    over: Vec<RecordingId>,
    /// Pauses and resumptions.
    flow: Vec<(&'static str, PausedBy)>,
}

impl<'a> Rig<'a> {
    fn new(scratch: &'a Scratch, policy: Policy) -> Self {
        Self::knowing(scratch, policy, [Prior::Nothing, Prior::Nothing])
    }

    /// The same where something is known of the caller and the callee.
    fn knowing(scratch: &'a Scratch, policy: Policy, prior: [Prior; 2]) -> Self {
        let [of_caller, of_callee] = prior;
        let mut prior = [Some(of_caller), Some(of_callee)];
        let parties = Leg::BOTH.map(|leg| PartyFacts {
            leg,
            party_ref: PartyRef([leg.stream().0; 32]),
            locale: "en-US".to_owned(),
            transport: MediaTransport::Rtp,
            prior: prior[usize::from(leg.stream().0)].take().unwrap_or_default(),
        });
        let digest = policy.digest();
        let (call, recording): (CallId, RecordingId) = (clock::mint(), clock::mint());
        let machine = Permission::new(Arc::new(policy), digest, call, recording, parties.to_vec());
        let at = clock::moment();
        let (pending, playing, grants) = (Vec::new(), Vec::new(), Vec::new());
        let mut rig = Self {
            scratch,
            machine,
            at,
            pending,
            playing,
            grants,
            verdict: None,
            said: Vec::new(),
            released: Vec::new(),
            over: Vec::new(),
            flow: Vec::new(),
        };
        rig.feed(Input::Begin);
        rig
    }

    fn feed(&mut self, input: Input) {
        for output in self.machine.handle(self.at, input) {
            match output {
                Output::Play { leg, prompt, .. } => self.playing.push((leg, prompt)),
                Output::Silence { .. } | Output::Farewell => {}
                Output::Say { leg, prompt } => self.said.push((leg, prompt)),
                Output::Release { leg } => self.released.push(leg),
                Output::Over { recording } => self.over.push(recording),
                Output::Paused { by, .. } => self.flow.push(("paused", by)),
                Output::Resumed { by, .. } => self.flow.push(("resumed", by)),
                Output::Commit(decision) => self.pending.push(decision),
                Output::Grant(grant) => self.grants.push(grant),
                Output::Settled(verdict) => {
                    assert_eq!(self.verdict, None, "settled twice");
                    self.verdict = Some(verdict);
                }
            }
        }
    }

    fn present(&mut self, leg: Leg) {
        self.feed(Input::Present { leg });
    }

    /// The prompt that plays into a leg ends.
    fn played(&mut self, leg: Leg, how: impl FnOnce(&mut NoticePlayed)) {
        let found = self.playing.iter().position(|(playing, _)| *playing == leg);
        let Some((_, prompt)) = found.map(|at| self.playing.remove(at)) else { return };
        let mut notice = NoticePlayed {
            prompt,
            locale: "en-US".to_owned(),
            sha256: Digest::of(b"prompt"),
            played_ms: 1000,
            total_ms: 1000,
            packets: 50,
            received: 50,
            started: self.at.wall,
            ended: self.at.wall,
            held: false,
            loss_percent: None,
            completed: true,
        };
        how(&mut notice);
        self.feed(Input::Played { leg, notice });
    }

    fn key(&mut self, leg: Leg, key: char) {
        let pressed = self.at.instant;
        let via = KeyVia::TelephoneEvent;
        let (rtp_timestamp, stops) = (Some(7), Stops::NONE);
        self.feed(Input::Key { leg, pressed, key, via, rtp_timestamp, stops });
    }

    fn keys(&mut self, leg: Leg, keys: &str) {
        for key in keys.chars() {
            self.key(leg, key);
        }
    }

    /// No decision that waits becomes durable.
    fn fail(&mut self) {
        for decision in std::mem::take(&mut self.pending) {
            let (leg, number) = (decision.facts().leg, decision.number());
            self.feed(Input::NotDurable { leg, number });
        }
    }

    /// Time passes up to the machine's deadline, if it has one.
    fn wait(&mut self) -> bool {
        let Some(due) = self.machine.deadline() else { return false };
        self.at = self.at.plus(due.saturating_duration_since(self.at.instant));
        self.feed(Input::Tick);
        true
    }

    /// Everything that waits becomes durable.
    fn commit(&mut self) {
        for decision in std::mem::take(&mut self.pending) {
            let receipt = self.scratch.commit(decision);
            self.feed(Input::Durable(receipt));
        }
    }

    fn live(&self) -> Vec<Leg> {
        let live = self.grants.iter().filter(|grant| grant.is_live());
        live.filter_map(|grant| {
            Leg::BOTH.into_iter().find(|leg| leg.stream() == grant.stream().index)
        })
        .collect()
    }
}

/// Opt-in for the caller, an agreement for the callee.
pub(super) fn policy() -> Policy {
    Policy {
        name: "default".to_owned(),
        basis: Basis::Consent,
        purposes: vec!["quality".to_owned()],
        controller: "Test GmbH".to_owned(),
        gate: Gate::OptIn,
        fallback: Gate::OptIn,
        on_file: ByLeg::default(),
        caller: Ask::OnCall,
        callee: Ask::Standing("agreement".to_owned()),
        scope: Scope::All,
        notice: "notice-opt-in".to_owned(),
        locale: BTreeMap::from([("*".to_owned(), "en-US".to_owned())]),
        locale_header: ByLeg::default(),
        accept: '1',
        refuse: '2',
        withdraw: "*9".to_owned(),
        pause: "*7".to_owned(),
        pause_by: vec![Leg::Callee],
        pause_limit: Duration::from_secs(300),
        accept_again: AcceptAgain::Never,
        loss_limit: 20,
        attempts: 2,
        answer_within: Duration::from_secs(8),
        on_refusal: OnRefusal::Continue,
        acknowledge: None,
        on_withdrawal: OnWithdrawal::Erase,
        on_unavailable: OnUnavailable::Proceed,
        beep: None,
        retention: Duration::from_secs(3600),
    }
}

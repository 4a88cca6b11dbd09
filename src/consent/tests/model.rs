//! A model check of the permission machine: every interleaving of packets, keys, timers, holds,
//! hang-ups, commits that fail or come late, and commands, up to a bounded number of each, for
//! every gate, scope and choice of whom to ask.
//!
//! The machine is the real one, with virtual time. A state of the model is the script that leads
//! to it; two scripts are one state where nothing tells them apart from then on.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::*;
use crate::catalog::Receipt;
use crate::consent::machine::{Meaning, Order};
use crate::consent::{DecisionNumber, Stop, Stops};
use crate::ids::StreamId;

const DIGEST: Digest = Digest([1; 32]);

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Act {
    Present(Leg),
    /// What plays ends, heard to its last sample.
    Heard(Leg),
    /// It ends, cut or lost.
    Unheard(Leg),
    /// Keys arrive: the media thread stops what they may stop, and tells the machine later.
    Press(Leg, Keys),
    /// The machine hears of the oldest keys.
    Tell,
    /// The oldest grant reaches the media thread, which writes from now on.
    Open,
    Hold(Leg),
    /// The next deadline comes.
    Wait,
    /// The oldest decision becomes durable.
    Durable,
    /// It is given up, and may become durable later.
    GiveUp,
    /// One that was given up becomes durable.
    Late,
    Command(Order),
    Replace(Leg),
    Leave(Leg),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Keys {
    Accept,
    Refuse,
    Withdraw,
    Pause,
}

impl Keys {
    fn typed(self) -> &'static str {
        match self {
            Keys::Accept => "1",
            Keys::Refuse => "2",
            Keys::Withdraw => "*9",
            Keys::Pause => "*7",
        }
    }
}

/// How much of what people and the world may do is explored.
#[derive(Clone, Copy, Debug)]
struct Budget {
    presses: u8,
    commands: u8,
    holds: u8,
    failures: u8,
    replacements: u8,
}

/// The machine and everything around it.
struct World {
    policy: Arc<Policy>,
    machine: Permission,
    at: Moment,
    left: Budget,
    pending: VecDeque<Decision>,
    late: VecDeque<Decision>,
    /// What plays into a leg, and whether it was told to stop.
    playing: BTreeMap<Leg, bool>,
    told: VecDeque<(Leg, Keys, Stops)>,
    /// The last stop of each leg, as the media thread counts.
    stops: BTreeMap<Leg, Stop>,
    grants: Vec<Given>,
    proven: BTreeSet<(StreamId, Digest)>,
    over: BTreeSet<RecordingId>,
    present: BTreeSet<Leg>,
    gone: BTreeSet<Leg>,
    settled: u8,
    broken: BTreeSet<&'static str>,
}

/// A grant, and what is known of it outside.
struct Given {
    leg: Leg,
    grant: Grant,
    /// Its writer is there.
    open: bool,
    /// Keys of withdrawal were pressed that end it.
    revoked: bool,
}

impl World {
    fn new(policy: &Arc<Policy>, budget: Budget, at: Moment) -> Self {
        let parties = Leg::BOTH.map(|leg| facts(leg, 0));
        let call = CallId(uuid::Uuid::from_u128(1));
        let recording = RecordingId(uuid::Uuid::from_u128(100));
        let machine =
            Permission::new(Arc::clone(policy), DIGEST, call, recording, parties.to_vec());
        let mut world = Self {
            policy: Arc::clone(policy),
            machine,
            at,
            left: budget,
            pending: VecDeque::new(),
            late: VecDeque::new(),
            playing: BTreeMap::new(),
            told: VecDeque::new(),
            stops: BTreeMap::new(),
            grants: Vec::new(),
            proven: BTreeSet::new(),
            over: BTreeSet::new(),
            present: BTreeSet::new(),
            gone: BTreeSet::new(),
            settled: 0,
            broken: BTreeSet::new(),
        };
        world.feed(Input::Begin);
        world
    }

    fn feed(&mut self, input: Input) {
        for output in self.machine.handle(self.at, input) {
            match output {
                Output::Play { leg, .. } => drop(self.playing.insert(leg, false)),
                Output::Silence { leg } => {
                    if let Some(stopping) = self.playing.get_mut(&leg) {
                        *stopping = true;
                    }
                }
                Output::Commit(decision) => self.pending.push_back(decision),
                Output::Grant(grant) => {
                    let of = (grant.stream(), grant.evidence());
                    let fresh = self.grants.iter().all(|g| g.grant.stream() != grant.stream());
                    self.hold(self.proven.contains(&of), "a grant before a durable decision");
                    self.hold(fresh, "two grants for one stream");
                    let over = self.over.contains(&grant.stream().recording);
                    self.hold(!over, "a grant for a recording that is over");
                    let index = grant.stream().index;
                    let leg = Leg::BOTH.into_iter().find(|leg| leg.stream() == index);
                    if let Some(leg) = leg {
                        // Keys that the machine has not heard of count already.
                        let revoked = self.told.iter().any(|(by, keys, _)| {
                            let ends = self.machine.stopped_by(*by, Meaning::Withdraw);
                            *keys == Keys::Withdraw && ends.contains(&leg)
                        });
                        self.grants.push(Given { leg, grant, open: false, revoked });
                    }
                }
                Output::Over { recording } => drop(self.over.insert(recording)),
                Output::Settled(_) => self.settled += 1,
                Output::Say { leg, .. } => {
                    self.hold(self.present.contains(&leg), "words for who is not there");
                }
                Output::Release { .. }
                | Output::Paused { .. }
                | Output::Resumed { .. }
                | Output::Farewell => {}
            }
        }
        self.look();
    }

    fn hold(&mut self, holds: bool, promise: &'static str) {
        if !holds {
            self.broken.insert(promise);
        }
    }

    /// What holds at any moment, whatever a frame that comes now may find.
    fn look(&mut self) {
        let written = |given: &&Given| given.open && given.grant.is_live();
        let live: Vec<&Given> = self.grants.iter().filter(written).collect();
        let legs: BTreeSet<Leg> = live.iter().map(|given| given.leg).collect();
        let revoked = live.iter().any(|given| given.revoked);
        let gone = legs.iter().any(|leg| self.gone.contains(leg));
        let over = live.iter().any(|g| self.over.contains(&g.grant.stream().recording));
        let paused =
            !live.is_empty() && self.machine.deadline().is_some() && { !self.machine.is_writing() };
        let permitted = self.grants.iter().filter(|given| given.grant.is_live()).count();
        let halved = self.policy.scope == Scope::All && !legs.is_empty() && permitted == 1;
        let left_alone = self.policy.scope == Scope::All
            && !legs.is_empty()
            && Leg::BOTH.iter().any(|leg| self.gone.contains(leg));
        self.hold(!revoked, "a frame after the keys of withdrawal");
        self.hold(!gone, "a frame of who has left");
        self.hold(!over, "a frame after the recording is over");
        self.hold(!paused, "a frame in a pause");
        self.hold(!halved, "under all, a frame without everybody's permission");
        self.hold(!left_alone, "under all, a frame after somebody left");
        self.hold(self.settled <= 1, "the questions end twice");
        let still = self.pending.is_empty()
            && self.playing.is_empty()
            && self.told.is_empty()
            && self.machine.deadline().is_none();
        let there = self.present.len() + self.gone.len() == 2;
        self.hold(!still || !there || self.settled == 1, "a question that does not end");
        if self.gone.len() == 2 {
            let ended = self.grants.iter().all(|g| g.grant.standing() == Standing::Ended);
            self.hold(ended, "a permission that outlives the call");
        }
    }

    fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        for leg in Leg::BOTH {
            let (here, gone) = (self.present.contains(&leg), self.gone.contains(&leg));
            if !here && !gone {
                acts.push(Act::Present(leg));
            }
            if let Some(stopping) = self.playing.get(&leg) {
                acts.push(Act::Unheard(leg));
                if !stopping {
                    acts.push(Act::Heard(leg));
                }
            }
            if here && !gone && self.left.presses > 0 && self.told.len() < 2 {
                acts.push(Act::Press(leg, Keys::Accept));
                acts.push(Act::Press(leg, Keys::Refuse));
                acts.push(Act::Press(leg, Keys::Withdraw));
                if self.policy.pause_by.contains(&leg) {
                    acts.push(Act::Press(leg, Keys::Pause));
                }
            }
            if here && !gone && self.left.holds > 0 {
                acts.push(Act::Hold(leg));
            }
            if here && !gone && self.left.replacements > 0 {
                acts.push(Act::Replace(leg));
            }
            if here && !gone {
                acts.push(Act::Leave(leg));
            }
        }
        if !self.told.is_empty() {
            acts.push(Act::Tell);
        }
        if self.grants.iter().any(|given| !given.open) {
            acts.push(Act::Open);
        }
        if self.machine.deadline().is_some() {
            acts.push(Act::Wait);
        }
        if !self.pending.is_empty() {
            acts.push(Act::Durable);
            if self.left.failures > 0 {
                acts.push(Act::GiveUp);
            }
        }
        if !self.late.is_empty() {
            acts.push(Act::Late);
        }
        if self.left.commands > 0 {
            acts.push(Act::Command(Order::Pause));
            acts.push(Act::Command(Order::Resume));
            acts.extend(Leg::BOTH.map(|leg| Act::Command(Order::Withdraw(leg))));
        }
        acts
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Present(leg) => {
                self.present.insert(leg);
                self.feed(Input::Present { leg });
            }
            Act::Heard(leg) => self.ended(leg, true),
            Act::Unheard(leg) => self.ended(leg, false),
            Act::Press(leg, keys) => {
                self.left.presses -= 1;
                let stops = self.media_stops(leg, keys);
                self.told.push_back((leg, keys, stops));
                self.look();
            }
            Act::Tell => {
                let Some((leg, keys, completed)) = self.told.pop_front() else { return };
                let last = keys.typed().len() - 1;
                for (index, key) in keys.typed().chars().enumerate() {
                    let (pressed, via) = (self.at.instant, KeyVia::TelephoneEvent);
                    let stops = if index == last { completed } else { Stops::NONE };
                    self.feed(Input::Key { leg, pressed, key, via, rtp_timestamp: None, stops });
                }
            }
            Act::Open => {
                let Some(given) = self.grants.iter_mut().find(|given| !given.open) else { return };
                let stop = self.stops.get(&given.leg).copied().unwrap_or_default();
                given.open = true;
                given.grant.suspend(stop);
                self.look();
            }
            Act::Hold(leg) => {
                self.left.holds -= 1;
                self.feed(Input::Held { leg });
            }
            Act::Wait => {
                let Some(due) = self.machine.deadline() else { return };
                self.at = self.at.plus(due.saturating_duration_since(self.at.instant));
                self.feed(Input::Tick);
            }
            Act::Durable => {
                if let Some(decision) = self.pending.pop_front() {
                    self.commit(decision);
                }
            }
            Act::GiveUp => {
                self.left.failures -= 1;
                let Some(decision) = self.pending.pop_front() else { return };
                let (leg, number) = (decision.facts().leg, decision.number());
                self.late.push_back(decision);
                self.feed(Input::NotDurable { leg, number });
            }
            Act::Late => {
                if let Some(decision) = self.late.pop_front() {
                    self.commit(decision);
                }
            }
            Act::Command(order) => {
                self.left.commands -= 1;
                if let Order::Withdraw(leg) = order {
                    self.revoke(leg);
                }
                self.feed(Input::Command { order, id: String::new() });
            }
            Act::Replace(leg) => {
                self.left.replacements -= 1;
                self.grants.iter_mut().filter(|g| g.leg == leg).for_each(|g| g.revoked = true);
                self.feed(Input::Replaced { party: facts(leg, 1) });
            }
            Act::Leave(leg) => {
                self.present.remove(&leg);
                self.gone.insert(leg);
                self.playing.remove(&leg);
                self.feed(Input::Left { leg });
            }
        }
    }

    fn ended(&mut self, leg: Leg, completed: bool) {
        self.playing.remove(&leg);
        let notice = NoticePlayed {
            prompt: self.policy.notice.clone(),
            locale: "en-US".to_owned(),
            sha256: Digest([0; 32]),
            played_ms: 1000,
            total_ms: 1000,
            packets: 50,
            received: u64::from(completed) * 50,
            started: self.at.wall,
            ended: self.at.wall,
            held: false,
            loss_percent: None,
            completed,
        };
        self.feed(Input::Played { leg, notice });
    }

    /// What the media thread does with the packet of the last key.
    fn media_stops(&mut self, leg: Leg, keys: Keys) -> Stops {
        let meaning = match keys {
            Keys::Withdraw => Meaning::Withdraw,
            Keys::Pause => Meaning::Pause,
            Keys::Accept | Keys::Refuse => return Stops::NONE,
        };
        let mut stops = Stops::NONE;
        for leg in self.machine.stopped_by(leg, meaning) {
            let stop = self.stops.get(&leg).copied().unwrap_or_default().next();
            self.stops.insert(leg, stop);
            stops = stops.with(leg, stop);
            for given in self.grants.iter_mut().filter(|given| given.open && given.leg == leg) {
                given.grant.suspend(stop);
            }
        }
        if keys == Keys::Withdraw {
            self.revoke(leg);
        }
        stops
    }

    fn revoke(&mut self, leg: Leg) {
        let ended = self.machine.stopped_by(leg, Meaning::Withdraw);
        let ended = self.grants.iter_mut().filter(|given| ended.contains(&given.leg));
        ended.for_each(|given| given.revoked = true);
    }

    fn commit(&mut self, decision: Decision) {
        let DecisionNumber { .. } = decision.number();
        let mut hasher = DefaultHasher::new();
        (decision.number(), decision.facts().recording).hash(&mut hasher);
        let mut evidence = [0; 32];
        evidence[..8].copy_from_slice(&hasher.finish().to_be_bytes());
        let evidence = Digest(evidence);
        if let Some(stream) = decision.permits() {
            self.proven.insert((stream, evidence));
        }
        self.feed(Input::Durable(Receipt::assumed(decision, evidence)));
    }

    /// Everything that tells this world from another from here on.
    fn sketch(&self) -> u64 {
        let decisions = |queue: &VecDeque<Decision>| -> Vec<String> {
            let of = |d: &Decision| {
                let facts = d.facts();
                format!("{:?} {:?} {} {:?}", d.number(), facts.leg, facts.recording, facts.outcome)
            };
            queue.iter().map(of).collect()
        };
        let mut hasher = DefaultHasher::new();
        for (leg, party) in &self.machine.parties {
            let recording = party.terms.recording;
            (leg, party.present, recording).hash(&mut hasher);
            party.state.sketch(self.at.instant).hash(&mut hasher);
        }
        let flow = self.machine.flow.deadline();
        flow.map(|until| until.saturating_duration_since(self.at.instant)).hash(&mut hasher);
        format!("{:?} {:?}", self.machine.settled, self.left).hash(&mut hasher);
        (decisions(&self.pending), decisions(&self.late)).hash(&mut hasher);
        (&self.playing, &self.over, &self.present, &self.gone).hash(&mut hasher);
        // Stops are told apart by those that the machine has not heard of, not by their numbers.
        for (leg, keys, _) in &self.told {
            (leg, keys).hash(&mut hasher);
        }
        for Given { leg, grant, open, revoked } in &self.grants {
            let standing = grant.standing();
            format!("{leg:?} {:?} {standing:?} {open} {revoked}", grant.stream()).hash(&mut hasher);
        }
        self.broken.hash(&mut hasher);
        hasher.finish()
    }
}

fn facts(leg: Leg, person: u8) -> PartyFacts {
    PartyFacts {
        leg,
        party_ref: PartyRef([leg.stream().0 + 10 * person; 32]),
        locale: "en-US".to_owned(),
        transport: MediaTransport::Rtp,
        prior: Prior::Nothing,
    }
}

/// A state of the model.
#[derive(Clone, Debug)]
struct Reached {
    script: Vec<Act>,
    /// How many acts it is from where the exploration began.
    steps: usize,
    acts: Vec<Act>,
    broken: Vec<&'static str>,
    sketch: u64,
}

impl PartialEq for Reached {
    fn eq(&self, other: &Self) -> bool {
        self.sketch == other.sketch
    }
}

impl Eq for Reached {}

impl Hash for Reached {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sketch.hash(state);
    }
}

struct Calls {
    policy: Arc<Policy>,
    budget: Budget,
    at: Moment,
    /// How many acts are explored from each beginning.
    steps: usize,
}

impl Calls {
    fn reach(&self, script: Vec<Act>, steps: usize) -> Reached {
        let mut world = World::new(&self.policy, self.budget, self.at);
        script.iter().for_each(|act| world.act(*act));
        let (acts, sketch) = (world.acts(), world.sketch());
        Reached { script, steps, acts, broken: world.broken.into_iter().collect(), sketch }
    }
}

impl Calls {
    /// A script in which everybody agrees at once.
    fn straight_to_a_recording(&self) -> Vec<Act> {
        let mut world = World::new(&self.policy, self.budget, self.at);
        let mut script = Leg::BOTH.map(Act::Present).to_vec();
        script.iter().for_each(|act| world.act(*act));
        let agreed = |world: &World| {
            let live = |given: &&Given| given.open && given.grant.is_live();
            world.grants.iter().filter(live).count() == Leg::BOTH.len()
        };
        while !agreed(&world) && script.len() < 32 {
            let acts = world.acts();
            let wish = |act: &&Act| match act {
                Act::Tell | Act::Open | Act::Heard(_) => true,
                Act::Press(leg, Keys::Accept) => {
                    self.policy.gate == Gate::OptIn && world.machine.is_listening(*leg)
                }
                _ => false,
            };
            let last = [Act::Durable, Act::Wait];
            let waits = last.into_iter().find(|act| acts.contains(act));
            let Some(act) = acts.iter().find(wish).copied().or(waits) else { break };
            world.act(act);
            script.push(act);
        }
        assert!(agreed(&world), "{script:?}");
        script
    }
}

impl Model for Calls {
    type State = Reached;
    type Action = Act;

    /// The beginning, and the places from which the most can go wrong: everybody has answered and
    /// nothing is durable; the call is recorded.
    fn init_states(&self) -> Vec<Reached> {
        let recorded = self.straight_to_a_recording();
        let durable = recorded.iter().position(|act| *act == Act::Durable);
        let answered = recorded.iter().take(durable.unwrap_or(0)).copied().collect();
        [Vec::new(), answered, recorded].into_iter().map(|script| self.reach(script, 0)).collect()
    }

    fn actions(&self, state: &Reached, actions: &mut Vec<Act>) {
        if state.broken.is_empty() && state.steps < self.steps {
            actions.extend(&state.acts);
        }
    }

    fn next_state(&self, last: &Reached, act: Act) -> Option<Reached> {
        let mut script = last.script.clone();
        script.push(act);
        Some(self.reach(script, last.steps + 1))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("every promise holds", |_, state: &Reached| state.broken.is_empty())]
    }
}

/// Explores calls under a policy, and returns how many states there are.
fn explore(policy: Policy, budget: Budget, steps: usize) -> usize {
    let calls = Calls { policy: Arc::new(policy.clone()), budget, at: clock::moment(), steps };
    let checker =
        calls.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    if let Some(path) = checker.discovery("every promise holds") {
        let Policy { gate, scope, caller, callee, .. } = &policy;
        let last = path.last_state();
        panic!(
            "{gate:?} {scope:?} {caller:?} {callee:?}: {:?} is broken by {:#?}",
            last.broken, last.script
        );
    }
    checker.unique_state_count()
}

fn policies() -> Vec<Policy> {
    let standing = || Ask::Standing("agreement".to_owned());
    let asked = [(Ask::OnCall, standing()), (standing(), Ask::OnCall), (Ask::OnCall, Ask::OnCall)];
    let mut policies = Vec::new();
    for (gate, basis) in
        [(Gate::OptIn, Basis::Consent), (Gate::NoObjection, Basis::LegitimateInterests)]
    {
        for scope in [Scope::All, Scope::PerParty] {
            for (caller, callee) in asked.clone() {
                policies.push(Policy {
                    gate,
                    basis,
                    scope,
                    caller,
                    callee,
                    attempts: 1,
                    accept_again: AcceptAgain::ByKey,
                    ..policy()
                });
            }
        }
    }
    policies
}

#[test]
fn no_interleaving_breaks_a_promise() {
    let full: usize =
        std::env::var("ASSENT_MODEL_DEPTH").ok().and_then(|depth| depth.parse().ok()).unwrap_or(3);
    let budget = Budget { presses: 4, commands: 1, holds: 1, failures: 1, replacements: 1 };
    let mut states = 0;
    for policy in policies() {
        states += explore(policy, budget, full);
    }
    println!("{states} states explored, {full} steps from each beginning");
    assert!(states > 10_000, "{states}");
}

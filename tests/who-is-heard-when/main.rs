//! Who is heard when: whole calls through the real agent for each gate, whoever is asked, in both
//! scopes and with every answer. Each party says a tone of its own from its first packet on, and
//! the exported channels are measured: a tone is there exactly between grant and withdrawal, and
//! outside of it there is nothing above the noise floor.

#![allow(clippy::expect_used, clippy::unwrap_used, unreachable_pub)]

mod books;
mod measure;
mod speed;
#[path = "../support/mod.rs"]
mod support;
mod telephones;
mod waiting;
mod wild;

use std::fmt;
use std::time::Duration;

use assent::ids::Leg;
use books::{Account, Books};
use measure::{Kind, Side, index};
use support::agent::{NOTICE_HZ, PROMPT_HZ};
use support::tone_phone::{Line, PicksUp};
use support::{Agent, TonePhone, wait_for};

const CALLER_HZ: f64 = 500.0;
/// G.711 adds to a tone those that its period allows: neither of these two can have the other.
const CALLEE_HZ: f64 = 800.0;
const SOON: Duration = Duration::from_secs(30);

/// How a party who is asked answers, and what they do afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Silence,
    HangsUp,
    Withdraws,
    Pauses,
    AcceptsAgain,
}

const ANSWERS: [Answer; 7] = [
    Answer::Yes,
    Answer::No,
    Answer::Silence,
    Answer::HangsUp,
    Answer::Withdraws,
    Answer::Pauses,
    Answer::AcceptsAgain,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    OptIn,
    NoObjection,
    Standing,
    Token,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    PerParty,
}

/// One call.
#[derive(Clone, Debug)]
struct Case {
    gate: Gate,
    ask: &'static [Leg],
    scope: Scope,
    /// Who answers so; the others who are asked say yes.
    actor: Leg,
    answer: Answer,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gate, ask, scope, actor, answer } = self;
        let scope = match scope {
            Scope::All => "all",
            Scope::PerParty => "per-party",
        };
        let ask: Vec<_> = ask.iter().map(|leg| leg.as_str()).collect();
        let ask = ask.join("-");
        let name = format!("{gate:?}-{ask}-{scope}-{actor}-{answer:?}").to_lowercase();
        f.write_str(&name)
    }
}

const CALLER: &[Leg] = &[Leg::Caller];
const CALLEE: &[Leg] = &[Leg::Callee];
const BOTH: &[Leg] = &[Leg::Caller, Leg::Callee];

/// Every answer in both scopes; where both are asked, the callee's only where it makes a
/// difference.
fn cases(gate: Gate, ask: &'static [Leg]) -> Vec<Case> {
    let mut cases = Vec::new();
    for scope in [Scope::All, Scope::PerParty] {
        for &actor in ask {
            for answer in ANSWERS {
                let differs = matches!(answer, Answer::No | Answer::HangsUp | Answer::Withdraws);
                if ask.len() == 1 || actor == Leg::Caller || differs {
                    cases.push(Case { gate, ask, scope, actor, answer });
                }
            }
        }
    }
    cases
}

impl Case {
    fn policy(&self, key: &str) -> String {
        let on_file = |leg: &Leg| !self.ask.contains(leg) || self.gate == Gate::Standing;
        let standing: Vec<String> = Leg::BOTH
            .iter()
            .filter(|leg| on_file(leg))
            .map(|leg| format!("{leg} = \"agreement\""))
            .collect();
        let asked: Vec<String> = match self.gate {
            Gate::Standing => vec![],
            _ => self.ask.iter().map(|leg| format!("\"{leg}\"")).collect(),
        };
        let (basis, gate, notice) = match self.gate {
            Gate::OptIn => ("consent", "opt-in", "notice-opt-in"),
            Gate::NoObjection => ("legitimate_interests", "no-objection", "notice-no-objection"),
            Gate::Standing => ("consent", "standing", "notice-opt-in"),
            Gate::Token => ("consent", "token", "notice-opt-in"),
        };
        let scope = match self.scope {
            Scope::All => "all",
            Scope::PerParty => "per-party",
        };
        let token = match self.gate {
            Gate::Token => format!(
                "[policy.token]\npeers = [\"127.0.0.1\"]\n\
                 keys = [{{ id = \"pbx-1\", hmac_file = \"{key}\" }}]\n"
            ),
            _ => String::new(),
        };
        format!(
            "[[policy]]\nname = \"{self}\"\nbasis = \"{basis}\"\npurposes = [\"quality\"]\n\
             controller = \"Test GmbH\"\ngate = \"{gate}\"\nask = [{}]\nstanding = {{ {} }}\n\
             scope = \"{scope}\"\nnotice = \"{notice}\"\nlocale = \"en-US\"\nattempts = 1\n\
             answer_within = \"2s\"\npause_by = [\"caller\", \"callee\"]\naccept_again = true\n\
             on_withdrawal = \"keep\"\nretention = \"90d\"\n{token}",
            asked.join(", "),
            standing.join(", "),
        )
    }

    fn route(&self, next_hop: &str) -> String {
        format!(
            "[[route]]\nmatch = {{ to = \"{self}\" }}\nmode = \"inline\"\nnext_hop = \"{next_hop}\"\n\
             policy = \"{self}\"\n"
        )
    }

    /// Whether somebody is asked on the call.
    fn asks(&self, leg: Leg) -> bool {
        matches!(self.gate, Gate::OptIn | Gate::NoObjection) && self.ask.contains(&leg)
    }

    fn is_refused(&self) -> bool {
        match self.answer {
            Answer::No => true,
            Answer::Silence => self.gate != Gate::NoObjection,
            _ => false,
        }
    }

    /// Whose voice is in each recording that comes of it.
    fn expected(&self) -> Vec<[bool; 2]> {
        let alone = Leg::BOTH.map(|leg| leg == self.actor);
        match (self.answer, self.scope) {
            (Answer::HangsUp, _) => vec![],
            _ if self.is_refused() => match self.scope {
                Scope::All => vec![],
                Scope::PerParty => vec![alone.map(|actor| !actor)],
            },
            (Answer::AcceptsAgain, Scope::All) => vec![[true, true], [true, true]],
            (Answer::AcceptsAgain, Scope::PerParty) => vec![[true, true], alone],
            _ => vec![[true, true]],
        }
    }
}

/// Both phones of a call, and the call that is made with them.
struct Stage {
    case: Case,
    caller: TonePhone,
    callee: TonePhone,
}

impl Stage {
    fn new(case: Case) -> Self {
        let caller = TonePhone::new(CALLER_HZ, PicksUp::WhenTold);
        let callee = TonePhone::new(CALLEE_HZ, PicksUp::AtOnce);
        Self { case, caller, callee }
    }

    fn phone(&self, leg: Leg) -> &TonePhone {
        match leg {
            Leg::Caller => &self.caller,
            Leg::Callee => &self.callee,
        }
    }

    /// The whole call.
    fn play(&self, agent: &Agent) {
        let Self { case, caller, .. } = self;
        let stated = |leg: &Leg| match *leg == case.actor && case.is_refused() {
            true => "refused",
            false => "granted",
        };
        let headers: String = match case.gate {
            Gate::Token => case
                .ask
                .iter()
                .map(|leg| {
                    let token = support::token::token(caller.call_id(), leg.as_str(), stated(leg));
                    format!("User-to-User: {token}\r\n")
                })
                .collect(),
            _ => String::new(),
        };
        caller.call(agent.udp(), &case.to_string(), &headers);
        // Who hangs up does so before the other one has answered.
        let first = match case.answer {
            Answer::HangsUp => [case.actor, case.actor.other()],
            _ => Leg::BOTH,
        };
        for leg in first.into_iter().filter(|leg| case.asks(*leg)) {
            self.answer(leg);
            if case.answer == Answer::HangsUp {
                return self.ends();
            }
        }
        self.joined(0);
        if !case.is_refused() {
            self.acts();
        }
        caller.talk(40);
        caller.hang_up();
        self.ends();
    }

    fn answer(&self, leg: Leg) {
        let phone = self.phone(leg);
        phone.wait("half of the notice", |log| log.heard_about(NOTICE_HZ) >= 14);
        let answer = if leg == self.case.actor { self.case.answer } else { Answer::Yes };
        match (answer, self.case.gate) {
            (Answer::HangsUp, _) => phone.hang_up(),
            (Answer::No, _) => phone.press("2"),
            (Answer::Silence, _) | (_, Gate::NoObjection) => {}
            _ => phone.press("1"),
        }
    }

    /// Waits until both hear each other, from so many packets on.
    fn joined(&self, after: usize) {
        let [caller, callee] = [&self.caller, &self.callee];
        caller.wait("the callee's voice", |log| log.heard_tone(callee.hz()) >= after + 25);
        callee.wait("the caller's voice", |log| log.heard_tone(caller.hz()) >= after + 25);
    }

    fn acts(&self) {
        let actor = self.phone(self.case.actor);
        actor.talk(30);
        match self.case.answer {
            Answer::Withdraws => self.says("*9"),
            Answer::Pauses => {
                self.says("*7");
                self.says("*7");
            }
            Answer::AcceptsAgain => {
                self.says("*9");
                self.says("1");
            }
            _ => {}
        }
    }

    /// The actor presses keys, is told what came of it, and both talk on.
    fn says(&self, keys: &str) {
        let actor = self.phone(self.case.actor);
        let before = actor.log().heard_about(PROMPT_HZ);
        let [caller, callee] = Leg::BOTH.map(|leg| self.heard_of_other(leg));
        actor.press(keys);
        actor.wait("the prompt", |log| log.heard_about(PROMPT_HZ) >= before + 7);
        self.joined(caller.max(callee));
        actor.talk(25);
    }

    fn heard_of_other(&self, leg: Leg) -> usize {
        self.phone(leg).log().heard_tone(self.phone(leg.other()).hz())
    }

    fn ends(&self) {
        self.caller.wait("the end", |log| log.line == Line::Over);
        self.callee.wait("the end", |log| matches!(log.line, Line::Over | Line::Idle));
    }

    #[track_caller]
    fn check(&self, account: &Account) {
        let case = &self.case;
        let (caller, callee) = (self.caller.log(), self.callee.log());
        let sides = [
            Side { log: &caller, hz: self.caller.hz() },
            Side { log: &callee, hz: self.callee.hz() },
        ];
        measure::check(account, Kind::Straight, sides);
        let recorded: Vec<[bool; 2]> = account
            .recordings
            .iter()
            .map(|r| r.written.each_ref().map(|written| written.len() > 20))
            .collect();
        assert_eq!(recorded, case.expected(), "whose voices are recorded: {:?}", account.story());
        for recording in &account.recordings {
            for leg in Leg::BOTH {
                let expected = recording.permitted[index(leg)].is_empty();
                assert_eq!(recording.written[index(leg)].is_empty(), expected, "{leg}");
            }
        }
        // Nobody hears the other before everybody who is asked has answered.
        for leg in case.ask.iter().filter(|leg| case.asks(**leg)) {
            let Some((_, decided)) = account.decisions(*leg).first().copied() else {
                // Under `all` the first "no" is everybody's.
                let other = case.answer == Answer::No && *leg != case.actor;
                assert!(other || case.answer == Answer::HangsUp, "{leg}: {:?}", account.story());
                continue;
            };
            for (log, other) in [(&caller, CALLEE_HZ), (&callee, CALLER_HZ)] {
                let tone = support::tone_phone::tone_packet(other);
                let first = log.heard.iter().find(|heard| heard.payload == tone);
                assert!(first.is_none_or(|heard| heard.at >= decided), "{leg}: before the answer");
            }
        }
    }
}

/// Plays all of them side by side on one agent, and looks at every one.
fn all_of(cases: Vec<Case>) {
    let folder = tempfile::tempdir().expect("a folder");
    let key = support::token::key_file(folder.path()).display().to_string();
    let stages: Vec<Stage> = cases.into_iter().map(Stage::new).collect();
    let routes: String = stages.iter().map(|stage| stage.case.route(&stage.callee.uri())).collect();
    let policies: String = stages.iter().map(|stage| stage.case.policy(&key)).collect();
    let agent = Agent::builder().many_ports().routes(&routes).further(&policies).start();
    let failed = side_by_side(&stages, |stage| stage.play(&agent));
    assert!(failed.is_empty(), "calls that did not go as they should: {failed:?}");
    wait_for(SOON, "every recording is sealed", || {
        let events = agent.events();
        let count = |kind: &str| {
            events.iter().filter(|e| e["type"] == format!("io.assent.{kind}.v1")).count()
        };
        count("call.ended") == stages.len()
            && count("recording.started") == count("recording.sealed") + count("recording.failed")
    });
    let books = Books::of(&agent);
    let failed = side_by_side(&stages, |stage| {
        let account = books.account(&stage.case.to_string());
        stage.check(&account);
    });
    assert!(failed.is_empty(), "recordings that are not as they should be: {failed:?}");
    support::ledger::proven(&agent);
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
}

/// The names of those with which something failed.
fn side_by_side(stages: &[Stage], act: impl Fn(&Stage) + Sync) -> Vec<String> {
    std::thread::scope(|scope| {
        let act = &act;
        let running: Vec<_> = stages
            .iter()
            .map(|stage| {
                let name = stage.case.to_string();
                let thread = std::thread::Builder::new().name(name.clone());
                (name, thread.spawn_scoped(scope, move || act(stage)).expect("a thread"))
            })
            .collect();
        let failed =
            running.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name));
        failed.collect()
    })
}

#[test]
fn a_caller_who_is_asked_to_opt_in() {
    all_of(cases(Gate::OptIn, CALLER));
}

#[test]
fn a_callee_who_is_asked_to_opt_in() {
    all_of(cases(Gate::OptIn, CALLEE));
}

#[test]
fn both_are_asked_to_opt_in() {
    all_of(cases(Gate::OptIn, BOTH));
}

#[test]
fn a_caller_who_may_object() {
    all_of(cases(Gate::NoObjection, CALLER));
}

#[test]
fn a_callee_who_may_object() {
    all_of(cases(Gate::NoObjection, CALLEE));
}

#[test]
fn both_may_object() {
    all_of(cases(Gate::NoObjection, BOTH));
}

/// Nobody is asked, so nobody answers; but everybody may take back what is known of them.
fn known(gate: Gate, ask: &'static [Leg]) -> Vec<Case> {
    let mut cases = cases(gate, ask);
    let never = |answer| matches!(answer, Answer::Silence | Answer::HangsUp);
    cases.retain(|case| !never(case.answer) && (gate == Gate::Token || case.answer != Answer::No));
    cases
}

#[test]
fn agreements_on_file_are_taken_back_and_given_again() {
    all_of(known(Gate::Standing, BOTH));
}

#[test]
fn what_a_token_states_is_taken_back_and_given_again() {
    all_of(known(Gate::Token, CALLER));
}

#[test]
fn tokens_may_state_it_of_both() {
    all_of(known(Gate::Token, BOTH));
}

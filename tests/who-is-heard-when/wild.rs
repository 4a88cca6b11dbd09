//! Whatever two phones do, in whatever order: nothing is written outside of a permission, and
//! everything that begins ends.

use assent::ids::Leg;

use crate::books::Books;
use crate::measure::{self, Kind, Side};
use crate::support::tone_phone::{Line, PicksUp};
use crate::support::{Agent, TonePhone, ledger, rounds, wait_for};
use crate::{CALLEE_HZ, CALLER_HZ, SOON};

/// A generator of which a failure can be had again: SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// What a phone does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Press(Leg, &'static str),
    Hold(Leg),
    TakeBack(Leg),
    Talk(usize),
    HangUp(Leg),
}

#[derive(Clone, Debug)]
struct Script {
    policy: String,
    ask: Vec<Leg>,
    acts: Vec<Act>,
}

impl Script {
    fn roll(dice: &mut Dice, number: usize) -> Self {
        let scope = ["all", "per-party"][dice.roll(2) as usize];
        let ask = match dice.roll(3) {
            0 => vec![Leg::Caller],
            1 => vec![Leg::Callee],
            _ => Leg::BOTH.to_vec(),
        };
        let mut acts = Vec::new();
        for _ in 0..4 + dice.roll(7) {
            let leg = Leg::BOTH[dice.roll(2) as usize];
            acts.push(Act::Talk(1 + dice.roll(45) as usize));
            acts.push(match dice.roll(12) {
                0..=3 => Act::Press(leg, "1"),
                4 => Act::Press(leg, "2"),
                5 | 6 => Act::Press(leg, "*9"),
                7 | 8 => Act::Press(leg, "*7"),
                9 => Act::Hold(leg),
                10 => Act::TakeBack(leg),
                _ => Act::Talk(50),
            });
        }
        acts.push(Act::HangUp(Leg::BOTH[dice.roll(2) as usize]));
        Self { policy: format!("wild-{number}-{scope}"), ask, acts }
    }

    fn toml(&self, next_hop: &str) -> (String, String) {
        let Self { policy, ask, .. } = self;
        let asked: Vec<String> = ask.iter().map(|leg| format!("\"{leg}\"")).collect();
        let standing: Vec<String> = Leg::BOTH
            .iter()
            .filter(|leg| !ask.contains(leg))
            .map(|leg| format!("{leg} = \"agreement\""))
            .collect();
        let scope = if policy.ends_with("per-party") { "per-party" } else { "all" };
        let route = format!(
            "[[route]]\nmatch = {{ to = \"{policy}\" }}\nmode = \"inline\"\n\
             next_hop = \"{next_hop}\"\npolicy = \"{policy}\"\n"
        );
        let text = format!(
            "[[policy]]\nname = \"{policy}\"\nbasis = \"consent\"\npurposes = [\"quality\"]\n\
             controller = \"Test GmbH\"\ngate = \"opt-in\"\nask = [{}]\nstanding = {{ {} }}\n\
             scope = \"{scope}\"\nlocale = \"en-US\"\nattempts = 1\nanswer_within = \"1s\"\n\
             pause_by = [\"caller\", \"callee\"]\npause_limit = \"10s\"\naccept_again = true\n\
             on_withdrawal = \"keep\"\nretention = \"90d\"\n",
            asked.join(", "),
            standing.join(", "),
        );
        (route, text)
    }

    fn play(&self, agent: &Agent, [caller, callee]: &[TonePhone; 2]) {
        caller.call(agent.udp(), &self.policy, "");
        let phone = |leg| if leg == Leg::Caller { caller } else { callee };
        // Acts before there is a call are none.
        wait_for(SOON, "somebody is on the line", || {
            Leg::BOTH.iter().any(|leg| phone(*leg).log().line == Line::Talking)
        });
        for act in &self.acts {
            match *act {
                Act::Press(leg, keys) => phone(leg).press(keys),
                Act::Hold(leg) => phone(leg).hold(),
                Act::TakeBack(leg) => phone(leg).take_back(),
                Act::Talk(packets) => {
                    std::thread::sleep(std::time::Duration::from_millis(20) * packets as u32);
                }
                Act::HangUp(leg) => phone(leg).hang_up(),
            }
        }
        // Who was to hang up may not have been on the line.
        wait_for(SOON, "the end", || {
            Leg::BOTH.iter().for_each(|leg| phone(*leg).hang_up());
            let over = |leg: &Leg| matches!(phone(*leg).log().line, Line::Over | Line::Idle);
            Leg::BOTH.iter().all(over)
        });
    }
}

#[test]
fn whatever_phones_do_nothing_is_written_outside_of_a_permission() {
    let seed = std::env::var("ASSENT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("randomness");
        u64::from_le_bytes(bytes)
    });
    eprintln!("ASSENT_SEED={seed} does the same again");
    let mut dice = Dice(seed);
    let scripts: Vec<Script> =
        (0..rounds(24, 200)).map(|number| Script::roll(&mut dice, number)).collect();
    let phones: Vec<[TonePhone; 2]> = scripts
        .iter()
        .map(|_| {
            [
                TonePhone::new(CALLER_HZ, PicksUp::WhenTold),
                TonePhone::new(CALLEE_HZ, PicksUp::AtOnce),
            ]
        })
        .collect();
    let (mut routes, mut policies) = (String::new(), String::new());
    for (script, [_, callee]) in scripts.iter().zip(&phones) {
        let (route, policy) = script.toml(&callee.uri());
        routes.push_str(&route);
        policies.push_str(&policy);
    }
    let agent = Agent::builder().many_ports().routes(&routes).further(&policies).start();
    for calls in scripts.iter().zip(&phones).collect::<Vec<_>>().chunks(24) {
        std::thread::scope(|scope| {
            for (script, phones) in calls {
                scope.spawn(|| script.play(&agent, phones));
            }
        });
    }
    wait_for(SOON, "everything that began has ended", || {
        let events = agent.events();
        let count = |word: &str| events.iter().filter(|e| ledger::kind(e) == word).count();
        let ended = count("recording.sealed") + count("recording.failed");
        count("call.ended") == scripts.len() && ended >= count("recording.started")
    });
    ledger::in_order(&agent.events());
    ledger::balanced(&agent.events());
    let books = Books::of(&agent);
    for (script, [caller, callee]) in scripts.iter().zip(&phones) {
        let account = books.account(&script.policy);
        eprintln!("{script:?}: {:?}", account.story());
        let (caller, callee) = (caller.log(), callee.log());
        let sides = [Side { log: &caller, hz: CALLER_HZ }, Side { log: &callee, hz: CALLEE_HZ }];
        measure::check(&account, Kind::Wild, sides);
        for leg in &script.ask {
            let decided = !account.decisions(*leg).is_empty();
            // Under `all` another's "no" or hang-up ends the question, too.
            let other = account.decisions(leg.other()).iter().any(|(word, _)| *word != "granted");
            let ended = other || account.was_hung_up() || !account.joined(*leg);
            assert!(decided || ended, "{leg}: {:?}", account.story());
        }
    }
    ledger::proven(&agent);
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
    assert!(!agent.log().contains("the catalog refuses it"), "{}", agent.log());
}

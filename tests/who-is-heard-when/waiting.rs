//! What who waits for the other hears: ringback or a soft tone, never the other's voice, and never
//! dead air.

use assent::ids::Leg;

use crate::books::Books;
use crate::measure::{self, Kind, Side};
use crate::support::agent::NOTICE_HZ;
use crate::support::tone_phone::{Heard, Line, Log, PicksUp, tone_packet};
use crate::support::{Agent, TonePhone};
use crate::{CALLEE_HZ, CALLER_HZ, SOON};

/// Of North American ringback.
const RINGBACK_HZ: f64 = 440.0;
/// Of the tone for who waits, which is soft.
const WAITING_HZ: f64 = 425.0;

/// Both are asked; one answers at once, the other lets them wait for two seconds.
fn one_waits(waits: Leg) -> (TonePhone, TonePhone) {
    let caller = TonePhone::new(CALLER_HZ, PicksUp::WhenTold);
    let callee = TonePhone::new(CALLEE_HZ, PicksUp::AtOnce);
    let agent = Agent::builder()
        .policy("ask", "[\"caller\", \"callee\"]")
        .policy("standing", "{}")
        .policy("answer_within", "\"8s\"")
        .policy("on_withdrawal", "\"keep\"")
        .inline(callee.uri())
        .start();
    caller.call(agent.udp(), "waiting", "");
    let (first, second) = match waits {
        Leg::Caller => (&caller, &callee),
        Leg::Callee => (&callee, &caller),
    };
    for phone in [first, second] {
        phone.wait("half of the notice", |log| log.heard_about(NOTICE_HZ) >= 14);
    }
    first.press("1");
    second.talk(100);
    assert_eq!(first.log().heard_tone(second.hz()), 0, "{waits}: hears nobody yet");
    assert_eq!(second.log().heard_tone(first.hz()), 0, "{waits}: nor do they");
    second.press("1");
    first.wait("the other's voice", |log| log.heard_tone(second.hz()) >= 60);
    second.wait("the other's voice", |log| log.heard_tone(first.hz()) >= 60);
    caller.hang_up();
    callee.wait("the end", |log| log.line == Line::Over);
    agent.wait_event("recording.sealed", SOON);
    let account = Books::of(&agent).account("default");
    let (of_caller, of_callee) = (caller.log(), callee.log());
    let sides = [Side { log: &of_caller, hz: CALLER_HZ }, Side { log: &of_callee, hz: CALLEE_HZ }];
    measure::check(&account, Kind::Straight, sides);
    drop((of_caller, of_callee));
    (caller, callee)
}

/// What was heard between the notice and the other's voice.
fn meanwhile(log: &Log, other: f64) -> &[Heard] {
    let notice = log.heard.iter().rposition(|heard| heard.sounds_like(NOTICE_HZ));
    let tone = tone_packet(other);
    let voice = log.heard.iter().position(|heard| heard.payload == tone);
    &log.heard[notice.expect("the notice")..voice.expect("the other's voice")]
}

/// A packet for every 20 ms of it, but for a few where one sound follows another.
#[track_caller]
fn no_dead_air(heard: &[Heard]) {
    let (first, last) = (heard.first().expect("sound"), heard.last().expect("sound"));
    let frames = last.timestamp.wrapping_sub(first.timestamp) / 160;
    assert!(heard.len() as u32 * 10 >= frames * 8, "{} packets for {frames}", heard.len());
    assert!(frames > 60, "{frames}");
}

#[test]
fn a_caller_who_waits_hears_ringback() {
    let (caller, _callee) = one_waits(Leg::Caller);
    let log = caller.log();
    let heard = meanwhile(&log, CALLEE_HZ);
    no_dead_air(heard);
    let ringback = heard.iter().filter(|heard| heard.sounds_like(RINGBACK_HZ)).count();
    assert!(ringback > 30, "{ringback} of {}", heard.len());
}

#[test]
fn a_callee_who_waits_hears_a_soft_tone() {
    let (_caller, callee) = one_waits(Leg::Callee);
    let log = callee.log();
    let heard = meanwhile(&log, CALLER_HZ);
    no_dead_air(heard);
    let soft = heard.iter().filter(|heard| heard.holds(WAITING_HZ, 0.005)).count();
    assert!(soft >= 5, "{soft} of {}", heard.len());
}

//! Promise: a power cut loses at most two seconds of a stream, and nothing that anybody was told:
//! no permission, no event, no finished segment.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use support::ledger;
use support::{Agent, Answerer, Disk, Talker, rounds, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// Packets of 20 ms in two seconds.
const TWO_SECONDS: u32 = 100;
/// A sync itself takes a while, the longer the busier the machine is.
const A_SYNC: u32 = 50;

#[test]
fn in_the_middle_of_a_call() {
    let callee = Answerer::start();
    let mut agent = Agent::builder().inline(callee.uri()).prepare();
    let Some(disk) = Disk::ext4(&agent.data(), 256) else { return };
    for round in 0..rounds(2, 40) {
        agent.restart();
        let user = |n: usize| format!("+4930{round:03}{n}");
        let mut done = Talker::call(agent.udp(), &user(0), "200").unwrap();
        done.accept();
        wait_for(SOON, "it talks", || done.numbered() > 30);
        done.hang_up();
        wait_until(SOON, "it is sealed", || {
            let row = ledger::recordings_of(&agent, &user(0)).pop()?;
            (row["state"] == "sealed").then_some(())
        });
        let talker = Talker::call(agent.udp(), &user(1), "201").unwrap();
        talker.accept();
        let until = 150 + 13 * u32::try_from(round).unwrap();
        wait_for(SOON, "it talks", || talker.numbered() > until);
        let told = agent.events();
        let sent = [talker.numbered(), callee.numbered("201")];
        if disk.cut_the_power().is_none() {
            return;
        }
        agent.kill();
        drop(talker);
        callee.forget();
        disk.switch_on();
        agent.restart();

        ledger::proven(&agent);
        let events = agent.events();
        ledger::in_order(&events);
        ledger::balanced(&events);
        assert_eq!(events[..told.len()], told[..], "what was told is still there");
        let [first, second] = [0, 1].map(|n| {
            let [row] = &ledger::recordings_of(&agent, &user(n))[..] else { panic!() };
            row.clone()
        });
        assert_eq!((&first["state"], &first["result"]), (&"sealed".into(), &"complete".into()));
        assert_eq!((&second["state"], &second["result"]), (&"sealed".into(), &"truncated".into()));
        let found = ledger::export(&agent, second["id"].as_str().unwrap());
        for (found, sent) in found.iter().zip(sent) {
            let kept = found.numbers.last().map_or(0, |last| last + 1);
            eprintln!("{kept} of {sent} packets are kept");
            assert!(kept + TWO_SECONDS + A_SYNC >= sent, "{kept} of {sent} packets are kept");
            assert!(!found.before && found.foreign == 0, "{found:?}");
        }
        agent.kill();
    }
}

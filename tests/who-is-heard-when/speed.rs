//! How long it takes from a key to a writer that is open. A measurement, not a promise: it is run
//! by hand (`docs/performance.md`).

use std::time::Duration;

use crate::books::micros;
use crate::support::agent::NOTICE_HZ;
use crate::support::tone_phone::{Line, PicksUp};
use crate::support::{Agent, TonePhone, ledger, wait_for};
use crate::{CALLER_HZ, SOON};

/// Calls in all, and at a time.
const CALLS: usize = 200;
const AT_A_TIME: usize = 10;

#[test]
#[ignore = "a measurement; see docs/performance.md"]
fn from_a_key_to_an_open_writer() {
    let delay = std::env::var("ASSENT_SYNC_MICROS").unwrap_or_else(|_| "5000".to_owned());
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace").display().to_string();
    let inject = format!("inject=fsync,fdatasync,syncfs:delay_exit={delay}");
    let strace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync,syncfs", "-e"];
    let command = strace.into_iter().map(str::to_owned).chain([inject, "-o".to_owned(), trace]);
    let agent = Agent::builder().many_ports().under(command).start();
    for _ in 0..CALLS / AT_A_TIME {
        let phones: Vec<_> =
            (0..AT_A_TIME).map(|_| TonePhone::new(CALLER_HZ, PicksUp::WhenTold)).collect();
        for phone in &phones {
            phone.call(agent.udp(), "statement", "");
        }
        for phone in &phones {
            phone.wait("half of the notice", |log| log.heard_about(NOTICE_HZ) >= 14);
            phone.press("1");
            std::thread::sleep(Duration::from_millis(37));
        }
        for phone in &phones {
            phone.talk(25);
            phone.hang_up();
            phone.wait("the end", |log| log.line == Line::Over);
        }
    }
    wait_for(SOON, "every recording is sealed", || {
        let events = agent.events();
        events.iter().filter(|e| ledger::kind(e) == "recording.sealed").count() == CALLS
    });
    let events = agent.events();
    let mut took = Vec::new();
    for started in events.iter().filter(|e| ledger::kind(e) == "recording.started") {
        let same = |e: &&serde_json::Value| {
            ledger::kind(e) == "permission.granted"
                && e["data"]["recording"] == started["data"]["recording"]
        };
        let granted = events.iter().filter(same).map(|e| micros(&e["time"])).max();
        took.push(micros(&started["data"]["started"]) - granted.expect("a grant"));
    }
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100] as f64 / 1_000.0;
    println!(
        "{} decisions, syncs of {delay} µs: p50 {} ms, p90 {} ms, p99 {} ms, most {} ms",
        took.len(),
        at(50),
        at(90),
        at(99),
        at(100)
    );
}

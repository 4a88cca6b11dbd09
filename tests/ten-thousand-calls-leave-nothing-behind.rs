//! Promise: short calls, one after another, leave memory, file descriptors, ports, timers and
//! tables where they were. Two thousand in `make test`, ten thousand in `make soak`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use support::{Agent, Sipp, rounds, wait_for};

/// SIP transactions over UDP live for 32 s after their end (RFC 3261, timer J).
const LINGER: Duration = Duration::from_secs(60);

/// The catalog's writer and readers keep pages of the database up to this much; so many calls
/// until it is used up.
const PAGES_KIB: u64 = 24 * 1024;
const CALLS_UNTIL_FULL: usize = 3_000;

/// What an agent holds.
#[derive(Debug)]
struct Holds {
    memory_kib: u64,
    files: usize,
    threads: usize,
    ports: f64,
}

impl Holds {
    /// Measured when nothing is going on any more.
    fn of(agent: &Agent) -> Self {
        let gauge = |name: &str| agent.metric(name).unwrap_or_else(|| panic!("no {name}"));
        wait_for(LINGER, "calls and transactions are over", || {
            let calls: f64 = ["asking", "farewell", "dialling", "talking", "ending"]
                .iter()
                .map(|state| gauge(&format!("assent_calls{{state=\"{state}\"}}")))
                .sum();
            calls == 0.0
                && gauge("assent_sip_transactions") == 0.0
                && gauge("assent_recordings{state=\"capturing\"}") == 0.0
                && agent.json(&["status"])[0]["recordings"] == 0
        });
        let proc = format!("/proc/{}", agent.pid());
        let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        Self {
            memory_kib: field("VmRSS:"),
            files: std::fs::read_dir(format!("{proc}/fd")).unwrap().count(),
            threads: usize::try_from(field("Threads:")).unwrap(),
            ports: gauge("assent_media_ports_free"),
        }
    }
}

fn calls(agent: &Agent, count: usize, transport: &str) {
    let (count, rate) = (u32::try_from(count).unwrap(), 60);
    let addr = if transport == "t1" { agent.tcp() } else { agent.udp() };
    let sipp = Sipp::calls("uac-call", addr).arg("-t").arg(transport).arg("-d").arg("60");
    sipp.count(count).rate(rate).within(u64::from(count / 5) + 60).run().expect_success();
}

fn leave_nothing(transport: &str, warm_up: usize, count: usize) {
    let callee = Sipp::answers("uas-answer").arg("-t").arg(transport).arg("-d").arg("0");
    let all = u32::try_from(warm_up + count).unwrap();
    let callee = callee.count(all).within(u64::from(all / 5) + 300).start();
    let hop = match transport {
        "t1" => format!("sip:{};transport=tcp", callee.addr()),
        _ => format!("sip:{}", callee.addr()),
    };
    // Everybody is permitted at once, so that every call goes through the whole of the agent:
    // evidence, keys, recording, events, media, both legs.
    let mut agent = Agent::builder()
        .inline(hop)
        .many_ports()
        .policy("gate", "\"standing\"")
        .policy("ask", "[]")
        .policy("standing", "{ caller = \"a\", callee = \"b\" }")
        .env("RUST_LOG", "warn")
        .start();
    calls(&agent, warm_up, transport);
    let before = Holds::of(&agent);
    calls(&agent, count, transport);
    let after = Holds::of(&agent);
    eprintln!("{before:?}\n{after:?}");
    assert_eq!(after.ports, before.ports, "media ports");
    // A query may have one more connection to the catalog open than before.
    assert!(after.files <= before.files + 8, "file descriptors: {before:?} {after:?}");
    assert!(after.threads <= before.threads + 4, "threads: {before:?} {after:?}");
    let grown = after.memory_kib.saturating_sub(before.memory_kib);
    let cached = if warm_up < CALLS_UNTIL_FULL { PAGES_KIB } else { 0 };
    assert!(grown < cached + 6 * 1024, "{count} calls have left {grown} KiB: {before:?} {after:?}");
    assert_eq!(agent.metric("assent_catalog_failures_total"), Some(0.0));
    assert!(agent.metric("assent_catalog_commits_total") > Some(0.0));
    assert!(agent.stop().success());
}

#[test]
fn over_tcp() {
    leave_nothing("t1", rounds(300, CALLS_UNTIL_FULL), rounds(1_700, 10_000));
}

#[test]
fn over_udp() {
    leave_nothing("u1", rounds(100, CALLS_UNTIL_FULL), rounds(400, 10_000));
}

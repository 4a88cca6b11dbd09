//! Promise: whatever moment the agent is killed in, each stream loses at most the chunk that was
//! in the making; no finished segment, no permission and no event is lost, nothing appears that
//! nobody permitted, and the next start puts everything in order.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use support::ledger::{self, kind};
use support::{Agent, Answerer, Talker, rounds, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(10);

/// G.711 packets of 20 ms in a chunk of 2048 bytes: 2032 bytes of plaintext (AEAD tag of 16), 8 +
/// 12 + 160 bytes a packet, and the one that lies across two chunks.
const CHUNK: u32 = 12;
/// Packets that the agent may not have read yet when it is killed while they come: this machine
/// may be busy with other things for a moment.
const ON_THE_WAY: u32 = 10;

/// A call, and what a crash must have left of it.
struct Expected {
    user: String,
    caller: u32,
    callee: u32,
    /// Whether the agent has said, durably, that it is recorded.
    permitted: bool,
}

fn users(round: usize, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |n| format!("+4930{:03}{n:03}", round))
}

fn permitted(agent: &Agent, user: &str) -> bool {
    // The reader beside a running agent sees what is committed, and nothing else.
    !ledger::recordings_of(agent, user).is_empty()
}

/// The promise, after a restart.
fn check(agent: &Agent, calls: &[Expected], slack: u32) {
    ledger::proven(agent);
    let events = agent.events();
    ledger::in_order(&events);
    ledger::balanced(&events);
    for call in calls {
        let recordings = ledger::recordings_of(agent, &call.user);
        if !call.permitted && recordings.is_empty() {
            continue;
        }
        let [recording] = &recordings[..] else {
            panic!("recordings of {}: {recordings:?}", call.user)
        };
        let id = recording["id"].as_str().unwrap();
        let granted = events
            .iter()
            .any(|event| kind(event) == "permission.granted" && event.to_string().contains(id));
        assert!(granted, "the permission of {id} has no event");
        let state = recording["state"].as_str().unwrap();
        let [caller, callee] = match state {
            "sealed" => ledger::export(agent, id),
            "failed" => Default::default(),
            other => panic!("recording {id} is {other}"),
        };
        let parties = [("caller", caller, call.caller), ("callee", callee, call.callee)];
        for (who, found, sent) in parties {
            assert!(!found.before, "{who} of {id}: what was said before permission is recorded");
            assert_eq!(found.foreign, 0, "{who} of {id}: something that nobody said");
            if !call.permitted {
                continue;
            }
            let kept = found.numbers.last().map_or(0, |last| last + 1);
            assert!(
                kept + CHUNK + slack >= sent,
                "{who} of {id} ({state}): {sent} packets were sent, the last one kept is {kept}"
            );
            let first = found.numbers.first().copied().unwrap_or(0) as usize;
            let last = found.numbers.last().map_or(0, |last| *last as usize + 1);
            // Where a busy machine held the sender up, the export cuts a packet to keep in time.
            let holes = last - first - found.numbers.len();
            assert!(holes <= 3, "{who} of {id} has {holes} holes: {found:?}");
        }
    }
}

/// A call after the crash is recorded from one end to the other.
fn next_call_works(agent: &Agent, callee: &Answerer, user: &str) {
    let mut talker = Talker::call(agent.udp(), user, "200").unwrap();
    talker.accept();
    wait_for(SOON, "the callee is talked to", || callee.numbered("200") > 20);
    wait_for(SOON, "the caller talks", || talker.numbered() > 30);
    talker.hang_up();
    wait_until(SOON, "the next call is sealed", || {
        let row = ledger::recordings_of(agent, user).pop()?;
        (row["state"] == "sealed").then_some(row)
    });
    callee.forget();
}

#[test]
fn at_any_moment_of_a_call() {
    let callee = Answerer::start();
    let mut agent = Agent::builder().inline(callee.uri()).start();
    for round in 0..4 {
        let names: Vec<String> = users(round, 4).collect();
        let to: Vec<String> = (0..4).map(|n| format!("20{n}")).collect();
        // One in the notice, one that has just pressed the key, one in the middle, one that has
        // just hung up.
        let mut talkers: Vec<Talker> = Vec::new();
        for n in [2, 3] {
            talkers.push(Talker::call(agent.udp(), &names[n], &to[n]).unwrap());
            talkers.last().unwrap().accept();
        }
        wait_for(SOON, "both are recorded", || {
            permitted(&agent, &names[2]) && permitted(&agent, &names[3])
        });
        wait_for(SOON, "they talk", || {
            talkers.iter().all(|t| t.numbered() > 45 + 7 * round as u32)
        });
        let mut leaving = talkers.pop().unwrap();
        let pressing = Talker::call(agent.udp(), &names[1], &to[1]).unwrap();
        let hearing = Talker::call(agent.udp(), &names[0], &to[0]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        leaving.hang_up();
        pressing.press('1');
        // From within a few milliseconds of the key and the goodbye on.
        std::thread::sleep(Duration::from_millis([0, 3, 20, 200][round]));
        let middle = Expected {
            user: names[2].clone(),
            caller: talkers[0].numbered(),
            callee: callee.numbered(&to[2]),
            permitted: true,
        };
        agent.kill();
        let gone = Expected {
            user: names[3].clone(),
            caller: leaving.numbered(),
            callee: 0,
            permitted: true,
        };
        let rest = [(&pressing, 1), (&hearing, 0)].map(|(_, n)| Expected {
            user: names[n].clone(),
            caller: 0,
            callee: 0,
            permitted: false,
        });
        drop((talkers, pressing, hearing, leaving));
        callee.forget();
        agent.restart();
        let [pressed, heard] = rest;
        check(&agent, &[middle, gone, pressed, heard], ON_THE_WAY);
        next_call_works(&agent, &callee, &format!("+4940{round:06}"));
    }
    let events = agent.events();
    assert!(events.iter().any(|e| kind(e) == "call.ended" && e["data"]["cause"] == "crashed"));
    let truncated = |e: &&serde_json::Value| {
        kind(e) == "recording.sealed" && e["data"]["result"] == "truncated"
    };
    assert!(events.iter().filter(truncated).count() >= 4);
}

/// What is in memory of a call, keys and voices, is in no file after a crash, whatever the shell or
/// the service allows.
#[test]
fn a_crash_leaves_no_core_dump() {
    use std::os::unix::process::ExitStatusExt;
    let callee = Answerer::start();
    let mut agent = Agent::builder().inline(callee.uri()).prepare();
    agent.set_wrapper(["sh", "-c", "ulimit -c unlimited && exec \"$0\" \"$@\""]);
    agent.restart();
    let _talker = Talker::call(agent.udp(), "+49301", "200").unwrap();
    let proc = |name: &str| {
        std::fs::read_to_string(format!("/proc/{}/{name}", agent.pid())).unwrap_or_default()
    };
    let limits = proc("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);
    let field = |name: &str| {
        let status = proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    const CAP_IPC_LOCK: u64 = 1 << 14;
    if u64::from_str_radix(&field("CapEff"), 16).unwrap() & CAP_IPC_LOCK != 0 {
        assert_ne!(field("VmLck"), "0 kB", "who may lock memory does");
    }
    agent.signal("ABRT");
    let ended = agent.wait(SOON);
    assert!(ended.signal().is_some(), "{ended:?}");
    assert!(!ended.core_dumped(), "{ended:?}");
}

#[test]
fn one_chunk_to_the_packet() {
    let callee = Answerer::start();
    let mut agent = Agent::builder().inline(callee.uri()).start();
    let names: Vec<String> = users(9, 6).collect();
    let talkers: Vec<Talker> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let talker = Talker::call(agent.udp(), name, &format!("30{n}")).unwrap();
            talker.accept();
            // So that their chunks are full at different times.
            std::thread::sleep(Duration::from_millis(70));
            talker
        })
        .collect();
    wait_for(SOON, "all are recorded", || names.iter().all(|name| permitted(&agent, name)));
    wait_for(SOON, "they talk", || talkers.iter().all(|talker| talker.numbered() > 90));
    callee.fall_silent();
    let expected: Vec<Expected> = talkers
        .iter()
        .enumerate()
        .map(|(n, talker)| Expected {
            user: talker.user.clone(),
            caller: talker.fall_silent(),
            callee: callee.numbered(&format!("30{n}")),
            permitted: true,
        })
        .collect();
    // What was sent has been read: from here on nothing but the chunk in the making may be lost.
    std::thread::sleep(Duration::from_millis(300));
    agent.kill();
    agent.restart();
    check(&agent, &expected, 0);
}

/// System calls that change the data folder. `write` is also how threads wake each other, so these
/// points lie anywhere in the agent's life, its start and its end included.
const CALLS: [&str; 8] =
    ["fsync", "write", "pwrite64", "rename", "syncfs", "openat", "mkdir", "unlink"];

#[test]
fn at_any_system_call() {
    let callee = Answerer::start();
    let mut agent = Agent::builder().inline(callee.uri()).start();
    agent.stop();
    let mut died = 0;
    for round in 0..rounds(8, 400) {
        let call = CALLS[round % CALLS.len()];
        // Each thread counts its own.
        let nth = match call {
            "write" => random(9),
            "pwrite64" => random(90),
            "fsync" => random(9),
            "openat" => 20 + random(16),
            "mkdir" => random(8),
            _ => random(2),
        } + 1;
        // Not with --seccomp-bpf: strace 6.1 then counts only to one.
        agent.set_wrapper([
            "strace",
            "-f",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={call}:signal=KILL:when={nth}"),
        ]);
        let user = format!("+4950{round:06}");
        let mut expected = Vec::new();
        if agent.try_restart()
            && let Ok(mut talker) = Talker::call(agent.udp(), &user, "200")
        {
            wait_for(SOON, "the notice", || talker.heard() >= 14 || !agent.is_running());
            talker.press('1');
            for _ in 0..60 {
                if !agent.is_running() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            talker.hang_up();
            std::thread::sleep(Duration::from_millis(200));
            expected.push(Expected { user, caller: 0, callee: 0, permitted: false });
        }
        died += usize::from(!agent.is_running());
        eprintln!("{call} {nth}: {}", if agent.is_running() { "lived" } else { "died" });
        agent.kill();
        agent.set_wrapper::<&str>([]);
        agent.restart();
        check(&agent, &expected, 0);
        callee.forget();
        agent.kill();
    }
    assert!(died * 2 >= rounds(8, 400), "it was killed {died} times only");
    agent.restart();
    next_call_works(&agent, &callee, "+4960000000");
}

fn random(below: u16) -> u16 {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).unwrap();
    u16::from_le_bytes(bytes) % below
}

//! How long it takes from a key to the first packet that is recorded, and how many decisions one
//! core makes in a second. Measurements, not promises: they are run by hand
//! (`docs/performance.md`).

use std::time::Duration;

use crate::books::{Books, Written, micros};
use crate::support::agent::NOTICE_HZ;
use crate::support::tone_phone::{Line, PicksUp, Said};
use crate::support::{Agent, Scenario, Sipp, TonePhone, ledger, scenario, wait_for};
use crate::{CALLER_HZ, SOON};

/// Calls in all, and at a time.
const CALLS: usize = 200;
const AT_A_TIME: usize = 10;

/// A number out of the environment.
fn set(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What the agent runs under: `ASSENT_UNDER="taskset -c 0 chrt -f 10"`.
fn under() -> Vec<String> {
    let words = std::env::var("ASSENT_UNDER").unwrap_or_default();
    words.split_whitespace().map(str::to_owned).collect()
}

/// The percentiles of so many microseconds, in milliseconds.
fn percentiles(mut took: Vec<i64>) -> String {
    took.sort_unstable();
    let at = |permille: usize| took[(took.len() - 1) * permille / 1000] as f64 / 1_000.0;
    let (p50, p90, p99, most) = (at(500), at(900), at(990), at(1000));
    format!("{} times, p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, most {most} ms", took.len())
}

/// A key as its phone sent it.
struct Key {
    /// When its second packet and its end left: the first that show a key, and the last.
    recognisable: i64,
    end: i64,
    /// The voice that follows: sequence numbers and times.
    voice: Vec<(u16, i64)>,
}

impl Key {
    fn of(phone: &TonePhone) -> Self {
        let log = phone.log();
        let keys: Vec<_> = log.sent.iter().filter(|sent| sent.what == Said::Key('1')).collect();
        // Its end is sent three times at once.
        let (second, end) = (keys[1].at, keys[keys.len() - 3].at);
        let voice = log.sent.iter().filter(|sent| sent.what == Said::Voice && sent.at > end);
        Self { recognisable: second, end, voice: voice.map(|s| (s.sequence, s.at)).collect() }
    }

    /// When a packet of this phone was sent, if it is one of it.
    fn sent(&self, written: &Written) -> Option<i64> {
        let same = |(sequence, at): &&(u16, i64)| {
            *sequence == written.sequence && (at - written.arrival).abs() < 500_000
        };
        self.voice.iter().find(same).map(|(_, at)| *at)
    }
}

#[test]
#[ignore = "a measurement; see docs/performance.md"]
fn from_a_key_to_the_first_packet() {
    let delay = set("ASSENT_SYNC_MICROS", 5000);
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace").display().to_string();
    let inject = format!("inject=fsync,fdatasync,syncfs:delay_exit={delay}");
    let strace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync,syncfs", "-e"];
    let strace = strace.into_iter().map(str::to_owned).chain([inject, "-o".to_owned(), trace]);
    let command: Vec<String> = under().into_iter().chain(strace).collect();
    let agent = Agent::builder().many_ports().under(command).start();
    let (calls, at_a_time) = (
        set("ASSENT_CALLS", CALLS as u64) as usize,
        set("ASSENT_AT_A_TIME", AT_A_TIME as u64) as usize,
    );
    let mut keys = Vec::new();
    for _ in 0..calls / at_a_time {
        let phones: Vec<_> =
            (0..at_a_time).map(|_| TonePhone::new(CALLER_HZ, PicksUp::WhenTold)).collect();
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
            keys.push(Key::of(phone));
        }
    }
    wait_for(SOON, "every recording is sealed", || {
        let events = agent.events();
        events.iter().filter(|e| ledger::kind(e) == "recording.sealed").count() == calls
    });
    let (events, books) = (agent.events(), Books::of(&agent));
    let (mut to_writer, mut from_second, mut from_end) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = 0;
    for started in events.iter().filter(|e| ledger::kind(e) == "recording.started") {
        let recording = started["data"]["recording"].as_str().expect("an id");
        let same = |e: &&serde_json::Value| {
            ledger::kind(e) == "permission.granted" && e["data"]["recording"] == recording
        };
        let granted = events.iter().filter(same).map(|e| micros(&e["time"])).max();
        to_writer.push(micros(&started["data"]["started"]) - granted.expect("a grant"));
        let written = books.of_caller(recording);
        let Some((key, sent)) = written
            .iter()
            .find_map(|written| keys.iter().find_map(|key| Some((key, key.sent(written)?))))
        else {
            panic!("a recording without a voice");
        };
        from_second.push(sent - key.recognisable);
        from_end.push(sent - key.end);
        first += usize::from(key.voice.first().is_some_and(|(_, at)| *at == sent));
    }
    println!("syncs of {delay} µs and the disk's own, {at_a_time} calls at a time");
    println!("from the decision to the open writer: {}", percentiles(to_writer));
    println!("from a key's end to the first packet written: {}", percentiles(from_end));
    println!("from its second packet, which shows a key: {}", percentiles(from_second));
    println!("the first packet of voice after the key was written in {first} of {calls} calls");
}

#[test]
#[ignore = "a measurement; see docs/performance.md"]
fn decisions_in_a_second() {
    let rate = set("ASSENT_RATE", 200);
    let seconds = set("ASSENT_SECONDS", 30);
    let calls = rate * seconds;
    let agent = Agent::builder()
        .many_ports()
        .sip("info_keys = true")
        .env("RUST_LOG", "warn")
        .under(under())
        .start();
    let caller = Scenario::calls(&scenario::pcmu(), "")
        .hears(200, &[100, 180, 183])
        .acknowledges()
        .waits(400)
        .presses('1')
        .waits(600)
        .hangs_up();
    let before = cpu(agent.pid());
    let begun = std::time::Instant::now();
    let sipp = Sipp::plays(&caller, Some(agent.udp()))
        .service("statement")
        .count(u32::try_from(calls).expect("so many"))
        .rate(u32::try_from(rate).expect("so many"))
        .within(seconds * 3 + 30)
        .run();
    let took = begun.elapsed();
    let used = cpu(agent.pid()) - before;
    sipp.expect_success();
    std::thread::sleep(Duration::from_secs(5));
    let events = agent.events();
    let mut times = Vec::new();
    let mut granted = std::collections::HashMap::new();
    for event in &events {
        let recording = event["data"]["recording"].as_str().unwrap_or_default().to_owned();
        if ledger::kind(event) == "permission.granted" {
            times.push(micros(&event["time"]));
            granted.insert(recording, micros(&event["time"]));
        }
    }
    let to_writer: Vec<i64> = events
        .iter()
        .filter(|e| ledger::kind(e) == "recording.started")
        .filter_map(|e| {
            let granted = granted.get(e["data"]["recording"].as_str()?)?;
            Some(micros(&e["data"]["started"]) - granted)
        })
        .collect();
    let span = (times.iter().max().unwrap_or(&0) - times.iter().min().unwrap_or(&0)) as f64 / 1e6;
    let made = times.len();
    println!(
        "{made} permissions of {calls} calls in {span:.1} s: {:.0} a second",
        made as f64 / span
    );
    println!("{used:.1} s of CPU time in {:.1} s", took.as_secs_f64());
    println!("from the decision to the open writer: {}", percentiles(to_writer));
}

/// The CPU time of a process, user's and system's, in seconds.
fn cpu(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<f64>().ok())
        .sum::<f64>()
        / 1e9
}

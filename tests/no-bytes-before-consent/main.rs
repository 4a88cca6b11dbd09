//! No byte of anyone's voice is written before their grant, and none in clear ever.
//!
//! The real binary runs under strace. A caller and a callee whose voices are random bytes talk
//! from their first packet on. Afterwards everything that the binary wrote anywhere but to its
//! peers, and every file it left, is searched for these voices; and what is in the recording is
//! held against what had arrived before the evidence of the permission was on the disk.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod needles;
#[path = "../support/mod.rs"]
mod support;
mod trace;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assent::catalog::{Filter, Reader, RecordingDetail};
use assent::ids::StreamId;
use assent::keys::{FileKeyStore, KeyStore};
use assent::segment::SegmentReader;
use assent::segment::format::SegmentName;

use needles::Needles;
use support::talker::{Callee, Caller, Invitation, PAYLOAD, Rings, Voice};
use support::{Agent, AgentBuilder, wait_for};
use trace::{Syscall, Trace};

const SOON: Duration = Duration::from_secs(30);

/// Long enough for dozens of packets.
const A_WHILE: Duration = Duration::from_millis(700);

// The gates.

#[test]
fn an_opt_in_is_recorded_from_the_key_on_and_not_before() {
    let run = Run::start(Rings::For(A_WHILE), |agent| agent);
    let mut caller = run.call();
    run.wait_log("notice ended");
    pause();
    caller.press('1');
    run.wait_log("recording starts");
    run.wait_log("bridged");
    pause();
    caller.hang_up();
    run.wait_log("recording sealed");
    run.stop(caller).is_recorded_only_after_its_grant(Both::Recorded);
}

#[test]
fn a_key_during_the_notice_is_recorded_from_the_key_on() {
    let run = Run::start(Rings::For(A_WHILE), AgentBuilder::real_prompts);
    let mut caller = run.call();
    run.wait_log("notice starts");
    pause();
    caller.press('1');
    run.wait_log("bridged");
    pause();
    caller.hang_up();
    run.wait_log("recording sealed");
    run.stop(caller).is_recorded_only_after_its_grant(Both::Recorded);
}

#[test]
fn a_refused_opt_in_leaves_nothing_of_the_call() {
    let run = Run::start(Rings::For(A_WHILE), |agent| agent);
    let mut caller = run.call();
    run.wait_log("notice ended");
    caller.press('2');
    run.wait_log("bridged");
    pause();
    caller.hang_up();
    run.wait_log("call ended");
    run.stop(caller).leaves_nothing();
}

#[test]
fn silence_is_no_permission() {
    let silent =
        |agent: AgentBuilder| agent.policy("attempts", "2").policy("answer_within", "\"1s\"");
    let run = Run::start(Rings::For(A_WHILE), silent);
    let mut caller = run.call();
    run.wait_log("bridged");
    pause();
    caller.hang_up();
    run.wait_log("call ended");
    run.stop(caller).leaves_nothing();
}

#[test]
fn no_objection_is_recorded_from_the_end_of_the_window_on() {
    let run = Run::start(Rings::For(A_WHILE), |agent| agent.no_objection("1s"));
    let mut caller = run.call();
    run.wait_log("recording starts");
    run.wait_log("bridged");
    pause();
    caller.hang_up();
    run.wait_log("recording sealed");
    run.stop(caller).is_recorded_only_after_its_grant(Both::Recorded);
}

#[test]
fn an_objection_leaves_nothing_of_the_call() {
    let run = Run::start(Rings::For(A_WHILE), |agent| agent.no_objection("3s"));
    let mut caller = run.call();
    run.wait_log("notice ended");
    caller.press('2');
    run.wait_log("bridged");
    pause();
    caller.hang_up();
    run.wait_log("call ended");
    run.stop(caller).leaves_nothing();
}

#[test]
fn standing_agreements_are_evidence_before_they_are_a_recording() {
    let run = Run::start(Rings::For(Duration::from_secs(1)), standing);
    let mut caller = run.call();
    run.wait_log("recording starts");
    pause();
    caller.hang_up();
    run.wait_log("recording sealed");
    run.stop(caller).is_recorded_only_after_its_grant(Both::Recorded);
}

#[test]
fn per_party_records_the_permitted_voice_and_never_the_other() {
    let run = Run::start(Rings::For(A_WHILE), |agent| agent.policy("scope", "\"per-party\""));
    let mut caller = run.call();
    run.wait_log("notice ended");
    caller.press('2');
    run.wait_log("bridged");
    run.wait_log("recording starts");
    pause();
    caller.hang_up();
    run.wait_log("recording sealed");
    run.stop(caller).is_recorded_only_after_its_grant(Both::CalleeAlone);
}

// Calls that end early.

#[test]
fn a_hang_up_during_the_notice_leaves_nothing_of_the_call() {
    let run = Run::start(Rings::On, AgentBuilder::real_prompts);
    let mut caller = run.call();
    run.wait_log("notice starts");
    pause();
    caller.hang_up();
    run.wait_log("call ended");
    run.stop(caller).leaves_nothing();
}

#[test]
fn a_cancelled_call_leaves_nothing_of_its_early_media() {
    let run = Run::start(Rings::On, standing);
    let mut caller = run.invite();
    caller.response(|status| status == 183 || status == 180);
    pause();
    caller.cancel();
    caller.response(|status| status == 487);
    run.wait_log("call ended");
    run.stop(caller).leaves_nothing();
}

// Crashes.

#[test]
fn a_crash_during_the_notice_leaves_nothing_of_the_call() {
    let mut run = Run::start(Rings::On, AgentBuilder::real_prompts);
    let caller = run.call();
    run.wait_log("notice starts");
    pause();
    run.crash();
    run.stop(caller).leaves_nothing();
}

#[test]
fn a_crash_right_after_the_key_leaves_nothing_of_before_it() {
    for wait in [0, 8, 40] {
        let mut run = Run::start(Rings::On, |agent| agent);
        let caller = run.call();
        run.wait_log("notice ended");
        caller.press('1');
        // The key leaves with the next packet, within 20 ms.
        std::thread::sleep(Duration::from_millis(20 + wait));
        run.crash();
        run.stop(caller).holds_nothing_of_before_a_grant();
    }
}

#[test]
fn a_crash_in_the_middle_of_a_recording_leaves_no_byte_in_clear() {
    let mut run = Run::start(Rings::For(A_WHILE), |agent| agent);
    let caller = run.call();
    run.wait_log("notice ended");
    caller.press('1');
    run.wait_log("bridged");
    pause();
    pause();
    run.crash();
    run.stop(caller).is_recorded_only_after_its_grant(Both::Recorded);
}

// A catalog that cannot keep the evidence.

#[test]
fn a_disk_that_never_syncs_permits_nothing_and_the_call_goes_on() {
    unrecorded("fdatasync,fsync:error=EIO:when=1+", "EIO");
}

#[test]
fn a_disk_that_stops_syncing_permits_nothing_and_the_call_goes_on() {
    unrecorded("fdatasync,fsync:error=EIO:when=4+", "EIO");
}

// Each thread counts its own writes: the one that opens the database makes fewer than that.
#[test]
fn a_full_disk_permits_nothing_and_the_call_goes_on() {
    unrecorded("pwrite64:error=ENOSPC:when=20+", "ENOSPC");
}

/// A caller who agrees, if they are asked at all, while the kernel fails.
fn unrecorded(fault: &str, error: &str) {
    let mut run = Run::start_on_a_used_folder(&[fault]);
    let mut caller = run.call();
    wait_for(SOON, "the question, or the call without one", || {
        let log = run.agent.log();
        log.contains("notice ended") || log.contains("bridged")
    });
    caller.press('1');
    run.wait_log("bridged");
    pause();
    assert!(run.callee.invited().is_some(), "the call goes on");
    caller.hang_up();
    run.wait_log("call ended");
    run.crash();
    run.stop(caller).has_met(error).leaves_nothing();
}

#[test]
fn evidence_that_is_late_permits_nothing() {
    let run = Run::start(Rings::For(A_WHILE), |agent| agent);
    let mut caller = run.call();
    run.wait_log("notice ended");
    // Somebody else holds the database for longer than a decision may take, and lets go again
    // while the call lasts.
    let other = rusqlite::Connection::open(run.agent.data().join("catalog.db")).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    caller.press('1');
    run.wait_log("bridged");
    other.execute_batch("ROLLBACK").unwrap();
    pause();
    pause();
    caller.hang_up();
    run.wait_log("call ended");
    run.stop(caller).leaves_nothing();
}

// The proof itself.

#[test]
fn the_search_finds_a_voice_wherever_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let voice = Voice::new();
    let needles = Needles::of(&[(voice, 10)]);
    let said = folder.path().join("said");
    std::fs::write(&said, voice.payload(3)).unwrap();
    let leaks = [
        ("a file", "open('leak','wb').write(v)"),
        ("a pipe", "import os; r, w = os.pipe(); os.write(w, v)"),
        (
            "a Unix socket",
            "import socket; a, b = socket.socketpair(); a.sendall(bytes(x ^ 90 for x in v))",
        ),
        ("a vector", "import os; f = os.open('v', 65); os.writev(f, [v[:5], v[5:9], v[9:20]])"),
        ("a child", "import subprocess; subprocess.run(['dd', 'of=child'], input=v)"),
    ];
    for (place, leak) in leaks {
        let trace = traced(folder.path(), &format!("v = open('said','rb').read(); {leak}"));
        let kept = |call: &&Syscall| trace.keeps(call) && needles.find(&call.bytes).is_some();
        assert!(trace.calls.iter().any(|call| kept(&call)), "{place}");
    }
    let hidden = [
        ("memory that is a file", "import os; os.memfd_create('x')"),
        (
            "a mapped file",
            "import mmap; f = open('m','wb+'); f.truncate(4096); mmap.mmap(f.fileno(), 4096)",
        ),
        (
            "a copy in the kernel",
            "import os; os.sendfile(os.open('c', 65), os.open('said', 0), 0, 160)",
        ),
    ];
    for (place, hide) in hidden {
        let trace = traced(folder.path(), hide);
        assert!(trace.calls.iter().any(Syscall::hides), "{place}");
    }
    let quiet = traced(folder.path(), "open('n','wb').write(b'nothing at all')");
    assert!(!quiet.calls.iter().any(|call| needles.find(&call.bytes).is_some() || call.hides()));
}

fn traced(folder: &Path, program: &str) -> Trace {
    let file = folder.join("trace");
    std::fs::remove_file(&file).ok();
    let command = trace::command(&file);
    let status = std::process::Command::new(support::tool(&command[0]))
        .args(&command[1..])
        .args(["python3", "-c", program])
        .current_dir(folder)
        .stderr(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{program}");
    Trace::read(&file)
}

/// Who is recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Both {
    Recorded,
    CalleeAlone,
}

fn standing(agent: AgentBuilder) -> AgentBuilder {
    agent
        .policy("gate", "\"standing\"")
        .policy("basis", "\"contract\"")
        .policy("ask", "[]")
        .policy("standing", "{ caller = \"contract-7\", callee = \"test-agreement\" }")
}

fn pause() {
    std::thread::sleep(A_WHILE);
}

/// An agent under strace, and the two who talk through it.
struct Run {
    agent: Agent,
    callee: Callee,
    trace: PathBuf,
    _folder: tempfile::TempDir,
}

impl Run {
    fn start(rings: Rings, with: impl FnOnce(AgentBuilder) -> AgentBuilder) -> Self {
        let mut run = Self::prepare(rings, &[], with);
        run.agent.restart();
        run
    }

    /// An agent whose data folder is there already, and whose kernel fails as `faults` say.
    fn start_on_a_used_folder(faults: &[&str]) -> Self {
        let mut run = Self::prepare(Rings::For(A_WHILE), faults, |agent| agent);
        run.agent.unwrapped(|agent| {
            agent.restart();
            agent.stop();
        });
        run.agent.restart();
        run
    }

    fn prepare(
        rings: Rings,
        faults: &[&str],
        with: impl FnOnce(AgentBuilder) -> AgentBuilder,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        let callee = Callee::start(rings);
        let mut command = trace::command(&trace);
        for fault in faults {
            command.extend(["-e".to_owned(), format!("inject={fault}")]);
        }
        let builder = Agent::builder().inline(callee.uri()).env("RUST_LOG", "trace");
        let agent = with(builder).under(command).prepare();
        Self { agent, callee, trace, _folder: folder }
    }

    /// A call that the agent has answered.
    fn call(&self) -> Caller {
        let mut caller = self.invite();
        caller.answered();
        caller
    }

    fn invite(&self) -> Caller {
        Caller::invite(self.agent.udp(), Invitation::default())
    }

    fn wait_log(&self, line: &str) {
        wait_for(SOON, line, || self.agent.log().contains(line));
    }

    /// The process is gone from one instruction to the next; then it is started again, untraced,
    /// so that what it does with what it finds is seen in the files.
    fn crash(&mut self) {
        self.agent.signal("KILL");
        self.agent.wait(SOON);
        self.agent.unwrapped(|agent| {
            agent.restart();
            agent.stop();
        });
    }

    /// Ends the agent, if it still runs, and everybody else.
    fn stop(mut self, caller: Caller) -> Proof {
        if self.agent.is_running() {
            self.agent.stop();
        }
        let said =
            [(caller.voice(), caller.said() + 5), (self.callee.voice(), self.callee.said() + 5)];
        drop(caller);
        let trace = Trace::read(&self.trace);
        let proof = Proof { said, needles: Needles::of(&said), trace, run: self };
        proof.is_in_clear_nowhere();
        proof
    }
}

/// What a run left behind.
struct Proof {
    said: [(Voice, u32); 2],
    needles: Needles,
    trace: Trace,
    run: Run,
}

impl Proof {
    /// The first promise's second half: not in any file, pipe or socket, at any time, in clear.
    fn is_in_clear_nowhere(&self) {
        for call in &self.trace.calls {
            assert!(!call.hides(), "{call:?} moves bytes that the trace does not show");
            if self.trace.keeps(call) {
                let found = self.needles.find(&call.bytes);
                assert_eq!(found, None, "a voice in {} to {}", call.name, call.object);
            }
        }
        let mut looked_at = 0;
        for file in self.run.agent.files().into_iter().chain([self.run.agent.config()]) {
            let Ok(bytes) = std::fs::read(&file) else { continue };
            assert_eq!(self.needles.find(&bytes), None, "a voice in {}", file.display());
            looked_at += 1;
        }
        assert!(looked_at > 3, "the agent has left files");
        let log = self.run.agent.log();
        assert_eq!(self.needles.find(log.as_bytes()), None, "a voice in the log");
        // The search would have found it: the agent had these very bytes in its hands.
        assert!(self.received().len() > 20, "the agent has heard the caller");
    }

    /// The kernel has really failed this way, under the catalog.
    fn has_met(&self, error: &str) -> &Self {
        let met = |call: &Syscall| call.error == error && call.object.contains("catalog.db");
        assert!(self.trace.calls.iter().any(met), "the kernel has not failed with {error}");
        self
    }

    /// Nobody was recorded: there is no segment, and never was one.
    fn leaves_nothing(&self) {
        let touched = self.trace.calls.iter().find(|call| {
            let names = call.strings.iter().any(|s| s.ends_with(b".seg"));
            (call.opens() && names) || call.object.ends_with(".seg")
        });
        assert!(touched.is_none(), "{touched:?}");
        assert_eq!(self.segments(), Vec::<PathBuf>::new());
    }

    /// Evidence first, then the segment, then packets; and none that had come before.
    fn is_recorded_only_after_its_grant(&self, who: Both) {
        let recorded = self.holds_nothing_of_before_a_grant();
        let [caller, callee] = recorded;
        assert!(callee > 10, "the callee is recorded: {callee} packets");
        match who {
            Both::Recorded => assert!(caller > 10, "the caller is recorded: {caller} packets"),
            Both::CalleeAlone => assert_eq!(caller, 0, "the caller is not recorded"),
        }
        let relayed =
            |call: &&Syscall| self.trace.relays(call) && self.needles.find(&call.bytes).is_some();
        let relayed = self.trace.calls.iter().filter(relayed).count();
        assert!(relayed > 10, "both heard each other: {relayed} packets");
    }

    /// Returns how many packets of each party are recorded.
    fn holds_nothing_of_before_a_grant(&self) -> [usize; 2] {
        let Some(detail) = self.recording() else {
            self.leaves_nothing();
            return [0, 0];
        };
        let received = self.received();
        let mut count = [0, 0];
        // A scope that takes everybody's yes grants nobody before the last one is durable.
        let granted: Vec<usize> =
            detail.streams.iter().map(|stream| self.durable(&stream.evidence_digest.0)).collect();
        let first = granted.iter().copied().min().expect("a recording has streams");
        let all = detail.recording.scope == "all";
        let last = granted.iter().copied().max().expect("a recording has streams");
        for call in &self.trace.calls {
            let names = call.strings.iter().any(|s| s.ends_with(b".seg"));
            if (call.opens() && names) || (call.writes() && call.object.ends_with(".seg")) {
                let granted = if all { last } else { first };
                assert!(call.entered > granted, "{} before the grant: {}", call.name, call.object);
            }
        }
        for (stream, granted) in detail.streams.iter().zip(granted) {
            let index = usize::from(stream.stream.0);
            let (voice, said) = self.said[index];
            let granted = if all { last } else { granted };
            for packet in self.packets(&detail, index) {
                if packet.len() != 12 + PAYLOAD {
                    continue;
                }
                let n = (0..said).find(|n| packet[12..] == voice.payload(*n));
                let n = n.expect("what is recorded is what this party said");
                let arrived = received.get(&(index, n)).copied().expect("it has arrived");
                assert!(arrived > granted, "packet {n} of party {index} came before the grant");
                count[index] += 1;
            }
        }
        count
    }

    /// The line on which the sync that made this digest durable returned. After every other where
    /// none did: a crash can come between the write and the sync, and then nobody had a grant.
    fn durable(&self, digest: &[u8; 32]) -> usize {
        let log = |call: &&Syscall| call.object.ends_with("catalog.db-wal");
        let mut log = self.trace.calls.iter().filter(log);
        let written = log
            .find(|call| call.writes() && call.bytes.windows(32).any(|window| window == digest))
            .expect("the evidence is in the write-ahead log");
        let synced = |call: &&Syscall| {
            call.syncs() && call.result == Some(0) && call.entered > written.returned
        };
        log.find(synced).map_or(usize::MAX, |sync| sync.returned)
    }

    /// When each packet had arrived, by party and number.
    fn received(&self) -> HashMap<(usize, u32), usize> {
        let heads: HashMap<[u8; 8], (usize, u32)> = (0..2)
            .flat_map(|party| {
                let (voice, said) = self.said[party];
                (0..said).map(move |n| (head(&voice.payload(n)), (party, n)))
            })
            .collect();
        let mut received = HashMap::new();
        for call in self.trace.calls.iter().filter(|call| self.trace.receives(call)) {
            for window in call.bytes.windows(8) {
                if let Some(packet) = heads.get(window) {
                    received.entry(*packet).or_insert(call.returned);
                }
            }
        }
        received
    }

    fn recording(&self) -> Option<RecordingDetail> {
        let reader = Reader::open(&self.run.agent.data()).unwrap();
        let rows = reader.recordings(&Filter { limit: 2, ..Filter::default() }).unwrap();
        assert!(rows.len() < 2, "one call, one recording");
        reader.recording(rows.first()?.id).unwrap()
    }

    /// Every packet of a stream, decrypted.
    fn packets(&self, detail: &RecordingDetail, index: usize) -> Vec<Vec<u8>> {
        let row = detail.streams.iter().find(|s| usize::from(s.stream.0) == index).unwrap();
        let stream = StreamId { recording: detail.recording.id, index: row.stream };
        let data = self.run.agent.data();
        let keys = FileKeyStore::open(&data.join("keys")).unwrap();
        let wrapped = Reader::open(&data).unwrap().wrapped_key(stream).unwrap().unwrap();
        let key = keys.unwrap(&wrapped).unwrap();
        let mut packets = Vec::new();
        for path in self.segments() {
            let name = SegmentName::of_path(&path).unwrap();
            if name.stream != stream {
                continue;
            }
            let file = std::fs::File::open(&path).unwrap();
            let associated = name.associated_data(row.evidence_digest);
            let mut reader = match SegmentReader::open(file, &key, &associated) {
                Ok(reader) => reader,
                // A crash may come before the first chunk.
                Err(_) if std::fs::metadata(&path).unwrap().len() < 100 => continue,
                Err(why) => panic!("{}: {why}", path.display()),
            };
            while let Ok(Some(record)) = reader.next_record() {
                packets.push(record.rtp.to_vec());
            }
        }
        packets
    }

    fn segments(&self) -> Vec<PathBuf> {
        let files = self.run.agent.files();
        files.into_iter().filter(|f| f.extension().is_some_and(|e| e == "seg")).collect()
    }
}

fn head(payload: &[u8; PAYLOAD]) -> [u8; 8] {
    payload[..8].try_into().expect("8 bytes")
}

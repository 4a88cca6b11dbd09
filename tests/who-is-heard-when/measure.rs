//! What has to be true of every recorded call, whatever its policy: measured in the exported
//! channels, and told packet by packet.

use assent::ids::Leg;

use crate::books::{Account, Recording, Written};
use crate::support::audio::{level, loudness};
use crate::support::tone_phone::{Log, Said};

/// -60 dBFS.
const FLOOR: f64 = 0.001;
/// A tone that is there: half the full scale less a decibel or so.
const THERE: f64 = 0.4;
/// Where a tone begins or ends, the export may be off by some packets: it places them by their RTP
/// timestamps, and phones of a busy machine are late.
const EDGE: i64 = 120_000;
/// Packets that arrive as evenly as this are not moved.
const EVEN: i64 = 40_000;
/// A grant takes effect within this. Far more than it takes: this is no measurement of speed.
const BEGINS_WITHIN: i64 = 3_000_000;
/// Windows of this many microseconds.
const WINDOW: i64 = 20_000;

/// A phone's side of a call.
pub struct Side<'a> {
    pub log: &'a Log,
    pub hz: f64,
}

/// What kind of call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Both talk throughout, and keys mean what they say.
    Straight,
    /// Anything may have happened: holds, keys at the wrong time.
    Wild,
}

/// Everything below, for both parties of a call.
#[track_caller]
pub fn check(account: &Account, kind: Kind, sides: [Side<'_>; 2]) {
    let ended = account.events.iter().any(|e| e["type"] == "io.assent.call.ended.v1");
    assert!(ended, "the call has ended");
    for recording in &account.recordings {
        for leg in Leg::BOTH {
            let place = index(leg);
            let Side { log, .. } = &sides[place];
            written_while_permitted(recording, leg, log, kind);
            let hz = [sides[place].hz, sides[1 - place].hz];
            heard_where_written(recording, leg, log, hz);
        }
    }
    for leg in Leg::BOTH.into_iter().filter(|_| kind == Kind::Straight) {
        let Side { log, .. } = &sides[index(leg)];
        nothing_after_the_keys(account, leg, log);
        one_unbroken_stream(log);
    }
}

/// Which place a leg has in pairs.
pub fn index(leg: Leg) -> usize {
    usize::from(leg == Leg::Callee)
}

/// Every packet in a segment arrived within a permission, and within one every packet that was
/// said is there.
#[track_caller]
fn written_while_permitted(recording: &Recording, leg: Leg, log: &Log, kind: Kind) {
    let written = &recording.written[index(leg)];
    let permitted = &recording.permitted[index(leg)];
    for packet in written {
        // Arrivals are cut to milliseconds.
        let inside =
            |(from, to): &(i64, i64)| packet.arrival + 1_000 >= *from && packet.arrival <= *to;
        assert!(
            permitted.iter().any(inside),
            "{leg}: packet {packet:?} of {} is outside of {permitted:?}",
            recording.id
        );
    }
    for (from, to) in permitted.iter().filter(|_| kind == Kind::Straight) {
        let within: Vec<_> =
            written.iter().filter(|w| w.arrival + 1_000 >= *from && w.arrival <= *to).collect();
        let (Some(first), Some(last)) = (within.first(), within.last()) else { continue };
        let said = log.sent.iter().filter(|sent| sent.what == Said::Voice);
        let first_said = log.sent.iter().find(|sent| sent.sequence == first.sequence);
        let first_said = first_said.expect("what is written was said");
        let came = log.sent.first().map_or(*from, |first| first.at.max(*from));
        assert!(first_said.at < came + BEGINS_WITHIN, "{leg}: it begins late in {}", recording.id);
        let between = said.filter(|sent| {
            sent.sequence.wrapping_sub(first.sequence) < 0x8000
                && last.sequence.wrapping_sub(sent.sequence) < 0x8000
        });
        for sent in between {
            let is_written = within.iter().any(|w| w.sequence == sent.sequence);
            assert!(is_written, "{leg}: {sent:?} is missing in {}", recording.id);
        }
    }
}

/// The party's tone is in their channel where their packets were written, and nowhere else; the
/// other party's tone is never in it.
#[track_caller]
fn heard_where_written(recording: &Recording, leg: Leg, log: &Log, [hz, other]: [f64; 2]) {
    let written = &recording.written[index(leg)];
    let channel = &recording.export.channels[index(leg)];
    let rate = recording.export.rate;
    let due = |sequence: u16| {
        let sent = log.sent.iter().find(|sent| sent.sequence == sequence);
        sent.expect("what is written was said").due - recording.started
    };
    // How unevenly they arrived: a busy machine holds packets up, and then the export moves what
    // follows, with a seam.
    let lateness = |w: &Written| w.arrival - due(w.sequence);
    let least = written.iter().map(lateness).min().unwrap_or(0);
    let jitter = written.iter().map(lateness).max().unwrap_or(0) - least;
    let edge = EDGE + jitter;
    // Stretches of packets that follow each other.
    let mut stretches: Vec<(i64, i64)> = Vec::new();
    for due in written.iter().map(|w| due(w.sequence)) {
        match stretches.last_mut() {
            Some((_, to)) if due - *to < 10_000 => *to = due + WINDOW,
            _ => stretches.push((due, due + WINDOW)),
        }
    }
    let size = usize::try_from(i64::from(rate) * WINDOW / 1_000_000).expect("a size");
    let (mut tone, mut silence, mut seams) = (0, 0, 0);
    for (n, window) in channel.chunks_exact(size).enumerate() {
        let from = i64::try_from(n).expect("short") * WINDOW;
        let to = from + WINDOW;
        let covered = |(begin, end): &(i64, i64)| begin + edge <= from && to + edge <= *end;
        let near = |(begin, end): &(i64, i64)| begin - edge < to && from < end + edge;
        if stretches.iter().any(covered) {
            let (own, others) = (level(window, rate, hz), level(window, rate, other));
            seams += usize::from(own < THERE || others > FLOOR);
            let even = jitter < EVEN;
            assert!(!even || own > THERE, "{leg}: {own} at {from} µs of {stretches:?}");
            assert!(!even || others < FLOOR, "{leg}: the other's voice, {others} at {from} µs");
            tone += 1;
        } else if !stretches.iter().any(near) {
            let found = loudness(window);
            assert!(found < FLOOR, "{leg}: {found} at {from} µs of {stretches:?}");
            silence += 1;
        }
    }
    let most = tone / 10 + 2;
    assert!(
        seams <= most,
        "{leg}: {seams} of {tone} windows without their tone in {}",
        recording.id
    );
    let long = stretches.iter().any(|(from, to)| to - from > 3 * edge);
    assert!(!long || tone > 0, "{leg}: a tone was measured in {}", recording.id);
    let measured = silence > 0 || channel.len() < size;
    assert!(!written.is_empty() || measured, "{leg}: silence was measured in {}", recording.id);
}

/// Between the last key of a sequence that stops, and the key that lets it go on, no packet of the
/// party who pressed it is in any segment.
#[track_caller]
fn nothing_after_the_keys(account: &Account, leg: Leg, log: &Log) {
    let written = |sequence: u16| {
        account
            .recordings
            .iter()
            .any(|r| r.written[index(leg)].iter().any(|w| w.sequence == sequence))
    };
    // The key that is down, and the one before it.
    let (mut down, mut last) = (None, None);
    let mut stopped = false;
    for sent in &log.sent {
        let Said::Key(key) = sent.what else {
            last = down.take().or(last);
            assert!(!stopped || !written(sent.sequence), "{leg}: {sent:?} came after the keys");
            continue;
        };
        assert!(!written(sent.sequence), "{leg}: a key is in a segment");
        if down.replace(key).is_none() {
            match (last, key) {
                (Some('*'), '9') => stopped = true,
                (Some('*'), '7') => stopped = !stopped,
                (_, '1') => stopped = false,
                _ => {}
            }
        }
    }
}

/// One SSRC, every sequence number once and in order, whatever was played in between, and never
/// five seconds without a packet.
#[track_caller]
fn one_unbroken_stream(log: &Log) {
    for pair in log.heard.windows(2) {
        let [a, b] = pair else { continue };
        assert_eq!(a.ssrc, b.ssrc, "one source");
        assert_eq!(a.sequence.wrapping_add(1), b.sequence, "without a hole: {a:?} {b:?}");
        let step = b.timestamp.wrapping_sub(a.timestamp).cast_signed();
        let key = a.payload_type == 101 && b.payload_type == 101;
        assert!(step > 0 || (key && step == 0), "time goes on: {a:?} {b:?}");
        assert!(step < 5 * 8_000, "dead air: {a:?} {b:?}");
    }
}

//! A media stream as segments: rotation, gaps, and what happens when the sink is full.
//!
//! A chunk that is lost from the middle of a segment would make everything after it unreadable,
//! since chunks are numbered. So a chunk that the sink has no room for is kept, already encrypted,
//! and packets are refused, counted and marked as a gap until it fits. The segment stays whole and
//! memory stays at two chunks a stream.

use std::net::SocketAddr;
use std::time::Duration;

use crate::codec::Law;
use crate::ids::{Digest, PartyRef, StreamId};
use crate::keys::DataKey;
use crate::rtp::Codec;
use crate::segment::format::aead::Seed;
use crate::segment::format::rtpdump::Preamble;
use crate::segment::format::{
    Chunk, Codecs, Gap, GapReason, NotPushed, SegmentEncoder, SegmentName,
};
use crate::segment::sink::{NotTaken, SegmentHead, SegmentSink, SegmentTail};
use crate::time::Timestamp;

/// What a stream is when its writer is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStart {
    /// Whose voice it is; `None` where that is not known.
    pub party_ref: Option<PartyRef>,
    /// Where the packets come from.
    pub source: SocketAddr,
    /// The payload types that may come. Packets of others are not written.
    pub codecs: Codecs,
    /// How long a segment lasts; 60 s by default.
    pub segment: Duration,
    /// The number of the first segment: 0, or one more than the last of an earlier writer of the
    /// same stream.
    pub first_segment: u32,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a packet that was not written is a gap, and a dead writer is to be closed"]
pub enum Appended {
    /// It is in the segment.
    Written,
    /// It is in the segment, with silence in place of what it carries: that was a key's tone, or
    /// may have been the end of one.
    Masked,
    /// It is not written, and counted into a gap of the manifest. The next one may be.
    Gap(GapReason),
    /// It is not written, because the recording is paused: part of a gap that ends with the next
    /// packet that is written. The writer goes on waiting for that.
    Paused,
    /// The grant is dead. Neither this packet nor any other is written any more: finish the
    /// writer, or drop it.
    Refused,
    /// Storage has failed, and its report says how. Nothing is written any more.
    Failed,
}

/// What a finished writer has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How many segments there are in the stream, those of an earlier writer included: the next
    /// one's number.
    pub segments: u32,
    /// How many packets were written.
    pub packets: u64,
    /// How many packets arrived and were not written.
    pub dropped: u64,
}

/// A segment is not ended by a change of codec before it has lasted this long, so that a peer who
/// alternates cannot make a file of each packet.
const SHORTEST: Duration = Duration::from_secs(1);
/// Packets lost for the same reason within this time are one gap.
const SAME_GAP: Duration = Duration::from_secs(1);
/// The clock was set back, if packets arrive this long before earlier ones.
const SET_BACK: Duration = Duration::from_secs(1);
/// More gaps than this in one segment are merged.
const MOST_GAPS: usize = 256;

/// A stream's writer, below the gate. It knows nothing of permission, so only the gate has it.
pub(super) struct StreamWriter<S: SegmentSink> {
    stream: StreamId,
    evidence: Digest,
    key: DataKey,
    start: StreamStart,
    accepted: PayloadTypes,
    sink: S,
    open: Option<OpenSegment>,
    next: u32,
    gaps: Vec<Gap>,
    packets: u64,
    dropped: u64,
    pause: Option<Pause>,
    storage: Storage,
}

/// A pause that has not ended.
struct Pause {
    from: Timestamp,
    /// Packets that came since.
    packets: u64,
}

/// Whether chunks can still be stored.
#[derive(PartialEq, Eq)]
enum Storage {
    Open,
    /// For good.
    Failed,
}

/// A segment that has at least one packet.
struct OpenSegment {
    head: SegmentHead,
    encoder: SegmentEncoder,
    /// A finished chunk that the sink had no room for.
    kept: Option<Chunk>,
    /// The payload type of its audio, once there is some.
    audio: Option<u8>,
    packets: u64,
    masked: u64,
    /// Packets that are whole in finished chunks.
    closed: u64,
    ends: Timestamp,
    stale: Stale,
}

/// Whether the payload types still mean what the segment's manifest will say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stale {
    No,
    Yes,
}

impl<S: SegmentSink> StreamWriter<S> {
    pub(super) fn new(
        stream: StreamId,
        evidence: Digest,
        key: DataKey,
        start: StreamStart,
        sink: S,
    ) -> Self {
        let accepted = PayloadTypes::of(&start.codecs);
        let next = start.first_segment;
        Self {
            stream,
            evidence,
            key,
            start,
            accepted,
            sink,
            open: None,
            next,
            gaps: Vec::new(),
            packets: 0,
            dropped: 0,
            pause: None,
            storage: Storage::Open,
        }
    }

    pub(super) fn append(
        &mut self,
        packet: &[u8],
        payload_type: u8,
        arrival: Timestamp,
    ) -> Appended {
        self.end_pause(arrival);
        if self.storage == Storage::Failed {
            self.drop_one();
            return Appended::Failed;
        }
        if !self.accepted.known(payload_type) {
            return self.lose(GapReason::NotNegotiated, arrival);
        }
        if packet.len() > SegmentEncoder::LONGEST {
            return self.lose(GapReason::Oversized, arrival);
        }
        match self.offer_kept() {
            Ok(()) => {}
            Err(Refusal::Full) => return self.lose(GapReason::Overrun, arrival),
            Err(Refusal::Closed) => return self.fail(),
        }
        if self.is_due(payload_type, arrival) {
            self.end_segment(Ending::Sealed, None);
        }
        if self.open.is_none() {
            self.open = self.begin(arrival);
        }
        let Self { open: Some(open), sink, .. } = self else { return self.fail() };
        match open.encoder.push(packet, arrival, || sink.buffer()) {
            Ok(None) => {}
            Ok(Some(chunk)) => {
                open.closed += u64::from(chunk.packets());
                match sink.chunk(&open.head, chunk) {
                    Ok(()) => {}
                    Err(NotTaken::Full(chunk)) => open.kept = Some(chunk),
                    Err(NotTaken::Closed) => return self.fail(),
                }
            }
            Err(NotPushed::Oversized) => return self.lose(GapReason::Oversized, arrival),
            Err(NotPushed::Full) => {
                open.stale = Stale::Yes;
                return self.lose(GapReason::Overrun, arrival);
            }
        }
        if open.audio.is_none() && self.accepted.audio(payload_type) {
            open.audio = Some(payload_type);
        }
        open.packets += 1;
        self.packets += 1;
        Appended::Written
    }

    /// Nothing is written from `at` on, until the next packet that is appended.
    pub(super) fn begin_pause(&mut self, at: Timestamp) {
        self.pause.get_or_insert(Pause { from: at, packets: 0 });
    }

    /// A packet came that is not written because of a pause. It is neither lost nor dropped:
    /// nobody wanted it.
    pub(super) fn pass_over(&mut self, arrival: Timestamp) -> Appended {
        let pause = self.pause.get_or_insert(Pause { from: arrival, packets: 0 });
        pause.packets += 1;
        Appended::Paused
    }

    fn end_pause(&mut self, at: Timestamp) {
        if let Some(Pause { from, packets }) = self.pause.take() {
            self.note(Gap { reason: GapReason::Paused, from, to: at.max(from), packets });
        }
    }

    /// Which law of G.711 a payload type is.
    pub(super) fn law(&self, payload_type: u8) -> Option<Law> {
        self.accepted.law(payload_type)
    }

    /// Puts silence in the place of what the last packet carries, so far as that is not in a
    /// finished chunk: `length` bytes, which end `behind` bytes before the packet does.
    pub(super) fn silence_last(&mut self, length: usize, behind: usize, silence: u8) {
        if let Some(open) = &mut self.open {
            open.encoder.silence_last(length, behind, silence);
            open.masked += 1;
        }
    }

    /// The packet that was just written is a masked one.
    pub(super) fn count_masked(&mut self) {
        if let Some(open) = &mut self.open {
            open.masked += 1;
        }
    }

    pub(super) fn mark_gap(&mut self, reason: GapReason, from: Timestamp, to: Timestamp) {
        self.note(Gap { reason, from, to: to.max(from), packets: 0 });
    }

    pub(super) fn renegotiated(&mut self, codecs: Codecs, source: SocketAddr) {
        if codecs == self.start.codecs && source == self.start.source {
            return;
        }
        self.accepted = PayloadTypes::of(&codecs);
        self.start.codecs = codecs;
        self.start.source = source;
        if let Some(open) = &mut self.open {
            open.stale = Stale::Yes;
        }
    }

    pub(super) fn finish(mut self, at: Timestamp) -> Finished {
        self.end_pause(at);
        self.end_segment(Ending::Sealed, Some(at));
        Finished { segments: self.next, packets: self.packets, dropped: self.dropped }
    }

    /// Whether the open segment ends before this packet.
    fn is_due(&self, payload_type: u8, arrival: Timestamp) -> bool {
        let Some(open) = &self.open else { return false };
        let changed = self.accepted.audio(payload_type)
            && open.audio.is_some_and(|audio| audio != payload_type)
            && arrival.since(open.head.start) >= SHORTEST;
        arrival >= open.ends
            || changed
            || open.stale == Stale::Yes
            || arrival.plus(SET_BACK) < open.encoder.last_arrival()
    }

    /// `None` when there are no random bytes to encrypt with.
    fn begin(&mut self, arrival: Timestamp) -> Option<OpenSegment> {
        let mut seed = Seed { salt: [0; 32], nonce_prefix: [0; 7] };
        getrandom::fill(&mut seed.salt).ok()?;
        getrandom::fill(&mut seed.nonce_prefix).ok()?;
        let name = SegmentName { stream: self.stream, segment: self.next };
        self.next = self.next.checked_add(1)?;
        let associated = name.associated_data(self.evidence);
        let preamble = Preamble { start: arrival, source: self.start.source };
        let buffer = self.sink.buffer();
        let key = self.key.expose();
        let encoder = SegmentEncoder::new(key, &seed, &associated, &preamble, buffer);
        let head = SegmentHead {
            name,
            party_ref: self.start.party_ref,
            codecs: self.start.codecs.clone(),
            start: arrival,
            evidence: self.evidence,
            key_id: self.key.id(),
        };
        Some(OpenSegment {
            head,
            encoder,
            kept: None,
            audio: None,
            packets: 0,
            masked: 0,
            closed: 0,
            ends: arrival.plus(self.start.segment),
            stale: Stale::No,
        })
    }

    fn end_segment(&mut self, ending: Ending, at: Option<Timestamp>) {
        let Some(open) = self.open.take() else { return };
        let OpenSegment { head, encoder, kept, packets, masked, closed, .. } = open;
        let last_arrival = encoder.last_arrival();
        let closed_until = encoder.closed_until();
        let last = match ending {
            Ending::Sealed => encoder.finish().ok(),
            Ending::Truncated => None,
        };
        let gaps = std::mem::take(&mut self.gaps);
        let tail = match last {
            Some(_) => {
                let end = at.map_or(last_arrival, |at| at.max(last_arrival));
                SegmentTail { kept, last, end, packets, masked, gaps }
            }
            None => {
                let end = closed_until.unwrap_or(head.start);
                let masked = masked.min(closed);
                SegmentTail { kept, last, end, packets: closed, masked, gaps }
            }
        };
        self.sink.end(&head, tail);
    }

    fn offer_kept(&mut self) -> Result<(), Refusal> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let Some(chunk) = open.kept.take() else { return Ok(()) };
        match self.sink.chunk(&open.head, chunk) {
            Ok(()) => Ok(()),
            Err(NotTaken::Full(chunk)) => {
                open.kept = Some(chunk);
                Err(Refusal::Full)
            }
            Err(NotTaken::Closed) => Err(Refusal::Closed),
        }
    }

    fn fail(&mut self) -> Appended {
        self.storage = Storage::Failed;
        self.open = None;
        self.drop_one();
        Appended::Failed
    }

    fn lose(&mut self, reason: GapReason, arrival: Timestamp) -> Appended {
        self.drop_one();
        self.note(Gap { reason, from: arrival, to: arrival, packets: 1 });
        Appended::Gap(reason)
    }

    fn drop_one(&mut self) {
        self.dropped += 1;
        self.sink.dropped(1);
    }

    /// Adds a gap, or widens one that it continues. Gaps that somebody marked stay as marked.
    fn note(&mut self, gap: Gap) {
        let full = self.gaps.len() >= MOST_GAPS;
        let continues = |known: &&mut Gap| {
            let counted = known.packets > 0 && gap.packets > 0;
            let close = counted && gap.reason != GapReason::Paused;
            known.reason == gap.reason && (full || close && gap.from.since(known.to) <= SAME_GAP)
        };
        let known = match self.gaps.iter_mut().rev().find(continues) {
            None if full => self.gaps.last_mut(),
            found => found,
        };
        match known {
            Some(known) => {
                known.to = known.to.max(gap.to);
                known.packets += gap.packets;
            }
            None => self.gaps.push(gap),
        }
    }
}

impl<S: SegmentSink> Drop for StreamWriter<S> {
    fn drop(&mut self) {
        self.end_segment(Ending::Truncated, None);
    }
}

enum Ending {
    Sealed,
    Truncated,
}

enum Refusal {
    Full,
    Closed,
}

/// A stream's payload types, one bit each.
struct PayloadTypes {
    known: u128,
    audio: u128,
    mu_law: u128,
    a_law: u128,
}

impl PayloadTypes {
    fn of(codecs: &Codecs) -> Self {
        let mut types = Self { known: 0, audio: 0, mu_law: 0, a_law: 0 };
        for (payload_type, codec) in codecs.iter() {
            let bit = Self::bit(payload_type);
            types.known |= bit;
            types.audio |= if codec.audio().is_some() { bit } else { 0 };
            match codec.audio() {
                Some(Codec::Pcmu) => types.mu_law |= bit,
                Some(Codec::Pcma) => types.a_law |= bit,
                _ => {}
            }
        }
        types
    }

    fn known(&self, payload_type: u8) -> bool {
        self.known & Self::bit(payload_type) != 0
    }

    fn audio(&self, payload_type: u8) -> bool {
        self.audio & Self::bit(payload_type) != 0
    }

    fn law(&self, payload_type: u8) -> Option<Law> {
        let bit = Self::bit(payload_type);
        let laws = [(self.mu_law, Law::Mu), (self.a_law, Law::A)];
        laws.into_iter().find(|(types, _)| types & bit != 0).map(|(_, law)| law)
    }

    fn bit(payload_type: u8) -> u128 {
        1u128.checked_shl(u32::from(payload_type)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::reader::ReadError;
    use crate::segment::testing::{Memory, at, packet, read_all, writer};
    use proptest::prelude::*;

    const G711: usize = 172;

    /// Packets of 20 ms each from `from`, all of which are written.
    fn talk(writer: &mut StreamWriter<Memory>, from: u64, packets: u16) {
        for sequence in 0..packets {
            let arrival = at(from + 20 * u64::from(sequence));
            let packet = packet(0, sequence, G711);
            assert_eq!(writer.append(&packet, 0, arrival), Appended::Written);
        }
    }

    #[test]
    fn what_is_appended_reads_back() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        talk(&mut writer, 0, 100);
        let finished = writer.finish(at(2500));
        assert_eq!(finished, Finished { segments: 1, packets: 100, dropped: 0 });
        let segment = memory.segment(0);
        let tail = segment.tail.clone().unwrap();
        assert!(tail.whole && tail.gaps.is_empty());
        assert_eq!((tail.packets, tail.end), (100, at(2500)));
        assert_eq!(segment.head.start, at(0));
        let (records, ended) = read_all(&*segment.bytes, segment.head.name);
        ended.unwrap();
        assert_eq!(records.len(), 100);
        for (sequence, (offset, rtp)) in (0..).zip(records) {
            assert_eq!(offset, Duration::from_millis(20 * u64::from(sequence)));
            assert_eq!(rtp, packet(0, sequence, G711));
        }
    }

    #[test]
    fn a_segment_ends_by_its_length() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        talk(&mut writer, 0, 6100);
        assert_eq!(writer.finish(at(122_000)).segments, 3);
        let packets = |number| memory.segment(number).tail.unwrap().packets;
        assert_eq!([packets(0), packets(1), packets(2)], [3000, 3000, 100]);
        assert_eq!(memory.segment(1).head.start, at(60_000));
        for number in 0..3 {
            let segment = memory.segment(number);
            read_all(&*segment.bytes, segment.head.name).1.unwrap();
        }
    }

    #[test]
    fn a_segment_ends_with_its_codec_but_not_for_a_key() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        talk(&mut writer, 0, 100);
        let _ = writer.append(&packet(101, 100, 16), 101, at(2000));
        talk(&mut writer, 2020, 1);
        let _ = writer.append(&packet(8, 102, G711), 8, at(2040));
        writer.finish(at(2060));
        assert_eq!(memory.count(), 2);
        assert_eq!(memory.segment(0).tail.unwrap().packets, 102);
    }

    #[test]
    fn a_peer_who_alternates_codecs_does_not_make_a_file_of_each_packet() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        for sequence in 0..500u16 {
            let payload_type = if sequence % 2 == 0 { 0 } else { 8 };
            let arrival = at(20 * u64::from(sequence));
            let _ = writer.append(&packet(payload_type, sequence, G711), payload_type, arrival);
        }
        assert_eq!(writer.finish(at(10_000)).packets, 500);
        assert!(memory.count() <= 10, "{} segments in 10 s", memory.count());
    }

    #[test]
    fn a_new_negotiation_begins_a_new_segment() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        talk(&mut writer, 0, 2);
        let codecs = Codecs::new().with(9, "G722", 8000);
        writer.renegotiated(codecs.clone(), "192.0.2.7:4000".parse().unwrap());
        assert_eq!(
            writer.append(&packet(0, 2, G711), 0, at(40)),
            Appended::Gap(GapReason::NotNegotiated)
        );
        assert_eq!(writer.append(&packet(9, 3, G711), 9, at(60)), Appended::Written);
        writer.finish(at(80));
        assert_eq!(memory.segment(1).head.codecs, codecs);
        assert_eq!(memory.segment(0).tail.unwrap().gaps.len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_begins_a_new_segment() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        talk(&mut writer, 100_000, 10);
        talk(&mut writer, 0, 10);
        writer.finish(at(200));
        assert_eq!(memory.count(), 2);
        assert_eq!(memory.segment(1).head.start, at(0));
    }

    #[test]
    fn what_is_not_negotiated_or_too_long_is_a_counted_gap() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        talk(&mut writer, 0, 1);
        for sequence in 1..4 {
            let arrival = at(20 * u64::from(sequence));
            let appended = writer.append(&packet(96, sequence, G711), 96, arrival);
            assert_eq!(appended, Appended::Gap(GapReason::NotNegotiated));
        }
        let long = SegmentEncoder::LONGEST + 1;
        assert_eq!(
            writer.append(&packet(0, 4, long), 0, at(80)),
            Appended::Gap(GapReason::Oversized)
        );
        assert_eq!(writer.append(&packet(0, 5, long - 1), 0, at(100)), Appended::Written);
        assert_eq!(writer.finish(at(120)).dropped, 4);
        assert_eq!(
            memory.segment(0).tail.unwrap().gaps,
            [
                Gap { reason: GapReason::NotNegotiated, from: at(20), to: at(60), packets: 3 },
                Gap { reason: GapReason::Oversized, from: at(80), to: at(80), packets: 1 },
            ]
        );
        assert_eq!(memory.with(|contents| contents.dropped), 4);
    }

    #[test]
    fn a_marked_gap_stays_as_marked() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        talk(&mut writer, 0, 1);
        writer.mark_gap(GapReason::Paused, at(20), at(5020));
        writer.mark_gap(GapReason::Paused, at(5040), at(6000));
        talk(&mut writer, 6000, 1);
        writer.finish(at(6020));
        let pause = |from, to| Gap { reason: GapReason::Paused, from, to, packets: 0 };
        assert_eq!(
            memory.segment(0).tail.unwrap().gaps,
            [pause(at(20), at(5020)), pause(at(5040), at(6000))]
        );
    }

    #[test]
    fn a_pause_is_a_gap_from_its_first_moment_to_the_next_packet_that_is_written() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        talk(&mut writer, 0, 50);
        writer.begin_pause(at(1000));
        for n in 1..=100 {
            assert_eq!(writer.pass_over(at(1000 + 20 * n)), Appended::Paused);
        }
        talk(&mut writer, 3040, 1);
        // Soon after, but not the same one. Nobody said when it began: its first packet did.
        assert_eq!(writer.pass_over(at(3060)), Appended::Paused);
        talk(&mut writer, 3080, 1);
        writer.begin_pause(at(3100));
        let finished = writer.finish(at(4000));
        assert_eq!((finished.packets, finished.dropped), (52, 0), "nothing is lost");
        assert_eq!(memory.with(|contents| contents.dropped), 0);
        let tail = memory.segment(0).tail.unwrap();
        let pause = |from, to, packets| Gap { reason: GapReason::Paused, from, to, packets };
        assert_eq!(
            tail.gaps,
            [
                pause(at(1000), at(3040), 100),
                pause(at(3060), at(3080), 1),
                pause(at(3100), at(4000), 0)
            ]
        );
        let (records, ended) = read_all(&*memory.segment(0).bytes, memory.segment(0).head.name);
        ended.unwrap();
        assert_eq!((records.len(), tail.end), (52, at(4000)));
    }

    #[test]
    fn a_pause_longer_than_a_segment_is_in_the_one_that_it_began_in() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        talk(&mut writer, 0, 50);
        let _ = writer.pass_over(at(1000));
        talk(&mut writer, 100_000, 10);
        writer.finish(at(101_000));
        assert_eq!(memory.count(), 2);
        let gap = Gap { reason: GapReason::Paused, from: at(1000), to: at(100_000), packets: 1 };
        assert_eq!(memory.segment(0).tail.unwrap().gaps, [gap]);
        assert_eq!(memory.segment(1).head.start, at(100_000));
    }

    #[test]
    fn a_stream_that_is_paused_before_its_first_packet_says_so_in_its_first_segment() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        let _ = writer.pass_over(at(0));
        talk(&mut writer, 500, 5);
        writer.finish(at(600));
        let gap = Gap { reason: GapReason::Paused, from: at(0), to: at(500), packets: 1 };
        assert_eq!(memory.segment(0).tail.unwrap().gaps, [gap]);
    }

    #[test]
    fn a_full_sink_costs_packets_but_never_a_chunk() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        talk(&mut writer, 0, 5);
        memory.with(|contents| contents.full_for = 20);
        let mut written = 5;
        let mut refused = Vec::new();
        for sequence in 5..100 {
            let arrival = at(20 * u64::from(sequence));
            match writer.append(&packet(0, sequence, G711), 0, arrival) {
                Appended::Written => written += 1,
                Appended::Gap(GapReason::Overrun) => refused.push(arrival),
                other => panic!("{other:?}"),
            }
        }
        let finished = writer.finish(at(2000));
        assert_eq!((finished.packets, finished.dropped), (written, refused.len() as u64));
        assert_eq!(refused.len(), 19, "the first refusal cost no packet");
        let segment = memory.segment(0);
        let (records, ended) = read_all(&*segment.bytes, segment.head.name);
        ended.unwrap();
        assert_eq!(records.len() as u64, written);
        let gap =
            Gap { reason: GapReason::Overrun, from: refused[0], to: refused[18], packets: 19 };
        assert_eq!(segment.tail.unwrap().gaps, [gap]);
    }

    #[test]
    fn a_segment_is_sealed_even_when_the_sink_is_full() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        memory.with(|contents| contents.full_for = u32::MAX);
        for sequence in 0..50 {
            let _ = writer.append(&packet(0, sequence, G711), 0, at(0));
        }
        let finished = writer.finish(at(1000));
        let segment = memory.segment(0);
        let (records, ended) = read_all(&*segment.bytes, segment.head.name);
        ended.unwrap();
        assert_eq!(records.len() as u64, finished.packets);
        assert!(segment.bytes.len() <= 2 * 2048, "memory stays at two chunks");
    }

    #[test]
    fn nothing_is_written_after_storage_failed() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        memory.with(|contents| contents.closed = true);
        let appended: Vec<_> =
            (0..20).map(|n| writer.append(&packet(0, n, G711), 0, at(0))).collect();
        let failed = appended.iter().position(|&a| a == Appended::Failed).unwrap();
        memory.with(|contents| contents.closed = false);
        assert!(appended[failed..].iter().all(|&a| a == Appended::Failed));
        assert_eq!(writer.append(&packet(0, 20, G711), 0, at(0)), Appended::Failed);
        writer.finish(at(0));
        assert_eq!(memory.count(), 0);
    }

    #[test]
    fn a_dropped_writer_leaves_its_whole_chunks() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        talk(&mut writer, 0, 100);
        drop(writer);
        let segment = memory.segment(0);
        let tail = segment.tail.unwrap();
        let (records, ended) = read_all(&*segment.bytes, segment.head.name);
        let whole = segment.bytes.len() as u64;
        assert!(matches!(ended, Err(ReadError::Truncated { whole: found }) if found == whole));
        assert!(!tail.whole && whole.is_multiple_of(2048));
        assert_eq!(records.len() as u64, tail.packets);
        assert!(records.len() >= 88, "one chunk holds 11 packets, and one lies across its edge");
        assert_eq!(tail.end, at(20 * (tail.packets - 1)));
    }

    #[test]
    fn gaps_stay_few_whatever_a_peer_sends() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        talk(&mut writer, 0, 1);
        for second in 0..10_000 {
            let _ = writer.append(&packet(96, 0, G711), 96, at(2000 * second));
            writer.mark_gap(GapReason::Paused, at(2000 * second), at(2000 * second + 1));
        }
        writer.finish(at(0));
        let gaps = memory.segment(0).tail.unwrap().gaps;
        assert_eq!(gaps.len(), MOST_GAPS);
        assert_eq!(gaps.iter().map(|gap| gap.packets).sum::<u64>(), 10_000);
    }

    #[test]
    fn a_stream_without_a_packet_leaves_no_segment() {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        writer.mark_gap(GapReason::Held, at(0), at(10));
        assert_eq!(writer.finish(at(20)).segments, 0);
        assert_eq!(memory.count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever arrives, and however often the sink is full: what was written reads back, and
        /// what was not is counted.
        #[test]
        fn any_sequence_of_packets_round_trips(
            script in proptest::collection::vec(
                (0..3u8, 1..=SegmentEncoder::LONGEST + 20, 0..3000u64, 0..4u32), 0..200)
        ) {
            let memory = Memory::default();
            let mut writer = writer(memory.clone());
            let mut now = 0;
            let mut written = Vec::new();
            for (sequence, (kind, length, after, full)) in (0u16..).zip(script) {
                now += after;
                if full == 3 {
                    memory.with(|contents| contents.full_for = 2);
                }
                let payload_type = [0, 8, 101][usize::from(kind)];
                let packet = packet(payload_type, sequence, length);
                if writer.append(&packet, payload_type, at(now)) == Appended::Written {
                    written.push((at(now), packet));
                }
            }
            let finished = writer.finish(at(now));
            prop_assert_eq!(finished.packets, written.len() as u64);
            prop_assert_eq!(finished.dropped, memory.with(|contents| contents.dropped));
            let mut read = Vec::new();
            for number in 0..finished.segments {
                let segment = memory.segment(number);
                let (records, ended) = read_all(&*segment.bytes, segment.head.name);
                prop_assert!(ended.is_ok());
                prop_assert_eq!(segment.tail.unwrap().packets, records.len() as u64);
                let start = segment.head.start;
                read.extend(records.into_iter().map(|(offset, rtp)| (start.plus(offset), rtp)));
            }
            prop_assert_eq!(read, written);
        }

        #[test]
        fn a_dropped_writer_leaves_a_prefix(
            lengths in proptest::collection::vec(1..=SegmentEncoder::LONGEST, 0..60)
        ) {
            let memory = Memory::default();
            let mut writer = writer(memory.clone());
            for (sequence, &length) in (0u16..).zip(&lengths) {
                let _ = writer.append(&packet(0, sequence, length), 0, at(0));
            }
            drop(writer);
            if let Some(segment) = memory.with(|contents| contents.segments.get(&0).cloned()) {
                let (records, _) = read_all(&*segment.bytes, segment.head.name);
                prop_assert_eq!(records.len() as u64, segment.tail.unwrap().packets);
                for (sequence, (_, rtp)) in (0u16..).zip(records) {
                    prop_assert_eq!(rtp, packet(0, sequence, lengths[usize::from(sequence)]));
                }
            }
        }
    }
}

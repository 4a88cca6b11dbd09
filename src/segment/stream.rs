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
mod tests;

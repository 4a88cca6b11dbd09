//! One recording in progress: what is known of it, and what is told when it starts and ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::agent::tell::millis;
use crate::catalog::{NewRecording, Permitted};
use crate::clock;
use crate::consent::policy::Policy;
use crate::event::{
    FailReason, GapReason, GapSpan, RecordedStream, RecordingSealed, RecordingStarted, SealResult,
    SealedStream, SegmentEnd, SegmentLocation, SegmentSealed, Word,
};
use crate::ids::{CallId, Leg, PartyRef, RecordingId, StreamIndex};
use crate::keys::{DataKey, KeyStore};
use crate::rtp::LegMedia;
use crate::segment::SealedSegment;
use crate::segment::format::{self, Codecs, SegmentState};
use crate::time::Timestamp;

/// A recording that was permitted, until it is sealed.
pub(super) struct Keeping {
    pub(super) call: CallId,
    pub(super) recording: RecordingId,
    pub(super) policy: Arc<Policy>,
    pub(super) parties: Vec<(Leg, PartyRef)>,
    /// Keys of streams whose decision is under way or durable and whose writer is not open yet.
    pub(super) keys: BTreeMap<Leg, DataKey>,
    pub(super) deciding: u32,
    /// Permissions that are durable: the catalog has a row of the recording.
    pub(super) permitted: u32,
    pub(super) began: Option<Timestamp>,
    pub(super) started: Option<Timestamp>,
    pub(super) ended: Option<Timestamp>,
    pub(super) open: u32,
    pub(super) streams: BTreeMap<StreamIndex, Stream>,
    /// Streams that are to be destroyed: nothing more is told of them.
    pub(super) erased: BTreeSet<StreamIndex>,
    pub(super) gaps: Vec<GapSpan>,
    pub(super) failed: Option<FailReason>,
    pub(super) result: SealResult,
    /// Streams whose storage failed, and since when nothing of them is written.
    pub(super) broken: Vec<(StreamIndex, Timestamp)>,
    pub(super) writing: Writing,
    pub(super) blocked: Blocked,
}

/// What has been written of one stream.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) codecs: Vec<Word>,
    pub(super) segments: u32,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// Whether others know already that nothing is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    Told,
    Untold,
}

/// Whether more may be written to a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// It may.
    Open,
    /// The call's media is closed, or every permission for it has ended.
    Over,
}

impl Keeping {
    pub(super) fn new(
        call: CallId,
        recording: RecordingId,
        policy: Arc<Policy>,
        parties: Vec<(Leg, PartyRef)>,
    ) -> Self {
        Self {
            call,
            recording,
            policy,
            parties,
            keys: BTreeMap::new(),
            deciding: 0,
            permitted: 0,
            began: None,
            started: None,
            ended: None,
            open: 0,
            streams: BTreeMap::new(),
            erased: BTreeSet::new(),
            gaps: Vec::new(),
            failed: None,
            result: SealResult::Complete,
            broken: Vec::new(),
            writing: Writing::Open,
            blocked: Blocked::Untold,
        }
    }

    /// Nothing more will be written.
    pub(super) fn is_over(&mut self) {
        self.writing = Writing::Over;
        self.ended.get_or_insert_with(clock::wall);
    }

    pub(super) fn new_key(
        &mut self,
        leg: Leg,
        media: Option<&LegMedia>,
        keys: &dyn KeyStore,
    ) -> Result<Permitted, crate::keys::KeyError> {
        let key = DataKey::generate()?;
        let wrapped = keys.wrap(&key)?;
        self.keys.insert(leg, key);
        let began = *self.began.get_or_insert_with(clock::wall);
        let recording =
            NewRecording { began, scope: self.policy.scope, retention: self.policy.retention };
        let codecs = media.map_or_else(Codecs::offered, Codecs::of);
        let codecs = serde_json::to_string(&codecs).unwrap_or_default();
        Ok(Permitted { recording, key: wrapped, codecs })
    }

    /// What was recorded of a party is to be destroyed, and is as if it had never been.
    pub(super) fn erase(&mut self, leg: Leg, party_ref: PartyRef) {
        if self.party(leg) != Some(party_ref) {
            return;
        }
        let stream = leg.stream();
        self.keys.remove(&leg);
        self.erased.insert(stream);
        self.streams.remove(&stream);
        self.gaps.retain(|gap| gap.stream != stream);
        self.broken.retain(|(broken, _)| *broken != stream);
    }

    pub(super) fn party(&self, leg: Leg) -> Option<PartyRef> {
        self.parties.iter().find(|(known, _)| *known == leg).map(|(_, party)| *party)
    }

    pub(super) fn started_event(
        &self,
        at: Timestamp,
        first: Leg,
        media: &LegMedia,
    ) -> RecordingStarted {
        let permitted = |leg: Leg| leg == first || self.keys.contains_key(&leg);
        let streams = self
            .parties
            .iter()
            .map(|(leg, party_ref)| RecordedStream {
                stream: leg.stream(),
                party_ref: permitted(*leg).then_some(*party_ref),
                codecs: if *leg == first { vec![Word::new(media.codec.name())] } else { vec![] },
            })
            .collect();
        RecordingStarted {
            call: self.call,
            recording: self.recording,
            started: at,
            streams,
            expires_at: Some(at.plus(self.policy.retention)),
        }
    }

    pub(super) fn sealed_event(&self) -> RecordingSealed {
        let ended = self.ended.unwrap_or_else(clock::wall);
        let started = self.started.or(self.began).unwrap_or(ended);
        let streams = self
            .parties
            .iter()
            .map(|(leg, party_ref)| {
                let written = self.streams.get(&leg.stream());
                SealedStream {
                    stream: leg.stream(),
                    party_ref: written.map(|_| *party_ref),
                    codecs: written.map(|stream| stream.codecs.clone()).unwrap_or_default(),
                    segments: written.map_or(0, |stream| stream.segments),
                    packets: written.map_or(0, |stream| stream.packets),
                    bytes: written.map_or(0, |stream| stream.bytes),
                }
            })
            .collect();
        let sealed = RecordingSealed {
            call: self.call,
            recording: self.recording,
            started,
            ended,
            duration_ms: millis(ended.since(started)),
            result: self.result,
            streams,
            gaps: Vec::new(),
            gap_count: 0,
            expires_at: Some(ended.plus(self.policy.retention)),
        };
        sealed.with_gaps(self.gaps.iter().copied())
    }
}

/// The event for a segment on the disk; `None` for one whose names do not fit, which ours do.
pub(super) fn sealed_event(call: CallId, segment: &SealedSegment) -> Option<SegmentSealed> {
    let manifest = &segment.manifest.manifest;
    Some(SegmentSealed {
        call,
        recording: manifest.recording,
        stream: manifest.stream,
        index: manifest.segment,
        start: manifest.start,
        end: manifest.end,
        bytes: manifest.bytes,
        sha256: manifest.sha256,
        key: manifest.key_id.to_string().parse().ok()?,
        location: SegmentLocation::parse(&segment.location)?,
        result: match manifest.state {
            SegmentState::Sealed => SegmentEnd::Complete,
            SegmentState::Truncated => SegmentEnd::Truncated,
        },
    })
}

/// A manifest's gaps, as events name them.
pub(super) fn gaps_of(manifest: &format::Manifest) -> Vec<GapSpan> {
    let span = |gap: &format::Gap| GapSpan {
        stream: manifest.stream,
        start: gap.from,
        end: gap.to,
        reason: match gap.reason {
            format::GapReason::Paused => GapReason::Paused,
            format::GapReason::Held => GapReason::Held,
            format::GapReason::Overrun
            | format::GapReason::Oversized
            | format::GapReason::NotNegotiated => GapReason::Dropped,
        },
    };
    manifest.gaps.iter().map(span).collect()
}

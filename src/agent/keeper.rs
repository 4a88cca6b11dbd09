//! Recordings in progress: from a decision on its way to the disk to the sealed recording.
//!
//! A recording ends when its call's media is closed, no decision of it is under way and the store
//! has reported everything of every stream.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::agent::core::Inward;
use crate::agent::counters::Counters;
use crate::agent::scribe::{Scribe, Told};
use crate::agent::tell::{Known, millis};
use crate::catalog::{Change, CommitError, DecisionEntry, NewRecording, Permitted};
use crate::clock;
use crate::consent::policy::Policy;
use crate::consent::{Decision, Grant};
use crate::event::{
    BlockReason, Draft, FailReason, GapReason, GapSpan, RecordedStream, RecordingBlocked,
    RecordingFailed, RecordingSealed, RecordingStarted, SealResult, SealedStream, SegmentEnd,
    SegmentLocation, SegmentSealed, Word,
};
use crate::ids::{CallId, Leg, PartyRef, RecordingId, StreamIndex};
use crate::keys::{DataKey, KeyStore};
use crate::number::PartyNumber;
use crate::rtp::LegMedia;
use crate::segment::format::{self, Codecs, SegmentState};
use crate::segment::{
    FailedSegment, SealedSegment, SegmentStore, SegmentWriter, StoreError, StoreReport, StoreSink,
    StreamStart,
};
use crate::time::Timestamp;

/// How long a decision may take to become durable. After that the call goes on without it.
const DURABLE_WITHIN: Duration = Duration::from_secs(2);

/// The recordings in progress.
pub(super) struct Keeper {
    store: Arc<SegmentStore>,
    keys: Arc<dyn KeyStore>,
    scribe: Scribe,
    counters: Arc<Counters>,
    segment: Duration,
    keeping: HashMap<CallId, Keeping>,
    calls: HashMap<RecordingId, CallId>,
}

/// A call that is recorded, or may yet be.
struct Keeping {
    call: CallId,
    recording: RecordingId,
    policy: Arc<Policy>,
    parties: Vec<(Leg, PartyRef)>,
    /// Keys of streams whose decision is under way or durable and whose writer is not open yet.
    keys: BTreeMap<Leg, DataKey>,
    deciding: u32,
    /// Permissions that are durable: the catalog has a row of the recording.
    permitted: u32,
    began: Option<Timestamp>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    open: u32,
    streams: BTreeMap<StreamIndex, Stream>,
    gaps: Vec<GapSpan>,
    failed: Option<FailReason>,
    result: SealResult,
    /// Streams whose storage failed, and since when nothing of them is written.
    broken: Vec<(StreamIndex, Timestamp)>,
    media: MediaState,
}

/// What has been written of one stream.
#[derive(Default)]
struct Stream {
    codecs: Vec<Word>,
    segments: u32,
    packets: u64,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MediaState {
    Open,
    Closed,
}

impl Keeper {
    pub(super) fn new(
        store: Arc<SegmentStore>,
        keys: Arc<dyn KeyStore>,
        scribe: Scribe,
        counters: Arc<Counters>,
        segment: Duration,
    ) -> Self {
        let (keeping, calls) = (HashMap::new(), HashMap::new());
        Self { store, keys, scribe, counters, segment, keeping, calls }
    }

    /// A call has arrived that may be recorded.
    pub(super) fn expect(&mut self, known: &Known, policy: &Arc<Policy>) {
        let parties = known.parties.iter().map(|party| (party.leg, party.party_ref)).collect();
        self.calls.insert(known.recording, known.call);
        self.keeping.insert(
            known.call,
            Keeping {
                call: known.call,
                recording: known.recording,
                policy: Arc::clone(policy),
                parties,
                keys: BTreeMap::new(),
                deciding: 0,
                permitted: 0,
                began: None,
                started: None,
                ended: None,
                open: 0,
                streams: BTreeMap::new(),
                gaps: Vec::new(),
                failed: None,
                result: SealResult::Complete,
                broken: Vec::new(),
                media: MediaState::Open,
            },
        );
    }

    /// Sends a decision to the disk. The answer reaches the core as [`Inward::Decided`].
    pub(super) fn commit(
        &mut self,
        inward: &mpsc::UnboundedSender<Inward>,
        call: CallId,
        decision: Decision,
        number: Option<PartyNumber>,
        media: Option<&LegMedia>,
    ) {
        let leg = decision.facts().leg;
        let answer = inward.clone();
        let decided = move |receipt| {
            let _ = answer.send(Inward::Decided { call, leg, receipt });
        };
        let keeping = self.keeping.get_mut(&call);
        let permitted = match (decision.permits(), keeping) {
            (None, keeping) => {
                if let Some(keeping) = keeping {
                    keeping.deciding += 1;
                }
                None
            }
            (Some(_), None) => return decided(None),
            (Some(_), Some(keeping)) => {
                keeping.deciding += 1;
                match keeping.new_key(leg, media, &*self.keys) {
                    Ok(permitted) => Some(permitted),
                    Err(why) => {
                        tracing::error!(%call, %leg, %why, "no data key: nothing is recorded");
                        return decided(None);
                    }
                }
            }
        };
        let outcome = decision.facts().outcome;
        tracing::info!(%call, %leg, ?outcome, "decided");
        let entry = DecisionEntry { decision, number, permitted, events: Vec::new() };
        let receipt = self.scribe.decide(entry);
        tokio::spawn(async move {
            match tokio::time::timeout(DURABLE_WITHIN, receipt).await {
                Ok(Ok(Ok(receipt))) => decided(Some(receipt)),
                Ok(answer) => {
                    let why = match answer {
                        Ok(Err(why)) => why,
                        _ => CommitError::Closed,
                    };
                    tracing::error!(%call, %leg, %why, "a decision could not be stored");
                    decided(None);
                }
                Err(_) => {
                    tracing::error!(%call, %leg, "a decision was not stored in time");
                    decided(None);
                }
            }
        });
    }

    /// A decision has come back.
    pub(super) fn decided(&mut self, call: CallId, permits: Permits) {
        let Some(keeping) = self.keeping.get_mut(&call) else { return };
        keeping.deciding = keeping.deciding.saturating_sub(1);
        if permits == Permits::Yes {
            keeping.permitted += 1;
        }
        self.seal_if_complete(call);
    }

    /// A permission became durable too late: nothing is written of it.
    pub(super) fn unclaimed(&mut self, call: CallId, recording: RecordingId) {
        match self.keeping.get_mut(&call) {
            // It ends with the call.
            Some(keeping) => keeping.permitted += 1,
            None => self.scribe.tell(too_late(call, recording)),
        }
    }

    /// Opens the writer that a grant is for.
    pub(super) fn capture(
        &mut self,
        call: CallId,
        leg: Leg,
        grant: Grant,
        media: &LegMedia,
    ) -> Option<SegmentWriter<StoreSink>> {
        let keeping = self.keeping.get_mut(&call)?;
        let key = keeping.keys.remove(&leg)?;
        let party_ref = keeping.party(leg);
        let at = clock::wall();
        let start = StreamStart {
            party_ref,
            source: media.remote_rtp,
            codecs: Codecs::of(media),
            segment: self.segment,
            first_segment: 0,
        };
        let codecs = serde_json::to_string(&start.codecs).unwrap_or_default();
        let stream = grant.stream();
        self.scribe.tell(Told {
            changes: vec![Change::StreamOpened { stream, codecs }],
            events: Vec::new(),
        });
        let writer = SegmentWriter::open(grant, key, start, self.store.sink(stream));
        keeping.open += 1;
        keeping.streams.insert(
            leg.stream(),
            Stream { codecs: vec![Word::new(media.codec.name())], ..Stream::default() },
        );
        if keeping.started.is_none() {
            keeping.started = Some(at);
            self.counters.recording_started();
            let started = keeping.started_event(at, leg, media);
            let recording = keeping.recording;
            tracing::info!(%call, %recording, "recording starts");
            self.scribe.tell(Told::change(Change::Capturing { recording, at }, started));
        }
        Some(writer)
    }

    /// The call's media is closed: every writer has been finished.
    pub(super) fn media_closed(&mut self, call: CallId) {
        if let Some(keeping) = self.keeping.get_mut(&call) {
            keeping.media = MediaState::Closed;
            keeping.ended.get_or_insert_with(clock::wall);
        }
        self.seal_if_complete(call);
    }

    /// The store has something to tell.
    pub(super) fn stored(&mut self, report: StoreReport) {
        match report {
            StoreReport::Sealed(segment) => self.segment_sealed(&segment),
            StoreReport::Failed(segment) => self.segment_failed(&segment),
            StoreReport::SyncFailed { error } => {
                tracing::error!(%error, "recordings could not be synced to the disk");
            }
            StoreReport::Closed { stream } => {
                let Some(call) = self.calls.get(&stream.recording).copied() else { return };
                if let Some(keeping) = self.keeping.get_mut(&call) {
                    keeping.open = keeping.open.saturating_sub(1);
                }
                self.seal_if_complete(call);
            }
        }
    }

    /// How many calls are recorded or may yet be.
    pub(super) fn len(&self) -> usize {
        self.keeping.len()
    }

    fn segment_sealed(&mut self, segment: &SealedSegment) {
        let manifest = &segment.manifest.manifest;
        let Some(call) = self.calls.get(&manifest.recording).copied() else { return };
        let Some(keeping) = self.keeping.get_mut(&call) else { return };
        let Some(sealed) = sealed_event(call, segment) else { return };
        let stream = keeping.streams.entry(manifest.stream).or_default();
        stream.segments += 1;
        stream.packets += manifest.packets;
        stream.bytes += manifest.bytes;
        for (_, codec) in manifest.codecs.iter() {
            if let Some(codec) = codec.audio().map(|codec| Word::new(codec.name()))
                && !stream.codecs.contains(&codec)
            {
                stream.codecs.push(codec);
            }
        }
        if manifest.state == SegmentState::Truncated {
            keeping.result = SealResult::Truncated;
        }
        let gaps = gaps_of(manifest);
        keeping.gaps.extend(&gaps);
        self.counters.segment_sealed();
        let recording = manifest.recording;
        let mut changes =
            vec![Change::SegmentSealed { segment: sealed.clone(), manifest: Some(segment.digest) }];
        changes.extend(gaps.into_iter().map(|gap| Change::Gap { recording, gap }));
        self.scribe.tell(Told { changes, events: vec![Draft::new(sealed)] });
    }

    fn segment_failed(&mut self, segment: &FailedSegment) {
        let recording = segment.name.stream.recording;
        let Some(call) = self.calls.get(&recording).copied() else { return };
        let Some(keeping) = self.keeping.get_mut(&call) else { return };
        tracing::error!(%call, %recording, error = %segment.error, "a recording has failed");
        let reason = match segment.error {
            StoreError::NoSpace { .. } => FailReason::DiskFull,
            _ => FailReason::Storage,
        };
        keeping.failed.get_or_insert(reason);
        keeping.broken.push((segment.name.stream.index, clock::wall()));
    }

    fn seal_if_complete(&mut self, call: CallId) {
        let complete = self.keeping.get(&call).is_some_and(|keeping| {
            keeping.media == MediaState::Closed && keeping.deciding == 0 && keeping.open == 0
        });
        if !complete {
            return;
        }
        let Some(keeping) = self.keeping.remove(&call) else { return };
        self.calls.remove(&keeping.recording);
        let (at, recording) = (clock::wall(), keeping.recording);
        if keeping.permitted == 0 {
            return;
        }
        if keeping.started.is_none() {
            // Permitted, and the call ended before anything could be written.
            let reason = FailReason::Unused;
            let failed = RecordingFailed { call, recording, stream: None, reason };
            let blocked = RecordingBlocked { call, recording, reason: BlockReason::CallEnded };
            return self.scribe.tell(Told {
                changes: vec![Change::Failed { recording: failed, at }],
                events: vec![Draft::new(blocked)],
            });
        }
        self.counters.recording_ended();
        match keeping.failed {
            Some(reason) => {
                self.counters.recording_failed();
                let failed = RecordingFailed { call, recording, stream: None, reason };
                let end = keeping.ended.unwrap_or(at);
                let gap = |(stream, start): (StreamIndex, Timestamp)| Change::Gap {
                    recording,
                    gap: GapSpan { stream, start, end: end.max(start), reason: GapReason::Dropped },
                };
                let mut changes: Vec<Change> = keeping.broken.into_iter().map(gap).collect();
                changes.push(Change::Failed { recording: failed, at });
                self.scribe.tell(Told { changes, events: vec![Draft::new(failed)] });
            }
            None => {
                self.counters.recording_sealed();
                let sealed = keeping.sealed_event();
                tracing::info!(%call, %recording, ms = sealed.duration_ms, "recording sealed");
                self.scribe.tell(Told::change(Change::Sealed(sealed.clone()), sealed));
            }
        }
    }
}

/// Whether a decision that came back permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permits {
    Yes,
    No,
}

impl Keeping {
    fn new_key(
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

    fn party(&self, leg: Leg) -> Option<PartyRef> {
        self.parties.iter().find(|(known, _)| *known == leg).map(|(_, party)| *party)
    }

    fn started_event(&self, at: Timestamp, first: Leg, media: &LegMedia) -> RecordingStarted {
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

    fn sealed_event(&self) -> RecordingSealed {
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

fn too_late(call: CallId, recording: RecordingId) -> Told {
    let failed = RecordingFailed { call, recording, stream: None, reason: FailReason::Catalog };
    Told::change(Change::Failed { recording: failed, at: clock::wall() }, failed)
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

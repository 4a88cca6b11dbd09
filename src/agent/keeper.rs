//! Recordings in progress: from a decision on its way to the disk to the sealed recording.
//!
//! A recording ends when nothing more may be written to it, no decision about it is under way and
//! the store has reported everything of every stream. A call may have several, one after another:
//! permission was taken back and given again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::agent::core::Inward;
use crate::agent::counters::Counters;
use crate::agent::keeping::{Blocked, Keeping, Stream, Writing, gaps_of, sealed_event};
use crate::agent::scribe::{Scribe, Told};
use crate::agent::tell::Known;
use crate::catalog::{Change, CommitError, DecisionEntry, Erase, Permitted};
use crate::clock;
use crate::consent::policy::{OnWithdrawal, Policy};
use crate::consent::{Decision, DecisionFacts, DecisionNumber, Grant, Outcome};
use crate::erasure::Eraser;
use crate::event::{
    BlockReason, Draft, FailReason, GapReason, GapSpan, RecordingBlocked, RecordingFailed,
    SealResult, Word,
};
use crate::ids::{CallId, Leg, PartyRef, RecordingId, StreamIndex};
use crate::keys::{KeyError, KeyStore};
use crate::number::PartyNumber;
use crate::rtp::LegMedia;
use crate::segment::format::{Codecs, SegmentState};
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
    eraser: Eraser,
    counters: Arc<Counters>,
    segment: Duration,
    calls: HashMap<CallId, Expected>,
    keeping: HashMap<RecordingId, Keeping>,
}

/// A call that may be recorded.
struct Expected {
    policy: Arc<Policy>,
    parties: Vec<(Leg, PartyRef)>,
}

impl Keeper {
    pub(super) fn new(
        store: Arc<SegmentStore>,
        keys: Arc<dyn KeyStore>,
        scribe: Scribe,
        eraser: Eraser,
        counters: Arc<Counters>,
        segment: Duration,
    ) -> Self {
        let (keeping, calls) = (HashMap::new(), HashMap::new());
        Self { store, keys, scribe, eraser, counters, segment, calls, keeping }
    }

    /// A call has arrived that may be recorded.
    pub(super) fn expect(&mut self, known: &Known, policy: &Arc<Policy>) {
        let parties = known.parties.iter().map(|party| (party.leg, party.party_ref)).collect();
        self.calls.insert(known.call, Expected { policy: Arc::clone(policy), parties });
    }

    /// Somebody else is on a leg of a call: recordings that begin from now on are of them.
    pub(super) fn replaced(&mut self, call: CallId, leg: Leg, party: PartyRef) {
        let Some(expected) = self.calls.get_mut(&call) else { return };
        for (known, of) in &mut expected.parties {
            if *known == leg {
                *of = party;
            }
        }
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
        let (about, facts) = (Decided::about(call, &decision), decision.facts());
        let (leg, outcome) = (about.leg, facts.outcome);
        let answer = inward.clone();
        let decided = move |receipt| {
            let _ = answer.send(Inward::Decided(about, receipt));
        };
        let permitted = match self.prepare(&decision, call, media) {
            Ok(permitted) => permitted,
            Err(why) => {
                tracing::error!(%call, %leg, %why, "nothing is recorded");
                return decided(None);
            }
        };
        tracing::info!(%call, %leg, ?outcome, "decided");
        let erase = self.erase(decision.facts());
        let entry = DecisionEntry { decision, number, permitted, erase, events: Vec::new() };
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

    /// Counts a decision in, and makes the key of the stream that it permits.
    fn prepare(
        &mut self,
        decision: &Decision,
        call: CallId,
        media: Option<&LegMedia>,
    ) -> Result<Option<Permitted>, NoKey> {
        let facts = decision.facts();
        let recording = facts.recording;
        if decision.permits().is_none() {
            if let Some(keeping) = self.keeping.get_mut(&recording) {
                keeping.deciding += 1;
                if facts.ends.is_some() {
                    keeping.result = SealResult::Withdrawn;
                }
            }
            return Ok(None);
        }
        let expected = self.calls.get(&call).ok_or(NoKey::Ended)?;
        let keeping = self.keeping.entry(recording).or_insert_with(|| {
            let parties = expected.parties.clone();
            Keeping::new(call, recording, Arc::clone(&expected.policy), parties)
        });
        keeping.deciding += 1;
        Ok(Some(keeping.new_key(facts.leg, media, &*self.keys)?))
    }

    /// What a decision does to what was recorded of its party. What is destroyed is neither told of
    /// any more, nor written: its keys go at once.
    fn erase(&mut self, facts: &DecisionFacts) -> Erase {
        let policy = match self.keeping.get(&facts.recording) {
            Some(keeping) => Some(&keeping.policy),
            None => self.calls.get(&facts.call).map(|expected| &expected.policy),
        };
        let erases = policy.is_some_and(|policy| policy.on_withdrawal == OnWithdrawal::Erase);
        if !erases || !matches!(facts.outcome, Outcome::Withdrawn | Outcome::Objected) {
            return Erase::Nothing;
        }
        for keeping in self.keeping.values_mut().filter(|keeping| keeping.call == facts.call) {
            keeping.erase(facts.leg, facts.party_ref);
        }
        Erase::Party
    }

    /// A decision has come back.
    pub(super) fn decided(&mut self, recording: RecordingId, permits: Permits) {
        let Some(keeping) = self.keeping.get_mut(&recording) else { return };
        keeping.deciding = keeping.deciding.saturating_sub(1);
        if permits == Permits::Yes {
            keeping.permitted += 1;
        }
        self.seal_if_complete(recording);
    }

    /// A permission became durable too late: nothing is written of it.
    pub(super) fn unclaimed(&mut self, call: CallId, recording: RecordingId) {
        match self.keeping.get_mut(&recording) {
            // It ends with its recording.
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
        let keeping = self.keeping.get_mut(&grant.stream().recording)?;
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
        self.eraser.opened(stream);
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

    /// The call has told that it is not recorded: it is not told twice.
    pub(super) fn blocked(&mut self, recording: RecordingId) {
        if let Some(keeping) = self.keeping.get_mut(&recording) {
            keeping.blocked = Blocked::Told;
        }
    }

    /// Every permission for a recording has ended, although its call goes on.
    pub(super) fn over(&mut self, recording: RecordingId) {
        if let Some(keeping) = self.keeping.get_mut(&recording) {
            keeping.is_over();
        }
        self.seal_if_complete(recording);
    }

    /// The call's media is closed: every writer has been finished.
    pub(super) fn media_closed(&mut self, call: CallId) {
        self.calls.remove(&call);
        let of_call: Vec<RecordingId> = self
            .keeping
            .values()
            .filter(|keeping| keeping.call == call)
            .map(|keeping| keeping.recording)
            .collect();
        for recording in of_call {
            self.over(recording);
        }
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
                if let Some(keeping) = self.keeping.get_mut(&stream.recording) {
                    keeping.open = keeping.open.saturating_sub(1);
                }
                self.eraser.closed(stream);
                self.seal_if_complete(stream.recording);
            }
        }
    }

    /// How many calls may be recorded, and recordings of calls that are over are being sealed.
    pub(super) fn len(&self) -> usize {
        let sealing = |keeping: &&Keeping| !self.calls.contains_key(&keeping.call);
        self.calls.len() + self.keeping.values().filter(sealing).count()
    }

    fn segment_sealed(&mut self, segment: &SealedSegment) {
        let manifest = &segment.manifest.manifest;
        let Some(keeping) = self.keeping.get_mut(&manifest.recording) else { return };
        if keeping.erased.contains(&manifest.stream) {
            return;
        }
        let Some(sealed) = sealed_event(keeping.call, segment) else { return };
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
        let Some(keeping) = self.keeping.get_mut(&recording) else { return };
        let call = keeping.call;
        tracing::error!(%call, %recording, error = %segment.error, "a recording has failed");
        let reason = match segment.error {
            StoreError::NoSpace { .. } => FailReason::DiskFull,
            _ => FailReason::Storage,
        };
        keeping.failed.get_or_insert(reason);
        keeping.broken.push((segment.name.stream.index, clock::wall()));
    }

    fn seal_if_complete(&mut self, recording: RecordingId) {
        let complete = self.keeping.get(&recording).is_some_and(|keeping| {
            keeping.writing == Writing::Over && keeping.deciding == 0 && keeping.open == 0
        });
        if !complete {
            return;
        }
        let Some(keeping) = self.keeping.remove(&recording) else { return };
        let (at, call) = (clock::wall(), keeping.call);
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
                events: match keeping.blocked {
                    Blocked::Told => Vec::new(),
                    Blocked::Untold => vec![Draft::new(blocked)],
                },
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

/// Which decision an answer is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decided {
    pub(super) call: CallId,
    pub(super) leg: Leg,
    pub(super) number: DecisionNumber,
    pub(super) recording: RecordingId,
}

impl Decided {
    fn about(call: CallId, decision: &Decision) -> Self {
        let facts = decision.facts();
        let (leg, recording) = (facts.leg, facts.recording);
        Self { call, leg, number: decision.number(), recording }
    }
}

/// Why a stream that is permitted has no key.
#[derive(Debug, thiserror::Error)]
enum NoKey {
    #[error("the call has ended")]
    Ended,
    #[error("there is no data key: {0}")]
    Key(#[from] KeyError),
}

/// Whether a decision that came back permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permits {
    Yes,
    No,
}

fn too_late(call: CallId, recording: RecordingId) -> Told {
    let failed = RecordingFailed { call, recording, stream: None, reason: FailReason::Catalog };
    Told::change(Change::Failed { recording: failed, at: clock::wall() }, failed)
}

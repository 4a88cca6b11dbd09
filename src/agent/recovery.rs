//! What a crash left open is closed at the next start: segments without a last chunk, recordings
//! without an end, calls without a hang-up. Nothing of it is lost, and everybody is told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::agent::keeping::{gaps_of, sealed_event};
use crate::agent::tell::millis;
use crate::catalog::{
    Catalog, Change, CommitError, QueryError, Tombstone, Unfinished, UnfinishedStream,
};
use crate::clock;
use crate::event::{
    CallEnded, Draft, EndCause, FailReason, RecordingFailed, RecordingSealed, SealResult,
    SealedStream, Word,
};
use crate::ids::{Digest, StreamIndex};
use crate::keys::{KeyStore, SigningKey};
use crate::rtp::Codec;
use crate::segment::format::{Codecs, SegmentName, SignedManifest};
use crate::segment::{
    RecoverError, SealedSegment, SegmentContext, recover_truncated, unfinished_segments,
};
use crate::time::Timestamp;

/// Why what a crash left cannot be put in order.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The catalog cannot be read.
    #[error("what a crash left cannot be read: {0}")]
    Query(#[from] QueryError),
    /// The catalog cannot be written.
    #[error("what a crash left cannot be put in order: {0}")]
    Commit(#[from] CommitError),
    /// The recordings cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Closes everything that was open when the last run ended.
pub(super) async fn recover(
    catalog: &Catalog,
    keys: &dyn KeyStore,
    signing: &SigningKey,
    root: &Path,
) -> Result<(), RecoveryError> {
    let unfinished = catalog.read(|reader| reader.unfinished()).await?;
    let calls = catalog.read(|reader| reader.open_calls()).await?;
    for recording in &unfinished {
        let (changes, events) = close(recording, keys, signing, root)?;
        catalog.record(changes, events).await?;
    }
    for recording in &catalog.read(|reader| reader.failed()).await? {
        let (changes, events) = Found::look(recording, keys, signing, root)?.to_tell(recording);
        if !events.is_empty() {
            tracing::warn!(recording = %recording.recording.id, "what a failure left open is sealed");
            catalog.record(changes, events).await?;
        }
    }
    let at = clock::wall();
    for call in &calls {
        let ended = CallEnded {
            call: *call,
            duration_ms: 0,
            cause: EndCause::Crashed,
            by: None,
            status: None,
        };
        let change = Change::CallEnded { call: ended.clone(), at };
        catalog.record(vec![change], vec![Draft::new(ended)]).await?;
    }
    if !unfinished.is_empty() || !calls.is_empty() {
        tracing::warn!(
            recordings = unfinished.len(),
            calls = calls.len(),
            "the last run ended in the middle: its recordings are sealed as truncated"
        );
    }
    Ok(())
}

/// What there is of a recording becomes whole, as far as it goes.
fn close(
    unfinished: &Unfinished,
    keys: &dyn KeyStore,
    signing: &SigningKey,
    root: &Path,
) -> Result<(Vec<Change>, Vec<Draft>), RecoveryError> {
    let recording = unfinished.recording.id;
    let call = unfinished.recording.call;
    let found = Found::look(unfinished, keys, signing, root)?;
    let (mut changes, mut events) = found.to_tell(unfinished);
    let mut written: Vec<SealedStream> = Vec::new();
    let mut end: Option<Timestamp> = None;
    let mut gaps = Vec::new();
    for segment in &found.0 {
        let manifest = &segment.manifest.manifest;
        count(&mut written, manifest);
        end = end.max(Some(manifest.end));
        gaps.extend(gaps_of(manifest));
    }
    let began = unfinished.recording.started.unwrap_or(unfinished.recording.began);
    let erased = erased(unfinished);
    let mut result = SealResult::Truncated;
    let all_erased = erased.len() == unfinished.streams.len();
    if end.is_none() && unfinished.recording.started.is_some() && all_erased {
        // It ended before the crash did it: everybody had taken their permission back.
        end = erased.iter().map(|tombstone| tombstone.requested).max();
        result = SealResult::Withdrawn;
    }
    written.extend(erased.iter().map(|tombstone| SealedStream {
        stream: tombstone.stream.index,
        party_ref: None,
        codecs: Vec::new(),
        segments: 0,
        packets: 0,
        bytes: 0,
    }));
    let Some(end) = end else {
        let failed = RecordingFailed { call, recording, stream: None, reason: FailReason::Crashed };
        changes.push(Change::Failed { recording: failed, at: clock::wall() });
        events.push(Draft::new(failed));
        return Ok((changes, events));
    };
    let sealed = RecordingSealed {
        call,
        recording,
        started: began,
        ended: end,
        duration_ms: millis(end.since(began)),
        result,
        streams: written,
        gaps: Vec::new(),
        gap_count: 0,
        expires_at: None,
    }
    .with_gaps(gaps);
    let ms = sealed.duration_ms;
    tracing::warn!(%recording, ms, ?result, "recording sealed after a crash");
    changes.push(Change::Sealed(sealed.clone()));
    events.push(Draft::new(sealed));
    Ok((changes, events))
}

/// The streams of a recording that are erased, or about to be: nothing of them is looked at.
fn erased(unfinished: &Unfinished) -> Vec<&Tombstone> {
    unfinished.streams.iter().filter_map(|stream| stream.row.erased.as_ref()).collect()
}

fn is_erased(unfinished: &Unfinished, stream: StreamIndex) -> bool {
    erased(unfinished).iter().any(|tombstone| tombstone.stream.index == stream)
}

/// Every segment of a recording that can be read.
struct Found(Vec<SealedSegment>);

impl Found {
    /// Seals those that were left open.
    fn look(
        unfinished: &Unfinished,
        keys: &dyn KeyStore,
        signing: &SigningKey,
        root: &Path,
    ) -> Result<Self, RecoveryError> {
        let recording = unfinished.recording.id;
        let mut found = sealed_on_disk(root, unfinished, &known(unfinished))?;
        let open = unfinished_segments(root, recording)
            .map_err(|source| RecoveryError::Io { path: root.to_owned(), source })?;
        for (name, path) in open {
            if is_erased(unfinished, name.stream.index) {
                continue;
            }
            match recover_one(unfinished, &name, &path, keys, signing) {
                Ok(Some(segment)) => found.push(segment),
                Ok(None) => {}
                Err(why) => tracing::error!(%recording, %why, "a segment could not be recovered"),
            }
        }
        found.sort_by_key(|segment| segment.manifest.manifest.name());
        Ok(Self(found))
    }

    /// What the catalog does not know of them yet.
    fn to_tell(&self, unfinished: &Unfinished) -> (Vec<Change>, Vec<Draft>) {
        let known = known(unfinished);
        let (recording, call) = (unfinished.recording.id, unfinished.recording.call);
        let (mut changes, mut events) = (Vec::new(), Vec::new());
        for segment in &self.0 {
            let manifest = &segment.manifest.manifest;
            if known.contains(&(manifest.stream, manifest.segment)) {
                continue;
            }
            let Some(sealed) = sealed_event(call, segment) else { continue };
            let digest = Some(segment.digest);
            changes.push(Change::SegmentSealed { segment: sealed.clone(), manifest: digest });
            changes.extend(gaps_of(manifest).into_iter().map(|gap| Change::Gap { recording, gap }));
            events.push(Draft::new(sealed));
        }
        (changes, events)
    }
}

/// Adds a segment to what its stream has.
fn count(streams: &mut Vec<SealedStream>, manifest: &crate::segment::format::Manifest) {
    let place = streams.iter().position(|stream| stream.stream == manifest.stream);
    let place = place.unwrap_or_else(|| {
        streams.push(SealedStream {
            stream: manifest.stream,
            party_ref: manifest.party_ref,
            codecs: audio_codecs(&manifest.codecs),
            segments: 0,
            packets: 0,
            bytes: 0,
        });
        streams.len() - 1
    });
    if let Some(stream) = streams.get_mut(place) {
        stream.segments += 1;
        stream.packets += manifest.packets;
        stream.bytes += manifest.bytes;
    }
}

fn audio_codecs(codecs: &Codecs) -> Vec<Word> {
    codecs.iter().filter_map(|(_, codec)| codec.audio()).map(|c| Word::new(c.name())).collect()
}

/// Segments that have their manifest already, whether or not the catalog heard of it.
fn sealed_on_disk(
    root: &Path,
    unfinished: &Unfinished,
    known: &BTreeSet<(StreamIndex, u32)>,
) -> Result<Vec<SealedSegment>, RecoveryError> {
    let folder = root.join(SegmentName::folder(unfinished.recording.id));
    let failed = |source| RecoveryError::Io { path: folder.clone(), source };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(why) => return Err(failed(why)),
    };
    let mut sealed = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Ok(manifest) = SignedManifest::parse(&std::fs::read(&path).map_err(failed)?) else {
            discard(&path).map_err(failed)?;
            continue;
        };
        let name = (manifest.manifest.stream, manifest.manifest.segment);
        if is_erased(unfinished, manifest.manifest.stream) {
            continue;
        }
        if !known.contains(&name) && !describes(&manifest, &path.with_extension("seg")) {
            discard(&path).map_err(failed)?;
            continue;
        }
        let location = manifest.manifest.name().path();
        sealed.push(SealedSegment {
            digest: manifest.digest(),
            location: location.to_string_lossy().into_owned(),
            manifest,
        });
    }
    Ok(sealed)
}

/// The segments that the catalog has: they were synced before it heard of them.
fn known(unfinished: &Unfinished) -> BTreeSet<(StreamIndex, u32)> {
    unfinished.segments.iter().map(|segment| (segment.stream, segment.index)).collect()
}

/// A power cut may keep a manifest and lose the end of its segment, or half of the manifest itself:
/// such a manifest is made anew, from what is there.
fn discard(path: &Path) -> std::io::Result<()> {
    tracing::warn!(manifest = %path.display(), "a manifest does not describe its segment any more");
    std::fs::remove_file(path)
}

/// Whether a segment is still, byte for byte, what its manifest says.
fn describes(manifest: &SignedManifest, segment: &Path) -> bool {
    let Ok(bytes) = std::fs::read(segment) else { return false };
    u64::try_from(bytes.len()).is_ok_and(|length| length == manifest.manifest.bytes)
        && Digest::of(&bytes) == manifest.manifest.sha256
}

fn recover_one(
    unfinished: &Unfinished,
    name: &SegmentName,
    path: &Path,
    keys: &dyn KeyStore,
    signing: &SigningKey,
) -> Result<Option<SealedSegment>, String> {
    let stream = unfinished
        .streams
        .iter()
        .find(|stream| stream.stream == name.stream)
        .ok_or("the catalog has no permission for it")?;
    let wrapped = stream.key.as_ref().ok_or("its key is gone")?;
    let key = keys.unwrap(wrapped).map_err(|why| why.to_string())?;
    let context = SegmentContext {
        evidence: stream.row.evidence_digest,
        party_ref: Some(stream.row.party_ref),
        codecs: codecs_of(stream),
    };
    match recover_truncated(path, &key, &context, signing) {
        Ok(segment) => Ok(Some(segment)),
        // Cut off within its first chunk: not a packet of it was ever whole on the disk.
        Err(RecoverError::Nothing { .. }) => Ok(None),
        Err(why) => Err(why.to_string()),
    }
}

/// The codecs that the stream began with; the static payload types where they were not noted.
fn codecs_of(stream: &UnfinishedStream) -> Codecs {
    let noted = stream.row.codecs.as_deref().and_then(|text| serde_json::from_str(text).ok());
    noted.unwrap_or_else(|| {
        [Codec::Pcmu, Codec::Pcma, Codec::G722].into_iter().fold(Codecs::new(), |all, codec| {
            all.with(codec.default_payload_type(), codec.name(), codec.clock_rate())
        })
    })
}

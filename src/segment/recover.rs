//! Closes what a crash left open.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, PartyRef, RecordingId};
use crate::keys::{DataKey, SigningKey};
use crate::segment::chain;
use crate::segment::format::{Codecs, Format, Manifest, SealedBy, SegmentName, SegmentState};
use crate::segment::reader::{ReadError, SegmentReader};
use crate::segment::store::{SealedSegment, write_manifest};

/// What only the catalog knows of a segment whose writer is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentContext {
    /// The digest of the evidence record that permits the stream.
    pub evidence: Digest,
    /// Whose voice it is.
    pub party_ref: Option<PartyRef>,
    /// The stream's codecs by payload type.
    pub codecs: Codecs,
}

/// Why a segment could not be recovered. The file is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The path is not that of a segment.
    #[error("{} is not a segment's path", path.display())]
    NotASegment {
        /// The path.
        path: PathBuf,
    },
    /// It has a manifest already.
    #[error("{} has a manifest already", path.display())]
    HasManifest {
        /// The path.
        path: PathBuf,
    },
    /// It holds not one whole chunk: there is nothing to keep.
    #[error("{} holds no whole chunk", path.display())]
    Nothing {
        /// The path.
        path: PathBuf,
    },
    /// It is not only cut off.
    #[error("{} is damaged from byte {} to {}", path.display(), range.start, range.end)]
    Damaged {
        /// The path.
        path: PathBuf,
        /// Which bytes.
        range: Range<u64>,
    },
    /// A file cannot be read or written.
    #[error("cannot recover {}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The segments of a recording that have no manifest, or one that a power cut left empty.
///
/// # Errors
///
/// What the operating system says of the recording's folder; a folder that is not there has none.
pub fn unfinished_segments(
    root: &Path,
    recording: RecordingId,
) -> io::Result<Vec<(SegmentName, PathBuf)>> {
    let folder = root.join(SegmentName::folder(recording));
    let mut unfinished = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(unfinished),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if let Ok(name) = SegmentName::of_path(&path)
            && !has_manifest(&path)?
        {
            unfinished.push((name, path));
        }
    }
    unfinished.sort();
    Ok(unfinished)
}

/// Reads the whole chunks of a segment without a manifest and writes its manifest, signed and
/// synced. The segment file is not changed.
///
/// The manifest's state is `truncated`, or `sealed` where the last chunk is there and only the
/// manifest was not; it is sealed by `recovery`, which knows of no gaps. It follows the last
/// manifest of the recording: recover a recording's segments one after another.
///
/// # Errors
///
/// [`RecoverError`].
pub fn recover_truncated(
    path: &Path,
    key: &DataKey,
    context: &SegmentContext,
    signing: &SigningKey,
) -> Result<SealedSegment, RecoverError> {
    let failed = |source| RecoverError::Io { path: path.to_owned(), source };
    let name = SegmentName::of_path(path)
        .map_err(|_| RecoverError::NotASegment { path: path.to_owned() })?;
    if has_manifest(path).map_err(failed)? {
        return Err(RecoverError::HasManifest { path: path.to_owned() });
    }
    let read = read(path, name, key, context.evidence)?;
    let (bytes, sha256) = hash(path).map_err(failed)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let manifest = Manifest {
        format: Format::V1,
        recording: name.stream.recording,
        stream: name.stream.index,
        segment: name.segment,
        party_ref: context.party_ref,
        codecs: context.codecs.clone(),
        start: read.start,
        end: read.end,
        packets: read.packets,
        masked: 0,
        gaps: Vec::new(),
        bytes,
        sha256,
        evidence: context.evidence,
        key_id: key.id(),
        previous: chain::head_on_disk(folder).map_err(failed)?,
        state: read.state,
        sealed_by: SealedBy::Recovery,
        signing_key: signing.key_id(),
    };
    let manifest_path = path.with_extension("json");
    let manifest = write_manifest(&manifest_path, manifest, signing).map_err(failed)?;
    for written in [path, &manifest_path, folder] {
        File::open(written).and_then(|file| file.sync_all()).map_err(failed)?;
    }
    let digest = manifest.digest();
    Ok(SealedSegment { manifest, digest, location: name.path().display().to_string() })
}

/// What the chunks of a segment say.
struct Contents {
    start: crate::time::Timestamp,
    end: crate::time::Timestamp,
    packets: u64,
    state: SegmentState,
}

fn read(
    path: &Path,
    name: SegmentName,
    key: &DataKey,
    evidence: Digest,
) -> Result<Contents, RecoverError> {
    let why = |error| match error {
        ReadError::Truncated { .. } => RecoverError::Nothing { path: path.to_owned() },
        ReadError::Damaged { range } => RecoverError::Damaged { path: path.to_owned(), range },
        ReadError::Io(source) => RecoverError::Io { path: path.to_owned(), source },
    };
    let file = File::open(path).map_err(|source| why(source.into()))?;
    let mut reader =
        SegmentReader::open(file, key, &name.associated_data(evidence)).map_err(why)?;
    let start = reader.preamble().start;
    let (mut end, mut packets) = (start, 0);
    let state = loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                end = end.max(start.plus(record.offset));
                packets += 1;
            }
            Ok(None) => break SegmentState::Sealed,
            Err(ReadError::Truncated { .. }) => break SegmentState::Truncated,
            Err(other) => return Err(why(other)),
        }
    };
    Ok(Contents { start, end, packets, state })
}

fn hash(path: &Path) -> io::Result<(u64, Digest)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok((bytes, Digest(hash.finalize().into())));
        }
        bytes += count as u64;
        hash.update(piece.get(..count).unwrap_or_default());
    }
}

/// A manifest of nothing but zeros is what a power cut leaves of one; anything else that does not
/// read may be a forgery and is not written over.
fn has_manifest(path: &Path) -> io::Result<bool> {
    match std::fs::read(path.with_extension("json")) {
        Ok(bytes) => Ok(bytes.iter().any(|&byte| byte != 0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::store::{SegmentStore, StoreOptions};
    use crate::segment::stream::{Appended, StreamWriter};
    use crate::segment::testing::{EVIDENCE, at, key, packet, start, stream};
    use crate::segment::verify::{Damage, SegmentVerdict, verify_segment};
    use std::sync::Arc;

    fn signing() -> SigningKey {
        SigningKey::from_seed(&[9; 32])
    }

    fn context() -> SegmentContext {
        SegmentContext { evidence: EVIDENCE, party_ref: None, codecs: start().codecs }
    }

    /// A segment whose writer never came back.
    fn crashed(root: &Path) -> PathBuf {
        let options = StoreOptions::default();
        let store = SegmentStore::start(root, Arc::new(signing()), options, drop).unwrap();
        let sink = store.sink(stream());
        let mut writer = StreamWriter::new(stream(), EVIDENCE, key(), start(), sink);
        for n in 0..100 {
            let arrival = at(20 * u64::from(n));
            assert_eq!(writer.append(&packet(0, n, 172), 0, arrival), Appended::Written);
        }
        std::mem::forget(writer);
        store.close();
        let [(_, path)] = &unfinished_segments(root, stream().recording).unwrap()[..] else {
            panic!()
        };
        path.clone()
    }

    #[test]
    fn what_a_crash_left_open_is_sealed_as_truncated() {
        let root = tempfile::tempdir().unwrap();
        let path = crashed(root.path());
        let recovered = recover_truncated(&path, &key(), &context(), &signing()).unwrap();
        let manifest = &recovered.manifest.manifest;
        assert_eq!(
            (manifest.state, manifest.sealed_by),
            (SegmentState::Truncated, SealedBy::Recovery)
        );
        assert!(manifest.packets >= 88 && manifest.start == at(0));
        assert_eq!(manifest.end, at(20 * (manifest.packets - 1)));
        assert_eq!(root.path().join(&recovered.location), path);
        assert!(unfinished_segments(root.path(), stream().recording).unwrap().is_empty());
        let verdict = verify_segment(&path, EVIDENCE, &key(), &[signing().public()]).unwrap();
        let (packets, whole) = (manifest.packets, manifest.bytes);
        assert_eq!(verdict, SegmentVerdict::Truncated { packets, whole, of: whole });
        let again = recover_truncated(&path, &key(), &context(), &signing());
        assert!(matches!(again, Err(RecoverError::HasManifest { .. })));
    }

    #[test]
    fn what_a_power_cut_leaves_behind_the_whole_chunks_is_passed_over() {
        for tail in [vec![0; 2048], vec![0; 5000], vec![7; 2047]] {
            let root = tempfile::tempdir().unwrap();
            let path = crashed(root.path());
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, [&whole[..], &tail].concat()).unwrap();
            // An empty manifest is no manifest.
            std::fs::write(path.with_extension("json"), [0; 10]).unwrap();
            recover_truncated(&path, &key(), &context(), &signing()).unwrap();
            let verdict = verify_segment(&path, EVIDENCE, &key(), &[signing().public()]).unwrap();
            let at = whole.len() as u64;
            assert!(matches!(verdict, SegmentVerdict::Truncated { whole, .. } if whole == at));
        }
    }

    #[test]
    fn what_is_damaged_is_not_recovered_but_named() {
        let root = tempfile::tempdir().unwrap();
        let path = crashed(root.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3000] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = recover_truncated(&path, &key(), &context(), &signing()).unwrap_err();
        assert!(
            matches!(&error, RecoverError::Damaged { range, .. } if *range == (2048..4096)),
            "{error}"
        );
        let verdict = verify_segment(&path, EVIDENCE, &key(), &[]).unwrap();
        assert!(matches!(verdict, SegmentVerdict::Damaged { why: Damage::ManifestMissing, .. }));
    }

    #[test]
    fn a_file_without_a_whole_chunk_has_nothing_to_recover() {
        let root = tempfile::tempdir().unwrap();
        let path = crashed(root.path());
        for length in [0, 1, 40, 2047] {
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..length.min(bytes.len())]).unwrap();
            let error = recover_truncated(&path, &key(), &context(), &signing()).unwrap_err();
            assert!(matches!(error, RecoverError::Nothing { .. }), "{error}");
            std::fs::write(&path, bytes).unwrap();
        }
        assert!(unfinished_segments(Path::new("/nowhere"), stream().recording).unwrap().is_empty());
    }
}

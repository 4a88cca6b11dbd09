//! Proves a segment: its manifest, its bytes, its place, its packets.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::ids::Digest;
use crate::keys::{DataKey, VerifyingKey};
use crate::segment::chunks::{Chunks, Found, chunk_of_text};
use crate::segment::format::rtpdump::{Malformed, RecordParser};
use crate::segment::format::{Manifest, SegmentName, SegmentState, SignedManifest};

/// What a segment turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentVerdict {
    /// Everything is as it was written.
    Whole {
        /// How many packets.
        packets: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// The file ends before its last chunk; everything before is as it was written.
    Truncated {
        /// How many packets read.
        packets: u64,
        /// Where the whole chunks end, in bytes.
        whole: u64,
        /// How many bytes the manifest says there were.
        of: u64,
    },
    /// Something is not as it was written.
    Damaged {
        /// Which bytes of the segment file are not proven: the first that are not in one piece.
        range: Range<u64>,
        /// What is wrong.
        why: Damage,
    },
}

/// What is wrong with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Damage {
    /// There is no segment file.
    #[error("the segment file is missing")]
    SegmentMissing,
    /// There is no manifest.
    #[error("the manifest is missing")]
    ManifestMissing,
    /// The manifest is not one.
    #[error("the manifest does not read")]
    ManifestUnreadable,
    /// The manifest names a signing key that is not among ours.
    #[error("the manifest is signed by an unknown key")]
    UnknownSigner,
    /// The manifest was changed after it was signed.
    #[error("the manifest's signature does not verify")]
    Signature,
    /// The manifest belongs to another segment, or the path is not a segment's.
    #[error("the manifest is that of another segment")]
    OtherSegment,
    /// The manifest names other evidence than the one that permits this stream.
    #[error("the manifest names other evidence")]
    OtherEvidence,
    /// The segment is encrypted with another data key.
    #[error("the segment is encrypted with another key")]
    OtherKey,
    /// Chunks do not authenticate: changed, moved, of another file, or followed by more.
    #[error("chunks are not what was written there")]
    Chunks,
    /// The text within authentic chunks is not rtpdump.
    #[error("the packets' records do not read")]
    Records,
    /// The chunks read, but the file is not the one that the manifest describes.
    #[error("the file is not the one that the manifest describes")]
    OtherFile,
}

impl SegmentVerdict {
    /// Whether everything is as it was written.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self, SegmentVerdict::Whole { .. })
    }
}

/// Proves the segment at a path, of which the catalog says that this evidence permits it and that
/// it is encrypted with this key. Its manifest must be signed by one of `signers`.
///
/// Reads the file once, in bounded memory.
///
/// # Errors
///
/// An I/O error is no verdict: the segment may be whole on a disk that can be read.
pub fn verify_segment(
    path: &Path,
    evidence: Digest,
    key: &DataKey,
    signers: &[VerifyingKey],
) -> io::Result<SegmentVerdict> {
    let Some(file) = found(File::open(path))? else {
        return Ok(SegmentVerdict::Damaged { range: 0..0, why: Damage::SegmentMissing });
    };
    let length = file.metadata()?.len();
    let manifest = match check_manifest(path, evidence, key, signers)? {
        Ok(manifest) => manifest,
        Err(why) => return Ok(SegmentVerdict::Damaged { range: 0..length, why }),
    };
    let source = Hashing { source: file, hash: Sha256::new(), bytes: 0 };
    let associated = manifest.name().associated_data(evidence);
    let mut reading = Reading::default();
    let mut chunks = Chunks::open(source, key, &associated)?;
    while let Some(found) = chunks.next()? {
        if let Take::Stop = reading.take(found, length) {
            break;
        }
    }
    if let End::CutOff(whole) = reading.end
        && length < manifest.bytes
        && chunks.tail_is_the_last_of(manifest.bytes)
    {
        reading.damage = Some((whole..length, Damage::Chunks));
    }
    let (hash, bytes) = (chunks.source().hash.clone(), chunks.source().bytes);
    let as_described = Digest(hash.finalize().into()) == manifest.sha256 && bytes == manifest.bytes;
    Ok(reading.verdict(&manifest, length, as_described))
}

/// The manifest, if it is authentic and that of this segment.
fn check_manifest(
    path: &Path,
    evidence: Digest,
    key: &DataKey,
    signers: &[VerifyingKey],
) -> io::Result<Result<Manifest, Damage>> {
    let Some(bytes) = found(std::fs::read(path.with_extension("json")))? else {
        return Ok(Err(Damage::ManifestMissing));
    };
    let Ok(SignedManifest { manifest, signature }) = SignedManifest::parse(&bytes) else {
        return Ok(Err(Damage::ManifestUnreadable));
    };
    let Some(signer) = signers.iter().find(|key| key.key_id() == manifest.signing_key) else {
        return Ok(Err(Damage::UnknownSigner));
    };
    if signer.verify(&manifest.signed_text(), &signature).is_err() {
        return Ok(Err(Damage::Signature));
    }
    Ok(match SegmentName::of_path(path) {
        Ok(name) if name == manifest.name() => {
            if manifest.evidence != evidence {
                Err(Damage::OtherEvidence)
            } else if manifest.key_id != key.id() {
                Err(Damage::OtherKey)
            } else {
                Ok(manifest)
            }
        }
        _ => Err(Damage::OtherSegment),
    })
}

/// What has been found so far in a file.
#[derive(Default)]
struct Reading {
    parser: RecordParser,
    preamble: Preambled,
    packets: u64,
    end: End,
    damage: Option<(Range<u64>, Damage)>,
}

#[derive(Default, PartialEq, Eq)]
enum Preambled {
    #[default]
    NotYet,
    Done,
}

#[derive(Default, Clone, Copy)]
enum End {
    #[default]
    NotYet,
    Last,
    CutOff(u64),
}

#[derive(PartialEq, Eq)]
enum Take {
    More,
    Stop,
}

impl Reading {
    fn take(&mut self, found: Found<'_>, length: u64) -> Take {
        // Once there is damage, only its extent matters.
        if let Some((range, Damage::Chunks)) = &mut self.damage {
            return match found {
                Found::Damaged(more) if more.start == range.end => {
                    range.end = more.end;
                    Take::More
                }
                Found::CutOff { whole } if whole == range.end => {
                    range.end = length;
                    Take::Stop
                }
                _ => Take::Stop,
            };
        }
        match found {
            Found::Text(text) => self.records(text),
            Found::Last(text) => {
                self.end = End::Last;
                self.records(text);
            }
            Found::CutOff { whole } => self.end = End::CutOff(whole),
            Found::Damaged(range) => self.damage = Some((range, Damage::Chunks)),
        }
        match self.damage {
            Some((_, Damage::Records)) => Take::Stop,
            _ => Take::More,
        }
    }

    fn records(&mut self, text: &[u8]) {
        self.parser.feed(text);
        if let Err(Malformed { at }) = self.count() {
            self.damage = Some((chunk_of_text(at), Damage::Records));
        }
    }

    fn count(&mut self) -> Result<(), Malformed> {
        if self.preamble == Preambled::NotYet {
            match self.parser.preamble()? {
                Some(_) => self.preamble = Preambled::Done,
                None => return Ok(()),
            }
        }
        while self.parser.record()?.is_some() {
            self.packets += 1;
        }
        Ok(())
    }

    fn verdict(self, manifest: &Manifest, length: u64, as_described: bool) -> SegmentVerdict {
        let damaged = |range, why| SegmentVerdict::Damaged { range, why };
        if let Some((range, why)) = self.damage {
            return damaged(range.start..range.end.min(length.max(range.start)), why);
        }
        match self.end {
            End::Last if self.parser.unfinished() > 0 || self.preamble == Preambled::NotYet => {
                damaged(chunk_of_text(self.parser.at()).start..length, Damage::Records)
            }
            End::Last
                if as_described
                    && manifest.state == SegmentState::Sealed
                    && self.packets == manifest.packets =>
            {
                SegmentVerdict::Whole { packets: self.packets, bytes: length }
            }
            End::CutOff(whole)
                if length < manifest.bytes
                    || as_described
                        && manifest.state == SegmentState::Truncated
                        && self.packets == manifest.packets =>
            {
                SegmentVerdict::Truncated { packets: self.packets, whole, of: manifest.bytes }
            }
            End::CutOff(whole) if whole < length => damaged(whole..length, Damage::Chunks),
            End::Last | End::CutOff(_) | End::NotYet => damaged(0..length, Damage::OtherFile),
        }
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    source: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(into)?;
        self.hash.update(into.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }
}

fn found<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// How the chain of a recording's manifests is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreak {
    /// A manifest follows one that is not there.
    #[error("the manifest before that of segment {after} is missing")]
    Missing {
        /// The segment whose manifest names it.
        after: SegmentName,
    },
    /// Two manifests follow the same one, or two follow none.
    #[error("the manifests of segments {one} and {other} follow the same one")]
    Fork {
        /// One segment.
        one: SegmentName,
        /// The other.
        other: SegmentName,
    },
}

/// Proves that a recording's manifests (all of them, in any order) are one chain. That none is
/// missing at its end, only the catalog knows.
///
/// `erased` are the digests of manifests that were erased with their segments: a manifest may
/// follow one of them, although it is not there.
///
/// # Errors
///
/// [`ChainBreak`], the first that is found.
pub fn verify_chain(manifests: &[SignedManifest], erased: &[Digest]) -> Result<(), ChainBreak> {
    let there = manifests.iter().map(SignedManifest::digest);
    let known: HashSet<Digest> = there.chain(erased.iter().copied()).collect();
    let mut followers = HashMap::new();
    for signed in manifests {
        let name = signed.manifest.name();
        if let Some(other) = followers.insert(signed.manifest.previous, name) {
            return Err(ChainBreak::Fork { one: other, other: name });
        }
        if signed.manifest.previous.is_some_and(|previous| !known.contains(&previous)) {
            return Err(ChainBreak::Missing { after: name });
        }
    }
    Ok(())
}

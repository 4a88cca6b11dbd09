//! Whatever is done to a segment or its manifest is found, and named.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::ids::Digest;
use crate::keys::{DataKey, SigningKey};
use crate::segment::format::{
    Format, Manifest, SealedBy, SegmentName, SegmentState, Signature, SignedManifest,
};
use crate::segment::testing::{EVIDENCE, Memory, at, key, packet, start, stream, writer};
use crate::segment::verify::{ChainBreak, Damage, SegmentVerdict, verify_chain, verify_segment};

const CHUNK: u64 = 2048;

fn signing() -> SigningKey {
    SigningKey::from_seed(&[9; 32])
}

fn name() -> SegmentName {
    SegmentName { stream: stream(), segment: 0 }
}

/// The bytes of a sealed segment of so many packets.
fn sealed(packets: u16) -> Vec<u8> {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    for n in 0..packets {
        let _ = writer.append(&packet(0, n, 172), 0, at(20 * u64::from(n)));
    }
    writer.finish(at(20 * u64::from(packets)));
    memory.segment(0).bytes
}

fn manifest(bytes: &[u8], packets: u64) -> Manifest {
    Manifest {
        format: Format::V1,
        recording: stream().recording,
        stream: stream().index,
        segment: 0,
        party_ref: None,
        codecs: start().codecs,
        start: at(0),
        end: at(20 * packets),
        packets,
        masked: 0,
        gaps: Vec::new(),
        bytes: bytes.len() as u64,
        sha256: Digest::of(bytes),
        evidence: EVIDENCE,
        key_id: key().id(),
        previous: None,
        state: SegmentState::Sealed,
        sealed_by: SealedBy::Writer,
        signing_key: signing().key_id(),
    }
}

fn sign(manifest: Manifest) -> SignedManifest {
    let signature = Signature(signing().sign(&manifest.signed_text()));
    manifest.with_signature(signature)
}

struct Placed {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

/// Puts a segment and a manifest into their places.
fn place(bytes: &[u8], manifest: &[u8]) -> Placed {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name().path());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(path.with_extension("json"), manifest).unwrap();
    Placed { _folder: folder, path }
}

fn verify(path: &Path) -> SegmentVerdict {
    verify_segment(path, EVIDENCE, &key(), &[signing().public()]).unwrap()
}

/// The verdict on a file that is not the one that the manifest describes.
fn verdict_on(changed: &[u8], original: &[u8], packets: u64) -> SegmentVerdict {
    let manifest = sign(manifest(original, packets)).to_bytes();
    verify(&place(changed, &manifest).path)
}

fn damaged_at(verdict: &SegmentVerdict) -> std::ops::Range<u64> {
    match verdict {
        SegmentVerdict::Damaged { range, .. } => range.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_untouched_segment_is_whole() {
    let bytes = sealed(100);
    let length = bytes.len() as u64;
    let whole = SegmentVerdict::Whole { packets: 100, bytes: length };
    assert_eq!(verdict_on(&bytes, &bytes, 100), whole);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_cut_is_truncation_after_the_whole_chunks(packets in 1..120u16, cut in 0.0..1.0f64) {
        let bytes = sealed(packets);
        let cut = (bytes.len() as f64 * cut) as usize;
        let verdict = verdict_on(&bytes[..cut], &bytes, u64::from(packets));
        let SegmentVerdict::Truncated { packets: read, whole, of } = verdict else {
            panic!("{verdict:?}");
        };
        prop_assert_eq!(whole, cut as u64 / CHUNK * CHUNK);
        prop_assert_eq!(of, bytes.len() as u64);
        prop_assert!(read <= u64::from(packets));
    }

    #[test]
    fn any_flipped_bit_is_damage_in_its_chunk(
        packets in 1..120u16, place in 0.0..1.0f64, bit in 0..8u8
    ) {
        let bytes = sealed(packets);
        let at = (bytes.len() as f64 * place) as usize;
        let mut changed = bytes.clone();
        changed[at] ^= 1 << bit;
        let range = damaged_at(&verdict_on(&changed, &bytes, u64::from(packets)));
        prop_assert!(range.contains(&(at as u64)), "{:?}", range);
        if at >= 40 {
            let end = (at as u64 / CHUNK + 1) * CHUNK;
            prop_assert_eq!(range, end - CHUNK..end.min(bytes.len() as u64));
        } else {
            // The header makes the key and the nonces: without it nothing reads.
            prop_assert_eq!(range, 0..bytes.len() as u64);
        }
    }

    #[test]
    fn any_two_swapped_chunks_are_damage_from_the_first(
        packets in 40..120u16, one in 0..10usize, other in 0..10usize
    ) {
        let bytes = sealed(packets);
        let mut chunks: Vec<&[u8]> = bytes.chunks(CHUNK as usize).collect();
        let (one, other) = (one % chunks.len(), other % chunks.len());
        prop_assume!(one != other);
        chunks.swap(one, other);
        let range = damaged_at(&verdict_on(&chunks.concat(), &bytes, u64::from(packets)));
        prop_assert_eq!(range.start, one.min(other) as u64 * CHUNK);
    }

    #[test]
    fn any_removed_or_doubled_chunk_is_damage_from_there(
        packets in 40..120u16, at in 0..10usize, double in any::<bool>()
    ) {
        let bytes = sealed(packets);
        let mut chunks: Vec<&[u8]> = bytes.chunks(CHUNK as usize).collect();
        // Removing the last one is a cut.
        let at = at % (chunks.len() - 1);
        if double {
            chunks.insert(at, chunks[at]);
        } else {
            chunks.remove(at);
        }
        let range = damaged_at(&verdict_on(&chunks.concat(), &bytes, u64::from(packets)));
        let from = if double { at + 1 } else { at };
        prop_assert_eq!(range.start, from as u64 * CHUNK);
    }

    #[test]
    fn anything_appended_is_damage(packets in 1..60u16, more in 1..5000usize, byte in any::<u8>()) {
        let bytes = sealed(packets);
        let appended = [&bytes[..], &vec![byte; more]].concat();
        let range = damaged_at(&verdict_on(&appended, &bytes, u64::from(packets)));
        prop_assert_eq!(range.end, appended.len() as u64);
        prop_assert!(range.start <= bytes.len() as u64);
    }

    #[test]
    fn any_changed_byte_of_a_manifest_is_found(place_at in 0.0..1.0f64, byte in any::<u8>()) {
        let bytes = sealed(3);
        let mut text = sign(manifest(&bytes, 3)).to_bytes();
        let at = (text.len() as f64 * place_at) as usize;
        prop_assume!(text[at] != byte);
        text[at] = byte;
        prop_assert!(!verify(&place(&bytes, &text).path).is_whole());
    }
}

#[test]
fn another_segments_file_in_its_place_is_damage_from_the_first_byte() {
    // Same key, recording and evidence; another number, so another associated data.
    let memory = Memory::default();
    let mut start = start();
    start.first_segment = 1;
    let mut other =
        crate::segment::stream::StreamWriter::new(stream(), EVIDENCE, key(), start, memory.clone());
    for n in 0..100 {
        let _ = other.append(&packet(0, n, 172), 0, at(20 * u64::from(n)));
    }
    other.finish(at(2000));
    let other = memory.segment(1).bytes;
    // Even with a manifest made for it by whoever holds the signing key.
    let verdict = verdict_on(&other, &other, 100);
    assert_eq!(
        verdict,
        SegmentVerdict::Damaged { range: 0..other.len() as u64, why: Damage::Chunks }
    );
}

#[test]
fn each_lie_of_a_manifest_has_its_name() {
    let bytes = sealed(50);
    let length = bytes.len() as u64;
    type Change = fn(&mut Manifest);
    let lies: [(Change, Damage); 8] = [
        (|m| m.packets += 1, Damage::OtherFile),
        (|m| m.bytes -= 1, Damage::OtherFile),
        (|m| m.sha256 = Digest([0; 32]), Damage::OtherFile),
        (|m| m.state = SegmentState::Truncated, Damage::OtherFile),
        (|m| m.evidence = Digest([0; 32]), Damage::OtherEvidence),
        (|m| m.segment = 1, Damage::OtherSegment),
        (|m| m.key_id = DataKey::from_bytes(&[0; 32]).id(), Damage::OtherKey),
        (|m| m.signing_key = SigningKey::from_seed(&[0; 32]).key_id(), Damage::UnknownSigner),
    ];
    for (change, why) in lies {
        let mut manifest = manifest(&bytes, 50);
        change(&mut manifest);
        let verdict = verify(&place(&bytes, &sign(manifest).to_bytes()).path);
        assert_eq!(verdict, SegmentVerdict::Damaged { range: 0..length, why });
    }
    let mut unsigned = sign(manifest(&bytes, 50));
    unsigned.manifest.packets = 49;
    let verdict = verify(&place(&bytes, &unsigned.to_bytes()).path);
    assert_eq!(verdict, SegmentVerdict::Damaged { range: 0..length, why: Damage::Signature });
    let verdict = verify(&place(&bytes, b"{}").path);
    let why = Damage::ManifestUnreadable;
    assert_eq!(verdict, SegmentVerdict::Damaged { range: 0..length, why });
}

#[test]
fn a_missing_file_or_manifest_is_named() {
    let bytes = sealed(5);
    let placed = place(&bytes, b"");
    std::fs::remove_file(placed.path.with_extension("json")).unwrap();
    let why = Damage::ManifestMissing;
    let range = 0..bytes.len() as u64;
    assert_eq!(verify(&placed.path), SegmentVerdict::Damaged { range, why });
    std::fs::remove_file(&placed.path).unwrap();
    let why = Damage::SegmentMissing;
    assert_eq!(verify(&placed.path), SegmentVerdict::Damaged { range: 0..0, why });
}

#[test]
fn a_removed_swapped_or_forked_manifest_breaks_the_chain() {
    let mut chain = Vec::new();
    let mut previous = None;
    for segment in 0..4 {
        let link = sign(Manifest { segment, previous, ..manifest(b"", 0) });
        previous = Some(link.digest());
        chain.push(link);
    }
    assert_eq!(verify_chain(&chain, &[]), Ok(()));
    assert_eq!(verify_chain(&[], &[]), Ok(()));
    for missing in 0..3 {
        let mut broken = chain.clone();
        broken.remove(missing);
        assert!(matches!(verify_chain(&broken, &[]), Err(ChainBreak::Missing { .. })));
    }
    let mut forked = chain.clone();
    let previous = chain[3].manifest.previous;
    forked.push(sign(Manifest { segment: 9, previous, ..manifest(b"", 0) }));
    assert!(matches!(verify_chain(&forked, &[]), Err(ChainBreak::Fork { .. })));
    let mut changed = chain;
    changed[1] = sign(Manifest { packets: 7, ..changed[1].manifest.clone() });
    assert!(matches!(verify_chain(&changed, &[]), Err(ChainBreak::Missing { .. })));
}

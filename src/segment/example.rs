//! The example that `docs/segment-format.md` publishes, byte for byte.

use std::path::Path;

use crate::ids::Digest;
use crate::keys::SigningKey;
use crate::segment::format::aead::Seed;
use crate::segment::format::rtpdump::Preamble;
use crate::segment::format::{
    Chunk, ChunkBuffer, Codecs, Format, Manifest, SealedBy, SegmentEncoder, SegmentName,
    SegmentState, Signature,
};
use crate::segment::testing::{EVIDENCE, at, key, packet, stream};

/// The published example, which other programs' tests use too: `tests/vectors/segment-v1`.
/// With `ASSENT_BLESS=1` it is written anew.
#[test]
fn the_published_example_is_what_is_written() {
    let name = SegmentName { stream: stream(), segment: 0 };
    let seed = Seed { salt: [0x5a; 32], nonce_prefix: [0xa5; 7] };
    let associated = name.associated_data(EVIDENCE);
    let preamble = Preamble { start: at(0), source: "192.0.2.7:4000".parse().unwrap() };
    let data_key = key();
    let mut encoder =
        SegmentEncoder::new(data_key.expose(), &seed, &associated, &preamble, ChunkBuffer::new());
    let mut file = Vec::new();
    for n in 0..100 {
        let (payload_type, length) = if n % 10 == 9 { (101, 16) } else { (0, 172) };
        let packet = packet(payload_type, n, length);
        let closed = encoder.push(&packet, at(20 * u64::from(n)), ChunkBuffer::new).unwrap();
        file.extend(closed.iter().flat_map(Chunk::bytes));
    }
    file.extend(encoder.finish().unwrap().bytes());

    let signing = SigningKey::from_seed(&[9; 32]);
    let manifest = Manifest {
        format: Format::V1,
        recording: stream().recording,
        stream: stream().index,
        segment: 0,
        party_ref: None,
        codecs: Codecs::new().with(0, "PCMU", 8000).with(101, "telephone-event", 8000),
        start: at(0),
        end: at(2000),
        packets: 100,
        masked: 0,
        gaps: Vec::new(),
        bytes: file.len() as u64,
        sha256: Digest::of(&file),
        evidence: EVIDENCE,
        key_id: key().id(),
        previous: None,
        state: SegmentState::Sealed,
        sealed_by: SealedBy::Writer,
        signing_key: signing.key_id(),
    };
    let signature = Signature(signing.sign(&manifest.signed_text()));
    let manifest = manifest.with_signature(signature).to_bytes();

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/segment-v1");
    for (path, bytes) in [(name.path(), file), (name.manifest_path(), manifest)] {
        let path = folder.join(path);
        if std::env::var_os("ASSENT_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == bytes, "{} differs", path.display());
    }
}

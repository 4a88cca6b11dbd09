//! A packet into an encrypted segment, and a recording out of packets into a WAV file.

use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use assent::export::{SourceError, SourceRecord, Span, write_wav};
use assent::keys::DataKey;
use assent::rtp::{Codec, RtpPacket};
use assent::segment::format::{Chunk, ChunkBuffer, Codecs};
use assent::segment::{
    Appended, NotTaken, SegmentHead, SegmentSink, SegmentTail, SegmentWriter, StreamStart,
};
use assent::time::Timestamp;
use criterion::{Criterion, Throughput};

use crate::packets::audio;
use crate::permission;

const START: Timestamp = Timestamp::from_micros(1_795_298_400_000_000);

/// Takes chunks and gives their buffers back, as the store does, without a disk.
#[derive(Default)]
struct Drain(Option<ChunkBuffer>);

impl SegmentSink for Drain {
    fn chunk(&mut self, _: &SegmentHead, chunk: Chunk) -> Result<(), NotTaken> {
        self.0 = Some(chunk.into_buffer());
        Ok(())
    }

    fn end(&mut self, _: &SegmentHead, _: SegmentTail) {}

    fn dropped(&mut self, _: u64) {}

    fn buffer(&mut self) -> ChunkBuffer {
        self.0.take().unwrap_or_default()
    }
}

/// Appends packets of G.711 under a grant: encryption included, a chunk every eleven.
pub(crate) fn append(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let catalog = permission::catalog(folder.path());
    let (mut machine, decision) = permission::decided(&permission::policy(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let receipt = runtime.block_on(catalog.decide(permission::entry(decision, 1))).unwrap();
    let grant = permission::granted(&mut machine, receipt);
    let start = StreamStart {
        party_ref: None,
        source: "192.0.2.7:4000".parse().unwrap(),
        codecs: Codecs::new().with(0, "PCMU", 8000),
        segment: Duration::from_secs(60),
        first_segment: 0,
    };
    let key = DataKey::from_bytes(&[0x42; 32]);
    let mut writer = SegmentWriter::open(grant, key, start, Drain::default());
    let (mut at, bytes) = (START, audio(1));
    let mut group = criterion.benchmark_group("segment");
    group.throughput(Throughput::Elements(1));
    group.bench_function("append a packet", |b| {
        b.iter(|| {
            at = at.plus(Duration::from_millis(20));
            let packet = RtpPacket::parse(&bytes).unwrap();
            assert_eq!(writer.append(&packet, at), Appended::Written);
        });
    });
    group.finish();
    writer.finish(at);
    drop(machine);
}

/// A minute of both parties, G.711, to stereo.
pub(crate) fn export(criterion: &mut Criterion) {
    let track: Vec<SourceRecord> = (0..3000u16)
        .map(|n| SourceRecord {
            arrival: START.plus(Duration::from_millis(20 * u64::from(n))),
            codec: Some(Codec::Pcmu),
            packet: audio(n).to_vec(),
        })
        .collect();
    let span = Span { start: START, end: None };
    criterion.bench_function("export/a minute of G.711 to stereo WAV", |b| {
        b.iter(|| {
            let records = || track.iter().cloned().map(Ok::<_, SourceError>);
            let mut file = Cursor::new(Vec::with_capacity(2 << 20));
            write_wav(&mut file, span, 8000, vec![records(), records()]).unwrap()
        });
    });
}

/// Where benches that need a disk find one: temporary folders may be in memory.
pub(crate) fn disk() -> tempfile::TempDir {
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

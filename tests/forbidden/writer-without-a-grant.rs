//! Would break "no audio before permission": a writer that nobody permits.

use assent::keys::DataKey;
use assent::segment::{SegmentSink, SegmentWriter, StreamStart};

fn open<S: SegmentSink>(key: DataKey, start: StreamStart, sink: S) -> SegmentWriter<S> {
    SegmentWriter::open(key, start, sink)
}

fn main() {}

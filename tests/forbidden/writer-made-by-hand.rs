//! Would break "no audio before permission": a writer around a grant that is somebody else's.

use assent::consent::Grant;
use assent::segment::{SegmentSink, SegmentWriter};

fn exchange<S: SegmentSink>(mut writer: SegmentWriter<S>, grant: Grant) -> SegmentWriter<S> {
    writer.grant = grant;
    writer
}

fn main() {}

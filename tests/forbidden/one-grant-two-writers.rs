//! Would break "no audio before permission": a second stream under the permission of the first.

use assent::consent::Grant;
use assent::keys::DataKey;
use assent::segment::{SegmentSink, SegmentWriter, StreamStart};

fn both<S: SegmentSink>(grant: Grant, keys: [DataKey; 2], start: StreamStart, sinks: [S; 2]) {
    let [caller_key, callee_key] = keys;
    let [caller_sink, callee_sink] = sinks;
    let _caller = SegmentWriter::open(grant, caller_key, start.clone(), caller_sink);
    let _callee = SegmentWriter::open(grant, callee_key, start, callee_sink);
}

fn main() {}

//! Would break "no audio before permission": the part of the writer that asks for no grant.

use assent::segment::stream::StreamWriter;
use assent::segment::format::SegmentEncoder;

fn main() {}

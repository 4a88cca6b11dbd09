//! Would break "no audio before permission": a right to write that nobody gave.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use assent::consent::Grant;
use assent::ids::{Digest, StreamId};

fn forge(stream: StreamId, evidence: Digest) -> Grant {
    Grant { stream, evidence, live: Arc::new(AtomicBool::new(true)) }
}

fn main() {
    let _ = forge;
}

//! Would break "encrypted, or not at all": bytes of somebody's choice as a chunk of a segment.

use assent::segment::format::{Chunk, ChunkBuffer};

fn plain(buffer: ChunkBuffer) -> Chunk {
    Chunk::new(buffer, 1)
}

fn main() {
    let _ = plain;
}

//! One ciphertext chunk on its way to the disk, and the buffers that chunks are made in.

use zeroize::Zeroize as _;

use super::aead::CHUNK;

/// A buffer of [`CHUNK`] bytes that a chunk is filled and encrypted in, in place.
///
/// Made once and used again: it never grows.
pub struct ChunkBuffer(Vec<u8>);

impl ChunkBuffer {
    /// An empty buffer with room for one chunk.
    #[must_use]
    pub fn new() -> Self {
        Self(Vec::with_capacity(CHUNK))
    }

    /// No buffer at all: what is left where one was taken from.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// Makes room for the next chunk, and memory where there is none yet.
    pub(super) fn clear(&mut self) {
        self.0.clear();
        self.0.reserve_exact(CHUNK);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Adds bytes that the caller knows to fit.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        debug_assert!(self.0.len() + bytes.len() <= CHUNK);
        self.0.extend_from_slice(bytes);
    }

    /// Overwrites everything that was ever in it.
    pub(super) fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl Default for ChunkBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// A finished chunk: ciphertext and tag, before the first one the header. Holds no plaintext.
pub struct Chunk {
    buffer: ChunkBuffer,
    packets: u32,
}

impl Chunk {
    pub(super) fn new(buffer: ChunkBuffer, packets: u32) -> Self {
        Self { buffer, packets }
    }

    /// The bytes for the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// How many packets end in it.
    #[must_use]
    pub fn packets(&self) -> u32 {
        self.packets
    }

    /// Its buffer, to be used again.
    #[must_use]
    pub fn into_buffer(self) -> ChunkBuffer {
        self.buffer
    }
}

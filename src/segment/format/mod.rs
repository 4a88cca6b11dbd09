//! The bytes of a segment and of its manifest. Pure: no file, clock or randomness.
//!
//! A segment is an rtpdump file ([`rtpdump`]) inside Tink's AES-GCM-HKDF streaming AEAD
//! ([`aead`]), bound by its associated data ([`AssociatedData`]) to its place and to the evidence
//! that permits it. `docs/segment-format.md` describes it for other programs.

pub mod aead;
mod chunk;
mod codecs;
mod encoder;
mod key_id;
mod manifest;
mod name;
pub mod rtpdump;

pub use chunk::{Chunk, ChunkBuffer};
pub use codecs::{CodecUse, Codecs};
pub(in crate::segment) use encoder::{NotPushed, SegmentEncoder};
pub use key_id::{KeyId, Signature};
pub use manifest::{
    BadManifest, Format, Gap, GapReason, Manifest, SealedBy, SegmentState, SignedManifest,
};
pub use name::{AssociatedData, BadSegmentName, SegmentName};

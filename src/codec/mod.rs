//! Audio codecs and resampling, behind one small interface.
//!
//! Relaying never decodes. What is decoded or encoded goes through here: prompts once at start,
//! and recordings when they are exported. G.711 alone is looked into packet by packet, by table.

mod decode;
pub mod dtmf;
mod encode;
mod g711;
mod resample;

pub use decode::Decoder;
pub use encode::Encoder;
pub use g711::Law;
pub use resample::{Resampler, resample};

use crate::rtp::Codec;

/// Milliseconds of audio in one frame that [`Encoder::encode`] takes.
pub const FRAME_MS: u32 = 20;

/// How many samples make one frame of [`FRAME_MS`] at the codec's own rate: 160, 320 or 960.
#[must_use]
pub fn frame_samples(codec: Codec) -> usize {
    (codec.sample_rate() * FRAME_MS / 1000) as usize
}

/// Why audio could not be encoded, decoded or resampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The codec's library could not be set up.
    #[error("the {} codec could not be set up", .0.name())]
    Unavailable(Codec),
    /// The samples are not one frame of [`FRAME_MS`].
    #[error("a frame has {expected} samples, not {found}")]
    FrameLength {
        /// Samples in a frame of this codec.
        expected: usize,
        /// Samples that were given.
        found: usize,
    },
    /// The payload is nothing that the codec could have made. The decoder goes on with the next.
    #[error("the payload is damaged")]
    Damaged,
    /// The library failed on good input.
    #[error("the encoder failed")]
    Failed,
    /// A sample rate outside [`resample()`]'s limits.
    #[error(
        "cannot resample from {from} Hz to {to} Hz: rates from 1000 to 384000 Hz are supported"
    )]
    Rate {
        /// The rate of the input, Hz.
        from: u32,
        /// The rate that was asked for, Hz.
        to: u32,
    },
}

//! RTP (RFC 3550) as pure data: packets, sequence arithmetic, telephone-events, RTCP, timelines.

mod session;
pub mod timeline;

pub use session::{Codec, Direction, LegMedia, PayloadType, TelephoneEvent};

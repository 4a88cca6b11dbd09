//! RTP (RFC 3550) as pure data: packets, sequence arithmetic, telephone-events, RTCP, timelines.

mod packet;
mod session;
pub mod timeline;

pub use packet::{FIXED_HEADER, NotRtp, RtpPacket};
pub use session::{Codec, Direction, LegMedia, PayloadType, TelephoneEvent};

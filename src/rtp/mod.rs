//! RTP (RFC 3550) as pure data: packets, sequence arithmetic, telephone-events, RTCP, timelines.

mod packet;
mod reception;
mod rewrite;
pub mod rtcp;
mod security;
pub mod sequence;
mod session;
mod telephone_event;
pub mod timeline;

pub use packet::{FIXED_HEADER, NotRtp, RtpPacket};
pub use reception::{Arrival, Reception, ReceptionReport};
pub use rewrite::{Content, Header, Outgoing};
pub use security::{DtlsPeer, DtlsRole, MasterKey, Security, SrtpKeys, Suite};
pub use session::{Codec, Direction, LegMedia, PayloadType, TelephoneEvent};
pub use telephone_event::{KeyDetector, KeyPress};

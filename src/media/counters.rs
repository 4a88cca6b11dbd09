//! What the media threads count, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Totals since start. A thread adds to them once in a wake-up, not once in a packet.
        #[derive(Debug, Default)]
        pub struct MediaCounters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// What one thread has counted since it last told the others.
        #[derive(Debug, Default)]
        pub(super) struct Tally {
            $(pub(super) $name: u64,)*
        }

        impl Tally {
            /// Adds everything to the totals and starts again at zero.
            pub(super) fn flush(&mut self, totals: &MediaCounters) {
                $(if self.$name > 0 {
                    totals.$name.fetch_add(std::mem::take(&mut self.$name), Ordering::Relaxed);
                })*
            }
        }

        impl MediaCounters {
            /// Every counter with its name, in the order of this file.
            #[must_use]
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// RTP datagrams read from sockets, good or bad.
    received,
    /// RTP packets sent on to the other leg.
    relayed,
    /// Audio packets that the other leg could not be given because its codec is another.
    codec_mismatch,
    /// RTP packets of prompts and ringback that were sent.
    played,
    /// RTP packets that a recording took.
    recorded,
    /// Audio packets of a party without permission: passed on or not, but gone with the buffer.
    before_permission,
    /// Audio packets that a recording took with silence in them, for the tone of a key.
    masked,
    /// Audio packets that a recording did not take because it is paused.
    paused,
    /// Audio packets that are a gap in their recording: its queue was full, as a rule.
    not_recorded,
    /// Dropped: not from the address that was negotiated.
    wrong_source,
    /// Dropped: no RTP packet.
    unparsable,
    /// Dropped: SRTP that is not what the peer protected, or that came before.
    unauthentic,
    /// Dropped: a payload type that was not negotiated.
    wrong_payload_type,
    /// Dropped: an SSRC that is not the leg's, or not yet.
    wrong_ssrc,
    /// Dropped: a duplicate, or too late to be of use.
    stale,
    /// Dropped: nothing is negotiated on the leg, or its peer may not send.
    not_negotiated,
    /// Packets that could not be sent: the socket was full or the network refused.
    send_failed,
    /// Packets that never came, as far as their sequence numbers tell. Counted when a call ends.
    lost,
    /// RTCP datagrams that were no RTCP, not from the peer, or not what the peer protected.
    bad_rtcp,
}

//! What a call is made from: everything that is decided or drawn before its machine starts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::call::message::{Hop, Incoming, ServerTxn};
use crate::call::session_timer::Terms;
use crate::consent::machine::PartyFacts;
use crate::consent::policy::Policy;
use crate::ids::{CallId, Digest, RecordingId};
use crate::rtp::Codec;
use crate::sdp::{Keying, RecordState};

/// Everything a call is made from.
#[derive(Debug)]
pub struct Setup {
    /// The call.
    pub call: CallId,
    /// The recording that a permission would be for.
    pub recording: RecordingId,
    /// The INVITE, and the transaction that waits for our answer.
    pub invite: Incoming,
    /// See `invite`.
    pub txn: ServerTxn,
    /// The policy that the route names.
    pub policy: Arc<Policy>,
    /// Its digest.
    pub policy_digest: Digest,
    /// What the route wants done.
    pub plan: Plan,
    /// The caller's side.
    pub caller: Side,
    /// The caller as the permission machine knows them.
    pub caller_party: PartyFacts,
    /// Codecs that may be negotiated.
    pub codecs: Vec<Codec>,
    /// Whether keys by SIP INFO count.
    pub info_keys: InfoKeys,
    /// What we want of session timers.
    pub timers: Terms,
    /// The first client transaction number that this call may use; it uses fewer than 65,536.
    pub first_txn: u64,
    /// Whether this call can be recorded at all; false when storage is out of order.
    pub recorder: Recorder,
}

/// What a route wants done with a call.
#[derive(Debug)]
pub enum Plan {
    /// Assent is the far end.
    Endpoint,
    /// The other leg is dialled and both are bridged.
    Inline(Box<Inline>),
}

/// Where the other leg goes.
#[derive(Debug)]
pub struct Inline {
    /// The callee's side.
    pub callee: Side,
    /// The callee as the permission machine knows them.
    pub callee_party: PartyFacts,
    /// The Request-URI.
    pub uri: String,
    /// The `Call-ID` of the other leg's dialog.
    pub call_id: String,
    /// Where the INVITE goes.
    pub hop: Hop,
    /// How long the callee may ring.
    pub ring_for: Duration,
    /// Whether a party may hand the other one over.
    pub transfers: Transfers,
}

/// What becomes of a REFER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfers {
    /// Whoever is named is dialled at the call's own next hop.
    Followed,
    /// It is declined.
    Refused,
}

/// Our own end of a leg.
#[derive(Clone, Debug)]
pub struct Side {
    /// Our tag in its dialog: 128 random bits.
    pub tag: String,
    /// Our `Contact` URI as the peer can reach it.
    pub contact: String,
    /// Where we receive RTP, as SDP says it.
    pub rtp: SocketAddr,
    /// Where we receive RTCP.
    pub rtcp: SocketAddr,
    /// The locale of the sounds that are played there.
    pub locale: String,
    /// What our description says of recording, for a peer that wants to be told.
    pub record: Option<RecordState>,
    /// Whether its packets are protected, with a secret of its own.
    pub keying: Keying,
}

impl Side {
    /// The same for another dialog on the leg, with keys of its own.
    #[must_use]
    pub fn in_dialog(&self, tag: &str) -> Self {
        Self { keying: self.keying.another(tag), tag: tag.to_owned(), ..self.clone() }
    }
}

/// Whether keys by SIP INFO count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfoKeys {
    /// They are answered and otherwise ignored.
    Ignored,
    /// They count like a telephone-event.
    Counted,
}

/// Whether the recorder is in order when a call comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorder {
    /// It is.
    Ready,
    /// It is not: the call goes on, unrecorded and unasked.
    OutOfOrder,
}

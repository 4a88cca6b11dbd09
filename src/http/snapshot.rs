//! What the agent says about itself when it is asked.

use std::time::Duration;

use serde::Serialize;

use crate::time::Timestamp;

/// Where the answers come from. Asked for every request, so both are quick and never wait for a
/// disk or the network.
pub trait Source: Send + Sync + 'static {
    /// What there is to count, now.
    fn snapshot(&self) -> Snapshot;
    /// What works and what does not, now.
    fn readiness(&self) -> Readiness;
}

/// Whether new calls can be taken, and what is missing if not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Everything the agent needs, in an order of its choice.
    pub needs: Vec<Need>,
}

/// One thing that the agent needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// A short name: `sip`, `media`, `catalog`, `keys`, `nats`, `prompts`, `disk`, `draining`.
    pub name: &'static str,
    /// Whether new calls cannot be taken without it. NATS, say, may be away.
    pub required: bool,
    /// What is wrong and what to do about it; `None` when it works.
    pub missing: Option<String>,
}

impl Need {
    /// A need that is met.
    #[must_use]
    pub fn met(name: &'static str) -> Self {
        Self { name, required: true, missing: None }
    }

    /// A need without which no call is taken, and what is wrong with it.
    #[must_use]
    pub fn missing(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, required: true, missing: Some(why.into()) }
    }

    /// A thing that calls can do without for a while, and what is wrong with it.
    #[must_use]
    pub fn away(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, required: false, missing: Some(why.into()) }
    }
}

impl Readiness {
    /// Whether new calls are taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.needs.iter().all(|need| !need.required || need.missing.is_none())
    }
}

/// Everything that `/metrics` shows. Counters count from the start of the agent and never go
/// back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The agent's name.
    pub node: String,
    /// When the agent started.
    pub started: Option<Timestamp>,
    /// Whether new calls are turned away.
    pub draining: bool,
    /// Calls now, by state.
    pub calls: Vec<(&'static str, u64)>,
    /// Calls that ended, by how: `answered`, `cancelled`, `busy`, `rejected`, …
    pub calls_ended: Vec<(&'static str, u64)>,
    /// Decisions, by gate and outcome.
    pub decisions: Vec<(&'static str, &'static str, u64)>,
    /// Consent tokens, by what became of them: `valid`, or why they do not count.
    pub tokens: Vec<(&'static str, u64)>,
    /// Recordings now, by state: `capturing`, `paused`.
    pub recordings: Vec<(&'static str, u64)>,
    /// Recordings that ended, by result: `sealed`, `failed`, `erased`.
    pub recordings_ended: Vec<(&'static str, u64)>,
    /// Segments sealed.
    pub segments_sealed: u64,
    /// Bytes of segments written.
    pub segment_bytes: u64,
    /// RTP packets, by what became of them: `received`, `relayed`, `played`, `recorded`, of those
    /// `masked` (silence in place of a key's tone), and `paused` (not recorded because of a pause).
    pub rtp_packets: Vec<(&'static str, u64)>,
    /// RTP packets that were not taken, by reason: `wrong_source`, `wrong_ssrc`, …
    pub rtp_rejected: Vec<(&'static str, u64)>,
    /// Audio packets of a party without permission: relayed, and gone.
    pub packets_before_permission: u64,
    /// Packets that never came, as their sequence numbers tell.
    pub packets_lost: u64,
    /// RTP packets that counted for nothing, by the reason.
    pub packets_dropped: Vec<(&'static str, u64)>,
    /// Reports that counted for nothing.
    pub rtcp_dropped: u64,
    /// Packets that a writer could not take: each is in a marked gap.
    pub writer_dropped: u64,
    /// Events that wait in the outbox.
    pub outbox_depth: u64,
    /// How long the oldest of them has waited.
    pub outbox_age: Duration,
    /// Events that the bus has acknowledged.
    pub events_published: u64,
    /// Whether NATS is connected; `None` when none is configured.
    pub nats_connected: Option<bool>,
    /// Bytes free, by what the folder is for: `data`, `recordings`.
    pub bytes_free: Vec<(&'static str, u64)>,
    /// Media ports that are not in use.
    pub media_ports_free: u64,
    /// Durable commits of the catalog.
    pub catalog_commits: u64,
    /// Requests to the catalog that failed.
    pub catalog_failures: u64,
    /// Where calls are sent, `udp:10.0.0.10:5060`: 1 for those that are tried first.
    pub next_hops: Vec<(String, u64)>,
    /// Signalling.
    pub sip: SipCounts,
}

/// What the SIP edge counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SipCounts {
    /// Requests received, by method.
    pub requests_in: Vec<(&'static str, u64)>,
    /// Requests sent, by method.
    pub requests_out: Vec<(&'static str, u64)>,
    /// Responses received, by class: `(2, n)` for 2xx.
    pub responses_in: Vec<(u8, u64)>,
    /// Responses sent, by class.
    pub responses_out: Vec<(u8, u64)>,
    /// Messages that did not parse.
    pub parse_errors: u64,
    /// Messages from outside `sip.peers`.
    pub foreign: u64,
    /// Requests that came again.
    pub retransmissions_in: u64,
    /// Messages sent again.
    pub retransmissions_out: u64,
    /// Messages that belong to nothing.
    pub strays: u64,
    /// Messages that found a limit reached.
    pub overload: u64,
    /// TLS handshakes that failed.
    pub tls_failures: u64,
    /// Messages that the system would not send.
    pub send_errors: u64,
    /// Transactions in flight.
    pub transactions: u64,
    /// Connections open.
    pub connections: u64,
}

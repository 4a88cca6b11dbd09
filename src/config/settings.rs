//! Everything but routes and policies: `[sip]`, `[media]`, `[keys]`, `[storage]`, `[nats]`,
//! `[http]`, `[shutdown]`.

use crate::call::setup::Transfers;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroize;

use crate::call::message::Hop;
use crate::call::session_timer::Terms;
use crate::config::address::{Advertise, PortRange};
use crate::network::Network;
use crate::sdp::SrtpUse;

/// `[sip]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sip {
    /// Where requests are taken. Never empty; a port of 0 takes a free one.
    pub listen: Vec<Hop>,
    /// The addresses that Contact and SDP name.
    pub advertise: Advertise,
    /// Who may send requests.
    pub peers: Vec<Network>,
    /// Whether a key may come by SIP INFO.
    pub info_keys: bool,
    /// Whether a party may hand the other one over by REFER.
    pub transfers: Transfers,
    /// How long the next hop may ring before the call is given back as not answered.
    pub ring_within: Duration,
    /// What is asked of both legs, and agreed to, of session timers (RFC 4028).
    pub timers: Terms,
    /// The most calls at one time; further ones get 503 with Retry-After.
    pub max_calls: usize,
    /// How requests leave that are larger than a datagram should be.
    pub large_requests: LargeRequests,
    /// The name servers that next hops are looked up with; the system's when empty.
    pub resolver: Vec<SocketAddr>,
    /// What is done about next hops that fail.
    pub next_hop: NextHopCare,
    /// Certificates for SIP over TLS.
    pub tls: SipTls,
}

/// `sip.large_requests`: more than 1,300 bytes (RFC 3261, 18.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LargeRequests {
    /// Over TCP, where we listen on it and the other end takes it.
    Tcp,
    /// Over UDP, in fragments.
    Udp,
}

/// `[sip.next_hop]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHopCare {
    /// How long one may say nothing to an INVITE while another one waits.
    pub answer_within: Duration,
    /// How long one that has failed is tried last.
    pub avoid_for: Duration,
    /// How often each is asked by OPTIONS whether it is there; never when `None`.
    pub probe: Option<Duration>,
}

/// `[sip.tls]`: PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SipTls {
    /// Our certificate with its chain, and its key. Always there when a `tls:` listener is; shown
    /// to next hops that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Authorities that the certificates of peers must come from; peers need none when `None`.
    pub client_ca: Option<PathBuf>,
    /// Authorities that the certificates of next hops must come from; the system's when `None`.
    pub ca: Option<PathBuf>,
}

impl SipTls {
    /// Whether it names any file.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.identity.is_some() || self.client_ca.is_some() || self.ca.is_some()
    }
}

impl Sip {
    /// Whether a request from this address is taken at all.
    #[must_use]
    pub fn admits(&self, peer: std::net::IpAddr) -> bool {
        self.peers.iter().any(|network| network.contains(peer))
    }
}

/// `[media]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// The ports that RTP and RTCP may use.
    pub ports: PortRange,
    /// Whether a peer's address is learnt once from its first packet, for peers behind NAT.
    pub latch: bool,
    /// Whether packets are protected.
    pub srtp: SrtpUse,
    /// Media threads.
    pub workers: NonZeroUsize,
    /// A call is ended when nothing comes from either leg for this long; not while one is on hold.
    pub silence_after: Duration,
    /// Whether recordings hold the tones of keys as they are received.
    pub keep_keys: bool,
}

/// `[keys]`: key-encryption keys in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The folder: mode 0700, files 0600.
    pub path: PathBuf,
}

/// `[storage]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The folder of the recordings.
    pub recordings: PathBuf,
    /// How long a segment is at most.
    pub segment: Duration,
}

/// `[nats]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nats {
    /// The servers, as URLs: `nats://host:port` or `tls://host:port`. Never empty.
    pub servers: Vec<String>,
    /// Who we are.
    pub auth: NatsAuth,
    /// Certificates.
    pub tls: NatsTls,
    /// Copies of each JetStream stream that is created when it is missing.
    pub replicas: usize,
    /// How long outbox rows stay after their acknowledgement, to be compared at a reconnect.
    pub reconcile: Duration,
}

/// How the agent proves to NATS who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsAuth {
    /// Not at all.
    None,
    /// A `.creds` file: a JWT and a seed.
    Creds(PathBuf),
    /// A file that holds an NKey seed.
    NKey(PathBuf),
    /// User and password.
    User {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
}

/// `[nats.tls]`: for `tls://` servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsTls {
    /// Certificates of authorities, PEM; the system's when `None`.
    pub ca: Option<PathBuf>,
    /// Our certificate and key, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where to listen; a port of 0 takes a free one.
    pub listen: SocketAddr,
    /// What `/metrics` and everything else that is not a probe asks for. Always there when
    /// `listen` is not loopback.
    pub password: Option<Secret>,
}

/// `[shutdown]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long calls may go on after SIGTERM.
    pub drain_within: Duration,
}

/// A password or token. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the wire.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

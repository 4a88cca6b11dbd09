//! Who may speak to us.

use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use crate::network::Network;

/// The networks whose requests are heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers(Vec<Network>);

impl Peers {
    /// Everybody on this machine.
    #[must_use]
    pub fn loopback() -> Self {
        let networks = ["127.0.0.0/8", "::1/128"];
        networks.into_iter().filter_map(|network| network.parse().ok()).collect()
    }

    /// Whether `addr` may send requests.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(addr))
    }
}

/// The peers of a running edge. They change when the configuration is read again.
#[derive(Debug)]
pub(super) struct Heard(RwLock<Peers>);

impl Heard {
    pub(super) fn new(peers: Peers) -> Self {
        Self(RwLock::new(peers))
    }

    pub(super) fn contains(&self, addr: IpAddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(addr)
    }

    pub(super) fn replace(&self, peers: Peers) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = peers;
    }
}

impl FromIterator<Network> for Peers {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_a_peer_unless_named() {
        assert!(!Peers::default().contains("127.0.0.1".parse().unwrap()));
        assert!(Peers::loopback().contains("127.1.2.3".parse().unwrap()));
        assert!(Peers::loopback().contains("::1".parse().unwrap()));
        assert!(!Peers::loopback().contains("192.0.2.1".parse().unwrap()));
    }
}

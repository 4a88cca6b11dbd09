//! Who may speak to us.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use crate::network::Network;

/// How many addresses of next hops are remembered. Each call to one renews it.
const REMEMBERED: usize = 256;

/// Who is heard: peers with all that they send, next hops within the calls that they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    peers: Vec<Network>,
    next_hops: Vec<Network>,
}

impl Peers {
    /// Everybody on this machine.
    #[must_use]
    pub fn loopback() -> Self {
        let networks = ["127.0.0.0/8", "::1/128"];
        networks.into_iter().filter_map(|network| network.parse().ok()).collect()
    }

    /// The same, and these, to whom calls are sent: they may send requests within those calls
    /// (and OPTIONS), and place none of their own.
    #[must_use]
    pub fn and_next_hops(mut self, next_hops: impl IntoIterator<Item = Network>) -> Self {
        self.next_hops.extend(next_hops);
        self
    }

    /// Whether `addr` may send any request.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.peers.iter().any(|network| network.contains(addr))
    }

    fn is_next_hop(&self, addr: IpAddr) -> bool {
        self.next_hops.iter().any(|network| network.contains(addr))
    }
}

/// The peers of a running edge. They change when the configuration is read again, and when the
/// name of a next hop is looked up.
#[derive(Debug)]
pub(super) struct Heard {
    peers: RwLock<Peers>,
    /// Addresses that a next hop's name stood for, the one used last at the end.
    looked_up: RwLock<VecDeque<IpAddr>>,
}

impl Heard {
    pub(super) fn new(peers: Peers) -> Self {
        Self { peers: RwLock::new(peers), looked_up: RwLock::default() }
    }

    /// Whether requests from `addr` are looked at.
    pub(super) fn contains(&self, addr: IpAddr) -> bool {
        let peers = self.peers();
        peers.contains(addr) || peers.is_next_hop(addr) || self.was_looked_up(addr)
    }

    /// Whether `addr` may place calls.
    pub(super) fn may_call(&self, addr: IpAddr) -> bool {
        self.peers().contains(addr)
    }

    pub(super) fn replace(&self, peers: Peers) {
        *self.peers.write().unwrap_or_else(PoisonError::into_inner) = peers;
    }

    /// Remembers what the name of a next hop stands for.
    pub(super) fn remember(&self, addrs: impl IntoIterator<Item = IpAddr>) {
        let mut known = self.looked_up.write().unwrap_or_else(PoisonError::into_inner);
        for addr in addrs.into_iter().take(REMEMBERED) {
            let addr = addr.to_canonical();
            known.retain(|other| *other != addr);
            known.push_back(addr);
        }
        let surplus = known.len().saturating_sub(REMEMBERED);
        known.drain(..surplus);
    }

    fn peers(&self) -> RwLockReadGuard<'_, Peers> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn was_looked_up(&self, addr: IpAddr) -> bool {
        let known = self.looked_up.read().unwrap_or_else(PoisonError::into_inner);
        known.contains(&addr.to_canonical())
    }
}

impl FromIterator<Network> for Peers {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self { peers: networks.into_iter().collect(), next_hops: Vec::new() }
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

    #[test]
    fn a_next_hop_is_heard_and_places_no_calls() {
        let [peer, hop, other] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let addr = |text: &str| -> IpAddr { text.parse().unwrap() };
        let peers: Peers = [Network::of(addr(peer))].into_iter().collect();
        let heard = Heard::new(peers.clone().and_next_hops([Network::of(addr(hop))]));
        heard.remember([addr("::ffff:192.0.2.3")]);
        for (text, may_call) in [(peer, true), (hop, false), (other, false)] {
            assert!(heard.contains(addr(text)), "{text}");
            assert_eq!(heard.may_call(addr(text)), may_call, "{text}");
        }
        heard.replace(peers);
        assert!(!heard.contains(addr(hop)), "it is in no route any more");
        assert!(heard.contains(addr(other)), "calls to it may go on");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_latest_stays() {
        let heard = Heard::new(Peers::default());
        let addr = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(n));
        let most = u32::try_from(REMEMBERED).unwrap();
        heard.remember((0..most).map(addr));
        heard.remember([addr(0), addr(most)]);
        assert!(heard.contains(addr(0)) && heard.contains(addr(most)));
        assert!(!heard.contains(addr(1)));
        assert!(heard.contains(addr(2)));
    }
}

//! Addresses in the configuration: listeners, networks, port ranges.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::call::message::{Hop, Transport};
use crate::config::problem::Wrong;
use crate::network::{BadNetwork, Network};

/// Reads a network.
pub(super) fn network(text: &str) -> Result<Network, Wrong> {
    text.parse().map_err(|why: BadNetwork| {
        Wrong::new(why.to_string(), "write \"10.0.0.0/8\", \"2001:db8::/32\", or a single address")
    })
}

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// How many ports there are.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// How many calls fit: a leg takes an even port for RTP and the next one for RTCP, and a call
    /// has two legs.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.count() / 4
    }
}

impl FromStr for PortRange {
    type Err = Wrong;
    fn from_str(text: &str) -> Result<Self, Wrong> {
        let parts = text.split_once('-').and_then(|(first, last)| {
            Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
        });
        let remedy = "write a range of at least four ports such as \"20000-29999\"";
        let Some((first, last)) = parts else {
            return Err(Wrong::new(format!("{text:?} is not a range of ports"), remedy));
        };
        if first == 0 || last < first || last - first < 3 {
            return Err(Wrong::new(format!("{text:?} holds no room for a call"), remedy));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// The address that peers reach, for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advertise {
    /// For IPv4 peers.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6 peers.
    pub v6: Option<Ipv6Addr>,
}

impl Advertise {
    /// The address to name to a peer at `peer`; `None` when that family is not listened on.
    #[must_use]
    pub fn to(&self, peer: IpAddr) -> Option<IpAddr> {
        match peer.to_canonical() {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }

    /// The addresses there are.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    pub(super) fn fill(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.v4 = self.v4.or(Some(address)),
            IpAddr::V6(address) => self.v6 = self.v6.or(Some(address)),
        }
    }
}

/// `udp:ADDRESS:PORT`, `tcp:ADDRESS:PORT`, `tls:ADDRESS:PORT`.
pub(super) fn listener(text: &str) -> Result<Hop, Wrong> {
    let remedy = "write \"udp:ADDRESS:PORT\", \"tcp:…\" or \"tls:…\", IPv6 in brackets";
    let (transport, address) = text
        .split_once(':')
        .ok_or_else(|| Wrong::new(format!("{text:?} is not a listener"), remedy))?;
    let transport = match transport {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        "tls" => Transport::Tls,
        other => {
            return Err(Wrong::new(format!("{other:?} is not a transport"), remedy));
        }
    };
    let addr: SocketAddr = address
        .parse()
        .map_err(|_| Wrong::new(format!("{address:?} is not an address with a port"), remedy))?;
    Ok(Hop { transport, addr })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_holds_at_least_one_call() {
        assert_eq!("20000-29999".parse::<PortRange>().unwrap().calls(), 2500);
        for bad in ["", "20000", "0-100", "30000-20000", "20000-20002", "1-70000", "a-b"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_listener_names_transport_address_and_port() {
        let hop = listener("tcp:[::1]:5060").unwrap();
        assert_eq!((hop.transport, hop.addr), (Transport::Tcp, "[::1]:5060".parse().unwrap()));
        for bad in ["127.0.0.1:5060", "udp:127.0.0.1", "udp:localhost:5060", "sctp:[::1]:1", ""] {
            assert!(listener(bad).is_err(), "{bad}");
        }
        assert_eq!(listener("tls:0.0.0.0:5061").unwrap().transport, Transport::Tls);
    }
}

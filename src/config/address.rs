//! Addresses in the configuration: listeners, networks, port ranges.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::call::message::{Hop, Transport};
use crate::config::problem::Wrong;

/// A network: an address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Whether the address is in the network. An IPv4 address in IPv6 clothes (`::ffff:…`) counts
    /// as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = Wrong;
    fn from_str(text: &str) -> Result<Self, Wrong> {
        let wrong = || {
            Wrong::new(
                format!("{text:?} is not a network"),
                "write \"10.0.0.0/8\", \"2001:db8::/32\", or a single address",
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|p| *p <= longest).ok_or_else(wrong)?,
            None => longest,
        };
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
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

/// `udp:ADDRESS:PORT`, `tcp:ADDRESS:PORT`.
pub(super) fn listener(text: &str) -> Result<Hop, Wrong> {
    let remedy = "write \"udp:ADDRESS:PORT\" or \"tcp:ADDRESS:PORT\", IPv6 in brackets";
    let (transport, address) = text
        .split_once(':')
        .ok_or_else(|| Wrong::new(format!("{text:?} is not a listener"), remedy))?;
    let transport = match transport {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        "tls" => {
            return Err(Wrong::new(
                "SIP over TLS is not available in this version",
                "listen on udp: or tcp:, inside a network that you trust",
            ));
        }
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

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_its_own_addresses_and_no_other() {
        let ten: Cidr = "10.0.0.0/8".parse().unwrap();
        assert!(ten.contains(ip("10.255.1.2")) && ten.contains(ip("::ffff:10.1.1.1")));
        assert!(!ten.contains(ip("11.0.0.1")) && !ten.contains(ip("::1")));
        let one: Cidr = "::1".parse().unwrap();
        assert!(one.contains(ip("::1")) && !one.contains(ip("::2")));
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains(ip("203.0.113.9")) && !all.contains(ip("2001:db8::1")));
        let all: Cidr = "::/0".parse().unwrap();
        assert!(all.contains(ip("2001:db8::1")));
        for bad in ["", "10.0.0.0/33", "::/129", "ten", "10.0.0.0/", "10.0.0/8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

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
        assert!(listener("tls:0.0.0.0:5061").unwrap_err().what.contains("not available"));
    }
}

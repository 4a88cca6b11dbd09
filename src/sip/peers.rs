//! Who may speak to us: networks in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{PoisonError, RwLock};

/// A network such as `192.0.2.0/24` or `2001:db8::/32`; an address alone is a network of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    addr: IpAddr,
    prefix: u8,
}

/// Why a text is not a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// Neither an address nor a network.
    #[error("\"{0}\" is not a network; write an address or a CIDR such as 192.0.2.0/24")]
    Syntax(String),
    /// A prefix that is longer than the address.
    #[error("the prefix of \"{text}\" must be at most {most}")]
    Prefix {
        /// What was written.
        text: String,
        /// The length of an address of this family in bits.
        most: u8,
    },
    /// Bits beyond the prefix: a typo in one of the two.
    #[error("\"{text}\" has bits set beyond its prefix; write {meant}")]
    HostBits {
        /// What was written.
        text: String,
        /// The network that contains it.
        meant: Network,
    },
}

impl Network {
    /// Whether `addr` is in the network. An IPv4 address that is mapped into IPv6 counts as the
    /// IPv4 address.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(addr)) => {
                mask4(addr, self.prefix) == mask4(net, self.prefix)
            }
            (IpAddr::V6(net), IpAddr::V6(addr)) => {
                mask6(addr, self.prefix) == mask6(net, self.prefix)
            }
            _ => false,
        }
    }
}

fn mask4(addr: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    Ipv4Addr::from_bits(addr.to_bits() & mask)
}

fn mask6(addr: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
    Ipv6Addr::from_bits(addr.to_bits() & mask)
}

impl FromStr for Network {
    type Err = BadNetwork;
    fn from_str(s: &str) -> Result<Self, BadNetwork> {
        let syntax = || BadNetwork::Syntax(s.to_owned());
        let (addr, prefix) = match s.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (s, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| syntax())?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| syntax())?
            }
            Some(_) => return Err(syntax()),
        };
        if prefix > most {
            return Err(BadNetwork::Prefix { text: s.to_owned(), most });
        }
        let masked = match addr {
            IpAddr::V4(addr) => IpAddr::V4(mask4(addr, prefix)),
            IpAddr::V6(addr) => IpAddr::V6(mask6(addr, prefix)),
        };
        let network = Network { addr: masked, prefix };
        if masked != addr {
            return Err(BadNetwork::HostBits { text: s.to_owned(), meant: network });
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The networks whose requests are heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers(Vec<Network>);

impl Peers {
    /// Everybody on this machine.
    #[must_use]
    pub fn loopback() -> Self {
        Self(vec![
            Network { addr: Ipv4Addr::new(127, 0, 0, 0).into(), prefix: 8 },
            Network { addr: Ipv6Addr::LOCALHOST.into(), prefix: 128 },
        ])
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

    fn network(text: &str) -> Network {
        text.parse().expect(text)
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        assert!(network("127.0.0.0/8").contains("127.9.9.9".parse().unwrap()));
        assert!(!network("127.0.0.0/8").contains("128.0.0.1".parse().unwrap()));
        assert!(network("0.0.0.0/0").contains("203.0.113.9".parse().unwrap()));
        assert!(!network("0.0.0.0/0").contains("2001:db8::1".parse().unwrap()));
        assert!(network("::/0").contains("2001:db8::1".parse().unwrap()));
        assert!(network("2001:db8::/32").contains("2001:db8:1::1".parse().unwrap()));
        assert!(!network("2001:db8::/32").contains("2001:db9::1".parse().unwrap()));
        assert!(network("192.0.2.1").contains("192.0.2.1".parse().unwrap()));
        assert!(!network("192.0.2.1").contains("192.0.2.2".parse().unwrap()));
        assert!(network("192.0.2.0/24").contains("::ffff:192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn a_network_that_is_a_typo_is_refused_with_what_was_meant() {
        assert!(matches!("192.0.2.0/33".parse::<Network>(), Err(BadNetwork::Prefix { .. })));
        for bad in ["", "x", "192.0.2.0/", "192.0.2.0/+8", "192.0.2/24", "::1/-1"] {
            assert!(matches!(bad.parse::<Network>(), Err(BadNetwork::Syntax(_))), "{bad}");
        }
        let error = "192.0.2.5/24".parse::<Network>().unwrap_err();
        assert!(error.to_string().contains("write 192.0.2.0/24"), "{error}");
    }

    #[test]
    fn nobody_is_a_peer_unless_named() {
        assert!(!Peers::default().contains("127.0.0.1".parse().unwrap()));
        assert!(Peers::loopback().contains("::1".parse().unwrap()));
    }
}

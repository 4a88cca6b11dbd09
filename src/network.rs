//! Networks in CIDR notation: who may speak to us, and whom a route is for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A network such as `192.0.2.0/24` or `2001:db8::/32`; an address alone is a network of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

/// Why a text is not a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// Neither an address nor a network.
    #[error("{0:?} is not a network")]
    Syntax(String),
    /// Bits beyond the prefix: a typo in one of the two.
    #[error("{text:?} has bits set beyond its prefix; {meant} is the network that holds it")]
    HostBits {
        /// What was written.
        text: String,
        /// The network that contains it.
        meant: Network,
    },
}

impl Network {
    /// The network of this address alone.
    #[must_use]
    pub fn of(addr: IpAddr) -> Self {
        Self(addr.into())
    }

    /// Whether `addr` is in the network. An IPv4 address that is mapped into IPv6 counts as the
    /// IPv4 address.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.contains(&addr.to_canonical())
    }
}

impl FromStr for Network {
    type Err = BadNetwork;
    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        if let Ok(addr) = text.parse() {
            return Ok(Self::of(addr));
        }
        let network: IpNet = text.parse().map_err(|_| BadNetwork::Syntax(text.to_owned()))?;
        if network.trunc() != network {
            let meant = Self(network.trunc());
            return Err(BadNetwork::HostBits { text: text.to_owned(), meant });
        }
        Ok(Self(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
        let cases = [
            ("127.0.0.0/8", "127.9.9.9", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("10.0.0.0/8", "::1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.0/24", "::ffff:192.0.2.7", true),
        ];
        for (net, addr, inside) in cases {
            assert_eq!(network(net).contains(addr.parse().unwrap()), inside, "{addr} in {net}");
        }
    }

    #[test]
    fn a_typo_is_refused_with_what_was_meant() {
        let bad = ["", "x", "192.0.2.0/", "192.0.2.0/+8", "192.0.2/24", "10.0.0.0/33", "::/129"];
        for text in bad {
            assert_eq!(text.parse::<Network>(), Err(BadNetwork::Syntax(text.to_owned())), "{text}");
        }
        let error = "192.0.2.5/24".parse::<Network>().unwrap_err();
        assert!(error.to_string().contains("192.0.2.0/24"), "{error}");
    }
}

//! `next_hop`: a SIP URI (RFC 3261, 19.1) as far as it says where a request goes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::call::message::{Scheme, Transport};
use crate::config::problem::Wrong;

/// Where an inline call's other leg goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The user part to dial, as it stands in the URI; the caller's own Request-URI names the
    /// user when `None`.
    pub user: Option<String>,
    /// The host.
    pub host: Host,
    /// The port; the transport's default when `None`.
    pub port: Option<u16>,
    /// What the URI says. Where it says nothing, that is UDP, or what the name's SRV records offer.
    pub transport: Option<Transport>,
    /// `sips:` is TLS all the way.
    pub scheme: Scheme,
}

/// Where an inline call's other leg may go: the first that takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHops {
    /// Never empty.
    pub each: Vec<NextHop>,
    /// Which is tried first.
    pub order: Order,
}

/// In which order next hops are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they are written.
    AsWritten,
    /// By chance, in proportion to these weights, drawn for each call: one for each next hop.
    ByWeight(Vec<u16>),
}

impl NextHops {
    /// The one and only next hop.
    #[must_use]
    pub fn one(next_hop: NextHop) -> Self {
        Self { each: vec![next_hop], order: Order::AsWritten }
    }

    /// In the order to try them. `draw` gives a number below the one that it is given.
    pub fn in_order(&self, mut draw: impl FnMut(u32) -> u32) -> Vec<&NextHop> {
        match &self.order {
            Order::AsWritten => self.each.iter().collect(),
            Order::ByWeight(weights) => {
                let weighed = self.each.iter().zip(weights.iter().copied()).collect();
                by_weight(weighed, &mut draw)
            }
        }
    }
}

impl fmt::Display for NextHops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.each.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(", "))
    }
}

/// Draws one after the other in proportion to their weights, as RFC 2782 does: those of weight 0
/// come first among equals now and then, and last otherwise.
pub fn by_weight<T>(mut items: Vec<(T, u16)>, draw: &mut impl FnMut(u32) -> u32) -> Vec<T> {
    items.sort_by_key(|(_, weight)| *weight != 0);
    let mut drawn = Vec::with_capacity(items.len());
    while !items.is_empty() {
        let total: u32 = items.iter().map(|(_, weight)| u32::from(*weight)).sum();
        let mark = draw(total.saturating_add(1));
        let mut sum = 0;
        let at = items.iter().position(|(_, weight)| {
            sum += u32::from(*weight);
            sum >= mark
        });
        drawn.push(items.remove(at.unwrap_or(0)).0);
    }
    drawn
}

/// A host: an address, or a name to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A DNS name.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

impl NextHop {
    /// How requests go there, unless SRV records say more.
    #[must_use]
    pub fn transport_or_default(&self) -> Transport {
        self.transport.unwrap_or(Transport::Udp)
    }

    /// The port to send to (RFC 3261, 19.1.2).
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(match self.transport_or_default() {
            Transport::Tls => 5061,
            Transport::Udp | Transport::Tcp => 5060,
        })
    }

    /// The Request-URI for a call to `user` (unescaped): the configured user part goes before it.
    #[must_use]
    pub fn uri(&self, user: &str) -> String {
        let user = self.user.clone().unwrap_or_else(|| escape_user(user));
        let at = if user.is_empty() { "" } else { "@" };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        // `sips` says TLS already, and its transport parameter would name what is below it.
        let (scheme, transport) = match (self.scheme, self.transport) {
            (Scheme::Sips, _) => ("sips", ""),
            (Scheme::Sip, None) => ("sip", ""),
            (Scheme::Sip, Some(Transport::Udp)) => ("sip", ";transport=udp"),
            (Scheme::Sip, Some(Transport::Tcp)) => ("sip", ";transport=tcp"),
            (Scheme::Sip, Some(Transport::Tls)) => ("sip", ";transport=tls"),
        };
        format!("{scheme}:{user}{at}{}{port}{transport}", self.host)
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri(""))
    }
}

/// The characters that a user part may hold as they are: unreserved and user-unreserved (RFC
/// 3261, 25.1). The rest is escaped.
fn escape_user(user: &str) -> String {
    let mut out = String::with_capacity(user.len());
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl FromStr for NextHop {
    type Err = Wrong;
    fn from_str(text: &str) -> Result<Self, Wrong> {
        let remedy = "write \"sip:HOST:PORT\", with \";transport=tcp\" for TCP or \";transport=tls\" for TLS";
        let wrong = |what: &str| Wrong::new(format!("{text:?} {what}"), remedy);
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(wrong("is not a SIP URI"));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "sip" => Scheme::Sip,
            "sips" => Scheme::Sips,
            _ => return Err(wrong("is not a SIP URI")),
        };
        if rest.bytes().any(|b| b <= b' ' || b == 0x7f || b"<>\"?".contains(&b)) {
            return Err(wrong("holds characters that have no place in a next hop"));
        }
        let (user, rest) = match rest.rsplit_once('@') {
            Some(("", _)) => return Err(wrong("has an empty user part")),
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (hostport, parameters) = rest.split_once(';').unwrap_or((rest, ""));
        let (host, port) = host_and_port(hostport).ok_or_else(|| wrong("names no host"))?;
        let mut transport = (scheme == Scheme::Sips).then_some(Transport::Tls);
        for parameter in parameters.split(';').filter(|p| !p.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match (name.to_ascii_lowercase().as_str(), value.to_ascii_lowercase().as_str()) {
                ("transport", "udp") if scheme == Scheme::Sips => {
                    return Err(wrong("asks for TLS, which UDP cannot carry"));
                }
                ("transport", "udp") => transport = Some(Transport::Udp),
                // Below `sips` it is what TLS runs on (RFC 5630, 3.1.4).
                ("transport", "tcp") if scheme == Scheme::Sip => transport = Some(Transport::Tcp),
                ("transport", "tcp") => {}
                ("transport", "tls") => transport = Some(Transport::Tls),
                // A next hop is where we send to: loose routing says nothing more about it.
                ("lr", "") => {}
                _ => return Err(wrong(&format!("has a parameter {parameter:?} that is unknown"))),
            }
        }
        Ok(Self { user, host, port, transport, scheme })
    }
}

fn host_and_port(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        (Host::Address(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?)), port)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let (name, port) = text.split_at(end);
        let host = match name.parse() {
            Ok(address) => Host::Address(IpAddr::V4(address)),
            Err(_) if is_name(name) => Host::Name(name.to_ascii_lowercase()),
            Err(_) => return None,
        };
        (host, port)
    };
    let port = match port.strip_prefix(':') {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        None if port.is_empty() => None,
        None => return None,
    };
    Some((host, port))
}

fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // A name that ends in a number is a mistyped address.
    let numeric = name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && !numeric && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_hop_says_host_port_transport_and_perhaps_a_user() {
        let hop: NextHop = "sip:127.0.0.1:5080".parse().unwrap();
        assert_eq!(hop.host, Host::Address("127.0.0.1".parse().unwrap()));
        assert_eq!((hop.port_or_default(), hop.transport_or_default()), (5080, Transport::Udp));
        assert_eq!(hop.uri("+49 30"), "sip:+49%2030@127.0.0.1:5080");
        assert_eq!(hop.uri(""), "sip:127.0.0.1:5080");
        let hop: NextHop = "sip:agent@[2001:db8::1];transport=TCP".parse().unwrap();
        assert_eq!(hop.uri("other"), "sip:agent@[2001:db8::1];transport=tcp");
        let hop: NextHop = "sip:pbx.example".parse().unwrap();
        assert_eq!(hop.host, Host::Name("pbx.example".to_owned()));
        assert_eq!((hop.transport, hop.port_or_default()), (None, 5060));
        let hop: NextHop = "sip:pbx.example;transport=udp".parse().unwrap();
        assert_eq!(hop.uri("1"), "sip:1@pbx.example;transport=udp");
    }

    #[test]
    fn weights_are_proportions() {
        let mut state = 7u32;
        let mut draw = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let mut first = [0u32; 3];
        for _ in 0..10_000 {
            let drawn = by_weight(vec![(0, 30), (1, 10), (2, 0)], &mut draw);
            assert_eq!(drawn.len(), 3);
            first[drawn[0]] += 1;
        }
        assert!((6_800..7_600).contains(&first[0]), "{first:?}");
        assert!((2_100..2_700).contains(&first[1]), "{first:?}");
        assert!((100..400).contains(&first[2]), "{first:?}");
        let all = NextHops {
            each: vec!["sip:a".parse().unwrap(), "sip:b".parse().unwrap()],
            order: Order::AsWritten,
        };
        assert_eq!(all.in_order(&mut draw), all.each.iter().collect::<Vec<_>>());
    }

    #[test]
    fn tls_is_asked_for_by_transport_or_by_scheme() {
        let hop: NextHop = "sip:pbx.example;transport=tls".parse().unwrap();
        assert_eq!((hop.transport, hop.port_or_default()), (Some(Transport::Tls), 5061));
        assert_eq!(hop.uri("1"), "sip:1@pbx.example;transport=tls");
        for text in ["sips:pbx.example", "sips:pbx.example;transport=tcp"] {
            let hop: NextHop = text.parse().unwrap();
            assert_eq!((hop.transport, hop.port_or_default()), (Some(Transport::Tls), 5061));
            assert_eq!(hop.uri("1"), "sips:1@pbx.example");
        }
    }

    #[test]
    fn what_is_not_a_next_hop_is_refused() {
        for bad in [
            "",
            "127.0.0.1",
            "sip:",
            "tel:+4930",
            "sips:pbx.example;transport=udp",
            "sip:@host",
            "sip:a b@host",
            "sip:host:0",
            "sip:host:99999",
            "sip:host:",
            "sip:[::1",
            "sip:1.2.3",
            "sip:1.2.3.456",
            "sip:host;transport=sctp",
            "sip:host\r\nX: y",
            "sip:host?a=b",
            "sip:-..-",
        ] {
            assert!(bad.parse::<NextHop>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_user_part_never_breaks_out_of_the_uri() {
        let hop: NextHop = "sip:127.0.0.1".parse().unwrap();
        assert_eq!(hop.uri("a@b>\r\nX: y"), "sip:a%40b%3E%0D%0AX%3A%20y@127.0.0.1");
    }
}

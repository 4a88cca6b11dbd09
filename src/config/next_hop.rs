//! `next_hop`: a SIP URI (RFC 3261, 19.1) as far as it says where a request goes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::call::message::Transport;
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
    /// UDP unless the URI says otherwise.
    pub transport: Transport,
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
    /// The port to send to.
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(5060)
    }

    /// The Request-URI for a call to `user` (unescaped): the configured user part goes before it.
    #[must_use]
    pub fn uri(&self, user: &str) -> String {
        let user = self.user.clone().unwrap_or_else(|| escape_user(user));
        let at = if user.is_empty() { "" } else { "@" };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let transport = match self.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
        };
        format!("sip:{user}{at}{}{port}{transport}", self.host)
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
        let remedy = "write \"sip:HOST:PORT\", with \";transport=tcp\" for TCP";
        let wrong = |what: &str| Wrong::new(format!("{text:?} {what}"), remedy);
        let unavailable = || {
            Wrong::new(
                "SIP over TLS is not available in this version",
                "dial a sip: URI over UDP or TCP, inside a network that you trust",
            )
        };
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(wrong("is not a SIP URI"));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "sip" => {}
            "sips" => return Err(unavailable()),
            _ => return Err(wrong("is not a SIP URI")),
        }
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
        let mut transport = Transport::Udp;
        for parameter in parameters.split(';').filter(|p| !p.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match (name.to_ascii_lowercase().as_str(), value.to_ascii_lowercase().as_str()) {
                ("transport", "udp") => transport = Transport::Udp,
                ("transport", "tcp") => transport = Transport::Tcp,
                ("transport", "tls") => return Err(unavailable()),
                // A next hop is where we send to: loose routing says nothing more about it.
                ("lr", "") => {}
                _ => return Err(wrong(&format!("has a parameter {parameter:?} that is unknown"))),
            }
        }
        Ok(Self { user, host, port, transport })
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
        assert_eq!((hop.port_or_default(), hop.transport), (5080, Transport::Udp));
        assert_eq!(hop.uri("+49 30"), "sip:+49%2030@127.0.0.1:5080");
        assert_eq!(hop.uri(""), "sip:127.0.0.1:5080");
        let hop: NextHop = "sip:agent@[2001:db8::1];transport=TCP".parse().unwrap();
        assert_eq!(hop.uri("other"), "sip:agent@[2001:db8::1];transport=tcp");
        let hop: NextHop = "sip:pbx.example".parse().unwrap();
        assert_eq!(hop.host, Host::Name("pbx.example".to_owned()));
    }

    #[test]
    fn what_is_not_a_next_hop_is_refused() {
        for bad in [
            "",
            "127.0.0.1",
            "sip:",
            "tel:+4930",
            "sips:pbx.example",
            "sip:@host",
            "sip:a b@host",
            "sip:host:0",
            "sip:host:99999",
            "sip:host:",
            "sip:[::1",
            "sip:1.2.3",
            "sip:1.2.3.456",
            "sip:host;transport=tls",
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

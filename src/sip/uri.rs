//! What the edge reads of a SIP URI: the address that it names, and what it asks of the transport.

use std::net::SocketAddr;

use bytes::Bytes;
use sipx_sip::{Host, Scheme, Uri};

use crate::sip::text::split;

/// The address in `<sip:alice@192.0.2.1:5070;lr>` or the same without brackets; the default port
/// where it has none. `None` where the host is a name.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    let uri = parse(text)?;
    let secure = matches!(uri.scheme(), Scheme::Sips) || transport_is(&uri, "tls");
    match uri.host()? {
        Host::Ip(ip) => {
            let default = if secure { 5061 } else { 5060 };
            Some(SocketAddr::new(ip.to_canonical(), uri.port().unwrap_or(default)))
        }
        Host::Name(_) => None,
    }
}

/// Whether the address that a URI names is this one.
pub(super) fn leads_to(text: &str, addr: SocketAddr) -> bool {
    address(text)
        .is_some_and(|named| named.port() == addr.port() && named.ip() == addr.ip().to_canonical())
}

/// Whether two URIs name the same host and port.
pub(super) fn same_place(one: &str, other: &str) -> bool {
    let (Some(one), Some(other)) = (parse(one), parse(other)) else { return false };
    let (Some(host), Some(there)) = (one.host(), other.host()) else { return false };
    host.equivalent(there) && one.port() == other.port()
}

/// The SIP URIs of a `Contact`, without brackets, parameters of the header, and the headers that
/// such a URI may ask for, which nobody is to put into a request of ours.
pub(super) fn each_bare(contacts: &str) -> Vec<String> {
    let of_one = |contact: &[u8]| {
        let text = std::str::from_utf8(contact).ok()?;
        let inner = match text.split_once('<') {
            Some((_, rest)) => rest.split_once('>')?.0,
            None => text.split(';').next()?,
        };
        let bare = inner.split('?').next()?.trim();
        let uri = Uri::parse(Bytes::copy_from_slice(bare.as_bytes())).ok()?;
        uri.scheme().is_sip().then(|| bare.to_owned())
    };
    split(contacts.as_bytes(), b',').into_iter().filter_map(of_one).collect()
}

/// Whether a URI insists on UDP.
pub(super) fn insists_on_udp(text: &str) -> bool {
    parse(text).is_some_and(|uri| transport_is(&uri, "udp"))
}

fn transport_is(uri: &Uri, wanted: &str) -> bool {
    uri.transport().is_some_and(|value| value.eq_ignore_ascii_case(wanted.as_bytes()))
}

fn parse(text: &str) -> Option<Uri> {
    let inner = text.split_once('<').map_or(text, |(_, rest)| rest);
    let inner = inner.split_once('>').map_or(inner, |(inner, _)| inner);
    Uri::parse(Bytes::copy_from_slice(inner.trim().as_bytes())).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in "(<?sips?:)?[a@:;,<>?=%\\[\\]\"é0-9 .]{0,40}",
            other in ".{0,20}",
        ) {
            let _ = (address(&text), insists_on_udp(&text), same_place(&text, &other));
            for bare in each_bare(&text) {
                prop_assert!(!bare.contains(['?', '<', '>', '\r', '\n']), "{}", bare);
            }
        }
    }

    #[test]
    fn an_address_is_read_where_there_is_one() {
        for (text, expected) in [
            ("sip:a@192.0.2.1:5070", Some("192.0.2.1:5070")),
            ("\"A\" <sip:a@192.0.2.1;lr>;x=y", Some("192.0.2.1:5060")),
            ("sips:[2001:db8::1]", Some("[2001:db8::1]:5061")),
            ("sip:192.0.2.1;transport=TLS", Some("192.0.2.1:5061")),
            ("sip:a@example.com", None),
            ("tel:+4930", None),
            ("", None),
        ] {
            assert_eq!(address(text), expected.map(|addr| addr.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_uri_may_insist_on_udp() {
        assert!(insists_on_udp("<sip:a@b;transport=UDP;lr>"));
        assert!(!insists_on_udp("sip:a@b;transport=tcp"));
        assert!(!insists_on_udp("sip:a@b"));
    }
}

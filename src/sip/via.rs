//! The topmost `Via`: what we add to it on receipt, and where it sends the response.

use std::net::SocketAddr;

use sipx_sip::headers::first_hop_end;
use sipx_sip::{Header, HeaderName, Headers, Via};

use crate::sip::text::{parameter_name, split};

/// Writes `received` and, where it was asked for, `rport` into the topmost `Via` (RFC 3261,
/// 18.2.1; RFC 3581, 4), and says where a response over UDP goes (RFC 3261, 18.2.2).
///
/// Values that the sender put there itself are replaced. `maddr` is not followed: it would let a
/// peer aim our responses at somebody else.
///
/// `None` when there is no `Via` that can be read: then no response can be sent either.
pub(super) fn stamp(headers: &mut Headers, source: SocketAddr) -> Option<SocketAddr> {
    let via = headers.typed::<Via>()?.ok()?;
    let at = headers.iter().position(|header| header.name() == &HeaderName::Via)?;
    let value = headers.value(&HeaderName::Via)?.into_owned();
    let header = Header::build(HeaderName::Via, stamped(&value, &via, source)).ok()?;
    headers.remove_first(&HeaderName::Via);
    headers.insert(at, header);
    Some(reply_to(&via, source))
}

/// Where a response goes: to the port it came from when `rport` asks for that, else to the port
/// that the `Via` names, always at the address it came from.
pub(super) fn reply_to(via: &Via, source: SocketAddr) -> SocketAddr {
    match via.rport() {
        Some(_) => source,
        None => SocketAddr::new(source.ip(), sent_by_port(via)),
    }
}

/// The port of the `Via`: where a new connection for a response goes (RFC 3261, 18.2.2).
pub(super) fn sent_by_port(via: &Via) -> u16 {
    let default = if via.transport.eq_ignore_ascii_case(b"TLS") { 5061 } else { 5060 };
    via.port.unwrap_or(default)
}

fn stamped(value: &[u8], via: &Via, source: SocketAddr) -> Vec<u8> {
    let (hop, rest) = value.split_at(first_hop_end(value).min(value.len()));
    let mut out = Vec::with_capacity(value.len() + 64);
    for (n, part) in split(hop, b';').into_iter().enumerate() {
        let name = parameter_name(part);
        let ours = name.eq_ignore_ascii_case(b"received") || name.eq_ignore_ascii_case(b"rport");
        if n > 0 && ours {
            continue;
        }
        if n > 0 {
            out.push(b';');
        }
        out.extend_from_slice(part);
    }
    while out.last().is_some_and(u8::is_ascii_whitespace) {
        out.pop();
    }
    let ip = source.ip().to_canonical();
    let named = via.host.to_bytes();
    let named = named.strip_prefix(b"[").and_then(|n| n.strip_suffix(b"]")).unwrap_or(&named);
    let named = std::str::from_utf8(named).ok().and_then(|n| n.parse().ok());
    if via.rport().is_some() {
        out.extend_from_slice(format!(";received={ip};rport={}", source.port()).as_bytes());
    } else if named != Some(ip) {
        out.extend_from_slice(format!(";received={ip}").as_bytes());
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn after(via: &str, source: &str) -> (String, SocketAddr) {
        let mut headers = Headers::new();
        let value = Bytes::copy_from_slice(via.as_bytes());
        headers.push(Header::build(HeaderName::Via, value).unwrap());
        let to = stamp(&mut headers, source.parse().unwrap()).unwrap();
        (String::from_utf8(headers.value(&HeaderName::Via).unwrap().into_owned()).unwrap(), to)
    }

    #[test]
    fn rport_is_answered_with_the_port_and_address_it_came_from() {
        let (via, to) = after(
            "SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bK1, SIP/2.0/UDP b;rport",
            "192.0.2.1:9",
        );
        assert_eq!(
            via,
            "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;received=192.0.2.1;rport=9, SIP/2.0/UDP b;rport"
        );
        assert_eq!(to.to_string(), "192.0.2.1:9");
    }

    #[test]
    fn without_rport_the_port_of_the_via_counts_but_never_its_address() {
        let (via, to) = after("SIP/2.0/UDP 10.0.0.1:7000;branch=z9hG4bK1", "192.0.2.1:9");
        assert_eq!(via, "SIP/2.0/UDP 10.0.0.1:7000;branch=z9hG4bK1;received=192.0.2.1");
        assert_eq!(to.to_string(), "192.0.2.1:7000");
        let (via, to) = after("SIP/2.0/UDP [2001:db8::1];branch=z9hG4bK1", "[2001:db8::1]:9");
        assert_eq!(via, "SIP/2.0/UDP [2001:db8::1];branch=z9hG4bK1");
        assert_eq!(to.to_string(), "[2001:db8::1]:5060");
    }

    #[test]
    fn what_a_sender_claims_to_have_been_received_from_is_replaced() {
        let (via, to) = after(
            "SIP/2.0/UDP 192.0.2.1;received=203.0.113.5;maddr=203.0.113.6;rport=1;branch=z9hG4bK1",
            "192.0.2.1:9",
        );
        assert!(!via.contains("203.0.113.5"), "{via}");
        assert!(via.ends_with(";received=192.0.2.1;rport=9"), "{via}");
        assert_eq!(to.to_string(), "192.0.2.1:9");
    }
}

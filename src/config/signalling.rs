//! Reads `[sip]`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::call::message::{Hop, Transport};
use crate::call::session_timer::{LEAST, Terms};
use crate::call::setup::Transfers;
use crate::config::address::{self, Advertise};
use crate::config::document::{Field, Section, span_within};
use crate::config::problem::Wrong;
use crate::config::settings::{LargeRequests, NextHopCare, Sip, SipTls};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn sip(mut section: Section<'_>) -> Sip {
    let listen = section.field("listen");
    let hops = listen.each(address::listener).unwrap_or_else(|| {
        let addr = SocketAddr::from(([127, 0, 0, 1], 5060));
        vec![Hop { transport: Transport::Udp, addr }, Hop { transport: Transport::Tcp, addr }]
    });
    if listen.texts().is_some_and(|texts| texts.is_empty()) {
        listen.report(Wrong::new("names no listener", "write [\"udp:ADDRESS:PORT\"]"));
    }
    let mut seen: Vec<Hop> = Vec::new();
    for hop in &hops {
        if seen.contains(hop) && hop.addr.port() != 0 {
            listen.report(Wrong::new(
                format!("names {} twice", listener_text(*hop)),
                "remove one of the two",
            ));
        }
        seen.push(*hop);
    }
    let advertise = advertise(&mut section, &hops);
    let tls = tls(section.section("tls"), &listen, &hops);
    let peers = section.field("peers").each(address::network);
    let timers = timers(&mut section);
    let sip = Sip {
        listen: hops,
        advertise,
        peers: peers.unwrap_or_else(|| {
            ["127.0.0.0/8", "::1/128"].iter().filter_map(|cidr| cidr.parse().ok()).collect()
        }),
        info_keys: section.field("info_keys").boolean(false),
        transfers: section.field("transfers").word(
            Transfers::Followed,
            &[("follow", Transfers::Followed), ("refuse", Transfers::Refused)],
        ),
        timers,
        ring_within: section.field("ring_within").span(180 * SECOND, SECOND, HOUR),
        max_calls: usize::try_from(section.field("max_calls").integer(2000, 1..=100_000))
            .unwrap_or(usize::MAX),
        large_requests: section
            .field("large_requests")
            .word(LargeRequests::Tcp, &[("tcp", LargeRequests::Tcp), ("udp", LargeRequests::Udp)]),
        resolver: section.field("resolver").each(name_server).unwrap_or_default(),
        next_hop: next_hop(section.section("next_hop")),
        tls,
    };
    let auth = section.section("auth");
    if !auth.is_empty() {
        auth.report(
            "",
            Wrong::new(
                "[sip.auth] is not available in this version",
                "remove the table; name the peers that may call in sip.peers",
            ),
        );
    }
    section.finish();
    sip
}

/// An address, with a port or on the one for DNS.
fn name_server(text: &str) -> Result<SocketAddr, Wrong> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    text.parse().or_else(|_| bare.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53))).map_err(|_| {
        Wrong::new(
            format!("{text:?} is not the address of a name server"),
            "write \"10.0.0.53\" or \"10.0.0.53:5353\", or a list of them",
        )
    })
}

fn next_hop(mut section: Section<'_>) -> NextHopCare {
    let probe = section.field("probe").read(None, |text| match text {
        "off" => Ok(None),
        _ => span_within(text, SECOND, HOUR).map(Some),
    });
    let care = NextHopCare {
        answer_within: section.field("answer_within").span(4 * SECOND, SECOND / 2, 32 * SECOND),
        avoid_for: section.field("avoid_for").span(30 * SECOND, Duration::ZERO, HOUR),
        probe,
    };
    section.finish();
    care
}

fn tls(mut section: Section<'_>, listen: &Field<'_>, hops: &[Hop]) -> SipTls {
    let (cert, key) = (section.field("cert").path(), section.field("key").path());
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            let wrong = Wrong::new("names only one of cert and key", "name both, or neither");
            section.report("", wrong);
            None
        }
    };
    let client_ca = section.field("client_ca").path();
    let ca = section.field("ca").path();
    let listens = hops.iter().any(|hop| hop.transport == Transport::Tls);
    if listens && identity.is_none() {
        listen.report(Wrong::new(
            "listens for TLS, and there is no certificate to show",
            "set sip.tls.cert and sip.tls.key",
        ));
    }
    if !listens && client_ca.is_some() {
        section.report(
            "client_ca",
            Wrong::new(
                "says whose certificates callers show, and nothing listens for TLS",
                "add \"tls:ADDRESS:5061\" to sip.listen, or remove the key",
            ),
        );
    }
    section.finish();
    SipTls { identity, client_ca, ca }
}

/// `session_expires` and `min_se`.
fn timers(section: &mut Section<'_>) -> Terms {
    let least = section.field("min_se").span(LEAST, SECOND, DAY);
    let field = section.field("session_expires");
    let expires = field.read(Some(1800 * SECOND), |text| match text {
        "off" => Ok(None),
        _ => span_within(text, SECOND, DAY).map(Some),
    });
    if expires.is_some_and(|expires| expires < least) {
        field.report(Wrong::new(
            "is shorter than sip.min_se",
            "write a longer one, such as \"30m\", or \"off\"",
        ));
    }
    Terms { expires, least }
}

fn advertise(section: &mut Section<'_>, listen: &[Hop]) -> Advertise {
    let field = section.field("advertise");
    let mut advertise = Advertise::default();
    let addresses = field.each(|text| {
        let address: IpAddr = text.parse().map_err(|_| {
            Wrong::new(format!("{text:?} is not an IP address"), "write \"192.0.2.10\"")
        })?;
        if address.is_unspecified() || address.is_multicast() {
            return Err(Wrong::new(
                format!("{text:?} is not an address that a peer can reach"),
                "write the address of this machine that peers reach",
            ));
        }
        Ok(address)
    });
    for address in addresses.into_iter().flatten() {
        if advertise.to(address).is_some() {
            field.report(Wrong::new(
                "names two addresses of one family",
                "name at most one IPv4 and one IPv6 address",
            ));
        }
        advertise.fill(address);
    }
    for hop in listen.iter().filter(|hop| !hop.addr.ip().is_unspecified()) {
        advertise.fill(hop.addr.ip());
    }
    for hop in listen {
        if advertise.to(hop.addr.ip()).is_none() {
            let family = if hop.addr.is_ipv4() { "IPv4" } else { "IPv6" };
            field.report(Wrong::new(
                format!(
                    "{} is every {family} address, and no one address is named for peers",
                    listener_text(*hop)
                ),
                format!("set sip.advertise to the {family} address that peers reach"),
            ));
            break;
        }
    }
    advertise
}

/// A listener as the configuration writes it.
fn listener_text(hop: Hop) -> String {
    format!("{}:{}", hop.transport.as_str().to_ascii_lowercase(), hop.addr)
}

//! Reads the sections that [`crate::config::settings`] describes.

use crate::call::setup::Transfers;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::call::message::{Hop, Transport};
use crate::call::session_timer::{LEAST, Terms};
use crate::config::address::{self, Advertise, PortRange};
use crate::config::document::{Section, span_within};
use crate::config::problem::Wrong;
use crate::config::settings::{
    Http, Keys, Media, Nats, NatsAuth, NatsTls, Secret, Shutdown, Sip, Storage,
};
use crate::sdp::SrtpUse;

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
    };
    for later in ["tls", "auth"] {
        let table = section.section(later);
        if !table.is_empty() {
            table.report(
                "",
                Wrong::new(
                    format!("[sip.{later}] is not available in this version"),
                    "remove the table; name the peers that may call in sip.peers",
                ),
            );
        }
    }
    section.finish();
    sip
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

pub(super) fn media(mut section: Section<'_>) -> Media {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let media = Media {
        ports: section
            .field("ports")
            .read(PortRange { first: 20_000, last: 29_999 }, str::parse::<PortRange>),
        latch: section.field("latch").boolean(false),
        srtp: section.field("srtp").read(SrtpUse::Offer, |text| match text {
            "off" => Ok(SrtpUse::Off),
            "offer" => Ok(SrtpUse::Offer),
            "require" => Ok(SrtpUse::Require),
            _ => Err(Wrong::new(
                format!("{text:?} is not one of its values"),
                "write \"off\", \"offer\" or \"require\"",
            )),
        }),
        workers: usize::try_from(
            section.field("workers").integer(u64::try_from(cores.get()).unwrap_or(1), 1..=256),
        )
        .ok()
        .and_then(NonZeroUsize::new)
        .unwrap_or(NonZeroUsize::MIN),
        silence_after: section.field("silence_after").span(60 * SECOND, SECOND, HOUR),
        keep_keys: section.field("keep_keys").boolean(false),
    };
    section.finish();
    media
}

pub(super) fn keys(mut section: Section<'_>, data: &Path) -> Keys {
    section.field("provider").read((), |text| match text {
        "file" => Ok(()),
        "pkcs11" | "vault" => Err(Wrong::new(
            format!("the provider {text:?} is not available in this build"),
            "write provider = \"file\"",
        )),
        _ => Err(Wrong::new(
            format!("{text:?} is not a provider of keys"),
            "write provider = \"file\"",
        )),
    });
    let path = section.field("path").path().unwrap_or_else(|| data.join("keys"));
    section.finish();
    Keys { path }
}

pub(super) fn storage(mut section: Section<'_>, data: &Path) -> Storage {
    let recordings = section.field("url").optional(|text| {
        if text.starts_with("s3:") {
            return Err(Wrong::new(
                "S3 storage is not available in this version",
                "write \"file:PATH\"",
            ));
        }
        match text.strip_prefix("file:") {
            // "file:///a" is "/a", as in RFC 8089.
            Some(path) if path.starts_with("///") => {
                Ok(PathBuf::from(path.trim_start_matches("//")))
            }
            Some(path) if !path.is_empty() && !path.starts_with("//") => Ok(PathBuf::from(path)),
            _ => {
                Err(Wrong::new(format!("{text:?} is not a place to store"), "write \"file:PATH\""))
            }
        }
    });
    let storage = Storage {
        recordings: recordings.unwrap_or_else(|| data.join("recordings")),
        segment: section.field("segment").span(60 * SECOND, SECOND, HOUR),
    };
    section.finish();
    storage
}

pub(super) fn nats(mut section: Section<'_>) -> Option<Nats> {
    let url = section.field("url");
    let servers = url.each(nats_server).unwrap_or_default();
    let auth = nats_auth(&mut section);
    let tls = nats_tls(section.section("tls"));
    let nats = Nats {
        servers,
        auth,
        tls,
        replicas: usize::try_from(section.field("replicas").integer(1, 1..=5)).unwrap_or(1),
        reconcile: section.field("reconcile").span(7 * DAY, HOUR, 90 * DAY),
    };
    if url.is_set() && nats.servers.is_empty() && url.texts().is_some_and(|t| t.is_empty()) {
        url.report(Wrong::new("names no server", "write \"nats://HOST:4222\", or remove the key"));
    }
    if !url.is_set() && !section.is_empty() {
        section.report(
            "",
            Wrong::new("says how to reach NATS, but not where", "set nats.url, or remove [nats]"),
        );
    }
    section.finish();
    url.is_set().then_some(nats)
}

fn nats_server(text: &str) -> Result<String, Wrong> {
    let remedy = "write \"nats://HOST:4222\" or \"tls://HOST:4222\"";
    let rest = text.strip_prefix("nats://").or_else(|| text.strip_prefix("tls://"));
    match rest {
        Some(rest) if rest.contains('@') => Err(Wrong::new(
            "holds a user or password",
            "use nats.user and nats.password, or nats.token, and leave them out of the URL",
        )),
        Some(rest)
            if !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && b != b'/') =>
        {
            Ok(text.to_owned())
        }
        _ => Err(Wrong::new(format!("{text:?} is not the URL of a NATS server"), remedy)),
    }
}

fn nats_auth(section: &mut Section<'_>) -> NatsAuth {
    let creds = section.field("creds").path();
    let nkey = section.field("nkey").path();
    let (user, password) = (section.field("user"), section.field("password"));
    let token = section.field("token");
    let mut ways: Vec<NatsAuth> = Vec::new();
    ways.extend(creds.map(NatsAuth::Creds));
    ways.extend(nkey.map(NatsAuth::NKey));
    match (user.text(), password.text()) {
        (Some(user), Some(password)) => ways.push(NatsAuth::User {
            user: user.to_owned(),
            password: Secret::new(password.to_owned()),
        }),
        (None, None) => {}
        (Some(_), None) => password.report(Wrong::new("is missing", "a user needs a password")),
        (None, Some(_)) => user.report(Wrong::new("is missing", "a password needs a user")),
    }
    ways.extend(token.text().map(|token| NatsAuth::Token(Secret::new(token.to_owned()))));
    if ways.len() > 1 {
        section.report(
            "",
            Wrong::new(
                "states more than one way to log in",
                "keep one of creds, nkey, user with password, and token",
            ),
        );
    }
    ways.pop().unwrap_or(NatsAuth::None)
}

fn nats_tls(mut section: Section<'_>) -> NatsTls {
    let ca = section.field("ca").path();
    let client = match (section.field("cert").path(), section.field("key").path()) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            section
                .report("", Wrong::new("names only one of cert and key", "name both, or neither"));
            None
        }
    };
    section.finish();
    NatsTls { ca, client }
}

pub(super) fn http(mut section: Section<'_>) -> Option<Http> {
    let listen = section.field("listen");
    let address = listen.read(Some(SocketAddr::from(([127, 0, 0, 1], 8088))), |text| match text {
        "off" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| {
            Wrong::new(
                format!("{text:?} is not an address with a port"),
                "write \"127.0.0.1:8088\", or \"off\"",
            )
        }),
    });
    let password = section.field("password").optional(|text| match text.len() {
        0..12 => Err(Wrong::new("is too short", "write at least 12 characters")),
        _ => Ok(Secret::new(text.to_owned())),
    });
    let open = address.is_some_and(|address| !address.ip().is_loopback());
    if open && !section.field("password").is_set() {
        listen.report(Wrong::new(
            "can be reached from other machines, and there is no password",
            "set http.password, or listen on 127.0.0.1",
        ));
    }
    section.finish();
    address.map(|listen| Http { listen, password })
}

pub(super) fn shutdown(mut section: Section<'_>) -> Shutdown {
    let drain_within = section.field("drain_within").span(600 * SECOND, Duration::ZERO, DAY);
    section.finish();
    Shutdown { drain_within }
}

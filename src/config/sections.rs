//! Reads the sections that [`crate::config::settings`] describes.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::address::PortRange;
use crate::config::document::Section;
use crate::config::problem::Wrong;
use crate::config::settings::{
    Http, Keys, Media, Nats, NatsAuth, NatsTls, Secret, Shutdown, Storage,
};
use crate::sdp::SrtpUse;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

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

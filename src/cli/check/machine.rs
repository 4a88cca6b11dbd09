//! What a configuration needs of this machine: folders, ports, prompts, servers.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, access};

use super::Finding;
use crate::call::message::Transport;
use crate::config::{Config, EXAMPLE_CONTROLLER, Host, Mode, NatsAuth, PortRange, SipTls};
use crate::consent::policy::Ask;
use crate::control::{self, AskError, Command, Reply};
use crate::ids::Leg;
use crate::keys;
use crate::media::PromptBook;
use crate::sip::{Tls, TlsFiles};

/// How long a running agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at all of it.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let running = data_folder(config, &mut findings);
    findings.push(writable("storage.url", &config.storage.recordings));
    key_folder(config, &mut findings);
    ports(config, running, &mut findings);
    next_hops(config, &mut findings);
    certificates(config, &mut findings);
    nats(config, &mut findings);
    policies(config, &mut findings);
    token_keys(config, &mut findings);
    prompts(config, &mut findings);
    findings
}

/// Whether an agent runs on the folder already.
fn data_folder(config: &Config, findings: &mut Vec<Finding>) -> bool {
    let finding = writable("data", &config.data);
    let there = config.data.exists();
    findings.push(finding);
    if !there {
        return false;
    }
    let asked = control::ask(&config.control_socket(), Command::Status {}, PATIENCE);
    let said = match asked {
        Ok(Reply::Status(status)) => {
            format!("one runs on this data folder, process {}", status.pid)
        }
        Err(AskError::NoAgent { .. }) => return false,
        Ok(_) | Err(_) => "one runs on this data folder".to_owned(),
    };
    findings.push(Finding::ok("agent", said));
    true
}

fn writable(what: &str, path: &Path) -> Finding {
    let shown = path.display();
    // The folder, or the nearest one above it that is there: the rest can be made.
    let there = path.ancestors().find(|p| p.exists()).filter(|p| !p.as_os_str().is_empty());
    let nearest = there.unwrap_or_else(|| Path::new("."));
    if !nearest.is_dir() {
        let remedy = format!("{} is not a folder; set {what} to another path", nearest.display());
        return Finding::wrong(what, remedy);
    }
    if access(nearest, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Finding::wrong(
            what,
            format!(
                "{} is not yours to write; give the user who runs assent the right to, or set \
                 {what} to another folder",
                nearest.display()
            ),
        );
    }
    match nearest == path {
        true => Finding::ok(what, format!("{shown} can be written{}", free(nearest))),
        false => Finding::ok(what, format!("{shown} will be made{}", free(nearest))),
    }
}

fn free(path: &Path) -> String {
    let Ok(disk) = rustix::fs::statvfs(path) else { return String::new() };
    let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    format!(", {} GB free", bytes / 1_000_000_000)
}

fn key_folder(config: &Config, findings: &mut Vec<Finding>) {
    let path = &config.keys.path;
    let what = "keys.path";
    let Ok(folder) = path.metadata() else {
        findings.push(writable(what, path));
        return;
    };
    if !folder.is_dir() {
        findings.push(Finding::wrong(what, format!("{} is not a folder", path.display())));
        return;
    }
    if let Some(finding) = open_to_others(what, path, folder.permissions().mode(), 0o700) {
        findings.push(finding);
        return;
    }
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(why) => {
            let said = format!(
                "{} cannot be read ({why}); run this as the user who runs the agent",
                path.display()
            );
            findings.push(Finding::wrong(what, said));
            return;
        }
    };
    let open = entries.flatten().find_map(|entry| {
        let mode = entry.metadata().ok()?.permissions().mode();
        open_to_others(what, &entry.path(), mode, 0o600)
    });
    findings.push(
        open.unwrap_or_else(|| {
            Finding::ok(what, format!("{} is its owner's alone", path.display()))
        }),
    );
}

fn open_to_others(what: &str, path: &Path, mode: u32, wanted: u32) -> Option<Finding> {
    let shown = path.display();
    let mode = mode & 0o7777;
    (mode & 0o077 != 0).then(|| {
        Finding::wrong(
            what,
            format!("{shown} is open to others (mode {mode:04o}); run: chmod {wanted:o} {shown}"),
        )
    })
}

fn ports(config: &Config, running: bool, findings: &mut Vec<Finding>) {
    let mut note = |what: &str, name: String, result: std::io::Result<()>| {
        findings.push(match result {
            Ok(()) => Finding::ok(what, format!("{name} is free")),
            Err(_) if running => {
                Finding::ok(what, format!("{name} is taken, by the running agent it seems"))
            }
            Err(why) => Finding::wrong(
                what,
                format!("{name} cannot be taken ({why}); {}", remedy(what, &why)),
            ),
        });
    };
    for hop in &config.sip.listen {
        let name = format!("{}:{}", hop.transport.as_str().to_ascii_lowercase(), hop.addr);
        let result = match hop.transport {
            Transport::Udp => UdpSocket::bind(hop.addr).map(drop),
            Transport::Tcp | Transport::Tls => TcpListener::bind(hop.addr).map(drop),
        };
        note("sip.listen", name, result);
    }
    if let Some(http) = &config.http {
        note("http.listen", http.listen.to_string(), TcpListener::bind(http.listen).map(drop));
    }
    // Where media is taken, which is not where others are told to send it: there may be a NAT.
    let address = config.sip.listen.first().map(|hop| hop.addr.ip());
    findings.push(media_ports(config.media.ports, address));
}

fn remedy(what: &str, why: &std::io::Error) -> String {
    match why.kind() {
        ErrorKind::AddrNotAvailable => {
            format!("this machine does not have this address; correct {what}")
        }
        ErrorKind::PermissionDenied => format!("set {what} to a port from 1024 on"),
        _ => format!("stop the program that has it, or set {what} to another address"),
    }
}

fn media_ports(range: PortRange, address: Option<IpAddr>) -> Finding {
    let address = address.unwrap_or_else(|| IpAddr::from([127, 0, 0, 1]));
    let free = |port: u16| UdpSocket::bind(SocketAddr::new(address, port)).is_ok();
    let taken = (range.first..=range.last).filter(|port| !free(*port)).count();
    let what = "media.ports";
    if taken == range.count() {
        let said = format!("none of {range} can be taken on {address}; set media.ports to others");
        return Finding::wrong(what, said);
    }
    let calls = (range.count() - taken) / 4;
    match taken {
        0 => Finding::ok(what, format!("{range} are free, enough for {calls} calls")),
        n => Finding::note(what, format!("{n} of {range} are taken: enough for {calls} calls")),
    }
}

fn next_hops(config: &Config, findings: &mut Vec<Finding>) {
    for route in &config.routes {
        let Mode::Inline { next_hops } = &route.mode else { continue };
        for next_hop in &next_hops.each {
            let Host::Name(name) = &next_hop.host else { continue };
            let what = format!("route[{}].next_hop", route.number);
            // With name servers of its own, or by service, the agent may well know more.
            let elsewhere = !config.sip.resolver.is_empty() || next_hop.port.is_none();
            let found = (name.as_str(), next_hop.port_or_default()).to_socket_addrs();
            findings.push(match found.map(|mut found| found.next()) {
                Ok(Some(address)) => Finding::ok(what, format!("{name} is {}", address.ip())),
                Ok(None) | Err(_) if elsewhere => Finding::note(
                    what,
                    format!(
                        "{name} has no address for this machine's resolver; SRV records and \
                         sip.resolver are looked at by the agent alone"
                    ),
                ),
                Ok(None) => {
                    Finding::wrong(what, format!("{name} has no address; write one that has"))
                }
                Err(why) => Finding::wrong(
                    what,
                    format!(
                        "{name} cannot be looked up ({why}); write an address, or mend the DNS"
                    ),
                ),
            });
        }
    }
}

/// The certificates of `[sip.tls]`, as the agent will read them.
fn certificates(config: &Config, findings: &mut Vec<Finding>) {
    let tls = config.sip.tls.clone();
    if !tls.is_set() {
        return;
    }
    let SipTls { identity, client_ca, ca } = tls;
    findings.push(match Tls::load(&TlsFiles { identity, client_ca, ca }) {
        Ok(_) => Finding::ok("sip.tls", "the certificates can be used"),
        Err(why) => Finding::wrong("sip.tls", why.to_string()),
    });
}

fn nats(config: &Config, findings: &mut Vec<Finding>) {
    let Some(nats) = &config.nats else {
        findings.push(Finding::ok("nats.url", "not set: events stay in the outbox"));
        return;
    };
    let files = match &nats.auth {
        NatsAuth::Creds(path) => vec![("nats.creds", path)],
        NatsAuth::NKey(path) => vec![("nats.nkey", path)],
        NatsAuth::None | NatsAuth::User { .. } | NatsAuth::Token(_) => vec![],
    };
    let tls = nats
        .tls
        .client
        .iter()
        .flat_map(|(cert, key)| [("nats.tls.cert", cert), ("nats.tls.key", key)]);
    let ca = nats.tls.ca.iter().map(|ca| ("nats.tls.ca", ca));
    for (what, path) in files.into_iter().chain(tls).chain(ca) {
        if let Err(why) = std::fs::File::open(path) {
            let said = format!("{} cannot be read ({why}); name a readable file", path.display());
            findings.push(Finding::wrong(what, said));
        }
    }
    for server in &nats.servers {
        findings.push(match reach(server) {
            Ok(()) => Finding::ok("nats.url", format!("{server} answers")),
            Err(why) => Finding::note(
                "nats.url",
                format!(
                    "{server} does not answer ({why}): events wait in the outbox until it does"
                ),
            ),
        });
    }
}

fn reach(server: &str) -> std::io::Result<()> {
    let host = server.split_once("://").map_or(server, |(_, host)| host);
    let with_port = match host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => host.to_owned(),
        _ => format!("{host}:4222"),
    };
    let mut last = std::io::Error::other("it has no address");
    for address in with_port.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
            Ok(_) => return Ok(()),
            Err(why) => last = why,
        }
    }
    Err(last)
}

fn prompts(config: &Config, findings: &mut Vec<Finding>) {
    let what = "prompts";
    let book = match PromptBook::load(config.prompts.as_deref(), &[]) {
        Ok(book) => book,
        Err(why) => return findings.push(Finding::wrong(what, why.to_string())),
    };
    let mut wanted = BTreeSet::new();
    for policy in config.policies.values() {
        let asks = Leg::BOTH.iter().any(|leg| *policy.ask(*leg) == Ask::OnCall);
        let locales = policy.locale.values().filter(|_| asks);
        wanted.extend(locales.map(|locale| (policy.notice.as_str(), locale.as_str())));
    }
    for (name, locale) in wanted {
        findings.push(match book.find(name, locale) {
            Ok(facts) if facts.locale == locale => {
                let seconds = facts.total_ms.div_ceil(1000);
                Finding::ok(what, format!("{locale}/{name}.wav is there, {seconds} s"))
            }
            Ok(facts) => Finding::note(
                what,
                format!("there is no {locale}/{name}.wav: {} is played instead", facts.locale),
            ),
            Err(why) => Finding::wrong(what, why.to_string()),
        });
    }
}

fn token_keys(config: &Config, findings: &mut Vec<Finding>) {
    for (policy, source) in &config.tokens {
        let what = format!("policy.{policy}.token.keys");
        findings.push(match source.rule(keys::read_secret) {
            Ok(rule) => Finding::ok(what, format!("{} can be used", counted(rule.keys.len()))),
            Err(why) => Finding::wrong(what, why.to_string()),
        });
    }
}

fn counted(keys: usize) -> String {
    match keys {
        1 => "one key".to_owned(),
        n => format!("{n} keys"),
    }
}

fn policies(config: &Config, findings: &mut Vec<Finding>) {
    for policy in config.policies.values() {
        let what = format!("policy.{}", policy.name);
        if policy.controller == EXAMPLE_CONTROLLER {
            findings.push(Finding::note(
                format!("{what}.controller"),
                format!("\"{EXAMPLE_CONTROLLER}\" is an example; name your own organisation"),
            ));
        }
        let named = config.routes.iter().any(|route| route.policy.name == policy.name);
        let matches = config.matching.iter().any(|matching| matching.policy.name == policy.name);
        if !named && !matches {
            findings.push(Finding::note(what, "no route names it, and it has no match"));
        }
        if policy.acknowledge.is_some() {
            findings.push(Finding::note(
                format!("policy.{}.acknowledge", policy.name),
                "who refuses loses the call, although the basis is consent: have it on record \
                 why there is no alternative",
            ));
        }
    }
}

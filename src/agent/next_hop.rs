//! Next hops that are configured by name: looked up at the start and for each call, and heard from
//! every address that the name stands for.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{Config, Host, Mode};
use crate::sip::Sip;

/// How long a name server may take.
const WITHIN: Duration = Duration::from_secs(5);

/// What the name stands for now; nothing where it cannot be found out. Whatever it is, the edge
/// hears it from now on: who of them answers a call may not be the one who ends it.
pub(super) async fn look_up(name: &str, port: u16, sip: &Sip) -> Vec<SocketAddr> {
    let lookup = tokio::net::lookup_host((name, port));
    let found: Vec<SocketAddr> = match tokio::time::timeout(WITHIN, lookup).await {
        Ok(Ok(addrs)) => addrs.collect(),
        _ => Vec::new(),
    };
    sip.remember_next_hops(found.iter().map(SocketAddr::ip));
    found
}

/// Looks up every name of a configuration: what still comes of calls before a restart is answered,
/// and a name that is wrong is told of before the first call.
pub(super) fn look_up_all(config: &Config, sip: &Sip) {
    let names: BTreeSet<(String, u16)> = config
        .routes
        .iter()
        .filter_map(|route| match &route.mode {
            Mode::Inline { next_hop } => match &next_hop.host {
                Host::Name(name) => Some((name.clone(), next_hop.port_or_default())),
                Host::Address(_) => None,
            },
            Mode::Endpoint => None,
        })
        .collect();
    for (name, port) in names {
        let sip = sip.clone();
        tokio::spawn(async move {
            if look_up(&name, port, &sip).await.is_empty() {
                tracing::warn!(
                    next_hop = name,
                    "has no address now: check the name and this machine's resolver"
                );
            }
        });
    }
}

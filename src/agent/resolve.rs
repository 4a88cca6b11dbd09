//! The name servers: addresses and services, kept for as long as their records say.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

/// How many records are kept.
const KEPT: u64 = 1024;

/// Asks the configured name servers, or the system's.
#[derive(Clone)]
pub(super) struct Resolver(TokioResolver);

/// A server that offers a service (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// The lowest goes first.
    pub(super) priority: u16,
    /// The share among those of one priority.
    pub(super) weight: u16,
    pub(super) port: u16,
    /// The name of the server.
    pub(super) target: String,
}

impl Resolver {
    /// `servers` empty: those of the system. Where there are none, every look-up fails.
    pub(super) fn new(servers: &[SocketAddr]) -> Option<Self> {
        let provider = TokioRuntimeProvider::default();
        let builder = if servers.is_empty() {
            TokioResolver::builder_tokio().unwrap_or_else(|why| {
                tracing::warn!(
                    %why,
                    "the system's name servers are not known: write them into /etc/resolv.conf, \
                     or set sip.resolver"
                );
                TokioResolver::builder_with_config(ResolverConfig::default(), provider)
            })
        } else {
            let servers = servers.iter().map(|addr| {
                let on_port = |mut by: ConnectionConfig| {
                    by.port = addr.port();
                    by
                };
                let ways = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(on_port);
                NameServerConfig::new(addr.ip(), true, ways.into())
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            TokioResolver::builder_with_config(config, provider)
        };
        let mut builder = builder;
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = KEPT;
        builder
            .build()
            .inspect_err(|why| tracing::error!(%why, "names cannot be looked up"))
            .ok()
            .map(Self)
    }

    /// A and AAAA of a name; none where there are none, or no name server answers.
    pub(super) async fn addresses(&self, name: &str) -> Vec<IpAddr> {
        match self.0.lookup_ip(name).await {
            Ok(found) => found.iter().collect(),
            Err(why) => {
                tracing::debug!(name, %why, "no address");
                Vec::new()
            }
        }
    }

    /// SRV of a name such as `_sip._udp.example.com`.
    pub(super) async fn services(&self, name: &str) -> Vec<Service> {
        let Ok(found) = self.0.srv_lookup(name).await else { return Vec::new() };
        let services = found.answers().iter().filter_map(|record| match &record.data {
            // A target of "." says that there is no such service (RFC 2782).
            RData::SRV(srv) if !srv.target.is_root() => Some(Service {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii(),
            }),
            _ => None,
        });
        services.collect()
    }
}

//! Where a call's other leg may go: next hops as they are configured, located by RFC 3263 (without
//! NAPTR), heard from every address that their names stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::resolve::{Resolver, Service};
use crate::agent::targets::TargetBook;
use crate::call::message::{Hop, Transport};
use crate::config::{Config, Host, Mode, NextHop, NextHops, by_weight};
use crate::sip::{Sip, Target};

/// How long looking up all next hops of a call may take.
const WITHIN: Duration = Duration::from_secs(5);

/// The most places of one next hop.
const PLACES: usize = 16;

/// A next hop, and one of the places where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) next: NextHop,
    pub(super) hop: Hop,
}

impl Place {
    /// As the SIP edge wants it, for a call to `user`.
    pub(super) fn target(&self, user: &str, sip: &Sip) -> Target {
        let Hop { transport, addr } = self.hop;
        Target {
            hop: self.hop,
            uri: self.next.uri(user),
            contact: sip.contact(transport, addr, self.next.scheme),
            name: match (&self.next.host, transport) {
                (Host::Name(name), Transport::Tls) => Some(Arc::from(name.as_str())),
                _ => None,
            },
        }
    }
}

/// Finds the places of next hops.
#[derive(Clone)]
pub(super) struct Locator {
    resolver: Option<Resolver>,
    sip: Sip,
    book: Arc<TargetBook>,
}

impl Locator {
    pub(super) fn new(config: &Config, sip: Sip, book: Arc<TargetBook>) -> Self {
        Self { resolver: Resolver::new(&config.sip.resolver), sip, book }
    }

    /// The places of next hops that are all given by address, in the order to try them; `None`
    /// where a name has to be looked up first.
    pub(super) fn given(&self, next_hops: &NextHops) -> Option<Vec<Place>> {
        let places: Option<Vec<Place>> = next_hops
            .in_order(draw)
            .into_iter()
            .map(|next| match next.host {
                Host::Address(ip) => {
                    let addr = SocketAddr::new(ip, next.port_or_default());
                    let hop = Hop { transport: next.transport_or_default(), addr };
                    Some(Place { next: next.clone(), hop })
                }
                Host::Name(_) => None,
            })
            .collect();
        let places = places?;
        places.iter().for_each(|place| self.book.note(place.hop));
        Some(places)
    }

    /// The places of next hops in the order to try them; none where none can be found. The edge
    /// hears all of them from now on: who of them answers a call may not be the one who ends it.
    pub(super) async fn locate(&self, next_hops: &NextHops) -> Vec<Place> {
        if let Some(places) = self.given(next_hops) {
            return places;
        }
        let deadline = tokio::time::Instant::from_std(crate::clock::now() + WITHIN);
        let mut places = Vec::new();
        for next in next_hops.in_order(draw) {
            let hops = tokio::time::timeout_at(deadline, self.places_of(next)).await;
            let hops = hops.unwrap_or_default();
            if hops.is_empty() {
                tracing::warn!(
                    next_hop = %next,
                    "has no address now: check the name and the name servers (sip.resolver)"
                );
            }
            places
                .extend(hops.into_iter().take(PLACES).map(|hop| Place { next: next.clone(), hop }));
        }
        self.sip.remember_next_hops(places.iter().map(|place| place.hop.addr.ip()));
        places.iter().for_each(|place| self.book.note(place.hop));
        places
    }

    /// RFC 3263, 4.1 and 4.2.
    async fn places_of(&self, next: &NextHop) -> Vec<Hop> {
        let (transport, port) = (next.transport_or_default(), next.port_or_default());
        let name = match &next.host {
            Host::Address(ip) => {
                return vec![Hop { transport, addr: SocketAddr::new(*ip, port) }];
            }
            Host::Name(name) => name,
        };
        let Some(resolver) = &self.resolver else { return Vec::new() };
        // A port says that a server is meant, and not a service.
        if next.port.is_none() {
            for (service, transport) in services(next.transport) {
                let found = resolver.services(&format!("{service}.{name}")).await;
                if !found.is_empty() {
                    return self.servers(resolver, found, transport).await;
                }
            }
        }
        let addresses = resolver.addresses(name).await;
        let hop = |ip| Hop { transport, addr: SocketAddr::new(ip, port) };
        addresses.into_iter().map(hop).collect()
    }

    async fn servers(
        &self,
        resolver: &Resolver,
        found: Vec<Service>,
        transport: Transport,
    ) -> Vec<Hop> {
        let mut hops = Vec::new();
        for Service { target, port, .. } in in_order(found, &mut draw).into_iter().take(PLACES) {
            for ip in resolver.addresses(&target).await {
                hops.push(Hop { transport, addr: SocketAddr::new(ip, port) });
            }
        }
        hops
    }

    /// Locates every next hop of a configuration: what still comes of calls before a restart is
    /// answered, and a name that is wrong is told of before the first call.
    pub(super) fn look_up_all(&self, config: &Config) {
        let mut all: BTreeMap<String, NextHops> = BTreeMap::new();
        for next_hops in inline(config) {
            all.insert(next_hops.to_string(), next_hops.clone());
        }
        for next_hops in all.into_values() {
            let locator = self.clone();
            tokio::spawn(async move { drop(locator.locate(&next_hops).await) });
        }
    }
}

/// The next hops of every route that has any.
pub(super) fn inline(config: &Config) -> impl Iterator<Item = &NextHops> {
    config.routes.iter().filter_map(|route| match &route.mode {
        Mode::Inline { next_hops } => Some(next_hops),
        Mode::Endpoint => None,
    })
}

/// The services that a next hop may be found by, the preferred one first.
fn services(transport: Option<Transport>) -> Vec<(&'static str, Transport)> {
    let all = [
        ("_sip._udp", Transport::Udp),
        ("_sip._tcp", Transport::Tcp),
        ("_sips._tcp", Transport::Tls),
    ];
    let fits = |offered: Transport| match transport {
        Some(wanted) => offered == wanted,
        // Nobody who asked for no protection is to fail for want of a certificate.
        None => offered != Transport::Tls,
    };
    all.into_iter().filter(|(_, offered)| fits(*offered)).collect()
}

/// By priority, and by chance among those of one priority (RFC 2782).
fn in_order(found: Vec<Service>, draw: &mut impl FnMut(u32) -> u32) -> Vec<Service> {
    let priorities: BTreeSet<u16> = found.iter().map(|service| service.priority).collect();
    let mut ordered = Vec::with_capacity(found.len());
    for priority in priorities {
        let of_one = found.iter().filter(|service| service.priority == priority);
        let weighed = of_one.map(|service| (service.clone(), service.weight)).collect();
        ordered.extend(by_weight(weighed, draw));
    }
    ordered
}

/// A number below `below`, from the system's randomness; 0 where there is none.
fn draw(below: u32) -> u32 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        return 0;
    }
    let drawn = u64::from_be_bytes(bytes) % u64::from(below.max(1));
    u32::try_from(drawn).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, port: u16) -> Service {
        Service { priority, weight, port, target: "a.".to_owned() }
    }

    #[test]
    fn priorities_come_before_weights() {
        let found = vec![service(20, 100, 3), service(10, 0, 2), service(10, 100, 1)];
        for seed in 0..100 {
            let order = in_order(found.clone(), &mut |below| seed % below);
            assert_eq!(order.last().map(|service| service.port), Some(3));
        }
        let last = in_order(found, &mut |below| below - 1);
        assert_eq!(last.iter().map(|service| service.port).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_service_is_looked_for_by_the_transport_that_is_asked_for() {
        let names = |transport| services(transport).into_iter().map(|(name, _)| name);
        assert!(names(None).eq(["_sip._udp", "_sip._tcp"]));
        assert!(names(Some(Transport::Tcp)).eq(["_sip._tcp"]));
        assert!(names(Some(Transport::Tls)).eq(["_sips._tcp"]));
    }
}

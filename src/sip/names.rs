//! How we are called, and from which socket we speak: the host and port of `Via` and `Contact`.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::call::message::{Scheme, Transport};
use crate::sip::{Advertise, Listen};

/// The bound sockets and the advertised host.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) listeners: Vec<Listen>,
    pub(super) advertise: Option<Advertise>,
}

impl Names {
    /// Which listener speaks to `remote`: of the same transport and family, on loopback when the
    /// remote is, the first of those that fit.
    pub(super) fn listener_for(&self, transport: Transport, remote: SocketAddr) -> Option<usize> {
        let family = |l: &Listen| l.addr.is_ipv4() == remote.is_ipv4();
        let reaches = |l: &Listen| {
            l.addr.ip().is_unspecified() || l.addr.ip().is_loopback() == remote.ip().is_loopback()
        };
        let ours = |l: &Listen| l.transport == transport && family(l);
        let mut fits = self.listeners.iter().enumerate().filter(|(_, l)| ours(l));
        let first = fits.clone().next().map(|(at, _)| at);
        fits.find(|(_, l)| reaches(l)).map(|(at, _)| at).or(first)
    }

    /// `host:port`, the host in brackets where it is an IPv6 address.
    pub(super) fn host_port(&self, transport: Transport, remote: SocketAddr) -> String {
        let listener = self
            .listener_for(transport, remote)
            .and_then(|at| self.listeners.get(at))
            .or_else(|| self.listeners.iter().find(|l| l.transport == transport))
            .or_else(|| self.listeners.first());
        let port = listener.map_or(5060, |l| l.addr.port());
        match &self.advertise {
            Some(Advertise::Name(name)) => format!("{name}:{port}"),
            Some(Advertise::Address(addr)) if addr.is_ipv4() == remote.is_ipv4() => {
                SocketAddr::new(*addr, port).to_string()
            }
            _ => {
                let bound = listener.map(|l| l.addr.ip());
                let bound = bound
                    .filter(|ip| !ip.is_unspecified() && ip.is_ipv4() == remote.is_ipv4())
                    .or_else(|| local_towards(remote))
                    .or(bound)
                    .unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
                SocketAddr::new(bound, port).to_string()
            }
        }
    }

    /// The Contact URI for a peer at `remote`: `sips` where the dialog is (RFC 3261, 12.1.1).
    pub(super) fn contact(
        &self,
        transport: Transport,
        remote: SocketAddr,
        scheme: Scheme,
    ) -> String {
        let host_port = self.host_port(transport, remote);
        match (transport, scheme) {
            (Transport::Udp, _) => format!("sip:{host_port}"),
            (Transport::Tcp, _) => format!("sip:{host_port};transport=tcp"),
            (Transport::Tls, Scheme::Sip) => format!("sip:{host_port};transport=tls"),
            (Transport::Tls, Scheme::Sips) => format!("sips:{host_port}"),
        }
    }
}

/// The address that the routing table would send from. Nothing is sent.
fn local_towards(remote: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(remote).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(listen: &[&str], advertise: Option<&str>) -> Names {
        Names {
            listeners: listen.iter().map(|l| l.parse().unwrap()).collect(),
            advertise: advertise.map(|a| a.parse().unwrap()),
        }
    }

    #[test]
    fn a_contact_is_one_that_the_peer_can_use() {
        let names = names(
            &[
                "udp:0.0.0.0:5060",
                "udp:[::1]:5062",
                "tcp:[::1]:5064",
                "tcp:127.0.0.1:5066",
                "tls:127.0.0.1:5061",
            ],
            Some("192.0.2.9"),
        );
        let v4 = "127.0.0.1:9".parse().unwrap();
        let v6 = "[::1]:9".parse().unwrap();
        assert_eq!(names.contact(Transport::Udp, v4, Scheme::Sip), "sip:192.0.2.9:5060");
        assert_eq!(
            names.contact(Transport::Tcp, v4, Scheme::Sip),
            "sip:192.0.2.9:5066;transport=tcp"
        );
        assert_eq!(names.contact(Transport::Udp, v6, Scheme::Sip), "sip:[::1]:5062");
        assert_eq!(names.contact(Transport::Tcp, v6, Scheme::Sip), "sip:[::1]:5064;transport=tcp");
        let tls = |scheme| names.contact(Transport::Tls, v4, scheme);
        assert_eq!(tls(Scheme::Sip), "sip:192.0.2.9:5061;transport=tls");
        assert_eq!(tls(Scheme::Sips), "sips:192.0.2.9:5061");
    }

    #[test]
    fn a_socket_on_every_address_is_called_by_the_address_that_faces_the_peer() {
        let names = names(&["udp:0.0.0.0:5060"], None);
        let contact = names.contact(Transport::Udp, "127.0.0.1:9".parse().unwrap(), Scheme::Sip);
        assert_eq!(contact, "sip:127.0.0.1:5060");
    }

    #[test]
    fn the_socket_that_speaks_has_the_family_and_reach_of_the_peer() {
        let names = names(&["udp:127.0.0.1:1", "udp:192.0.2.9:2", "udp:[::1]:3"], None);
        let of = |remote: &str| names.listener_for(Transport::Udp, remote.parse().unwrap());
        assert_eq!(of("127.0.0.1:9"), Some(0));
        assert_eq!(of("192.0.2.1:9"), Some(1));
        assert_eq!(of("[::1]:9"), Some(2));
        assert_eq!(names.listener_for(Transport::Tcp, "[::1]:9".parse().unwrap()), None);
    }
}

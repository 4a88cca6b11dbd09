//! Pairs of UDP ports: an even one for RTP and the odd one above it for RTCP (RFC 3550, 11).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};

/// How many pairs that other programs hold are passed over before giving up.
const BIND_ATTEMPTS: usize = 64;

/// DSCP 46, expedited forwarding (RFC 4594, 4.1), in its place in the traffic class.
const EXPEDITED: u32 = 46 << 2;

/// The pairs that no call has, longest unused first.
///
/// A pair goes to the end when it is released, so that a late packet of the call before finds a
/// closed port for as long as the range allows: at 1,000 calls a second, 10,000 ports rest 5 s.
#[derive(Debug)]
pub(super) struct PortPool {
    free: Mutex<VecDeque<u16>>,
    receive_buffer: usize,
}

/// No ports for another leg.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Every pair is in use.
    #[error(
        "all media ports are in use: widen media.ports, or send this agent fewer calls at a time"
    )]
    PortsExhausted,
    /// The address cannot be bound at all.
    #[error("cannot open a media socket on {ip}: {source}")]
    Unusable {
        /// The address that was asked for.
        ip: IpAddr,
        /// Why not.
        source: io::Error,
    },
}

/// Two bound sockets for one leg. Dropping them releases the ports.
#[derive(Debug)]
pub struct LocalPorts {
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
    pub(super) lease: PortLease,
}

/// Gives a pair back to its pool when it is dropped.
#[derive(Debug)]
pub(super) struct PortLease {
    port: u16,
    ip: IpAddr,
    pool: Arc<PortPool>,
}

impl PortPool {
    /// A pool of the whole pairs in `range`, that starts `rotation` pairs into it.
    pub(super) fn new(range: &RangeInclusive<u16>, rotation: usize, receive_buffer: usize) -> Self {
        let first = range.start().next_multiple_of(2).max(2);
        let mut free: VecDeque<u16> = (first..*range.end()).step_by(2).collect();
        if !free.is_empty() {
            free.rotate_left(rotation % free.len());
        }
        Self { free: Mutex::new(free), receive_buffer }
    }

    /// Pairs that are free.
    pub(super) fn available(&self) -> usize {
        self.free().len()
    }

    /// Binds the pair that has been unused for longest.
    pub(super) fn reserve(self: &Arc<Self>, ip: IpAddr) -> Result<LocalPorts, ReserveError> {
        for _ in 0..BIND_ATTEMPTS {
            let port = self.free().pop_front().ok_or(ReserveError::PortsExhausted)?;
            let lease = PortLease { port, ip, pool: Arc::clone(self) };
            // A port that is not used goes back to the end with the lease.
            match self.bind(ip, port).and_then(|rtp| Ok((rtp, self.bind(ip, port + 1)?))) {
                Ok((rtp, rtcp)) => return Ok(LocalPorts { rtp, rtcp, lease }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(source) => return Err(ReserveError::Unusable { ip, source }),
            }
        }
        Err(ReserveError::PortsExhausted)
    }

    fn bind(&self, ip: IpAddr, port: u16) -> io::Result<UdpSocket> {
        let at = SocketAddr::new(ip, port);
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
        if ip.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Both only help; a kernel that refuses costs nobody a call.
        let _ = socket.set_recv_buffer_size(self.receive_buffer);
        let _ = match ip {
            IpAddr::V4(_) => socket.set_tos_v4(EXPEDITED),
            IpAddr::V6(_) => socket.set_tclass_v6(EXPEDITED),
        };
        socket.set_nonblocking(true)?;
        socket.bind(&at.into())?;
        Ok(socket.into())
    }

    fn free(&self) -> std::sync::MutexGuard<'_, VecDeque<u16>> {
        // A panic elsewhere leaves a list of ports a list of ports.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalPorts {
    /// Where RTP is received.
    #[must_use]
    pub fn rtp(&self) -> SocketAddr {
        SocketAddr::new(self.lease.ip, self.lease.port)
    }

    /// Where RTCP is received.
    #[must_use]
    pub fn rtcp(&self) -> SocketAddr {
        // Ports of a pool are even, so there is always one above.
        SocketAddr::new(self.lease.ip, self.lease.port + 1)
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        self.pool.free().push_back(self.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn pool(range: RangeInclusive<u16>) -> Arc<PortPool> {
        Arc::new(PortPool::new(&range, 0, 1 << 18))
    }

    #[test]
    fn only_whole_pairs_that_begin_even_are_given() {
        assert_eq!(*pool(20001..=20006).free(), [20002, 20004]);
        assert_eq!(*pool(20000..=20003).free(), [20000, 20002]);
        assert_eq!(*pool(65534..=65535).free(), [65534]);
        assert!(pool(20001..=20002).free().is_empty());
        assert_eq!(*pool(0..=3).free(), [2]);
    }

    #[test]
    fn a_released_pair_comes_last_and_an_empty_pool_says_so() {
        let pool = pool(12200..=12205);
        let first = pool.reserve(LOOPBACK).unwrap();
        assert_eq!(first.rtcp().port(), first.rtp().port() + 1);
        assert_eq!(first.rtp.local_addr().unwrap(), first.rtp());
        let port = first.rtp().port();
        drop(first);
        assert_eq!(pool.free().back(), Some(&port));
        let held: Vec<_> = std::iter::from_fn(|| pool.reserve(LOOPBACK).ok()).collect();
        assert!(matches!(pool.reserve(LOOPBACK), Err(ReserveError::PortsExhausted)));
        drop(held);
        assert_eq!(pool.available(), 3);
    }

    #[test]
    fn a_port_that_another_program_has_is_passed_over() {
        let pool = pool(12300..=12319);
        let theirs = UdpSocket::bind((Ipv4Addr::LOCALHOST, 12301)).unwrap();
        let ours = pool.reserve(LOOPBACK).unwrap();
        assert_ne!(ours.rtp().port(), 12300);
        drop(theirs);
    }

    #[test]
    fn an_address_that_is_not_ours_is_named() {
        let nowhere: IpAddr = "192.0.2.1".parse().unwrap();
        let error = pool(12400..=12403).reserve(nowhere).unwrap_err();
        assert!(matches!(error, ReserveError::Unusable { .. }));
        assert!(error.to_string().contains("192.0.2.1"));
    }
}

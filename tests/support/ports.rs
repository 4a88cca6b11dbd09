//! Port ranges for programs that cannot bind port 0 and tell.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

/// A range of loopback ports that is this test's alone for as long as the value lives.
///
/// The last port of a slice stays bound as the sign that the slice is taken, so tests in other
/// processes step aside without any lock file. All slices are below the ephemeral ports.
#[derive(Debug)]
pub struct Ports {
    next: u16,
    last: u16,
    _sign: UdpSocket,
}

impl Ports {
    /// 63 ports: enough for a handful of calls.
    pub fn claim() -> Self {
        Self::claim_slice(20_000..32_000, 64)
    }

    /// 999 ports, for tests under load.
    pub fn claim_many() -> Self {
        Self::claim_slice(10_000..20_000, 1_000)
    }

    fn claim_slice(all: std::ops::Range<u16>, size: u16) -> Self {
        let places = (all.end - all.start) / size;
        let start = random() % places;
        (0..places)
            .map(|step| all.start + (start + step) % places * size)
            .find_map(|first| Self::try_at(first, first + size - 1))
            .unwrap_or_else(|| panic!("no {size} free ports in {all:?}"))
    }

    fn try_at(first: u16, last: u16) -> Option<Self> {
        let sign = UdpSocket::bind((Ipv4Addr::LOCALHOST, last)).ok()?;
        let free = (first..last).all(|port| {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        free.then_some(Self { next: first, last, _sign: sign })
    }

    /// The next even port; its odd neighbour is left for whoever takes two (RTCP, SIP over TLS).
    pub fn pair(&mut self) -> u16 {
        *self.range(2).start()
    }

    /// A range of `count` ports out of this slice, starting with an even one.
    pub fn range(&mut self, count: u16) -> RangeInclusive<u16> {
        let first = self.next;
        assert!(first + count <= self.last, "a slice of ports is used up");
        self.next += count.next_multiple_of(2);
        first..=first + count - 1
    }
}

fn random() -> u16 {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    u16::from_le_bytes(bytes)
}

//! Counters for `/metrics`: atomics that every task of the edge adds to.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::call::message::Method;

/// What the edge has seen and done since it started. Read at any time, from anywhere.
#[derive(Debug, Default)]
pub struct Counters {
    requests_in: MethodCount,
    requests_out: MethodCount,
    responses_in: [AtomicU64; 6],
    responses_out: [AtomicU64; 6],
    /// Messages that did not parse, answered or not.
    pub parse_errors: Count,
    /// Datagrams and connections of somebody outside `peers`.
    pub foreign: Count,
    /// Requests that came again and were answered or swallowed by their transaction.
    pub retransmissions_in: Count,
    /// Requests and responses sent again by a timer or because the request came again.
    pub retransmissions_out: Count,
    /// Responses and ACKs that belong to nothing.
    pub strays: Count,
    /// Messages and events that found a limit reached.
    pub overload: Count,
    /// TLS handshakes that failed, ours and those of others.
    pub tls_failures: Count,
    /// Messages that the operating system would not take.
    pub send_errors: Count,
    /// Transactions in flight, now.
    pub transactions: Count,
    /// Connections open, now.
    pub connections: Count,
}

impl Counters {
    /// Requests received, retransmissions included.
    #[must_use]
    pub fn requests_in(&self) -> &MethodCount {
        &self.requests_in
    }

    /// Requests sent, retransmissions included.
    #[must_use]
    pub fn requests_out(&self) -> &MethodCount {
        &self.requests_out
    }

    /// Responses received, by class: `(1, n)` for 1xx, up to 6xx.
    pub fn responses_in(&self) -> impl Iterator<Item = (u8, u64)> {
        by_class(&self.responses_in)
    }

    /// Responses sent, by class.
    pub fn responses_out(&self) -> impl Iterator<Item = (u8, u64)> {
        by_class(&self.responses_out)
    }

    pub(super) fn response_in(&self, status: u16) {
        add_class(&self.responses_in, status);
    }

    pub(super) fn response_out(&self, status: u16) {
        add_class(&self.responses_out, status);
    }
}

fn by_class(classes: &[AtomicU64; 6]) -> impl Iterator<Item = (u8, u64)> {
    (1u8..).zip(classes.iter().map(|n| n.load(Ordering::Relaxed)))
}

fn add_class(classes: &[AtomicU64; 6], status: u16) {
    let class = usize::from(status / 100).checked_sub(1);
    if let Some(count) = class.and_then(|class| classes.get(class)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// One counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Its value now.
    #[must_use]
    pub fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self) {
        self.count();
    }

    /// Adds one, and says how many that makes.
    pub(super) fn count(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    pub(super) fn set(&self, n: usize) {
        self.0.store(n as u64, Ordering::Relaxed);
    }
}

const METHODS: [&str; 14] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "OPTIONS",
    "INFO",
    "UPDATE",
    "PRACK",
    "REFER",
    "NOTIFY",
    "SUBSCRIBE",
    "MESSAGE",
    "REGISTER",
    "PUBLISH",
];

/// A counter for each method that has a name here, and one for all the rest: a peer cannot make
/// new ones.
#[derive(Debug, Default)]
pub struct MethodCount {
    known: [AtomicU64; METHODS.len()],
    other: AtomicU64,
}

impl MethodCount {
    /// Every method with its count; those that have none of their own are `other`.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let known = METHODS.into_iter().zip(self.known.iter());
        known
            .chain([("other", &self.other)])
            .map(|(method, count)| (method, count.load(Ordering::Relaxed)))
    }

    /// The count of one method.
    #[must_use]
    pub fn of(&self, method: &Method) -> u64 {
        self.slot(method.as_str()).load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, method: &[u8]) {
        let method = std::str::from_utf8(method).unwrap_or_default();
        self.slot(method).fetch_add(1, Ordering::Relaxed);
    }

    fn slot(&self, method: &str) -> &AtomicU64 {
        let at = METHODS.iter().position(|known| *known == method);
        at.and_then(|at| self.known.get(at)).unwrap_or(&self.other)
    }
}

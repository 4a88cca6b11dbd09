//! OPTIONS to next hops from time to time (RFC 3261, 11): one that does not answer is tried last.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::agent::next_hop::{Locator, Place, inline};
use crate::agent::targets::TargetBook;
use crate::call::message::{ClientTxn, Headers, Hop, Method, Request};
use crate::clock;
use crate::config::Config;
use crate::ids::CallId;
use crate::sip::Sip;

/// The transaction numbers of probes are those below the first of a call.
const NUMBERS: u64 = 1 << 16;

/// The probes that are under way.
#[derive(Debug)]
pub(super) struct Probes {
    book: Arc<TargetBook>,
    pending: Mutex<HashMap<ClientTxn, Hop>>,
}

impl Probes {
    pub(super) fn new(book: Arc<TargetBook>) -> Self {
        Self { book, pending: Mutex::default() }
    }

    /// An answer that belongs to no call. `true` where it was a probe's.
    pub(super) fn answered(&self, txn: ClientTxn, status: u16) {
        if status < 200 {
            return;
        }
        let Some(hop) = self.pending().remove(&txn) else { return };
        // Whatever it says about OPTIONS, it is there, unless it says that it is not.
        match status {
            503 => self.book.missed_probe(hop),
            _ => self.book.answered(hop),
        }
    }

    /// The end of a request that belongs to no call.
    pub(super) fn unanswered(&self, txn: ClientTxn) {
        if let Some(hop) = self.pending().remove(&txn) {
            self.book.missed_probe(hop);
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<ClientTxn, Hop>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks every next hop of the configuration in force, each `interval`.
pub(super) async fn ask_from_time_to_time(
    interval: Duration,
    config: watch::Receiver<Arc<Config>>,
    locator: Locator,
    probes: Arc<Probes>,
    sip: Sip,
) {
    let mut number = 0;
    loop {
        let current = Arc::clone(&config.borrow());
        let mut asked = HashSet::new();
        for next_hops in inline(&current) {
            for place in locator.locate(next_hops).await {
                if asked.insert(place.hop) {
                    number = number % (NUMBERS - 1) + 1;
                    ask(ClientTxn(number), &place, &probes, &sip);
                }
            }
        }
        let patience = probes.book.care().answer_within.min(interval);
        tokio::time::sleep(patience).await;
        let silent: Vec<Hop> = probes.pending().values().copied().collect();
        silent.into_iter().for_each(|hop| probes.book.missed_probe(hop));
        tokio::time::sleep(interval.saturating_sub(patience)).await;
    }
}

fn ask(txn: ClientTxn, place: &Place, probes: &Probes, sip: &Sip) {
    let target = place.target("", sip);
    let mark: CallId = clock::mint();
    let headers = Headers::new()
        .with("Max-Forwards", "70")
        .with("From", format!("<{}>;tag={}", target.contact, mark.0.simple()))
        .with("To", format!("<{}>", target.uri))
        .with("Call-ID", mark.to_string())
        .with("CSeq", "1 OPTIONS")
        .with("Contact", format!("<{}>", target.contact))
        .with("Accept", "application/sdp");
    let request = Request {
        method: Method::Options,
        uri: target.uri.clone(),
        headers,
        body: Bytes::new(),
        hop: place.hop,
    };
    probes.pending().insert(txn, place.hop);
    sip.request_any(txn, request, vec![target], Duration::ZERO);
}

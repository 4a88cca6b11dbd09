//! What the agent says about itself: to `/metrics`, `/readyz` and the control socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use crate::agent::counters::Counters;
use crate::agent::health::Health;
use crate::agent::scribe::Scribe;
use crate::agent::targets::{TargetBook, hop_text};
use crate::bus::{BusStatus, LinkStatus};
use crate::catalog::Catalog;
use crate::clock;
use crate::control;
use crate::erasure::{Condition, Eraser};
use crate::http::{Need, Readiness, SipCounts, Snapshot, Source};
use crate::media::Media;
use crate::segment::SegmentStore;
use crate::sip::{MethodCount, Sip};
use crate::time::Timestamp;

/// Everything that is read to answer.
#[derive(Clone)]
pub(super) struct Observer {
    pub(super) node: String,
    pub(super) started: Timestamp,
    pub(super) health: Arc<Health>,
    pub(super) counters: Arc<Counters>,
    pub(super) sip: Sip,
    pub(super) media: Media,
    pub(super) store: Arc<SegmentStore>,
    pub(super) catalog: Catalog,
    pub(super) scribe: Scribe,
    pub(super) book: Arc<TargetBook>,
    pub(super) eraser: Eraser,
    pub(super) bus: Option<watch::Receiver<BusStatus>>,
    pub(super) http: Option<String>,
}

impl Observer {
    /// How the agent is, for `assent status`.
    pub(super) fn status(&self) -> control::Status {
        let readiness = self.readiness();
        let missing: Vec<_> = readiness
            .needs
            .iter()
            .filter_map(|need| {
                Some(control::StatusNeed {
                    name: need.name.to_owned(),
                    required: need.required,
                    missing: need.missing.clone()?,
                })
            })
            .collect();
        let state = if self.health.is_draining() {
            "draining"
        } else if missing.is_empty() {
            "ready"
        } else {
            "degraded"
        };
        let outbox = self.health.outbox();
        let capturing = self.counters.recordings().iter().map(|(_, count)| count).sum();
        control::Status {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state: state.to_owned(),
            started: self.started,
            sip: self.sip.listeners().iter().map(ToString::to_string).collect(),
            http: self.http.clone(),
            next_hops: self
                .book
                .conditions()
                .into_iter()
                .map(|(hop, condition)| control::StatusNextHop {
                    next_hop: hop_text(hop),
                    state: condition.as_str().to_owned(),
                })
                .collect(),
            calls: self
                .counters
                .calls()
                .into_iter()
                .map(|(state, count)| (state.to_owned(), count))
                .collect::<BTreeMap<_, _>>(),
            recordings: capturing,
            outbox: outbox.unsent,
            outbox_age_seconds: age(outbox.oldest).as_secs(),
            nats_connected: self.nats().map(|bus| bus.is_connected()),
            needs: missing,
        }
    }

    fn nats(&self) -> Option<BusStatus> {
        self.bus.as_ref().map(|bus| bus.borrow().clone())
    }
}

impl Source for Observer {
    fn snapshot(&self) -> Snapshot {
        let media = self.media.counters();
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let outbox = self.health.outbox();
        let bus = self.nats();
        Snapshot {
            node: self.node.clone(),
            started: Some(self.started),
            draining: self.health.is_draining(),
            calls: self.counters.calls(),
            calls_ended: self.counters.calls_ended(),
            decisions: self.counters.decisions(),
            tokens: self.counters.tokens(),
            recordings: self.counters.recordings(),
            recordings_ended: self.counters.recordings_ended(),
            segments_sealed: self.counters.segments_sealed(),
            segment_bytes: load(&self.store.counters().bytes_written),
            rtp_packets: vec![
                ("received", load(&media.received)),
                ("relayed", load(&media.relayed)),
                ("played", load(&media.played)),
                ("recorded", load(&media.recorded)),
                ("masked", load(&media.masked)),
                ("paused", load(&media.paused)),
            ],
            rtp_rejected: vec![
                ("wrong_source", load(&media.wrong_source)),
                ("unparsable", load(&media.unparsable)),
                ("wrong_payload_type", load(&media.wrong_payload_type)),
                ("wrong_ssrc", load(&media.wrong_ssrc)),
                ("unauthentic", load(&media.unauthentic)),
                ("stale", load(&media.stale)),
                ("not_negotiated", load(&media.not_negotiated)),
            ],
            packets_before_permission: load(&media.before_permission),
            packets_lost: self.counters.packets_lost(),
            packets_dropped: vec![
                ("address", load(&media.wrong_source)),
                ("payload-type", load(&media.wrong_payload_type)),
                ("ssrc", load(&media.wrong_ssrc)),
                ("unauthentic", load(&media.unauthentic)),
                ("stale", load(&media.stale)),
                ("unparsable", load(&media.unparsable)),
                ("not-negotiated", load(&media.not_negotiated)),
            ],
            rtcp_dropped: load(&media.bad_rtcp),
            writer_dropped: load(&self.store.counters().packets_dropped),
            outbox_depth: outbox.unsent,
            outbox_age: age(outbox.oldest),
            events_published: bus.as_ref().map_or(0, |bus| bus.published),
            nats_connected: bus.map(|bus| bus.is_connected()),
            bytes_free: self.health.free(),
            media_ports_free: self.media.ports_available() as u64,
            catalog_commits: load(&self.catalog.counters().commits),
            catalog_failures: load(&self.catalog.counters().failures),
            next_hops: self
                .book
                .conditions()
                .into_iter()
                .map(|(hop, condition)| (hop_text(hop), u64::from(condition.is_good())))
                .collect(),
            sip: sip_counts(&self.sip),
        }
    }

    fn readiness(&self) -> Readiness {
        let mut needs = Vec::new();
        needs.push(if self.media.is_running() {
            Need::met("media")
        } else {
            Need::missing("media", "a media thread has ended: restart the agent")
        });
        needs.push(if self.media.ports_available() >= 2 {
            Need::met("ports")
        } else {
            Need::missing("ports", "no media port is free: widen media.ports")
        });
        needs.push(if self.scribe.is_full() {
            Need::missing(
                "catalog",
                "too much waits for the catalog, which cannot be written: calls are turned away; \
                 see the log",
            )
        } else if self.scribe.is_stuck() {
            Need::away(
                "catalog",
                "the catalog cannot be written: calls are not recorded; see the log",
            )
        } else if !self.health.catalog_works() {
            Need::away("catalog", "the catalog cannot be read: calls are not recorded; see the log")
        } else {
            Need::met("catalog")
        });
        needs.push(if self.health.short_of_space() {
            Need::away("disk", "hardly any space is left: calls are not recorded until there is")
        } else {
            Need::met("disk")
        });
        needs.push(match self.eraser.condition() {
            Condition::Good => Need::met("erasure"),
            Condition::Failing(streams) => Need::away(
                "erasure",
                format!(
                    "{streams} streams that are to be erased cannot be: make their files \
                     removable; it is tried again, see the log"
                ),
            ),
        });
        if let Some(bus) = self.nats() {
            needs.push(match bus.link {
                LinkStatus::Up { .. } => Need::met("nats"),
                _ => {
                    let why = bus.last_error.unwrap_or_else(|| "not connected yet".to_owned());
                    Need::away("nats", format!("events wait in the outbox: {why}"))
                }
            });
        }
        if self.health.is_draining() {
            needs.push(Need::missing("draining", "the agent is stopping and takes no new calls"));
        }
        Readiness { needs }
    }
}

fn age(oldest: Option<Timestamp>) -> Duration {
    oldest.map(|at| clock::wall().since(at)).unwrap_or_default()
}

fn sip_counts(sip: &Sip) -> SipCounts {
    let counters = sip.counters();
    let methods = |count: &MethodCount| count.iter().collect::<Vec<_>>();
    SipCounts {
        requests_in: methods(counters.requests_in()),
        requests_out: methods(counters.requests_out()),
        responses_in: counters.responses_in().collect(),
        responses_out: counters.responses_out().collect(),
        parse_errors: counters.parse_errors.load(),
        foreign: counters.foreign.load(),
        retransmissions_in: counters.retransmissions_in.load(),
        retransmissions_out: counters.retransmissions_out.load(),
        strays: counters.strays.load(),
        overload: counters.overload.load(),
        tls_failures: counters.tls_failures.load(),
        send_errors: counters.send_errors.load(),
        transactions: counters.transactions.load(),
        connections: counters.connections.load(),
    }
}

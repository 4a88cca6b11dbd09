//! A [`Snapshot`] as OpenMetrics text, which Prometheus reads.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::http::snapshot::Snapshot;

/// The media type of what [`encode`] writes.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text of `/metrics`.
#[must_use]
pub fn encode(snapshot: Snapshot) -> String {
    let mut registry = Registry::with_prefix("assent");
    registry.register_collector(Box::new(Metrics(snapshot)));
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Metrics(Snapshot);

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Metrics(now) = self;
        let mut page = Page(encoder);
        agent(&mut page, now)?;
        calls(&mut page, now)?;
        media(&mut page, now)?;
        storage(&mut page, now)?;
        sip(&mut page, now)
    }
}

fn agent(page: &mut Page<'_>, now: &Snapshot) -> fmt::Result {
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("node", now.node.as_str())];
    page.gauges("build", "Always 1: which Assent this is", None, [(labels, 1)])?;
    if let Some(started) = now.started {
        let seconds = started.as_micros().div_euclid(1_000_000).max(0).unsigned_abs();
        page.gauge(
            "start_time",
            "When the agent started, as Unix time",
            Some(Unit::Seconds),
            seconds,
        )?;
    }
    page.gauge("draining", "1 while new calls are turned away", None, u64::from(now.draining))
}

fn calls(page: &mut Page<'_>, now: &Snapshot) -> fmt::Result {
    page.gauges("calls", "Calls in progress, by state", None, by("state", &now.calls))?;
    page.counters("calls_ended", "Calls that ended, by how", None, by("cause", &now.calls_ended))?;
    let decisions = now
        .decisions
        .iter()
        .map(|(gate, outcome, n)| ([("gate", *gate), ("outcome", *outcome)], *n));
    page.counters(
        "decisions",
        "Decisions about a party, by the policy's gate and what was decided",
        None,
        decisions,
    )?;
    page.counters(
        "consent_tokens",
        "Consent tokens that came with calls: valid, or why they do not count",
        None,
        by("verdict", &now.tokens),
    )?;
    page.gauges(
        "recordings",
        "Recordings in progress, by state",
        None,
        by("state", &now.recordings),
    )?;
    page.counters(
        "recordings_ended",
        "Recordings that ended, by result",
        None,
        by("result", &now.recordings_ended),
    )
}

fn media(page: &mut Page<'_>, now: &Snapshot) -> fmt::Result {
    page.counters(
        "rtp_packets",
        "RTP packets, by what became of them",
        None,
        by("what", &now.rtp_packets),
    )?;
    page.counters(
        "rtp_packets_rejected",
        "RTP packets that were not taken, by reason: a wrong source, SSRC or payload type is an \
         error of a peer, or a forgery",
        None,
        by("reason", &now.rtp_rejected),
    )?;
    page.counter(
        "rtp_packets_before_permission",
        "Audio packets of a party without permission: passed on to the other party, never kept",
        None,
        now.packets_before_permission,
    )?;
    page.counter(
        "rtp_packets_lost",
        "RTP packets that never arrived, as their sequence numbers tell",
        None,
        now.packets_lost,
    )?;
    page.counters(
        "rtp_packets_dropped",
        "RTP packets that were neither heard nor recorded, by reason. Many of \"address\": the \
         peer sends from elsewhere than its SDP says, as behind NAT (media.latch). Many of \
         \"unauthentic\": the peer's SRTP is under another key, or somebody forges it",
        None,
        by("reason", &now.packets_dropped),
    )?;
    page.counter(
        "rtcp_packets_dropped",
        "RTCP packets that were none, not from the peer, or not authentic",
        None,
        now.rtcp_dropped,
    )?;
    page.counter(
        "writer_dropped_packets",
        "Audio packets that a recording could not take because the disk was too slow; each is in \
         a marked gap. Should be 0",
        None,
        now.writer_dropped,
    )?;
    page.gauge("media_ports_free", "Media ports that no call uses", None, now.media_ports_free)
}

fn storage(page: &mut Page<'_>, now: &Snapshot) -> fmt::Result {
    page.counter("segments_sealed", "Segment files that were finished", None, now.segments_sealed)?;
    page.counter(
        "segment",
        "Bytes written to segment files",
        Some(Unit::Bytes),
        now.segment_bytes,
    )?;
    page.gauge("outbox_events", "Events that wait to be published", None, now.outbox_depth)?;
    page.gauge_f64(
        "outbox_oldest",
        "How long the oldest event has waited to be published",
        Some(Unit::Seconds),
        now.outbox_age.as_secs_f64(),
    )?;
    page.counter(
        "events_published",
        "Events that NATS has acknowledged",
        None,
        now.events_published,
    )?;
    if let Some(connected) = now.nats_connected {
        page.gauge("nats_connected", "1 while NATS is connected", None, u64::from(connected))?;
    }
    page.gauges(
        "disk_free",
        "Bytes free where the catalog and the recordings are",
        Some(Unit::Bytes),
        by("folder", &now.bytes_free),
    )?;
    page.counter("catalog_commits", "Durable commits of the catalog", None, now.catalog_commits)?;
    page.counter(
        "catalog_failures",
        "Requests that the catalog could not store; what they asked for did not happen. Should \
         be 0",
        None,
        now.catalog_failures,
    )
}

fn sip(page: &mut Page<'_>, now: &Snapshot) -> fmt::Result {
    let sip = &now.sip;
    let methods = [("received", &sip.requests_in), ("sent", &sip.requests_out)];
    let requests = methods.into_iter().flat_map(|(direction, counts)| {
        counts.iter().map(move |(method, n)| ([("direction", direction), ("method", *method)], *n))
    });
    page.counters("sip_requests", "SIP requests, by method", None, requests)?;
    let classes = [("received", &sip.responses_in), ("sent", &sip.responses_out)];
    let responses = classes.into_iter().flat_map(|(direction, counts)| {
        counts.iter().map(move |(class, n)| {
            ([("direction", direction.to_owned()), ("class", format!("{class}xx"))], *n)
        })
    });
    page.counters("sip_responses", "SIP responses, by class", None, responses)?;
    let again = [("received", sip.retransmissions_in), ("sent", sip.retransmissions_out)];
    page.counters(
        "sip_retransmissions",
        "SIP messages that were sent again because no answer came in time: many mean a lossy or \
         overloaded network",
        None,
        by("direction", &again),
    )?;
    for (name, help, count) in [
        ("sip_parse_errors", "Messages that are not SIP", sip.parse_errors),
        ("sip_foreign", "Messages from addresses outside sip.peers", sip.foreign),
        ("sip_strays", "SIP messages that belong to no transaction", sip.strays),
        ("sip_overload", "SIP messages turned away because a limit was reached", sip.overload),
        (
            "sip_tls_failures",
            "TLS handshakes that failed, ours with next hops and those of others with us",
            sip.tls_failures,
        ),
        ("sip_send_errors", "SIP messages that the system would not send", sip.send_errors),
    ] {
        page.counter(name, help, None, count)?;
    }
    page.gauge("sip_transactions", "SIP transactions in flight", None, sip.transactions)?;
    page.gauge("sip_connections", "SIP connections open", None, sip.connections)?;
    page.gauges(
        "next_hop_up",
        "1 for a next hop that calls are sent to first, 0 for one that has failed a call or does \
         not answer OPTIONS and is tried last",
        None,
        now.next_hops.iter().map(|(next_hop, up)| ([("next_hop", next_hop.as_str())], *up)),
    )
}

fn by<'a>(
    label: &'static str,
    counts: &'a [(&'static str, u64)],
) -> impl Iterator<Item = ([(&'static str, &'static str); 1], u64)> + 'a {
    counts.iter().map(move |(value, n)| ([(label, *value)], *n))
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, unit: Option<Unit>, count: u64) -> fmt::Result {
        let mut metric =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&count, None)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    fn gauge_f64(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in samples {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in samples {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::snapshot::SipCounts;

    #[test]
    fn every_count_an_administrator_looks_for_is_there() {
        let text = encode(Snapshot {
            node: "a\"b".to_owned(),
            calls: vec![("asking", 2), ("bridged", 3)],
            decisions: vec![("opt-in", "granted", 7)],
            packets_before_permission: 11,
            packets_lost: 12,
            packets_dropped: vec![("address", 16)],
            rtcp_dropped: 21,
            writer_dropped: 13,
            outbox_depth: 14,
            outbox_age: Duration::from_millis(1500),
            bytes_free: vec![("data", 15)],
            nats_connected: Some(false),
            segment_bytes: 17,
            next_hops: vec![("udp:192.0.2.1:5060".to_owned(), 1)],
            sip: SipCounts {
                requests_in: vec![("INVITE", 16)],
                responses_out: vec![(2, 18)],
                ..SipCounts::default()
            },
            ..Snapshot::default()
        });
        for line in [
            "assent_calls{state=\"asking\"} 2",
            "assent_calls{state=\"bridged\"} 3",
            "assent_decisions_total{gate=\"opt-in\",outcome=\"granted\"} 7",
            "assent_rtp_packets_before_permission_total 11",
            "assent_rtp_packets_lost_total 12",
            "assent_rtp_packets_dropped_total{reason=\"address\"} 16",
            "assent_rtcp_packets_dropped_total 21",
            "assent_writer_dropped_packets_total 13",
            "assent_outbox_events 14",
            "assent_outbox_oldest_seconds 1.5",
            "assent_disk_free_bytes{folder=\"data\"} 15",
            "assent_nats_connected 0",
            "assent_segment_bytes_total 17",
            "assent_next_hop_up{next_hop=\"udp:192.0.2.1:5060\"} 1",
            "assent_sip_requests_total{direction=\"received\",method=\"INVITE\"} 16",
            "assent_sip_responses_total{direction=\"sent\",class=\"2xx\"} 18",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains("node=\"a\\\"b\""), "{text}");
        for line in text.lines().filter(|line| line.starts_with("# HELP")) {
            assert!(line.split(' ').count() > 4, "{line} explains nothing");
        }
    }
}

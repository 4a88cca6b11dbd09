//! Requests on their way through their targets: each gets a transaction of its own, and whoever
//! asked for the request hears of the last one only.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sipx_sip::{Message, Timer};

use crate::call::message::{
    Answered, ClientTxn, Headers, Hop, Method, Request, Transport, Unanswered,
};
use crate::clock;
use crate::sip::alarms::Alarm;
use crate::sip::command::NotSent;
use crate::sip::core::Core;
use crate::sip::plan::{Failing, Heard, Plan, Size};
use crate::sip::table::{Cancel, Client, Errand};
use crate::sip::{LargeRequests, SipEvent, uri};

/// The largest request that leaves over UDP where the path's MTU is not known (RFC 3261, 18.1.1).
const LARGEST_DATAGRAM: usize = 1300;

impl Core {
    /// Sends a request the first way of its plan that there is.
    pub(super) fn attempt(&mut self, txn: ClientTxn, mut plan: Box<Plan>) -> Result<(), NotSent> {
        loop {
            if let Some(target) = plan.target()
                && target.hop.transport == Transport::Tls
            {
                self.links.certify(target.hop.addr, target.name.clone());
            }
            let request = plan.request();
            let (built, hop) = self.sized(&request, &mut plan)?;
            let why = match self.links.channel_to(hop) {
                Ok(channel) => {
                    let client = Client {
                        asked_by: Some(txn),
                        channel,
                        hop: hop.addr,
                        cancel: Cancel::NotAsked,
                        errand: Errand::Single,
                        parting: Headers::new(),
                    };
                    self.launch(built, client, plan);
                    return Ok(());
                }
                Err(why) => why,
            };
            self.passed_by(&plan, Failing::Unreachable);
            if !plan.advance() {
                return Err(why.into());
            }
        }
    }

    fn launch(&mut self, built: sipx_sip::Request, client: Client, plan: Box<Plan>) {
        let patience = plan.has_more().then_some(plan.patience);
        // Where there is no other way, nothing is kept for one.
        let errand = match plan.target().is_none() && plan.size != Size::Switched {
            true => Errand::Single,
            false => Errand::Planned(plan),
        };
        let Some(serial) = self.start(built, Client { errand, ..client }) else { return };
        if let Some(patience) = patience
            && self.table.key(serial).is_some()
        {
            self.alarms.set(serial, Alarm::Silent, clock::now() + patience);
        }
    }

    /// The request as it leaves, and the hop that its size asks for.
    fn sized(
        &mut self,
        request: &Request,
        plan: &mut Plan,
    ) -> Result<(sipx_sip::Request, Hop), NotSent> {
        let hop = self.way_to(request);
        let built = self.build(request, hop)?;
        if hop.transport != Transport::Udp
            || plan.size != Size::Counts
            || self.large_requests == LargeRequests::OverUdp
            || Message::Request(built.clone()).to_bytes().len() <= LARGEST_DATAGRAM
            || self.names.listener_for(Transport::Tcp, hop.addr).is_none()
            || insists_on_udp(request)
            || self.without_tcp.knows(hop.addr)
        {
            return Ok((built, hop));
        }
        plan.size = Size::Switched;
        let hop = Hop { transport: Transport::Tcp, ..hop };
        Ok((self.build(request, hop)?, hop))
    }

    /// A transaction of ours ended without an answer: whether its request goes another way.
    pub(super) fn goes_another_way(&mut self, serial: u64, why: Unanswered) -> bool {
        let Some(client) = self.table.client(serial) else { return false };
        let (hop, cancel) = (client.hop, client.cancel);
        let Errand::Planned(plan) = &mut client.errand else { return false };
        if cancel != Cancel::NotAsked || plan.heard == Heard::Progress {
            return false;
        }
        let failing = match why {
            Unanswered::Timeout => Failing::Silent,
            Unanswered::Transport => Failing::Unreachable,
        };
        if why == Unanswered::Transport
            && plan.size == Size::Switched
            && plan.heard == Heard::Nothing
        {
            self.without_tcp.learn(hop);
            return self.next_attempt(serial, Plan::advance);
        }
        self.fail_target(serial, failing, Plan::next_target)
    }

    /// A target has said nothing for as long as it may while others wait.
    pub(super) fn silent(&mut self, serial: u64) {
        let Some(client) = self.table.client(serial) else { return };
        let Errand::Planned(plan) = &client.errand else { return };
        if client.cancel != Cancel::NotAsked || plan.heard != Heard::Nothing || !plan.has_more() {
            return;
        }
        let (request, hop, switched) = (plan.request(), client.hop, plan.size == Size::Switched);
        let goes_on = if switched {
            // A firewall that drops TCP is as silent as a target that is dead.
            self.without_tcp.learn(hop);
            self.next_attempt(serial, Plan::advance)
        } else {
            self.fail_target(serial, Failing::Silent, Plan::next_target)
        };
        if !goes_on {
            return;
        }
        // It may yet wake up: it is sent nothing more, cancelled when it says that it tries, and
        // hung up on when it answers.
        self.alarms.clear(serial, Alarm::Sip(Timer::A));
        if let Some(client) = self.table.client(serial) {
            client.cancel = Cancel::Wanted;
            client.errand = Errand::Abandoned(Box::new(request));
        }
    }

    /// What an answer means for the plan of its request. `None` where nobody is to hear of it.
    pub(super) fn considered(&mut self, serial: u64, mut answer: Answered) -> Option<Answered> {
        let client = self.table.client(serial)?;
        let cancel = client.cancel;
        let plan = match &mut client.errand {
            Errand::Single => return Some(answer),
            Errand::Planned(plan) => plan,
            Errand::Settled(reached) => {
                answer.reached = Some((**reached).clone());
                return Some(answer);
            }
            Errand::Abandoned(request) => {
                let request = request.clone();
                self.answered_too_late(serial, &request, &answer);
                return None;
            }
        };
        let heard = plan.heard;
        match answer.status {
            ..=100 => plan.heard = heard.max(Heard::Trying),
            101..=199 => plan.heard = Heard::Progress,
            _ => {}
        }
        answer.reached = plan.reached();
        let undecided = cancel == Cancel::NotAsked && plan.target().is_some();
        match answer.status {
            ..=199 => self.alarms.clear(serial, Alarm::Silent),
            503 if undecided && heard != Heard::Progress => {
                let why = Failing::Unavailable(retry_after(&answer.headers));
                if self.fail_target(serial, why, Plan::next_target) {
                    return None;
                }
            }
            300..=399 if undecided => {
                let follow = |plan: &mut Plan| plan.redirect(&answer);
                if self.next_attempt(serial, follow) {
                    return None;
                }
            }
            _ => {}
        }
        if answer.status >= 200
            && let Some(client) = self.table.client(serial)
        {
            // The transaction lives on for half a minute, and its request is not needed for that.
            client.errand = match answer.reached.clone() {
                Some(reached) => Errand::Settled(Box::new(reached)),
                None => Errand::Single,
            };
        }
        Some(answer)
    }

    /// Tells of a target that failed, and sends the request on where there is another.
    fn fail_target(
        &mut self,
        serial: u64,
        why: Failing,
        next: impl FnOnce(&mut Plan) -> bool,
    ) -> bool {
        if let Some(client) = self.table.client(serial)
            && let Errand::Planned(plan) = &client.errand
            && let Some(target) = plan.target()
        {
            let hop = target.hop;
            self.outbox.offer(SipEvent::PassedBy { hop, why });
        }
        self.next_attempt(serial, next)
    }

    /// Sends the request of a transaction another way, in a transaction of its own.
    fn next_attempt(&mut self, serial: u64, next: impl FnOnce(&mut Plan) -> bool) -> bool {
        let Some(client) = self.table.client(serial) else { return false };
        let Errand::Planned(plan) = &mut client.errand else { return false };
        if !next(plan) {
            return false;
        }
        let errand = std::mem::replace(&mut client.errand, Errand::Single);
        let txn = self.table.detach(serial, Errand::Single);
        self.alarms.clear(serial, Alarm::Silent);
        let (Some(txn), Errand::Planned(plan)) = (txn, errand) else { return false };
        if let Err(error) = self.attempt(txn, plan) {
            tracing::warn!(%error, "a request was not sent");
            let why = Unanswered::Transport;
            self.outbox.deliver(SipEvent::Unanswered { txn, why });
        }
        true
    }

    fn passed_by(&mut self, plan: &Plan, why: Failing) {
        if let Some(target) = plan.target() {
            self.outbox.offer(SipEvent::PassedBy { hop: target.hop, why });
        }
    }

    /// A target that was passed by answers after all: it is cancelled, or the call that it thinks
    /// it has is taken and ended.
    fn answered_too_late(&mut self, serial: u64, request: &Request, answer: &Answered) {
        match answer.status {
            ..=199 if self.wants_cancel(serial) => self.send_cancel(serial),
            200..=299 => {
                let ack = in_late_dialog(request, answer, Method::Ack, answer.cseq);
                let bye = in_late_dialog(request, answer, Method::Bye, answer.cseq + 1);
                let sent = self.ack(&ack).and_then(|()| {
                    let built = self.build(&bye, bye.hop)?;
                    let channel = self.links.channel_to(bye.hop)?;
                    let client = Client {
                        asked_by: None,
                        channel,
                        hop: bye.hop.addr,
                        cancel: Cancel::NotAsked,
                        errand: Errand::Single,
                        parting: Headers::new(),
                    };
                    self.start(built, client);
                    Ok(())
                });
                if let Err(error) = sent {
                    tracing::warn!(%error, "a target that answered too late could not be told");
                }
            }
            _ => {}
        }
    }

    fn wants_cancel(&mut self, serial: u64) -> bool {
        self.table.client(serial).is_some_and(|client| client.cancel == Cancel::Wanted)
    }
}

fn insists_on_udp(request: &Request) -> bool {
    let route = request.headers.first("Route").and_then(|value| std::str::from_utf8(value).ok());
    uri::insists_on_udp(route.unwrap_or(&request.uri))
}

/// A request in the dialog that a late 2xx has made (RFC 3261, 12.1.2 and 13.2.2.4).
fn in_late_dialog(invite: &Request, answer: &Answered, method: Method, cseq: u32) -> Request {
    let mut headers = Headers::new().with("Max-Forwards", "70");
    for (from, name) in
        [(&invite.headers, "From"), (&answer.headers, "To"), (&invite.headers, "Call-ID")]
    {
        if let Some(value) = from.first(name) {
            headers.push(name, value.clone());
        }
    }
    headers.push("CSeq", format!("{cseq} {method}"));
    for route in answer.record_route.iter().rev() {
        headers.push("Route", route.clone());
    }
    Request {
        uri: answer.contact.clone().unwrap_or_else(|| invite.uri.clone()),
        headers,
        method,
        body: Bytes::new(),
        hop: invite.hop,
    }
}

/// `Retry-After` in seconds, without its comment and parameters.
fn retry_after(headers: &Headers) -> Option<Duration> {
    let value = std::str::from_utf8(headers.first("Retry-After")?).ok()?;
    let digits = value.split([';', '(']).next()?.trim();
    digits.parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()))
}

/// Those to whom large requests go over UDP, because they take no TCP.
#[derive(Debug, Default)]
pub(super) struct WithoutTcp(VecDeque<(SocketAddr, Instant)>);

impl WithoutTcp {
    /// For how long it is believed, and of how many at most.
    const BELIEVED: Duration = Duration::from_secs(600);
    const MOST: usize = 256;

    fn learn(&mut self, addr: SocketAddr) {
        tracing::info!(
            peer = %addr,
            "takes no TCP: requests over {LARGEST_DATAGRAM} bytes go there by UDP, in fragments"
        );
        self.0.retain(|(known, _)| *known != addr);
        self.0.push_back((addr, clock::now() + Self::BELIEVED));
        if self.0.len() > Self::MOST {
            self.0.pop_front();
        }
    }

    fn knows(&mut self, addr: SocketAddr) -> bool {
        let now = clock::now();
        while self.0.front().is_some_and(|(_, until)| *until <= now) {
            self.0.pop_front();
        }
        self.0.iter().any(|(known, _)| *known == addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_without_its_comment() {
        let of = |value: &'static str| retry_after(&Headers::new().with("Retry-After", value));
        assert_eq!(of("18000;duration=3600"), Some(Duration::from_secs(18_000)));
        assert_eq!(of("120 (I'm in a meeting)"), Some(Duration::from_secs(120)));
        assert_eq!(of("soon"), None);
        assert_eq!(of("-1"), None);
        assert_eq!(of("99999999999"), None);
    }

    #[test]
    fn what_is_known_of_peers_without_tcp_is_bounded() {
        let mut without = WithoutTcp::default();
        let addr = |n: usize| SocketAddr::from(([127, 0, 0, 1], u16::try_from(n + 1).unwrap()));
        for n in 0..1000 {
            without.learn(addr(n));
        }
        assert_eq!(without.0.len(), WithoutTcp::MOST);
        assert!(without.knows(addr(999)) && !without.knows(addr(0)));
    }
}

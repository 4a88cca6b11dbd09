//! What arrives: requests are matched, checked, refused or handed on; responses find their request.

use std::net::SocketAddr;

use sipx_sip::transaction::{Dispatch, ServerState};
use sipx_sip::{HeaderName, Message, Method, Output, Request, TransactionKey, TuEvent};
use sipx_sip::{Via, validate_request, validate_response};

use crate::call::message::{ALLOW, Hop, Incoming, Response, ServerTxn};
use crate::clock;
use crate::sip::SipEvent;
use crate::sip::alarms::Alarm;
use crate::sip::arrival::{Channel, Origin};
use crate::sip::check::{self, Place, Refusal};
use crate::sip::core::{Core, Sending, reliability};
use crate::sip::table::{Cancel, Cancelled, Server};
use crate::sip::text::contains;
use crate::sip::{decode, encode, refuse, via};

/// The way back for an answer.
#[derive(Clone, Copy, Debug)]
struct Back {
    channel: Channel,
    reply_to: SocketAddr,
    source: SocketAddr,
}

impl Core {
    /// A request arrived.
    pub(super) fn requested(&mut self, mut request: Request, origin: Origin) {
        self.counters.requests_in().add(request.method.as_bytes());
        let top = request.headers.typed::<Via>().and_then(Result::ok);
        let stamped = via::stamp(&mut request.headers, origin.source);
        let (Some(top), Some(reply_to)) = (top, stamped) else {
            return self.lost(&request, origin);
        };
        let reply_to = match origin.channel {
            Channel::Udp(_) => reply_to,
            Channel::Tcp(_) | Channel::Tls(_) => {
                SocketAddr::new(origin.source.ip(), via::sent_by_port(&top))
            }
        };
        if top.params.iter().any(|param| param.is("alias")) {
            self.links.alias(origin.channel, via::sent_by_port(&top));
        }
        let back = Back { channel: origin.channel, reply_to, source: origin.source };
        let key = TransactionKey::from_request(&request);
        let known = key.as_ref().and_then(|key| self.table.server_by_key(key));
        match (known, &request.method) {
            (Some(serial), method) => {
                if *method != Method::Ack {
                    self.counters.retransmissions_in.add();
                }
                let message = Message::Request(request);
                let dispatch = self.layer.receive(message, reliability(back.channel));
                if let Dispatch::Matched { outputs, .. } = dispatch {
                    self.perform(serial, outputs, Sending::Again);
                }
            }
            (None, Method::Ack) => self.stray_ack(&request, back),
            (None, Method::Cancel) => self.cancel_arrived(&request, back),
            (None, _) => self.admit(request, back),
        }
    }

    /// A request whose topmost `Via` cannot be read (RFC 4475, 3.1.2.1): it is told so where it
    /// came from.
    fn lost(&mut self, request: &Request, origin: Origin) {
        let Origin { channel, source } = origin;
        match request.method {
            Method::Ack => self.counters.strays.add(),
            _ => {
                self.refuse(request, &Refusal::new(400), Back { channel, reply_to: source, source })
            }
        }
    }

    /// A new request: every check, and only then memory.
    fn admit(&mut self, request: Request, back: Back) {
        let source = Hop { transport: back.channel.transport(), addr: back.source };
        let (incoming, place) = match check::request(&request, source, self.secret.cookie()) {
            Ok(checked) => checked,
            Err(refusal) => return self.refuse(&request, &refusal, back),
        };
        let fingerprint = match place {
            Place::InDialog => None,
            Place::OutOfDialog => Some(self.fingerprint(&incoming)),
        };
        let new_call = place == Place::OutOfDialog;
        if new_call && request.method != Method::Options && !self.peers.may_call(back.source.ip()) {
            // A next hop, which is heard within the calls that it was sent.
            tracing::debug!(source = %back.source, "a call from a next hop that is not in sip.peers");
            return self.counters.foreign.add();
        }
        // The same request by another way (RFC 3261, 8.2.2.2).
        if fingerprint.is_some_and(|fingerprint| self.table.is_known(&fingerprint)) {
            return self.refuse(&request, &Refusal::new(482), back);
        }
        if new_call {
            if let Some(retry_after) = self.draining {
                return self.refuse(&request, &unavailable(retry_after), back);
            }
            if request.method == Method::Options {
                return self.refuse(&request, &capabilities(), back);
            }
        }
        let most = self.limits.transactions.saturating_mul(if new_call { 1 } else { 2 });
        if self.table.len() >= most || !self.outbox.has_room() {
            return self.overloaded(&request, back);
        }
        self.accept(request, incoming, fingerprint, back);
    }

    fn accept(
        &mut self,
        request: Request,
        incoming: Incoming,
        fingerprint: Option<[u8; 16]>,
        back: Back,
    ) {
        let invite = request.method == Method::Invite;
        let dispatch = self.layer.receive(Message::Request(request), reliability(back.channel));
        let Dispatch::Created { key, outputs } = dispatch else {
            return self.counters.strays.add();
        };
        let server = Server {
            channel: back.channel,
            reply_to: back.reply_to,
            source: back.source,
            fingerprint,
            tag: None,
            cancelled: Cancelled::No,
        };
        let serial = self.table.insert_server(key, server);
        self.counters.transactions.set(self.table.len());
        self.perform(serial, outputs, Sending::First);
        // Whoever is called may think about it for as long as the next hop may ring.
        let patience = if invite { self.limits.unanswered } else { self.lifetime };
        self.alarms.set(serial, Alarm::Forgotten, clock::now() + patience);
        if invite {
            self.trying(serial);
        }
        self.outbox.offer(SipEvent::Request { txn: ServerTxn(serial), request: incoming });
    }

    /// 100 at once: what follows asks other people and takes its time (RFC 3261, 8.2.6.1).
    fn trying(&mut self, serial: u64) {
        let Some(key) = self.table.key(serial) else { return };
        let Some(request) = self.layer.server_request(&key) else { return };
        let mut trying = Response::new(100, None);
        if let Some(timestamp) = request.headers.value(&HeaderName::Timestamp) {
            trying.headers.push("Timestamp", timestamp.into_owned());
        }
        if let Ok(trying) = encode::response(request, &trying, "", &self.product) {
            let outputs = self.layer.send_response(&key, trying);
            self.perform(serial, outputs, Sending::First);
        }
    }

    /// What stays the same when one request comes by two ways.
    fn fingerprint(&self, request: &Incoming) -> [u8; 16] {
        let tag = request.from.tag.as_deref().unwrap_or_default();
        let cseq = request.cseq.to_be_bytes();
        let method = request.method.as_str();
        let parts = [tag.as_bytes(), request.call_id.as_bytes(), &cseq, method.as_bytes()];
        self.secret.derive("fingerprint", &parts)
    }

    fn overloaded(&mut self, request: &Request, back: Back) {
        self.counters.overload.add();
        // What UDP lost is sent again; over TCP, and for a call, silence would be a long wait.
        if request.method == Method::Invite || back.channel.connection().is_some() {
            self.refuse(request, &unavailable(self.limits.retry_after), back);
        }
    }

    /// Answers without keeping anything: the same answer to each retransmission.
    fn refuse(&mut self, request: &Request, refusal: &Refusal, back: Back) {
        let tag = refuse::stateless_tag(&request.headers, &self.secret);
        self.answer(request, refusal, &tag, back);
    }

    fn answer(&mut self, request: &Request, refusal: &Refusal, tag: &str, back: Back) {
        let Some(bytes) = refuse::answer(request, refusal, tag, &self.product) else {
            return self.counters.strays.add();
        };
        if self.links.send(back.channel, back.reply_to, bytes).is_ok() {
            self.counters.response_out(refusal.status);
        }
    }

    /// An ACK that belongs to no transaction is one for a 2xx, or for an answer that left no
    /// trace.
    fn stray_ack(&mut self, ack: &Request, back: Back) {
        let well_formed = validate_request(ack).iter().all(sipx_sip::Finding::is_repairable);
        let to = ack.headers.typed::<sipx_sip::headers::To>().and_then(Result::ok);
        let ours = refuse::stateless_tag(&ack.headers, &self.secret);
        let source = Hop { transport: back.channel.transport(), addr: back.source };
        match to.as_ref().and_then(|to| to.tag()) {
            Some(tag) if well_formed && tag != ours.as_bytes() => self.hand_on_ack(ack, source),
            _ => self.counters.strays.add(),
        }
    }

    /// An ACK that matched an INVITE with a 2xx, because it bears the branch of the INVITE.
    pub(super) fn acknowledged(&mut self, ack: &Request, serial: u64) {
        if let Some(server) = self.table.server(serial) {
            let source = Hop { transport: server.channel.transport(), addr: server.source };
            self.hand_on_ack(ack, source);
        }
    }

    fn hand_on_ack(&mut self, ack: &Request, source: Hop) {
        let delivered = decode::incoming(ack, source)
            .map(|request| self.outbox.offer(SipEvent::Ack { request }));
        match delivered {
            Ok(true) => {}
            // The 2xx that follows brings another.
            Ok(false) => self.counters.overload.add(),
            Err(_) => self.counters.strays.add(),
        }
    }

    /// RFC 3261, 9.2.
    fn cancel_arrived(&mut self, cancel: &Request, back: Back) {
        if let Some(finding) = validate_request(cancel).iter().find(|f| !f.is_repairable()) {
            return self.refuse(cancel, &Refusal::new(finding.status()), back);
        }
        let invite = TransactionKey::for_cancelled_invite(cancel);
        let serial = invite.as_ref().and_then(|key| self.table.server_by_key(key));
        let source = back.source.ip();
        let found = serial.and_then(|serial| {
            let server = self.table.server(serial)?;
            // Only who sent the INVITE may cancel it.
            if server.source.ip() != source {
                return None;
            }
            let first = server.cancelled == Cancelled::No;
            server.cancelled = Cancelled::Yes;
            Some((serial, first, server.tag.clone()))
        });
        let Some((serial, first, tag)) = found else {
            return self.refuse(cancel, &Refusal::new(481), back);
        };
        let tag = tag.unwrap_or_else(|| refuse::stateless_tag(&cancel.headers, &self.secret));
        self.answer(cancel, &Refusal::new(200), &tag, back);
        let state = invite.and_then(|key| self.layer.server_state(&key));
        if first && state == Some(ServerState::Proceeding) {
            let headers = decode::neutral(&cancel.headers);
            self.outbox.deliver(SipEvent::Cancelled { txn: ServerTxn(serial), headers });
        }
    }

    /// A response arrived. It is one of ours by its branch, which nobody can guess.
    pub(super) fn answered(&mut self, response: sipx_sip::Response) {
        let status = response.status.code();
        self.counters.response_in(status);
        let headers = &response.headers;
        let top = headers.value(&HeaderName::Via);
        let ours = top.is_some_and(|top| contains(&top, self.secret.cookie()));
        let key = TransactionKey::from_response(&response);
        let serial = key.and_then(|key| self.table.client_by_key(&key));
        // More than one Via: meant for somebody behind us, and there is nobody (8.1.3.3).
        let (Some(serial), true, 1) = (serial, ours, headers.typed_all::<Via>().count()) else {
            return self.counters.strays.add();
        };
        // One that cannot be read is as good as lost: the transaction goes on waiting.
        let readable = validate_response(&response).is_empty();
        let (true, Ok(neutral)) = (readable, decode::answered(&response)) else {
            return self.counters.parse_errors.add();
        };
        let dispatch = self.layer.receive(
            Message::Response(response),
            // Decided when the request was sent; the layer does not ask for it again.
            sipx_sip::Reliability::Unreliable,
        );
        let Dispatch::Matched { outputs, .. } = dispatch else {
            return self.counters.strays.add();
        };
        let news = |output: &Output| match output {
            Output::ToTu(event) => matches!(**event, TuEvent::Response(_)),
            _ => false,
        };
        let news = outputs.iter().any(news);
        let client = self.table.client(serial).map(|client| (client.asked_by, client.cancel));
        self.perform(serial, outputs, Sending::First);
        let Some((asked_by, cancel)) = client else { return };
        if !news {
            return;
        }
        let Some(response) = self.considered(serial, neutral) else { return };
        let Some(txn) = asked_by else { return };
        let event = SipEvent::Response { txn, response };
        if status >= 200 {
            self.outbox.deliver(event);
        } else if !self.outbox.offer(event) {
            self.counters.overload.add();
        }
        if status < 200 && cancel == Cancel::Wanted {
            self.send_cancel(serial);
        }
    }
}

fn unavailable(retry_after: std::time::Duration) -> Refusal {
    let seconds = retry_after.as_secs().max(1).to_string();
    Refusal::new(503).with(HeaderName::RetryAfter, seconds)
}

/// The answer to OPTIONS (RFC 3261, 11.2).
fn capabilities() -> Refusal {
    Refusal::new(200)
        .with(HeaderName::Allow, ALLOW)
        .with(HeaderName::Accept, check::ACCEPT)
        .with(HeaderName::AcceptEncoding, "identity")
        .with(HeaderName::AcceptLanguage, "en")
        .with(HeaderName::Supported, check::SUPPORTED.join(", "))
}

//! What the call machine asks for: responses, requests, cancellations, acknowledgements.

use sipx_sip::transaction::{ClientState, ServerState};
use sipx_sip::{Message, Method};

use crate::call::message::{ClientTxn, Hop, Method as NeutralMethod, Request, Response};
use crate::call::message::{Headers, ServerTxn, Transport, Unanswered};
use crate::clock;
use crate::sip::SipEvent;
use crate::sip::alarms::Alarm;
use crate::sip::core::{Core, Sending, reliability};
use crate::sip::encode::{self, Unsendable};
use crate::sip::endpoint::Command;
use crate::sip::links::NoWay;
use crate::sip::plan::Plan;
use crate::sip::refuse;
use crate::sip::table::{Cancel, Client, Errand};
use crate::sip::uri;

/// Why a request did not leave.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSent {
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
    #[error(transparent)]
    NoWay(#[from] NoWay),
    #[error("too many transactions")]
    Full,
    #[error("CANCEL is sent by cancelling its INVITE")]
    Cancel,
    #[error("the transaction number is in use")]
    InUse,
}

impl Core {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Respond(txn, response) => self.respond(txn, &response),
            Command::Request(txn, plan) => {
                if let Err(error) = self.request(txn, plan) {
                    tracing::warn!(%error, "a request was not sent");
                    // A number that is in use belongs to somebody who still waits.
                    if !matches!(error, NotSent::InUse) {
                        let why = Unanswered::Transport;
                        self.outbox.deliver(SipEvent::Unanswered { txn, why });
                    }
                }
            }
            Command::Cancel(txn, headers) => self.cancel(txn, headers),
            Command::Ack(request) => {
                if let Err(error) = self.ack(&request) {
                    tracing::warn!(%error, "an ACK was not sent");
                }
            }
            Command::Drain(retry_after) => self.draining = retry_after,
        }
    }

    pub(super) fn respond(&mut self, txn: ServerTxn, response: &Response) {
        let serial = txn.0;
        let Some(key) = self.table.key(serial) else {
            return tracing::debug!(txn = serial, "a response to a transaction that is over");
        };
        let Some(request) = self.layer.server_request(&key) else { return };
        let own = refuse::stateless_tag(&request.headers, &self.secret);
        let tag = response.to_tag.clone().unwrap_or(own);
        let built = encode::response(request, response, &tag, &self.product).or_else(|error| {
            tracing::error!(txn = serial, status = response.status, %error, "a response could not be built");
            encode::response(request, &Response::new(500, None), &tag, &self.product)
        });
        let Ok(built) = built else { return };
        let sending = match self.layer.server_state(&key) {
            Some(ServerState::Accepted) => Sending::Again,
            _ => Sending::First,
        };
        if let Some(server) = self.table.server(serial)
            && built.status.code() > 100
        {
            server.tag = Some(tag);
        }
        let outputs = self.layer.send_response(&key, built);
        self.perform(serial, outputs, sending);
    }

    fn request(&mut self, txn: ClientTxn, plan: Box<Plan>) -> Result<(), NotSent> {
        let request = plan.request();
        match request.method {
            NeutralMethod::Ack => return self.ack(&request),
            NeutralMethod::Cancel => return Err(NotSent::Cancel),
            _ => {}
        }
        if self.table.asked(txn).is_some() {
            return Err(NotSent::InUse);
        }
        if self.table.len() >= self.limits.transactions.saturating_mul(2) {
            self.counters.overload.add();
            return Err(NotSent::Full);
        }
        self.attempt(txn, plan)
    }

    pub(super) fn start(&mut self, request: sipx_sip::Request, client: Client) -> Option<u64> {
        let channel = client.channel;
        let Some((key, outputs)) = self.layer.send_request(request, reliability(channel)) else {
            tracing::error!("a request of ours has no branch");
            return None;
        };
        let serial = self.table.insert_client(key, client);
        self.counters.transactions.set(self.table.len());
        self.links.wait(channel, serial);
        self.perform(serial, outputs, Sending::First);
        Some(serial)
    }

    /// The request with a branch of its own, for this hop.
    pub(super) fn build(
        &mut self,
        request: &Request,
        hop: Hop,
    ) -> Result<sipx_sip::Request, NotSent> {
        let Hop { transport, addr } = hop;
        self.branches += 1;
        // Requests to us may take a connection on which both sides are certain (RFC 5923).
        let alias = if transport == Transport::Tls { ";alias" } else { "" };
        let via = format!(
            "SIP/2.0/{} {};rport{alias};branch={}",
            transport.as_str(),
            self.names.host_port(transport, addr),
            self.secret.branch(self.branches)
        );
        Ok(encode::request(request, via)?)
    }

    /// The hop of a request; where that was a connection which is gone, the port that the request
    /// itself names on the same machine. A peer that connects from a port that it does not listen
    /// on is reached by its Contact (RFC 3261, 12.2.1.1), and nobody else ever is.
    pub(super) fn way_to(&self, request: &Request) -> Hop {
        let hop = request.hop;
        if hop.transport == Transport::Udp || self.links.reaches(hop) {
            return hop;
        }
        let route =
            request.headers.first("Route").and_then(|value| std::str::from_utf8(value).ok());
        let named = uri::address(route.unwrap_or(&request.uri));
        named.filter(|named| named.ip() == hop.addr.ip()).map_or(hop, |addr| Hop { addr, ..hop })
    }

    /// A transaction of its own without an answer (RFC 3261, 13.2.2.4).
    pub(super) fn ack(&mut self, request: &Request) -> Result<(), NotSent> {
        let hop = self.way_to(request);
        // Built first, so that nothing connects for a request that cannot be sent.
        let message = Message::Request(self.build(request, hop)?);
        let channel = self.links.channel_to(hop)?;
        self.links.send(channel, hop.addr, message.to_bytes())?;
        self.count_sent(&message);
        Ok(())
    }

    fn cancel(&mut self, txn: ClientTxn, headers: Headers) {
        let Some(serial) = self.table.asked(txn) else { return };
        let Some(key) = self.table.key(serial) else { return };
        let invite = self.layer.client_request(&key).is_some_and(|r| r.method == Method::Invite);
        let Some(client) = self.table.client(serial).filter(|_| invite) else { return };
        if client.cancel != Cancel::NotAsked {
            return;
        }
        client.cancel = Cancel::Wanted;
        self.alarms.clear(serial, Alarm::Silent);
        client.parting = headers;
        if self.layer.client_state(&key) == Some(ClientState::Proceeding) {
            self.send_cancel(serial);
        }
    }

    /// The CANCEL takes the way of its INVITE.
    pub(super) fn send_cancel(&mut self, serial: u64) {
        let Some(key) = self.table.key(serial) else { return };
        let Some(invite) = self.layer.client_request(&key) else { return };
        let Some(client) = self.table.client(serial) else { return };
        let built = encode::cancel(invite, &client.parting);
        client.cancel = Cancel::Sent;
        let cancel = Client {
            asked_by: None,
            channel: client.channel,
            hop: client.hop,
            cancel: Cancel::Sent,
            errand: Errand::Single,
            parting: Headers::new(),
        };
        self.alarms.set(serial, Alarm::GiveUp, clock::now() + self.lifetime);
        match built {
            Ok(built) => drop(self.start(built, cancel)),
            Err(error) => tracing::error!(%error, "a CANCEL could not be built"),
        }
    }
}

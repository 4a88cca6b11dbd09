//! The one task that owns the transactions: it does what they say, on time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sipx_sip::transaction::{ClientState, ServerState};
use sipx_sip::{Message, Output, Reliability, Timers, TransactionLayer, TuEvent};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::call::message::{Hop, Response, ServerTxn, Unanswered};
use crate::clock;
use crate::sip::alarms::{Alarm, Alarms};
use crate::sip::arrival::{Arrival, Channel};
use crate::sip::attempts::WithoutTcp;
use crate::sip::endpoint::Command;
use crate::sip::links::{Links, NoWay};
use crate::sip::names::Names;
use crate::sip::outbox::Outbox;
use crate::sip::peers::Heard;
use crate::sip::secret::Secret;
use crate::sip::table::{Side, Table};
use crate::sip::{Counters, LargeRequests, Limits, SipEvent, Timing};

/// How many of one kind are taken before the others get their turn.
const TURN: usize = 128;

/// The state of the edge.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) layer: TransactionLayer,
    pub(super) table: Table,
    pub(super) alarms: Alarms,
    pub(super) links: Links,
    pub(super) outbox: Outbox,
    pub(super) names: Arc<Names>,
    pub(super) secret: Arc<Secret>,
    pub(super) counters: Arc<Counters>,
    pub(super) peers: Arc<Heard>,
    pub(super) product: Arc<str>,
    pub(super) limits: Limits,
    /// 64·T1: the life of a transaction.
    pub(super) lifetime: Duration,
    pub(super) large_requests: LargeRequests,
    pub(super) without_tcp: WithoutTcp,
    pub(super) draining: Option<Duration>,
    /// How many branches have been given out.
    pub(super) branches: u64,
}

/// Whether a message leaves for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    First,
    Again,
}

impl Core {
    /// The transaction layer with our timers.
    pub(super) fn layer(timing: Timing) -> TransactionLayer {
        TransactionLayer::new(Timers { t1: timing.t1, t2: timing.t2, t4: timing.t4 })
    }

    /// Runs until every handle or the receiver of the events is gone. The readers end with it.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut arrivals: mpsc::Receiver<Arrival>,
        events: mpsc::Sender<SipEvent>,
        readers: JoinSet<()>,
    ) {
        loop {
            let due = self.alarms.next_at();
            tokio::select! {
                biased;
                command = commands.recv() => {
                    let Some(command) = command else { break };
                    self.obey(command);
                    for _ in 1..TURN {
                        let Ok(command) = commands.try_recv() else { break };
                        self.obey(command);
                    }
                }
                () = events.closed() => break,
                permit = events.reserve(), if self.outbox.is_behind() => {
                    if let (Ok(permit), Some(event)) = (permit, self.outbox.pop()) {
                        permit.send(event);
                    }
                }
                () = wait_until(due) => self.ring(),
                arrival = arrivals.recv() => {
                    let Some(arrival) = arrival else { break };
                    self.arrived(arrival);
                    for _ in 1..TURN {
                        // Answers that are due and commands do not wait for a flood to end.
                        let Ok(arrival) = arrivals.try_recv() else { break };
                        self.arrived(arrival);
                    }
                }
            }
        }
        drop(readers);
    }

    fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Message(message, origin) => match *message {
                Message::Request(request) => self.requested(request, origin),
                Message::Response(response) => self.answered(response),
            },
            Arrival::Opened(opened) => self.links.opened(opened),
            Arrival::Closed(id) => {
                for serial in self.links.closed(id) {
                    self.stranded(serial);
                }
            }
        }
    }

    /// The connection of a request of ours closed. Where a provisional response has come, the
    /// final one may still come by a connection of the peer's (RFC 3261, 18.2.2).
    fn stranded(&mut self, serial: u64) {
        let Some(key) = self.table.key(serial) else { return };
        let state = self.layer.client_state(&key);
        if matches!(state, Some(ClientState::Calling | ClientState::Trying)) {
            let outputs = self.layer.on_transport_error(&key);
            self.perform(serial, outputs, Sending::First);
        }
    }

    fn ring(&mut self) {
        let now = clock::now();
        for _ in 0..TURN {
            let Some((serial, alarm)) = self.alarms.pop_due(now) else { return };
            let Some(key) = self.table.key(serial) else { continue };
            match alarm {
                Alarm::Sip(timer) => {
                    let outputs = self.layer.on_timer(&key, timer);
                    self.perform(serial, outputs, Sending::Again);
                }
                Alarm::GiveUp => {
                    if self.layer.client_state(&key) == Some(ClientState::Proceeding) {
                        let _ = self.layer.on_transport_error(&key);
                        self.unanswered(serial, Unanswered::Timeout);
                        self.forget(serial);
                    }
                }
                Alarm::Forgotten => self.forgotten(serial),
                Alarm::Silent => self.silent(serial),
            }
        }
    }

    /// The call machine has not said a word about a request for the life of a transaction. Its
    /// fault, but not one that may fill the table: 17.2 gives such a transaction no timer.
    fn forgotten(&mut self, serial: u64) {
        let Some(key) = self.table.key(serial) else { return };
        let state = self.layer.server_state(&key);
        let answered = self.table.server(serial).is_none_or(|server| server.tag.is_some());
        if answered || !matches!(state, Some(ServerState::Trying | ServerState::Proceeding)) {
            return;
        }
        tracing::error!(txn = serial, "the call machine never answered a request");
        self.respond(ServerTxn(serial), &Response::new(500, None));
    }

    /// Does what a transaction says, in its order.
    pub(super) fn perform(&mut self, serial: u64, outputs: Vec<Output>, sending: Sending) {
        let mut failed = None;
        for output in outputs {
            match output {
                Output::Send(message) => {
                    if let Err(no_way) = self.transmit(serial, &message, sending) {
                        tracing::debug!(txn = serial, error = %no_way, "cannot send");
                        // A lost response or ACK is asked for again by its retransmission.
                        if let Message::Request(request) = *message
                            && request.method != sipx_sip::Method::Ack
                        {
                            failed = self.table.key(serial);
                        }
                    }
                }
                Output::SetTimer { timer, after } => {
                    self.alarms.set(serial, Alarm::Sip(timer), clock::now() + after);
                }
                Output::ClearTimer(timer) => self.alarms.clear(serial, Alarm::Sip(timer)),
                Output::ToTu(event) => self.tell(serial, *event),
                Output::Terminated(_) => self.forget(serial),
                _ => {}
            }
        }
        if let Some(key) = failed
            && self.table.key(serial).is_some()
        {
            let outputs = self.layer.on_transport_error(&key);
            self.perform(serial, outputs, sending);
        }
    }

    fn transmit(&mut self, serial: u64, message: &Message, sending: Sending) -> Result<(), NoWay> {
        let (channel, to) = self.way_of(serial)?;
        self.links.send(channel, to, message.to_bytes())?;
        self.count_sent(message);
        if sending == Sending::Again {
            self.counters.retransmissions_out.add();
        }
        Ok(())
    }

    /// The channel of a transaction. A response whose connection is gone gets a new one to where
    /// the `Via` says (RFC 3261, 18.2.2).
    fn way_of(&mut self, serial: u64) -> Result<(Channel, SocketAddr), NoWay> {
        let transaction = self.table.get(serial).ok_or(NoWay::Closed)?;
        let server = match &transaction.side {
            Side::Client(client) => return Ok((client.channel, client.hop)),
            Side::Server(server) => server,
        };
        let (channel, reply_to) = (server.channel, server.reply_to);
        if self.links.is_open(channel) {
            return Ok((channel, reply_to));
        }
        let hop = Hop { transport: channel.transport(), addr: reply_to };
        let channel = self.links.channel_to(hop)?;
        if let Some(server) = self.table.server(serial) {
            server.channel = channel;
        }
        Ok((channel, reply_to))
    }

    pub(super) fn count_sent(&self, message: &Message) {
        match message {
            Message::Request(request) => {
                self.counters.requests_out().add(request.method.as_bytes());
            }
            Message::Response(response) => self.counters.response_out(response.status.code()),
        }
    }

    // New requests and responses are told by whoever received them, who has read them already.
    fn tell(&mut self, serial: u64, event: TuEvent) {
        let server = matches!(self.table.get(serial).map(|t| &t.side), Some(Side::Server(_)));
        match event {
            TuEvent::Timeout if server => {
                self.outbox.deliver(SipEvent::NoAck { txn: ServerTxn(serial) });
            }
            TuEvent::Timeout => self.unanswered(serial, Unanswered::Timeout),
            TuEvent::TransportError if !server => self.unanswered(serial, Unanswered::Transport),
            TuEvent::Ack(ack) => self.acknowledged(&ack, serial),
            _ => {}
        }
    }

    fn unanswered(&mut self, serial: u64, why: Unanswered) {
        if self.goes_another_way(serial, why) {
            return;
        }
        if let Some(txn) = self.table.client(serial).and_then(|client| client.asked_by) {
            self.outbox.deliver(SipEvent::Unanswered { txn, why });
        }
    }

    /// Ends a transaction that the layer has ended.
    fn forget(&mut self, serial: u64) {
        self.alarms.forget(serial);
        if let Some(transaction) = self.table.remove(serial)
            && let Side::Client(client) = transaction.side
        {
            self.links.release(client.channel, serial);
        }
        self.counters.transactions.set(self.table.len());
    }
}

/// Whether the transport delivers by itself.
pub(super) fn reliability(channel: Channel) -> Reliability {
    match channel {
        Channel::Udp(_) => Reliability::Unreliable,
        Channel::Tcp(_) | Channel::Tls(_) => Reliability::Reliable,
    }
}

async fn wait_until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => sleep_until(Instant::from_std(at)).await,
        None => std::future::pending().await,
    }
}

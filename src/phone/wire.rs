//! One UDP socket with SIP transactions on it (RFC 3261, 17 and 18).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use bytes::Bytes;
use sipx_sip::headers::Via;
use sipx_sip::transaction::{Dispatch, Output, Reliability, Timers};
use sipx_sip::{
    Limits, Message, Method, Request, Response, Timer, TransactionKey, TransactionLayer, TuEvent,
    parse_datagram,
};
use tokio::net::UdpSocket;

use crate::clock;

/// What the wire has to say.
#[derive(Debug)]
pub(super) enum Heard {
    /// A new request that wants an answer.
    Request(TransactionKey, Request),
    /// An ACK of a 2xx.
    Ack(Request),
    /// An answer to a request of ours.
    Response(TransactionKey, Response),
    /// A request of ours got no answer in time, or could not be sent.
    Unanswered(TransactionKey),
}

/// The most server transactions at one time: a phone has one call, so more is noise.
const MOST_TRANSACTIONS: usize = 64;

#[derive(Debug)]
pub(super) struct Wire {
    socket: UdpSocket,
    layer: TransactionLayer,
    timers: BTreeMap<(Instant, u64), (TransactionKey, Timer)>,
    next_timer: u64,
    peers: HashMap<TransactionKey, SocketAddr>,
    heard: VecDeque<Heard>,
    buffer: Vec<u8>,
}

impl Wire {
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::on(UdpSocket::bind(address).await?))
    }

    /// A wire on the same socket, for when nobody listens on this one any more.
    pub(super) fn successor(&self) -> io::Result<Self> {
        let socket = std::net::UdpSocket::from(self.socket.as_fd().try_clone_to_owned()?);
        Ok(Self::on(UdpSocket::from_std(socket)?))
    }

    fn on(socket: UdpSocket) -> Self {
        Self {
            socket,
            layer: TransactionLayer::new(Timers::default()),
            timers: BTreeMap::new(),
            next_timer: 0,
            peers: HashMap::new(),
            heard: VecDeque::new(),
            buffer: vec![0; 65_536],
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends a request with a transaction of its own.
    pub(super) async fn request(
        &mut self,
        request: Request,
        to: SocketAddr,
    ) -> Option<TransactionKey> {
        let (key, outputs) = self.layer.send_request(request, Reliability::Unreliable)?;
        self.peers.insert(key.clone(), to);
        self.perform(&key, outputs).await;
        Some(key)
    }

    /// Sends an ACK of a 2xx, which has no transaction.
    pub(super) async fn ack(&self, request: Request, to: SocketAddr) {
        // A lost ACK is asked for again by the peer's next 2xx.
        let _ = self.socket.send_to(&Message::Request(request).to_bytes(), to).await;
    }

    /// Answers a request. Of a 2xx to an INVITE this is also how it is repeated.
    pub(super) async fn respond(&mut self, key: &TransactionKey, response: Response) {
        let outputs = self.layer.send_response(key, response);
        self.perform(key, outputs).await;
    }

    /// The next thing that was heard. May be dropped and called again at any time.
    pub(super) async fn listen(&mut self) -> io::Result<Heard> {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return Ok(heard);
            }
            let due = self.timers.first_key_value().map(|((at, _), _)| *at);
            let sleep = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = self.socket.recv_from(&mut self.buffer) => match received {
                    Ok((length, from)) => {
                        let bytes = self.buffer.get(..length).unwrap_or_default();
                        let bytes = Bytes::copy_from_slice(bytes);
                        self.receive(bytes, from).await;
                    }
                    // Somebody's port is closed (ICMP): the transaction's timers deal with it.
                    Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(e) => return Err(e),
                },
                () = sleep => self.fire().await,
            }
        }
    }

    async fn receive(&mut self, bytes: Bytes, from: SocketAddr) {
        // What does not parse gets no answer: this is a phone, and no target.
        let Ok(message) = parse_datagram(bytes, &Limits::datagram()) else { return };
        let is_new = matches!(&message, Message::Request(r) if r.method != Method::Ack);
        if is_new && self.layer.len().1 >= MOST_TRANSACTIONS {
            return;
        }
        let answers_to = answers_to(&message, from);
        match self.layer.receive(message, Reliability::Unreliable) {
            Dispatch::Matched { key, outputs } => self.perform(&key, outputs).await,
            Dispatch::Created { key, outputs } => {
                self.peers.insert(key.clone(), answers_to);
                self.perform(&key, outputs).await;
            }
            Dispatch::Unmatched(message) => {
                if let Message::Request(request) = *message
                    && request.method == Method::Ack
                {
                    self.heard.push_back(Heard::Ack(request));
                }
            }
        }
    }

    async fn fire(&mut self) {
        let now = clock::now();
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > now {
                return;
            }
            let (key, timer) = first.remove();
            let outputs = self.layer.on_timer(&key, timer);
            self.perform(&key, outputs).await;
        }
    }

    async fn perform(&mut self, key: &TransactionKey, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(message) => {
                    if let Some(to) = self.peers.get(key) {
                        // What is lost is sent again by the transaction.
                        let _ = self.socket.send_to(&message.to_bytes(), *to).await;
                    }
                }
                Output::SetTimer { timer, after } => {
                    let at = clock::now() + after;
                    self.next_timer += 1;
                    self.timers.insert((at, self.next_timer), (key.clone(), timer));
                }
                Output::ClearTimer(timer) => {
                    self.timers.retain(|_, (k, t)| !(k == key && *t == timer));
                }
                Output::ToTu(event) => self.tell(key, *event),
                Output::Terminated(_) => {
                    self.timers.retain(|_, (k, _)| k != key);
                    self.peers.remove(key);
                }
                _ => {}
            }
        }
    }

    fn tell(&mut self, key: &TransactionKey, event: TuEvent) {
        let heard = match event {
            TuEvent::Request(request) => Heard::Request(key.clone(), *request),
            TuEvent::Ack(request) => Heard::Ack(*request),
            TuEvent::Response(response) => Heard::Response(key.clone(), *response),
            TuEvent::Timeout | TuEvent::TransportError => Heard::Unanswered(key.clone()),
            _ => return,
        };
        self.heard.push_back(heard);
    }
}

/// Where answers to a request go: back to its source, at the port that its Via names unless it
/// asks for the source's (RFC 3261, 18.2.2; RFC 3581, 4).
fn answers_to(message: &Message, from: SocketAddr) -> SocketAddr {
    match message.headers().typed::<Via>() {
        Some(Ok(via)) if via.rport().is_none() => {
            SocketAddr::new(from.ip(), via.port.unwrap_or(5060))
        }
        _ => from,
    }
}

//! The public face of the edge: binding, the handle that takes commands, and the events.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::call::message::{
    Answered, ClientTxn, Headers, Hop, Incoming, Request, Response, Scheme, ServerTxn, Transport,
    Unanswered,
};
use crate::sip::alarms::Alarms;
use crate::sip::arrival::Intake;
use crate::sip::attempts::WithoutTcp;
use crate::sip::core::Core;
use crate::sip::links::Links;
use crate::sip::names::Names;
use crate::sip::outbox::Outbox;
use crate::sip::peers::{Heard, Peers};
use crate::sip::plan::{Failing, Plan, Target};
use crate::sip::secret::Secret;
use crate::sip::table::Table;
use crate::sip::tcp::{self, ConnectionIds, Reception};
use crate::sip::tls::{Credentials, Handshakes, Tls};
use crate::sip::{Counters, Listen, SipConfig, udp};

/// Messages that wait for the core. When it is full, the operating system's buffers fill, and
/// then peers wait or lose datagrams.
const ARRIVALS: usize = 1024;

/// Opens the sockets.
#[derive(Debug)]
pub struct Endpoint;

impl Endpoint {
    /// Binds every `listen` entry and starts the tasks of the edge. They end when the last
    /// [`Sip`] is dropped. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] when an entry cannot be bound; nothing stays open then.
    pub fn bind(config: SipConfig) -> Result<(Sip, mpsc::Receiver<SipEvent>), BindError> {
        let secret = Secret::draw().map_err(|_| BindError::NoRandomness)?;
        let (sockets, listeners) = open(&config)?;
        let names = Arc::new(Names { listeners, advertise: config.advertise });
        let counters = Arc::new(Counters::default());
        let peers = Arc::new(Heard::new(config.peers));
        let credentials = Arc::new(Credentials::new(config.tls));
        let (arrivals, inbound) = mpsc::channel(ARRIVALS);
        let intake = Intake {
            arrivals,
            peers: Arc::clone(&peers),
            secret: Arc::new(secret),
            credentials: Arc::clone(&credentials),
            counters: counters.clone(),
            parsing: Intake::parsing(&config.limits),
            limits: config.limits,
            product: config.product.into(),
        };
        let ids = Arc::new(ConnectionIds::default());
        let room = config.limits.connections.min(Semaphore::MAX_PERMITS);
        let reception = Reception {
            ids: Arc::clone(&ids),
            room: Arc::new(Semaphore::new(room)),
            strangers: Arc::new(Semaphore::new(room.div_ceil(8))),
            handshakes: Arc::new(Handshakes::default()),
            intake: intake.clone(),
        };
        let mut readers = JoinSet::new();
        let mut out = Vec::new();
        for (at, socket) in sockets.into_iter().enumerate() {
            match socket {
                Socket::Udp(socket) => {
                    let socket = Arc::new(socket);
                    out.push(Some(socket.clone()));
                    readers.spawn(udp::read(socket, at, intake.clone()));
                }
                Socket::Stream(listener, transport) => {
                    out.push(None);
                    readers.spawn(tcp::accept(listener, transport, reception.clone()));
                }
            }
        }
        let (commands, orders) = mpsc::unbounded_channel();
        let (events, receiver) = mpsc::channel(config.limits.events.max(1));
        let core = Core {
            layer: Core::layer(config.timing),
            table: Table::default(),
            alarms: Alarms::default(),
            outbox: Outbox::new(events.clone(), config.limits.transactions.saturating_mul(4)),
            names: names.clone(),
            secret: intake.secret.clone(),
            counters: counters.clone(),
            peers: Arc::clone(&peers),
            product: intake.product.clone(),
            limits: config.limits,
            lifetime: config.timing.t1 * 64,
            large_requests: config.large_requests,
            without_tcp: WithoutTcp::default(),
            draining: None,
            branches: 0,
            links: Links::new(out, ids, names.clone(), intake),
        };
        tokio::spawn(core.run(orders, inbound, events, readers));
        Ok((
            Sip { commands, shared: Arc::new(Shared { names, counters, peers, credentials }) },
            receiver,
        ))
    }
}

enum Socket {
    Udp(UdpSocket),
    Stream(TcpListener, Transport),
}

fn open(config: &SipConfig) -> Result<(Vec<Socket>, Vec<Listen>), BindError> {
    if config.listen.is_empty() {
        return Err(BindError::Nothing);
    }
    let (mut sockets, mut bound) = (Vec::new(), Vec::new());
    for listen in &config.listen {
        let os = |source: io::Error| BindError::Os { listen: *listen, source };
        let (socket, addr) = match listen.transport {
            Transport::Udp => {
                let socket = udp::bind(listen.addr, config.limits.receive_buffer).map_err(os)?;
                let addr = socket.local_addr().map_err(os)?;
                (Socket::Udp(socket), addr)
            }
            Transport::Tls if !config.tls.as_ref().is_some_and(Tls::accepts) => {
                return Err(BindError::NoCertificate(*listen));
            }
            Transport::Tcp | Transport::Tls => {
                let socket = tcp::bind(listen.addr).map_err(os)?;
                let addr = socket.local_addr().map_err(os)?;
                (Socket::Stream(socket, listen.transport), addr)
            }
        };
        sockets.push(socket);
        bound.push(Listen { transport: listen.transport, addr });
    }
    Ok((sockets, bound))
}

/// Why the edge could not start. Each says which entry, why, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The operating system refused.
    #[error("cannot listen on {listen}: {source}; {}", remedy(.source))]
    Os {
        /// The entry.
        listen: Listen,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// TLS without a certificate to show.
    #[error("cannot listen on {0}: there is no certificate; set sip.tls.cert and sip.tls.key")]
    NoCertificate(Listen),
    /// The operating system has no random numbers, and without them nothing here is safe.
    #[error("the operating system gives no random numbers; make getrandom(2) work")]
    NoRandomness,
    /// There was no entry.
    #[error("there is nothing to listen on; name at least one address in sip.listen")]
    Nothing,
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another program has this port; stop it or choose another port in sip.listen"
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "this machine does not have this address; correct sip.listen"
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE; choose another port in sip.listen"
        }
        _ => "correct sip.listen",
    }
}

/// What the call machine hears.
#[derive(Debug)]
pub enum SipEvent {
    /// A new request. INVITE has been answered 100 already. Answer it with [`Sip::respond`].
    Request {
        /// The transaction that waits for the answer.
        txn: ServerTxn,
        /// The request.
        request: Incoming,
    },
    /// The ACK for a 2xx: a transaction of its own without an answer (RFC 3261, 13.2.2.4).
    Ack {
        /// The ACK.
        request: Incoming,
    },
    /// A CANCEL arrived for an INVITE that has no final answer yet. The CANCEL itself has been
    /// answered; the INVITE still wants its 487.
    Cancelled {
        /// The INVITE's transaction.
        txn: ServerTxn,
        /// The headers of the CANCEL, for its `Reason` (RFC 3326).
        headers: Headers,
    },
    /// A response to a request of ours. 100 included; a repeated 2xx to an INVITE comes each
    /// time (RFC 6026), so that each gets its ACK. Other finals have been acknowledged already.
    Response {
        /// The transaction.
        txn: ClientTxn,
        /// The response.
        response: Answered,
    },
    /// One of several targets of a request was passed by, or the last of them failed.
    PassedBy {
        /// Which.
        hop: Hop,
        /// Why.
        why: Failing,
    },
    /// A request of ours ended without an answer. The transaction is gone.
    Unanswered {
        /// The transaction.
        txn: ClientTxn,
        /// Why.
        why: Unanswered,
    },
    /// The final response, 300 or above, to an INVITE got no ACK within 64·T1.
    NoAck {
        /// The INVITE's transaction.
        txn: ServerTxn,
    },
}

/// The handle to the running edge. Cheap to clone; no method blocks or waits.
#[derive(Clone, Debug)]
pub struct Sip {
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    names: Arc<Names>,
    counters: Arc<Counters>,
    peers: Arc<Heard>,
    credentials: Arc<Credentials>,
}

#[derive(Debug)]
pub(super) enum Command {
    Respond(ServerTxn, Response),
    Request(ClientTxn, Box<Plan>),
    Cancel(ClientTxn, Headers),
    Ack(Request),
    Drain(Option<Duration>),
}

impl Sip {
    /// Answers a request. A 2xx to an INVITE may be given again until its ACK arrives: that is
    /// how it is retransmitted (RFC 3261, 13.3.1.4). A transaction that is over swallows it.
    pub fn respond(&self, txn: ServerTxn, response: Response) {
        self.send(Command::Respond(txn, response));
    }

    /// Sends a request. `Via` and `Content-Length` are added, `Max-Forwards` where it is
    /// missing. What cannot be sent is reported as [`Unanswered::Transport`].
    pub fn request(&self, txn: ClientTxn, request: Request) {
        self.send(Command::Request(txn, Box::new(Plan::direct(request))));
    }

    /// Sends an INVITE to the first of `targets` that takes it, in place of its own hop (RFC 3263,
    /// 4.3). The next one gets it when a target cannot be reached, says 503, or says nothing for
    /// `patience` while others wait; not any more once one has said more than 100. The answer
    /// names the target ([`Answered::reached`]), and each that fails is told of
    /// ([`SipEvent::PassedBy`]). A 3xx is followed among `targets`.
    pub fn request_any(
        &self,
        txn: ClientTxn,
        request: Request,
        targets: Vec<Target>,
        patience: Duration,
    ) {
        self.send(Command::Request(txn, Box::new(Plan::to_any(request, targets, patience))));
    }

    /// Cancels an INVITE of ours (RFC 3261, 9.1): at once when a provisional response has
    /// arrived, else as soon as one does; not at all once it has its final response. 64·T1 after
    /// the CANCEL the INVITE is given up as [`Unanswered::Timeout`]. `headers` go with the CANCEL.
    pub fn cancel(&self, txn: ClientTxn, headers: Headers) {
        self.send(Command::Cancel(txn, headers));
    }

    /// Sends the ACK for a 2xx: a new branch, no transaction.
    pub fn ack(&self, request: Request) {
        self.send(Command::Ack(request));
    }

    /// `Some`: new calls and OPTIONS get 503 with this `Retry-After` (whole seconds), while
    /// dialogs go on. `None`: back to normal.
    pub fn set_draining(&self, retry_after: Option<Duration>) {
        self.send(Command::Drain(retry_after));
    }

    /// Remembers the addresses that a next hop's name stands for: what they send within a call is
    /// heard, though they are no peers.
    pub fn remember_next_hops(&self, addrs: impl IntoIterator<Item = IpAddr>) {
        self.shared.peers.remember(addrs);
    }

    /// Who may send requests from now on.
    pub fn set_peers(&self, peers: Peers) {
        self.shared.peers.replace(peers);
    }

    /// The certificates for connections from now on; those that are open keep theirs.
    pub fn set_tls(&self, tls: Tls) {
        self.shared.credentials.replace(tls);
    }

    /// Our Contact URI as a peer at `remote` should see it, such as
    /// `sip:[2001:db8::1]:5060;transport=tcp`; with `sips` where the dialog is to be secure.
    #[must_use]
    pub fn contact(&self, transport: Transport, remote: SocketAddr, scheme: Scheme) -> String {
        self.shared.names.contact(transport, remote, scheme)
    }

    /// The sockets as they were really bound, in the order of the configuration.
    #[must_use]
    pub fn listeners(&self) -> &[Listen] {
        &self.shared.names.listeners
    }

    /// What the edge has seen and done.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    // The queue is unbounded so that the call machine never waits for the edge while the edge
    // waits for the call machine. It stays short: each command follows from an event, events are
    // bounded, and the task that empties it never blocks. A closed queue means that the edge has
    // ended, and then there is nobody to tell.
    fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

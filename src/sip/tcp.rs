//! TCP and TLS connections: accepting and opening them, each handshake on a task of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::call::message::{Hop, Transport};
use crate::clock;
use crate::sip::arrival::{Arrival, Channel, ConnectionId, Intake, Opened};
use crate::sip::stream::{self, Ends, Welcome};
use crate::sip::tls::{Handshakes, Shown};

/// How long an accepting task rests where the system has no room for another connection.
const REST: Duration = Duration::from_millis(200);

/// How long it rests after any other error, so that one that stays does not take the processor.
const BREATH: Duration = Duration::from_millis(5);

/// Opens a listening socket.
pub(super) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a process before this one may still linger on the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Numbers connections.
#[derive(Debug, Default)]
pub(super) struct ConnectionIds(AtomicU64);

impl ConnectionIds {
    pub(super) fn next(&self) -> ConnectionId {
        ConnectionId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// What every accepting task holds. The rooms are for all listeners together.
#[derive(Clone, Debug)]
pub(super) struct Reception {
    pub(super) ids: Arc<ConnectionIds>,
    /// For peers.
    pub(super) room: Arc<Semaphore>,
    /// For those who are told over TLS that they are none: they take no peer's place.
    pub(super) strangers: Arc<Semaphore>,
    pub(super) handshakes: Arc<Handshakes>,
    pub(super) intake: Intake,
}

/// Accepts until the edge ends.
pub(super) async fn accept(listener: TcpListener, transport: Transport, reception: Reception) {
    let mut shortage = Shortage::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_exhaustion(&error) => {
                shortage.begins(&error);
                sleep(REST).await;
                continue;
            }
            // A peer that changed its mind before it was accepted.
            Err(error) => {
                tracing::debug!(%error, "a SIP connection was gone before it was taken");
                sleep(BREATH).await;
                continue;
            }
        };
        shortage.ends();
        match transport {
            Transport::Tls => secure(stream, peer, &reception),
            Transport::Udp | Transport::Tcp => plain(stream, peer, &reception).await,
        }
        if reception.intake.arrivals.is_closed() {
            return;
        }
    }
}

/// Being out of room for connections. Said when it begins, and again after a minute at the
/// earliest: at the limit, each connection that closes is one that opens.
#[derive(Debug, Default)]
struct Shortage {
    said_at: Option<Instant>,
    told: bool,
}

impl Shortage {
    const AGAIN: Duration = Duration::from_secs(60);

    fn begins(&mut self, error: &io::Error) {
        let now = clock::now();
        if self.said_at.is_some_and(|said_at| now < said_at + Self::AGAIN) {
            return;
        }
        self.said_at = Some(now);
        self.told = true;
        tracing::error!(
            %error,
            "no further SIP connection can be taken until others close: raise the limit of open \
             files (LimitNOFILE)"
        );
    }

    fn ends(&mut self) {
        if std::mem::take(&mut self.told) {
            tracing::info!("SIP connections are taken again");
        }
    }
}

/// Whether the system or the process is out of something that others may give back.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| short.iter().any(|errno| errno.raw_os_error() == code))
}

async fn plain(stream: TcpStream, peer: SocketAddr, reception: &Reception) {
    let intake = &reception.intake;
    if !intake.peers.contains(peer.ip()) {
        return intake.ignore(peer);
    }
    let Some(permit) = place(&reception.room, peer, intake) else { return };
    let hop = Hop { transport: Transport::Tcp, addr: peer };
    let (id, ends) = enter(hop, None, reception).await;
    let intake = intake.clone();
    tokio::spawn(async move {
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        stream::carry((read, write), peer, Channel::Tcp(id), ends, Welcome::Peer, &intake).await;
        drop(permit);
        let _ = intake.arrivals.send(Arrival::Closed(id)).await;
    });
}

/// Whoever is silent in the middle of a handshake keeps one task waiting, for a while.
fn secure(stream: TcpStream, peer: SocketAddr, reception: &Reception) {
    let intake = &reception.intake;
    let welcome = match intake.peers.contains(peer.ip()) {
        true => Welcome::Peer,
        false => Welcome::Refused,
    };
    let is_peer = welcome == Welcome::Peer;
    let room = if is_peer { &reception.room } else { &reception.strangers };
    let Some(permit) = place(room, peer, intake) else { return };
    let Some(handshake) = reception.handshakes.begin(peer.ip(), is_peer) else {
        intake.counters.overload.add();
        return tracing::debug!(%peer, "too many TLS handshakes; closed the new connection");
    };
    let reception = reception.clone();
    tokio::spawn(async move {
        let intake = &reception.intake;
        let _ = stream.set_nodelay(true);
        let shaking = intake.credentials.accept(stream);
        let secured = timeout(intake.limits.handshake_within, shaking).await;
        drop(handshake);
        let stream = match secured {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return intake.handshake_failed(peer, &error.to_string()),
            Err(_) => return intake.handshake_failed(peer, "it took too long"),
        };
        let hop = Hop { transport: Transport::Tls, addr: peer };
        let (id, ends) = enter(hop, Shown::on(&stream), &reception).await;
        let halves = tokio::io::split(stream);
        stream::carry(halves, peer, Channel::Tls(id), ends, welcome, intake).await;
        drop(permit);
        let _ = intake.arrivals.send(Arrival::Closed(id)).await;
    });
}

fn place(room: &Arc<Semaphore>, peer: SocketAddr, intake: &Intake) -> Option<OwnedSemaphorePermit> {
    let permit = Arc::clone(room).try_acquire_owned().ok();
    if permit.is_none() {
        intake.counters.overload.add();
        tracing::debug!(%peer, "too many SIP connections; closed the new one");
    }
    permit
}

/// Tells the core of a connection before the first message can come by it.
async fn enter(hop: Hop, shown: Option<Shown>, reception: &Reception) -> (ConnectionId, Ends) {
    let id = reception.ids.next();
    let ends = Ends::new();
    let opened = Opened { id, hop, shown, writer: ends.writer.clone() };
    // Where the edge has ended, the reader ends at once.
    let _ = reception.intake.arrivals.send(Arrival::Opened(opened)).await;
    (id, ends)
}

/// A connection to open.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) id: ConnectionId,
    pub(super) peer: SocketAddr,
    pub(super) secured: Secured,
}

/// How a connection of ours is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Secured {
    /// Not at all: TCP.
    No,
    /// By TLS; the peer shows a certificate for this name, or for its address.
    For(Option<Arc<str>>),
}

/// Opens a connection and carries it. What is written meanwhile waits in its queue.
pub(super) async fn connect(opening: Opening, ends: Ends, intake: Intake) {
    let (id, peer) = (opening.id, opening.peer);
    match timeout(intake.limits.connect_within, TcpStream::connect(peer)).await {
        Ok(Ok(stream)) => carry_ours(stream, opening, ends, &intake).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "cannot connect"),
        Err(_) => tracing::debug!(%peer, "connecting takes too long"),
    }
    let _ = intake.arrivals.send(Arrival::Closed(id)).await;
}

async fn carry_ours(stream: TcpStream, opening: Opening, ends: Ends, intake: &Intake) {
    let Opening { id, peer, secured } = opening;
    let _ = stream.set_nodelay(true);
    let Secured::For(name) = secured else {
        let halves = stream.into_split();
        return stream::carry(halves, peer, Channel::Tcp(id), ends, Welcome::Peer, intake).await;
    };
    let shaking = intake.credentials.connect(stream, peer, name.as_deref());
    let why = match timeout(intake.limits.handshake_within, shaking).await {
        Ok(Ok(stream)) => {
            let halves = tokio::io::split(stream);
            let channel = Channel::Tls(id);
            return stream::carry(halves, peer, channel, ends, Welcome::Peer, intake).await;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its handshake takes too long".to_owned(),
    };
    intake.counters.tls_failures.add();
    tracing::warn!(%peer, why, "not reached over TLS");
}

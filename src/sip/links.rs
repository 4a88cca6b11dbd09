//! The ways out: every socket and connection, and which of them leads to a hop.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::call::message::{Hop, Transport};
use crate::sip::arrival::{Channel, ConnectionId, Intake};
use crate::sip::names::Names;
use crate::sip::tcp::{self, ConnectionIds};
use crate::sip::udp;

/// A message could not be handed to the operating system or to a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoWay {
    /// TLS, or a family on which we do not listen.
    #[error("there is no socket for this transport and address family")]
    NoSocket,
    /// The connection is gone or its peer takes nothing.
    #[error("the connection is closed")]
    Closed,
    /// As many connections as may be.
    #[error("too many connections")]
    Full,
    /// The operating system said no.
    #[error("{0}")]
    Os(#[from] std::io::Error),
}

/// Owned by the core.
#[derive(Debug)]
pub(super) struct Links {
    /// In the order of the configuration; `None` where the entry is not UDP.
    sockets: Vec<Option<Arc<UdpSocket>>>,
    connections: HashMap<ConnectionId, Connection>,
    by_peer: HashMap<SocketAddr, ConnectionId>,
    opened: usize,
    ids: Arc<ConnectionIds>,
    names: Arc<Names>,
    intake: Intake,
}

#[derive(Debug)]
struct Connection {
    peer: SocketAddr,
    writer: mpsc::Sender<Bytes>,
    opened_by: OpenedBy,
    /// Transactions of ours that fail when it closes.
    waiting: HashSet<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenedBy {
    Us,
    Peer,
}

impl Links {
    pub(super) fn new(
        sockets: Vec<Option<Arc<UdpSocket>>>,
        ids: Arc<ConnectionIds>,
        names: Arc<Names>,
        intake: Intake,
    ) -> Self {
        let (connections, by_peer) = (HashMap::new(), HashMap::new());
        Self { sockets, connections, by_peer, opened: 0, ids, names, intake }
    }

    /// The way to a hop: an open connection if there is one, else a new one.
    pub(super) fn channel_to(&mut self, hop: Hop) -> Result<Channel, NoWay> {
        match hop.transport {
            Transport::Udp => {
                let listener = self.names.listener_for(Transport::Udp, hop.addr);
                listener.map(Channel::Udp).ok_or(NoWay::NoSocket)
            }
            Transport::Tcp => self.connection_to(hop.addr).map(Channel::Tcp),
            Transport::Tls => Err(NoWay::NoSocket),
        }
    }

    fn connection_to(&mut self, peer: SocketAddr) -> Result<ConnectionId, NoWay> {
        if let Some(id) = self.by_peer.get(&peer)
            && self.is_open(Channel::Tcp(*id))
        {
            return Ok(*id);
        }
        if self.opened >= self.intake.limits.connections {
            self.intake.counters.overload.add();
            return Err(NoWay::Full);
        }
        let id = self.ids.next();
        let (writer, queue) = mpsc::channel(tcp::QUEUE);
        self.insert(id, peer, writer.clone(), OpenedBy::Us);
        self.opened += 1;
        tokio::spawn(tcp::connect(peer, id, (writer, queue), self.intake.clone()));
        Ok(id)
    }

    /// A peer opened a connection.
    pub(super) fn opened(&mut self, id: ConnectionId, peer: SocketAddr, to: mpsc::Sender<Bytes>) {
        self.insert(id, peer, to, OpenedBy::Peer);
    }

    fn insert(
        &mut self,
        id: ConnectionId,
        peer: SocketAddr,
        writer: mpsc::Sender<Bytes>,
        opened_by: OpenedBy,
    ) {
        let waiting = HashSet::new();
        self.connections.insert(id, Connection { peer, writer, opened_by, waiting });
        self.by_peer.insert(peer, id);
        self.intake.counters.connections.set(self.connections.len());
    }

    /// Forgets a connection, and says which transactions were waiting on it.
    pub(super) fn closed(&mut self, id: ConnectionId) -> HashSet<u64> {
        let Some(connection) = self.connections.remove(&id) else {
            return HashSet::new();
        };
        if connection.opened_by == OpenedBy::Us {
            self.opened = self.opened.saturating_sub(1);
        }
        if self.by_peer.get(&connection.peer) == Some(&id) {
            self.by_peer.remove(&connection.peer);
        }
        self.intake.counters.connections.set(self.connections.len());
        connection.waiting
    }

    /// Sends bytes by a channel. `to` is for UDP.
    pub(super) fn send(&self, by: Channel, to: SocketAddr, bytes: Bytes) -> Result<(), NoWay> {
        let sent = match by {
            Channel::Udp(listener) => match self.sockets.get(listener) {
                Some(Some(socket)) => udp::send(socket, &bytes, to).map_err(NoWay::Os),
                _ => Err(NoWay::NoSocket),
            },
            Channel::Tcp(id) => match self.connections.get(&id) {
                Some(connection) => connection.writer.try_send(bytes).map_err(|_| NoWay::Closed),
                None => Err(NoWay::Closed),
            },
        };
        if sent.is_err() {
            self.intake.counters.send_errors.add();
        }
        sent
    }

    /// Whether a connection is still there. Sockets always are.
    pub(super) fn is_open(&self, channel: Channel) -> bool {
        match channel {
            Channel::Udp(_) => true,
            Channel::Tcp(id) => {
                self.connections.get(&id).is_some_and(|connection| !connection.writer.is_closed())
            }
        }
    }

    /// A transaction depends on a channel.
    pub(super) fn wait(&mut self, channel: Channel, serial: u64) {
        if let Channel::Tcp(id) = channel
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.waiting.insert(serial);
        }
    }

    /// A transaction no longer depends on a channel.
    pub(super) fn release(&mut self, channel: Channel, serial: u64) {
        if let Channel::Tcp(id) = channel
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.waiting.remove(&serial);
        }
    }
}

//! The ways out: every socket and connection, and which of them leads to a hop.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::call::message::{Hop, Transport};
use crate::sip::arrival::{Channel, ConnectionId, Intake, Opened};
use crate::sip::names::Names;
use crate::sip::stream::Ends;
use crate::sip::tcp::{self, ConnectionIds, Opening, Secured};
use crate::sip::tls::Shown;
use crate::sip::udp;

/// A message could not be handed to the operating system or to a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoWay {
    /// A family on which we do not listen over UDP.
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

/// How many names of next hops are remembered.
const CERTIFIED: usize = 256;

/// By how many addresses a connection is found.
const ALIASES: usize = 4;

/// Owned by the core.
#[derive(Debug)]
pub(super) struct Links {
    /// In the order of the configuration; `None` where the entry is not UDP.
    sockets: Vec<Option<Arc<UdpSocket>>>,
    connections: HashMap<ConnectionId, Connection>,
    /// The connection whose other end is there.
    by_hop: HashMap<Hop, ConnectionId>,
    /// The connection by which the one who listens there wants to be reached (RFC 5923).
    aliases: HashMap<Hop, ConnectionId>,
    /// The names that next hops show certificates for, or `None` for their addresses; the one used
    /// last at the end.
    certified: VecDeque<(SocketAddr, Option<Arc<str>>)>,
    opened: usize,
    ids: Arc<ConnectionIds>,
    names: Arc<Names>,
    intake: Intake,
}

#[derive(Debug)]
struct Connection {
    hop: Hop,
    aliases: Vec<Hop>,
    proof: Proof,
    writer: mpsc::Sender<Bytes>,
    opened_by: OpenedBy,
    /// Transactions of ours that fail when it closes.
    waiting: HashSet<u64>,
}

/// What is known of who is at the other end.
#[derive(Debug)]
enum Proof {
    Nothing,
    /// We opened it, and they had to show a certificate for this name, or for their address.
    Asked(Option<Arc<str>>),
    /// They opened it, and had to show this certificate.
    Shown(Shown),
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
        Self {
            sockets,
            connections: HashMap::new(),
            by_hop: HashMap::new(),
            aliases: HashMap::new(),
            certified: VecDeque::new(),
            opened: 0,
            ids,
            names,
            intake,
        }
    }

    /// The way to a hop: an open connection if there is one, else a new one.
    pub(super) fn channel_to(&mut self, hop: Hop) -> Result<Channel, NoWay> {
        match hop.transport {
            Transport::Udp => {
                let listener = self.names.listener_for(Transport::Udp, hop.addr);
                listener.map(Channel::Udp).ok_or(NoWay::NoSocket)
            }
            Transport::Tcp => self.connection_to(hop).map(Channel::Tcp),
            Transport::Tls => self.connection_to(hop).map(Channel::Tls),
        }
    }

    /// Remembers for which name the one at this address shows a certificate.
    pub(super) fn certify(&mut self, addr: SocketAddr, name: Option<Arc<str>>) {
        self.certified.retain(|(known, _)| *known != addr);
        self.certified.push_back((addr, name));
        if self.certified.len() > CERTIFIED {
            self.certified.pop_front();
        }
    }

    fn connection_to(&mut self, hop: Hop) -> Result<ConnectionId, NoWay> {
        let name = self.name_of(hop.addr);
        if let Some(id) = self.existing(hop, name.as_ref()) {
            return Ok(id);
        }
        if self.opened >= self.intake.limits.connections {
            self.intake.counters.overload.add();
            return Err(NoWay::Full);
        }
        let id = self.ids.next();
        let ends = Ends::new();
        let secured = match hop.transport {
            Transport::Tls => Secured::For(name.clone()),
            Transport::Udp | Transport::Tcp => Secured::No,
        };
        let proof = match hop.transport {
            Transport::Tls => Proof::Asked(name),
            Transport::Udp | Transport::Tcp => Proof::Nothing,
        };
        self.insert(id, hop, ends.writer.clone(), proof, OpenedBy::Us);
        self.opened += 1;
        let opening = Opening { id, peer: hop.addr, secured };
        tokio::spawn(tcp::connect(opening, ends, self.intake.clone()));
        Ok(id)
    }

    /// The name that the one at this address has to show a certificate for.
    fn name_of(&self, addr: SocketAddr) -> Option<Arc<str>> {
        let exact = self.certified.iter().find(|(known, _)| *known == addr);
        // Another port of the same machine, as its Contact may name.
        let beside = || self.certified.iter().rfind(|(known, _)| known.ip() == addr.ip());
        exact.or_else(beside).and_then(|(_, name)| name.clone())
    }

    /// An open connection to this hop, whose other end is known to be who it has to be.
    fn existing(&self, hop: Hop, name: Option<&Arc<str>>) -> Option<ConnectionId> {
        let open = |id: &ConnectionId| {
            let connection = self.connections.get(id)?;
            (!connection.writer.is_closed()).then_some(connection)
        };
        let direct = self.by_hop.get(&hop).filter(|id| {
            open(id).is_some_and(|connection| match &connection.proof {
                Proof::Asked(asked) => name.is_none() || asked.as_ref() == name,
                // Whoever opened it is who it comes from.
                Proof::Nothing | Proof::Shown(_) => true,
            })
        });
        let alias = || {
            self.aliases.get(&hop).filter(|id| {
                open(id).is_some_and(|connection| match &connection.proof {
                    Proof::Shown(shown) => shown.is_for(name.map(|name| &**name), hop.addr),
                    Proof::Nothing | Proof::Asked(_) => false,
                })
            })
        };
        direct.or_else(alias).copied()
    }

    /// Whether a connection leads there now.
    pub(super) fn reaches(&self, hop: Hop) -> bool {
        self.existing(hop, self.name_of(hop.addr).as_ref()).is_some()
    }

    /// A peer opened a connection.
    pub(super) fn opened(&mut self, opened: Opened) {
        let Opened { id, hop, shown, writer } = opened;
        let proof = shown.map_or(Proof::Nothing, Proof::Shown);
        self.insert(id, hop, writer, proof, OpenedBy::Peer);
    }

    fn insert(
        &mut self,
        id: ConnectionId,
        hop: Hop,
        writer: mpsc::Sender<Bytes>,
        proof: Proof,
        opened_by: OpenedBy,
    ) {
        let (aliases, waiting) = (Vec::new(), HashSet::new());
        let connection = Connection { hop, aliases, proof, writer, opened_by, waiting };
        self.connections.insert(id, connection);
        self.by_hop.insert(hop, id);
        self.intake.counters.connections.set(self.connections.len());
    }

    /// The other end asks for requests to the port that it listens on to take this connection
    /// (RFC 5923, 5). Heeded only where it had to show a certificate: without, any program on the
    /// peer's machine could draw its calls to itself (RFC 5923, 8).
    pub(super) fn alias(&mut self, channel: Channel, port: u16) {
        let Some(id) = channel.connection() else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let hop = Hop { addr: SocketAddr::new(connection.hop.addr.ip(), port), ..connection.hop };
        let certain = matches!(connection.proof, Proof::Shown(_));
        if certain && connection.aliases.len() < ALIASES && !connection.aliases.contains(&hop) {
            connection.aliases.push(hop);
            self.aliases.insert(hop, id);
        }
    }

    /// Forgets a connection, and says which transactions were waiting on it.
    pub(super) fn closed(&mut self, id: ConnectionId) -> HashSet<u64> {
        let Some(connection) = self.connections.remove(&id) else {
            return HashSet::new();
        };
        if connection.opened_by == OpenedBy::Us {
            self.opened = self.opened.saturating_sub(1);
        }
        if self.by_hop.get(&connection.hop) == Some(&id) {
            self.by_hop.remove(&connection.hop);
        }
        for alias in &connection.aliases {
            if self.aliases.get(alias) == Some(&id) {
                self.aliases.remove(alias);
            }
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
            Channel::Tcp(id) | Channel::Tls(id) => match self.connections.get(&id) {
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
            Channel::Tcp(id) | Channel::Tls(id) => {
                self.connections.get(&id).is_some_and(|connection| !connection.writer.is_closed())
            }
        }
    }

    /// A transaction depends on a channel.
    pub(super) fn wait(&mut self, channel: Channel, serial: u64) {
        if let Some(id) = channel.connection()
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.waiting.insert(serial);
        }
    }

    /// A transaction no longer depends on a channel.
    pub(super) fn release(&mut self, channel: Channel, serial: u64) {
        if let Some(id) = channel.connection()
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.waiting.remove(&serial);
        }
    }
}

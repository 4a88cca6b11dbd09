//! TCP: accepting, opening, reading and writing connections, each within limits of size and time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sipx_sip::{Message, parse_datagram};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock;
use crate::sip::arrival::{Arrival, Channel, ConnectionId, Intake, Origin};
use crate::sip::framer::{Frame, Framer};
use crate::sip::refuse;

/// Messages that wait for a slow peer, each connection. One more, and the connection is given up.
pub(super) const QUEUE: usize = 128;

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

/// Accepts until the edge ends. `room` is for all listeners together.
pub(super) async fn accept(
    listener: TcpListener,
    ids: Arc<ConnectionIds>,
    room: Arc<Semaphore>,
    intake: Intake,
) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of file descriptors, or a peer that changed its mind. The listener stays.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a SIP connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if !intake.peers.contains(peer.ip()) {
            intake.ignore(peer);
            continue;
        }
        let Ok(permit) = room.clone().try_acquire_owned() else {
            intake.counters.overload.add();
            tracing::debug!(%peer, "too many SIP connections; closed the new one");
            continue;
        };
        let id = ids.next();
        let (writer, queue) = mpsc::channel(QUEUE);
        if intake.arrivals.send(Arrival::Opened(id, peer, writer.clone())).await.is_err() {
            return;
        }
        let intake = intake.clone();
        tokio::spawn(async move {
            carry(stream, peer, id, (writer, queue), &intake).await;
            drop(permit);
            let _ = intake.arrivals.send(Arrival::Closed(id)).await;
        });
    }
}

/// Opens a connection and carries it. What is written into `writer` meanwhile waits in `queue`.
pub(super) async fn connect(
    peer: SocketAddr,
    id: ConnectionId,
    ends: (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>),
    intake: Intake,
) {
    match timeout(intake.limits.connect_within, TcpStream::connect(peer)).await {
        Ok(Ok(stream)) => carry(stream, peer, id, ends, &intake).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "cannot connect"),
        Err(_) => tracing::debug!(%peer, "connecting takes too long"),
    }
    let _ = intake.arrivals.send(Arrival::Closed(id)).await;
}

async fn carry(
    stream: TcpStream,
    peer: SocketAddr,
    id: ConnectionId,
    (writer, queue): (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>),
    intake: &Intake,
) {
    // Signalling is short messages that somebody waits for.
    let _ = stream.set_nodelay(true);
    let (read_half, write_half) = stream.into_split();
    tokio::spawn(write(write_half, queue, intake.limits.message_within));
    let reader = Reader { stream: read_half, peer, id, writer, intake };
    reader.run().await;
}

/// Ends when every sender is gone, or when the peer takes nothing for too long.
async fn write(mut stream: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>, within: Duration) {
    while let Some(bytes) = queue.recv().await {
        match timeout(within, stream.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
    let _ = timeout(within, stream.shutdown()).await;
}

struct Reader<'a> {
    stream: OwnedReadHalf,
    peer: SocketAddr,
    id: ConnectionId,
    writer: mpsc::Sender<Bytes>,
    intake: &'a Intake,
}

impl Reader<'_> {
    async fn run(mut self) {
        let limits = &self.intake.limits;
        let mut framer = Framer::new(limits.head, limits.body);
        let mut buffer = vec![0; 16_384];
        let mut deadline = after(limits.idle);
        let mut begun = false;
        loop {
            let length = tokio::select! {
                read = self.stream.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(length) => length,
                },
                // The writer gave up, or the core closed the connection.
                () = self.writer.closed() => return,
                // The edge ended.
                () = self.intake.arrivals.closed() => return,
                () = sleep_until(deadline) => {
                    tracing::debug!(peer = %self.peer, unfinished = begun, "closed a slow or idle SIP connection");
                    return;
                }
            };
            framer.push(buffer.get(..length).unwrap_or_default());
            let mut progress = false;
            loop {
                match framer.next() {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        progress = true;
                        if self.take(frame).await.is_err() {
                            return;
                        }
                    }
                    Err(lost) => {
                        self.refuse(&lost.head, lost.status);
                        return self.linger().await;
                    }
                }
            }
            // The time of a message runs from its first byte, however slowly the others trickle.
            let partial = framer.is_partial();
            if !partial {
                deadline = after(limits.idle);
            } else if progress || !begun {
                deadline = after(limits.message_within);
            }
            begun = partial;
        }
    }

    async fn take(&self, frame: Frame) -> Result<(), mpsc::error::SendError<Arrival>> {
        let bytes = match frame {
            Frame::Message(bytes) => bytes,
            Frame::Ping => {
                let _ = self.writer.try_send(Bytes::from_static(b"\r\n"));
                return Ok(());
            }
        };
        let message = match parse_datagram(bytes.clone(), &self.intake.parsing) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(peer = %self.peer, %error, "a message does not parse");
                self.refuse(&bytes, refuse::status_for(&error));
                return Ok(());
            }
        };
        // A connection that we opened brings responses; requests only if its end is a peer.
        if matches!(message, Message::Request(_)) && !self.intake.peers.contains(self.peer.ip()) {
            self.intake.ignore(self.peer);
            return Ok(());
        }
        let origin = Origin { channel: Channel::Tcp(self.id), source: self.peer };
        self.intake.arrivals.send(Arrival::Message(Box::new(message), origin)).await
    }

    fn refuse(&self, bytes: &[u8], status: u16) {
        self.intake.counters.parse_errors.add();
        if !self.intake.peers.contains(self.peer.ip()) {
            return;
        }
        let answer = refuse::salvage(bytes, self.peer).and_then(|salvaged| {
            salvaged.answer(status, &self.intake.secret, &self.intake.product)
        });
        if let Some(answer) = answer {
            self.intake.counters.response_out(status);
            let _ = self.writer.try_send(answer);
        }
    }

    /// Lets the answer arrive before the connection closes: closing it with bytes unread resets
    /// it, and a reset may overtake the answer.
    async fn linger(self) {
        const AT_MOST: Duration = Duration::from_secs(1);
        let Self { mut stream, writer, .. } = self;
        // Without senders, the writer ends its side behind the answer.
        drop(writer);
        let _ = self.intake.arrivals.send(Arrival::Closed(self.id)).await;
        let mut rest = vec![0; 16_384];
        let drain = async { while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
        let _ = timeout(AT_MOST, drain).await;
    }
}

fn after(duration: Duration) -> Instant {
    Instant::from_std(clock::now() + duration)
}

//! What runs over one connection, plain or protected: reading and writing messages, each within
//! limits of size and time.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use sipx_sip::{Message, Request, parse_datagram};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock;
use crate::sip::arrival::{Arrival, Channel, Intake, Origin};
use crate::sip::check::Refusal;
use crate::sip::framer::{Frame, Framer};
use crate::sip::{refuse, via};

/// Both ends of the queue of what is to be written.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) writer: mpsc::Sender<Bytes>,
    pub(super) queue: mpsc::Receiver<Bytes>,
}

impl Ends {
    pub(super) fn new() -> Self {
        let (writer, queue) = mpsc::channel(QUEUE);
        Self { writer, queue }
    }
}

/// Messages that wait for a slow peer, each connection. One more, and the connection is given up.
const QUEUE: usize = 128;

/// How a connection is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Welcome {
    /// What a peer sends is taken.
    Peer,
    /// Somebody outside `sip.peers`, over TLS: the first request is answered 403, and that is all.
    Refused,
}

/// Carries a connection until it ends.
pub(super) async fn carry<R, W>(
    (read, write): (R, W),
    peer: SocketAddr,
    channel: Channel,
    Ends { writer, queue }: Ends,
    welcome: Welcome,
    intake: &Intake,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(write_all(write, queue, intake.limits.message_within));
    let reader = Reader { stream: read, peer, channel, writer, welcome, intake };
    reader.run().await;
}

/// Ends when every sender is gone, or when the peer takes nothing for too long.
async fn write_all<W: AsyncWrite + Unpin>(
    mut stream: W,
    mut queue: mpsc::Receiver<Bytes>,
    within: Duration,
) {
    while let Some(bytes) = queue.recv().await {
        let written = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        match timeout(within, written).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
    let _ = timeout(within, stream.shutdown()).await;
}

struct Reader<'a, R> {
    stream: R,
    peer: SocketAddr,
    channel: Channel,
    writer: mpsc::Sender<Bytes>,
    welcome: Welcome,
    intake: &'a Intake,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Onward {
    Goes,
    /// What was said is said; it is closed behind it.
    Lingers,
    /// The edge has ended.
    Ends,
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    async fn run(mut self) {
        let limits = &self.intake.limits;
        let mut framer = Framer::new(limits.head, limits.body);
        let mut buffer = vec![0; 16_384];
        let idle = match self.welcome {
            Welcome::Peer => limits.idle,
            Welcome::Refused => limits.message_within,
        };
        let mut deadline = after(idle);
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
                        match self.take(frame).await {
                            Onward::Goes => {}
                            Onward::Lingers => return self.linger().await,
                            Onward::Ends => return,
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
            if !partial && self.welcome == Welcome::Peer {
                deadline = after(idle);
            } else if progress || !begun {
                deadline = after(limits.message_within);
            }
            begun = partial;
        }
    }

    async fn take(&self, frame: Frame) -> Onward {
        let bytes = match frame {
            Frame::Message(bytes) => bytes,
            Frame::Ping => {
                let _ = self.writer.try_send(Bytes::from_static(b"\r\n"));
                return Onward::Goes;
            }
        };
        let message = match parse_datagram(bytes.clone(), &self.intake.parsing) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(peer = %self.peer, %error, "a message does not parse");
                self.refuse(&bytes, refuse::status_for(&error));
                return Onward::Goes;
            }
        };
        let message = match message {
            Message::Request(request) if self.welcome == Welcome::Refused => {
                self.intake.ignore(self.peer);
                self.forbid(request);
                return Onward::Lingers;
            }
            // A connection that we opened brings responses; requests only if its end is a peer.
            Message::Request(_) if !self.intake.peers.contains(self.peer.ip()) => {
                self.intake.ignore(self.peer);
                return Onward::Goes;
            }
            message => message,
        };
        let origin = Origin { channel: self.channel, source: self.peer };
        match self.intake.arrivals.send(Arrival::Message(Box::new(message), origin)).await {
            Ok(()) => Onward::Goes,
            Err(_) => Onward::Ends,
        }
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

    /// Who is no peer learns it over TLS, where nobody else can be made to hear it.
    fn forbid(&self, mut request: Request) {
        if request.method == sipx_sip::Method::Ack
            || via::stamp(&mut request.headers, self.peer).is_none()
        {
            return;
        }
        let tag = refuse::stateless_tag(&request.headers, &self.intake.secret);
        let refusal = Refusal::new(403);
        if let Some(answer) = refuse::answer(&request, &refusal, &tag, &self.intake.product) {
            self.intake.counters.response_out(403);
            let _ = self.writer.try_send(answer);
        }
    }

    /// Lets the answer arrive before the connection closes: closing it with bytes unread resets
    /// it, and a reset may overtake the answer.
    async fn linger(self) {
        const AT_MOST: Duration = Duration::from_secs(1);
        let Self { mut stream, writer, channel, .. } = self;
        // Without senders, the writer ends its side behind the answer.
        drop(writer);
        if let Some(id) = channel.connection() {
            let _ = self.intake.arrivals.send(Arrival::Closed(id)).await;
        }
        let mut rest = vec![0; 16_384];
        let drain = async { while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
        let _ = timeout(AT_MOST, drain).await;
    }
}

fn after(duration: Duration) -> Instant {
    Instant::from_std(clock::now() + duration)
}

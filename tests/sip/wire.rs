//! A phone made of a bare socket: it sends what a test writes and returns what arrives, so that
//! the edge is seen as its peers see it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::time::Duration;

use assent::call::message::{Hop, Transport};
use assent::sip::{Endpoint, Listen, Sip, SipConfig, SipEvent, Timing};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer than anything here takes, so that a hang is a failure and not a wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// The edge, and everything it says.
pub(crate) struct Edge {
    pub(crate) sip: Sip,
    events: mpsc::Receiver<SipEvent>,
}

pub(crate) const EVERYWHERE: [&str; 4] =
    ["udp:127.0.0.1:0", "udp:[::1]:0", "tcp:127.0.0.1:0", "tcp:[::1]:0"];

impl Edge {
    /// On every transport and family, with timers of a tenth.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut SipConfig)) -> Self {
        let mut config = SipConfig {
            listen: EVERYWHERE.iter().map(|l| l.parse().unwrap()).collect(),
            timing: Timing {
                t1: Duration::from_millis(50),
                t2: Duration::from_millis(400),
                t4: Duration::from_millis(500),
            },
            ..SipConfig::default()
        };
        change(&mut config);
        let (sip, events) = Endpoint::bind(config).unwrap();
        Self { sip, events }
    }

    /// The address of the listener with this place in [`EVERYWHERE`].
    pub(crate) fn at(&self, n: usize) -> Listen {
        self.sip.listeners()[n]
    }

    pub(crate) async fn event(&mut self) -> SipEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("no event came").expect("the edge ended")
    }

    pub(crate) fn no_event(&mut self) {
        if let Ok(event) = self.events.try_recv() {
            panic!("an event that nobody expects: {event:?}");
        }
    }

    /// The transaction and the request, where the next event is one.
    pub(crate) async fn request(
        &mut self,
    ) -> (assent::call::message::ServerTxn, assent::call::message::Incoming) {
        match self.event().await {
            SipEvent::Request { txn, request } => (txn, request),
            other => panic!("expected a request: {other:?}"),
        }
    }
}

/// One end of a conversation with the edge.
pub(crate) enum Phone {
    Udp { socket: UdpSocket, edge: SocketAddr },
    Stream { stream: Box<dyn Duplex>, buffer: Vec<u8>, transport: Transport, local: SocketAddr },
}

/// A connection, plain or protected.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Phone {
    pub(crate) async fn to(listen: Listen) -> Self {
        let mut local = listen.addr;
        local.set_port(0);
        match listen.transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(local).await.unwrap();
                Phone::Udp { socket, edge: listen.addr }
            }
            _ => Self::from_stream(TcpStream::connect(listen.addr).await.unwrap()),
        }
    }

    pub(crate) fn from_stream(stream: TcpStream) -> Self {
        let local = stream.local_addr().unwrap();
        Self::over(stream, Transport::Tcp, local)
    }

    /// Over a connection that the test has made.
    pub(crate) fn over(
        stream: impl Duplex + 'static,
        transport: Transport,
        local: SocketAddr,
    ) -> Self {
        Phone::Stream { stream: Box::new(stream), buffer: Vec::new(), transport, local }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        match self {
            Phone::Udp { socket, .. } => socket.local_addr().unwrap(),
            Phone::Stream { local, .. } => *local,
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        match self {
            Phone::Udp { .. } => Transport::Udp,
            Phone::Stream { transport, .. } => *transport,
        }
    }

    /// Where the edge sends to in order to reach this phone.
    pub(crate) fn hop(&self) -> Hop {
        Hop { transport: self.transport(), addr: self.local() }
    }

    /// Sends text whose lines end in `\n` alone, and whose `{…}` are filled in.
    pub(crate) async fn say(&mut self, text: &str) {
        let via = format!("SIP/2.0/{} {}", self.transport().as_str(), self.local());
        let filled = text
            .replace("{via}", &via)
            .replace("{contact}", &format!("<sip:phone@{}>", self.local()))
            .replace('\n', "\r\n");
        self.raw(filled.as_bytes()).await;
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        match self {
            Phone::Udp { socket, edge } => {
                socket.send_to(bytes, *edge).await.unwrap();
            }
            Phone::Stream { stream, .. } => {
                stream.write_all(bytes).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    }

    /// The next message.
    pub(crate) async fn hear(&mut self) -> Heard {
        let text = timeout(PATIENCE, self.next()).await.expect("nothing came");
        Heard(text.expect("the connection closed"))
    }

    /// Whether the edge closed the connection.
    pub(crate) async fn hears_the_end(&mut self) -> bool {
        timeout(PATIENCE, self.next()).await.expect("nothing came").is_none()
    }

    async fn next(&mut self) -> Option<String> {
        match self {
            Phone::Udp { socket, .. } => {
                let mut buffer = vec![0; 65_535];
                let (n, _) = socket.recv_from(&mut buffer).await.unwrap();
                Some(String::from_utf8(buffer[..n].to_vec()).unwrap())
            }
            Phone::Stream { stream, buffer, .. } => loop {
                if buffer.starts_with(b"\r\n") {
                    buffer.drain(..2);
                    return Some("\r\n".to_owned());
                }
                if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                    let head = String::from_utf8(buffer[..end + 4].to_vec()).unwrap();
                    let length = head.split("Content-Length: ").nth(1).unwrap();
                    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                    if buffer.len() >= end + 4 + length {
                        let whole = buffer.drain(..end + 4 + length).collect();
                        return Some(String::from_utf8(whole).unwrap());
                    }
                }
                let mut chunk = vec![0; 65_535];
                match stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => return None,
                    Ok(n) => buffer.extend_from_slice(&chunk[..n]),
                }
            },
        }
    }

    /// Shows that nothing came before, and that the edge still works: the next thing to hear is
    /// the answer to a ping.
    pub(crate) async fn hears_nothing_more(&mut self, mark: &str) {
        self.say(&options(mark)).await;
        let answer = self.hear().await;
        assert!(answer.0.contains(&format!("Call-ID: ping-{mark}\r\n")), "unexpected: {answer:?}");
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
}

/// A message as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard(pub(crate) String);

impl Heard {
    pub(crate) fn status(&self) -> u16 {
        let code = self.0.strip_prefix("SIP/2.0 ").unwrap_or_else(|| panic!("{self:?}"));
        code[..3].parse().unwrap()
    }

    pub(crate) fn method(&self) -> &str {
        self.0.split(' ').next().unwrap()
    }

    /// Every value of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let head = self.0.split("\r\n\r\n").next().unwrap();
        let named = |line: &&str| line.split(':').next().unwrap().eq_ignore_ascii_case(name);
        head.split("\r\n").skip(1).filter(named).map(|l| l[name.len() + 1..].trim()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.all(name).first().unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    pub(crate) fn to_tag(&self) -> &str {
        self.header("To").split(";tag=").nth(1).unwrap_or_else(|| panic!("no tag: {self:?}"))
    }

    pub(crate) fn branch(&self) -> &str {
        let branch = self.header("Via").split("branch=").nth(1).unwrap();
        branch.split([';', ',']).next().unwrap()
    }

    /// A response to this request of the edge's.
    pub(crate) fn answer(&self, status: &str, more: &str) -> String {
        let mut out = format!("SIP/2.0 {status}\n");
        for name in ["Via", "From", "Call-ID", "CSeq"] {
            for value in self.all(name) {
                out.push_str(&format!("{name}: {value}\n"));
            }
        }
        let tag = if status.starts_with("100") { "" } else { ";tag=phone" };
        format!("{out}To: {}{tag}\n{more}Content-Length: 0\n\n", self.header("To"))
    }
}

/// An out-of-dialog OPTIONS.
pub(crate) fn options(mark: &str) -> String {
    format!(
        "OPTIONS sip:assent SIP/2.0\nVia: {{via}};rport;branch=z9hG4bK-ping-{mark}\n\
         Max-Forwards: 70\nFrom: <sip:phone@test>;tag=ping\nTo: <sip:assent>\n\
         Call-ID: ping-{mark}\nCSeq: 1 OPTIONS\nContent-Length: 0\n\n"
    )
}

/// An INVITE; `mark` makes its branch and Call-ID.
pub(crate) fn invite(mark: &str) -> String {
    format!(
        "INVITE sip:assent@test SIP/2.0\nVia: {{via}};rport;branch=z9hG4bK-{mark}\n\
         Max-Forwards: 70\nFrom: <sip:phone@test>;tag=p\nTo: <sip:assent@test>\n\
         Call-ID: {mark}\nCSeq: 1 INVITE\nContact: {{contact}}\n\
         Content-Type: application/sdp\nContent-Length: 5\n\nv=0\n"
    )
}

/// The same INVITE as another request: ACK or CANCEL, without a body.
pub(crate) fn follow(mark: &str, method: &str, to_tag: &str) -> String {
    let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    format!(
        "{method} sip:assent@test SIP/2.0\nVia: {{via}};rport;branch=z9hG4bK-{mark}\n\
         Max-Forwards: 70\nFrom: <sip:phone@test>;tag=p\nTo: <sip:assent@test>{to_tag}\n\
         Call-ID: {mark}\nCSeq: 1 {method}\nContent-Length: 0\n\n"
    )
}

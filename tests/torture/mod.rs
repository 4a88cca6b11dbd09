//! The torture messages with their expected outcomes, and two ends that send them byte for byte.

#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::unwrap_used)]

use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long an answer may take, so that a hang is a failure and not a wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// One thing that a peer sees a message cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A final response.
    Status(u16),
    /// The call is sent on to the next hop, and its answer comes back.
    Called,
    /// The agent closes the connection.
    Closed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Status(status) => write!(f, "{status}"),
            Outcome::Called => f.write_str("called"),
            Outcome::Closed => f.write_str("closed"),
        }
    }
}

/// What a message causes, in order; none for silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(pub Vec<Outcome>);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (n, outcome) in self.0.iter().enumerate() {
            write!(f, "{}{outcome}", if n > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl Expected {
    fn parse(text: &str) -> Self {
        let outcome = |word: &str| match word.trim() {
            "called" => Outcome::Called,
            "closed" => Outcome::Closed,
            status => Outcome::Status(status.parse().unwrap_or_else(|_| panic!("{text}"))),
        };
        if text == "nothing" {
            return Self(vec![]);
        }
        Self(text.split(',').map(outcome).collect())
    }
}

/// A message and its row in the table.
#[derive(Clone, Debug)]
pub struct Vector {
    pub name: String,
    pub bytes: Vec<u8>,
    pub udp: Expected,
    pub tcp: Expected,
}

impl Vector {
    /// Whether this message that came is an answer to ours.
    fn is_answered_by(&self, message: &str) -> bool {
        let ours = String::from_utf8_lossy(&self.bytes);
        let same =
            |name: &str, nth: usize| values(message, name).first() == values(&ours, name).get(nth);
        let by_its_ids = (0..2).any(|nth| same("Call-ID", nth) && same("CSeq", nth));
        by_its_ids && message.starts_with("SIP/2.0 ")
    }
}

/// Every value of a header in the head of a message, unfolded, by its long or its short name.
fn values(message: &str, name: &str) -> Vec<String> {
    let short = match name {
        "Call-ID" => "i",
        "From" => "f",
        "To" => "t",
        "Via" => "v",
        _ => name,
    };
    let unfolded = message.replace("\r\n ", " ").replace("\r\n\t", " ");
    let named = |line: &str| {
        let (found, value) = line.split_once(':')?;
        let found = found.trim();
        let right = found.eq_ignore_ascii_case(name) || found.eq_ignore_ascii_case(short);
        right.then(|| value.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    unfolded.split("\r\n").skip(1).filter_map(named).collect()
}

/// Where the messages are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sip-torture")
}

/// Every message, in the order of the table.
pub fn vectors() -> Vec<Vector> {
    let table = std::fs::read_to_string(folder().join("README.md")).expect("the table");
    let rows = table.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let [_, name, udp, tcp, ..] = cells[..] else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        let file = folder().join(name).with_extension("sip");
        Some(Vector {
            name: name.to_owned(),
            bytes: std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())),
            udp: Expected::parse(udp),
            tcp: Expected::parse(tcp),
        })
    });
    rows.collect()
}

/// What a message caused.
#[derive(Debug, Default)]
pub struct Heard {
    pub outcomes: Vec<Outcome>,
    pub messages: Vec<String>,
}

impl Heard {
    /// Takes what came; gives the ACK that it wants.
    fn take(
        &mut self,
        vector: &Vector,
        message: &str,
        called: &mut impl FnMut() -> Option<String>,
    ) -> Option<String> {
        if !vector.is_answered_by(message) {
            return None;
        }
        let status: u16 = message.get(8..11)?.parse().ok()?;
        let again = self.messages.iter().any(|m| m == message);
        if status < 200 || again {
            return None;
        }
        self.messages.push(message.to_owned());
        self.outcomes.push(match called() {
            Some(_) => Outcome::Called,
            None => Outcome::Status(status),
        });
        acknowledgement(message)
    }
}

/// The ACK to a final answer of an INVITE.
fn acknowledgement(answer: &str) -> Option<String> {
    let first = |name| values(answer, name).into_iter().next();
    let cseq = first("CSeq")?;
    let number = cseq.strip_suffix("INVITE")?;
    Some(format!(
        "ACK sip:ack@127.0.0.1 SIP/2.0\r\nVia: {}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\n\
         CSeq: {number}ACK\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        first("Via")?,
        first("From")?,
        first("To")?,
        first("Call-ID")?
    ))
}

/// Whether what has not come since will not come.
fn overdue(begun: Instant) -> bool {
    begun.elapsed() > PATIENCE / 2
}

fn ping(mark: &str, via: &str) -> String {
    format!(
        "OPTIONS sip:ping@127.0.0.1 SIP/2.0\r\nVia: {via};branch=z9hG4bK-ping-{mark};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:ping@127.0.0.1>;tag=p\r\nTo: <sip:ping@127.0.0.1>\r\n\
         Call-ID: ping-{mark}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The ports that the messages name in their `Via`, which is where their answers go; and one that
/// the system chose, to send from.
const PORTS: [u16; 6] = [0, 5050, 5060, 5061, 6050, 19823];

/// A peer over UDP.
pub struct OverUdp {
    sockets: Vec<UdpSocket>,
    agent: SocketAddr,
}

impl OverUdp {
    /// On a loopback address that nobody else uses, so that the well-known ports are free there.
    pub fn at_its_own_address(agent: SocketAddr) -> Self {
        let sockets = (0..100).find_map(|_| {
            let mut random = [0; 3];
            getrandom::fill(&mut random).expect("randomness");
            let [a, b, c] = random;
            let ip = Ipv4Addr::new(127, 64 | a, b, c.clamp(1, 254));
            let bound = PORTS.iter().map(|port| UdpSocket::bind((ip, *port)).ok());
            bound.collect::<Option<Vec<UdpSocket>>>()
        });
        let sockets = sockets.expect("a loopback address with free ports");
        for socket in &sockets {
            socket.set_nonblocking(true).expect("a socket that does not wait");
        }
        Self { sockets, agent }
    }

    fn say(&self, bytes: &[u8]) {
        self.sockets[0].send_to(bytes, self.agent).expect("sent");
    }

    fn hear(&self) -> Option<String> {
        let mut buffer = vec![0; 65_535];
        self.sockets.iter().find_map(|socket| {
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }

    /// Sends a message and takes what it causes.
    pub fn send(&mut self, vector: &Vector, mut called: impl FnMut() -> Option<String>) -> Heard {
        let mut heard = Heard::default();
        while self.hear().is_some() {}
        self.say(&vector.bytes);
        let local = self.sockets[0].local_addr().expect("bound");
        self.say(ping(&vector.name, &format!("SIP/2.0/UDP {local}")).as_bytes());
        let pong = format!("Call-ID: ping-{}\r\n", vector.name);
        // What the edge refuses or ignores is so before the ping is answered, and an INVITE shows
        // by its 100 that more will come. Only the answers of the call machine have to be waited
        // for, and only where they fail to come does the wait have an end.
        let begun = Instant::now();
        let (mut ponged, mut trying) = (false, 0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "{}: no answer to the ping", vector.name);
            let Some(message) = self.hear() else {
                let rest = vector.udp.0.len().saturating_sub(heard.outcomes.len());
                if ponged && trying <= heard.outcomes.len() && (rest == 0 || overdue(begun)) {
                    return heard;
                }
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            ponged |= message.contains(&pong);
            trying +=
                usize::from(message.starts_with("SIP/2.0 100") && vector.is_answered_by(&message));
            if let Some(ack) = heard.take(vector, &message, &mut called) {
                self.say(ack.as_bytes());
            }
        }
    }
}

/// A peer over TCP, for one message.
pub struct OverTcp {
    stream: TcpStream,
    agent: SocketAddr,
    buffer: Vec<u8>,
}

impl OverTcp {
    pub fn connect(agent: SocketAddr) -> Self {
        let stream = TcpStream::connect(agent).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a time-out");
        Self { stream, agent, buffer: Vec::new() }
    }

    /// The next message; `Err` at the end of the connection.
    fn hear(&mut self) -> Result<Option<String>, ()> {
        let mut chunk = [0; 4096];
        let closed = match self.stream.read(&mut chunk) {
            Ok(0) => true,
            Ok(length) => {
                self.buffer.extend(&chunk[..length]);
                false
            }
            Err(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
        };
        let text = String::from_utf8_lossy(&self.buffer).into_owned();
        // No answer here has a body.
        if let Some(end) = text.find("\r\n\r\n") {
            let whole = self.buffer.windows(4).position(|w| w == b"\r\n\r\n").expect("found");
            self.buffer.drain(..whole + 4);
            return Ok(Some(text[..end + 4].to_owned()));
        }
        if closed { Err(()) } else { Ok(None) }
    }

    /// Sends a message and takes what it causes.
    pub fn send(mut self, vector: &Vector, mut called: impl FnMut() -> Option<String>) -> Heard {
        let mut heard = Heard::default();
        self.stream.write_all(&vector.bytes).expect("sent");
        let mut trying = 0;
        let mut quiet = false;
        let begun = Instant::now();
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "{}: no end", vector.name);
            match self.hear() {
                Ok(Some(message)) => {
                    trying += usize::from(
                        message.starts_with("SIP/2.0 100") && vector.is_answered_by(&message),
                    );
                    if let Some(ack) = heard.take(vector, &message, &mut called) {
                        self.stream.write_all(ack.as_bytes()).ok();
                    }
                }
                Err(()) => {
                    heard.outcomes.push(Outcome::Closed);
                    return heard;
                }
                // Nothing more is on its way once a later connection was served.
                Ok(None)
                    if quiet
                        && trying <= heard.outcomes.len()
                        && (heard.outcomes.len() >= vector.tcp.0.len() || overdue(begun)) =>
                {
                    return heard;
                }
                Ok(None) if !quiet => {
                    let mut other = OverTcp::connect(self.agent);
                    let local = other.stream.local_addr().expect("bound");
                    let ping = ping(&vector.name, &format!("SIP/2.0/TCP {local}"));
                    other.stream.write_all(ping.as_bytes()).expect("sent");
                    while !matches!(other.hear(), Ok(Some(_))) {
                        assert!(
                            Instant::now() < deadline,
                            "{}: no answer to the ping",
                            vector.name
                        );
                    }
                    quiet = true;
                }
                Ok(None) => {}
            }
        }
    }
}

//! A telephone that says one pure tone from its first packet on, and keeps a log of every packet
//! that it said and heard: what a recording holds can be told packet by packet.
//!
//! Small on purpose: UDP, G.711 µ-law, RFC 4733. One thread and one call each.

mod conversation;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::audio;
use super::wire_phone::ulaw;
use conversation::{Phone, Sockets};

/// What happens to a phone's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Idle,
    /// Called, or calling.
    Ringing,
    Talking,
    /// Hung up by somebody, or turned away.
    Over,
}

/// One packet that the phone has sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub sequence: u16,
    /// When it was due, in microseconds since 1970: its RTP timestamp as a time.
    pub due: i64,
    /// When it was handed to the system.
    pub at: i64,
    pub what: Said,
}

/// What a packet carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Voice,
    Key(char),
}

/// One packet that the phone has received.
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: i64,
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub payload_type: u8,
    pub payload: Vec<u8>,
}

/// Everything that there was.
#[derive(Debug)]
pub struct Log {
    pub line: Line,
    pub sent: Vec<Sent>,
    pub heard: Vec<Heard>,
    /// Final answers to its requests: method and status.
    pub answers: Vec<(String, u16)>,
    pub call_id: String,
}

impl Log {
    /// How many packets it heard that carry exactly this sound.
    pub fn heard_tone(&self, hz: f64) -> usize {
        let tone = tone_packet(hz);
        self.heard.iter().filter(|heard| heard.payload == tone).count()
    }

    /// How many packets it heard in which this frequency is the loudest thing.
    pub fn heard_about(&self, hz: f64) -> usize {
        self.heard.iter().filter(|heard| heard.sounds_like(hz)).count()
    }

    /// How many packets of voice it has said.
    pub fn said(&self) -> usize {
        self.sent.iter().filter(|sent| sent.what == Said::Voice).count()
    }
}

impl Heard {
    /// Whether this frequency is in it at more than a twentieth of the full scale.
    pub fn sounds_like(&self, hz: f64) -> bool {
        self.holds(hz, 0.05)
    }

    /// Whether this frequency is in it at more than this part of the full scale.
    pub fn holds(&self, hz: f64, level: f64) -> bool {
        self.payload_type == 0 && audio::level(&self.samples(), 8_000, hz) > level
    }

    fn samples(&self) -> Vec<i16> {
        self.payload.iter().map(|octet| linear(*octet)).collect()
    }
}

enum Order {
    Call { agent: SocketAddr, user: String, headers: String },
    PickUp,
    Press(String),
    Offer(&'static str),
    HangUp,
}

/// A phone. It ends with this value.
#[derive(Debug)]
pub struct TonePhone {
    addr: SocketAddr,
    call_id: String,
    hz: f64,
    log: Arc<Mutex<Log>>,
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// What a phone does when it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PicksUp {
    AtOnce,
    /// It rings until [`TonePhone::pick_up`].
    WhenTold,
}

impl TonePhone {
    /// A phone that says this tone: a multiple of 50 Hz, so that every packet is the same.
    pub fn new(hz: f64, picks_up: PicksUp) -> Self {
        let sip = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let rtp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        sip.set_nonblocking(true).expect("a socket");
        rtp.set_nonblocking(true).expect("a socket");
        let addr = sip.local_addr().expect("an address");
        let call_id = format!("{}@tone", hex::encode(random()));
        let log = Arc::new(Mutex::new(Log {
            line: Line::Idle,
            sent: vec![],
            heard: vec![],
            answers: vec![],
            call_id: call_id.clone(),
        }));
        let (orders, inbox) = mpsc::channel();
        let phone = Phone::new(Sockets { sip, rtp }, picks_up, hz, Arc::clone(&log));
        let id = call_id.clone();
        let thread = Some(std::thread::spawn(move || phone.run(&inbox, &id)));
        Self { addr, call_id, hz, log, orders: Some(orders), thread }
    }

    /// What a route's `next_hop` is to name.
    pub fn uri(&self) -> String {
        format!("sip:{}", self.addr)
    }

    /// The Call-ID of the call that it makes.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// The tone that it says.
    pub fn hz(&self) -> f64 {
        self.hz
    }

    /// Calls somebody. `headers` are whole lines.
    pub fn call(&self, agent: SocketAddr, user: &str, headers: &str) {
        let (user, headers) = (user.to_owned(), headers.to_owned());
        self.order(Order::Call { agent, user, headers });
    }

    /// Answers the call that rings.
    pub fn pick_up(&self) {
        self.order(Order::PickUp);
    }

    /// Presses keys, one after the other.
    pub fn press(&self, keys: &str) {
        self.order(Order::Press(keys.to_owned()));
    }

    /// Puts the call on hold by a re-INVITE (RFC 3264, 8.4), or takes it back.
    pub fn hold(&self) {
        self.order(Order::Offer("sendonly"));
    }

    /// See [`Self::hold`].
    pub fn take_back(&self) {
        self.order(Order::Offer("sendrecv"));
    }

    /// Ends the call, or cancels nothing.
    pub fn hang_up(&self) {
        self.order(Order::HangUp);
    }

    /// What there was so far.
    pub fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().expect("no panic")
    }

    /// Waits until something is in the log; fails the test if it never is.
    #[track_caller]
    pub fn wait(&self, what: &str, holds: impl Fn(&Log) -> bool) {
        assert!(self.comes(&holds), "waited in vain: {what}; {}", self.summary());
    }

    /// The same, saying whether it came.
    pub fn comes(&self, holds: impl Fn(&Log) -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if holds(&self.log()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Waits until it has said so many packets more.
    #[track_caller]
    pub fn talk(&self, packets: usize) {
        let until = self.log().said() + packets;
        self.wait("it talks", |log| log.said() >= until || log.line == Line::Over);
    }

    fn summary(&self) -> String {
        let log = self.log();
        let heard = |hz| log.heard_about(hz);
        format!(
            "{:?}, sent {}, heard {}: notice {}, prompt {}; {:?}",
            log.line,
            log.sent.len(),
            log.heard.len(),
            heard(super::agent::NOTICE_HZ),
            heard(super::agent::PROMPT_HZ),
            log.answers,
        )
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            orders.send(order).expect("the phone runs");
        }
    }
}

impl Drop for TonePhone {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// What every packet of a tone carries.
pub fn tone_packet(hz: f64) -> Vec<u8> {
    audio::tone(8_000, hz, 0.02).into_iter().map(ulaw).collect()
}

/// Microseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("before the year 294246")
}

/// A µ-law octet as a sample (ITU-T G.711).
fn linear(octet: u8) -> i16 {
    let octet = !octet;
    let (exponent, mantissa) = (i32::from(octet >> 4 & 7), i32::from(octet & 15));
    let magnitude = (((mantissa << 3) + 132) << exponent) - 132;
    let signed = if octet & 0x80 == 0 { magnitude } else { -magnitude };
    i16::try_from(signed).unwrap_or(i16::MAX)
}

fn random() -> [u8; 8] {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).expect("the system has randomness");
    bits
}

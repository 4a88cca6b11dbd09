//! A telephone that knows exactly what it said: every packet of its voice carries its own number,
//! so that a test can tell which of them were recorded.
//!
//! Small on purpose: UDP, G.711 µ-law, one offer and one answer. For whole telephones see
//! `baresip.rs`.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PACKET: Duration = Duration::from_millis(20);
/// The µ-law octet of everything said before the key.
const BEFORE: u8 = 0x10;
/// The first octet of numbered packets; they go round.
const NUMBERED: u8 = 0x80;
const ROUND: u32 = 96;

/// A call to the agent, from here.
#[derive(Debug)]
pub struct Talker {
    sip: Arc<UdpSocket>,
    agent: SocketAddr,
    call: Arc<Dialog>,
    voice: Voice,
    ended: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
    /// The user part of its `From`.
    pub user: String,
}

#[derive(Debug)]
struct Dialog {
    call_id: String,
    from: String,
    to: Mutex<String>,
    contact: Mutex<String>,
}

/// Why a call was not answered: the status, and `Retry-After` if it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// 0 when nobody answered at all.
    pub status: u16,
    pub retry_after: Option<String>,
}

impl Talker {
    /// Calls and waits for the answer; from then on it talks.
    pub fn call(agent: SocketAddr, user: &str, to: &str) -> Result<Self, TurnedAway> {
        let sip = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a port"));
        sip.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        let here = sip.local_addr().expect("an address");
        let rtp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let tag = random();
        let from = format!("<sip:{user}@{here}>;tag={tag}");
        let dialog = Arc::new(Dialog {
            call_id: format!("{tag}@talker"),
            from,
            to: Mutex::new(format!("<sip:{to}@{agent}>")),
            contact: Mutex::new(format!("sip:{to}@{agent}")),
        });
        let branch = random();
        let sdp = sdp(rtp.local_addr().expect("an address"));
        let invite = dialog.request("INVITE", 1, here, &branch, &sdp);
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut again = Instant::now();
        let mut heard = false;
        let answer = loop {
            if Instant::now() > deadline {
                return Err(TurnedAway { status: 0, retry_after: None });
            }
            if !heard && Instant::now() >= again {
                sip.send_to(invite.as_bytes(), agent).ok();
                again = Instant::now() + Duration::from_millis(500);
            }
            let Some((message, _)) = receive(&sip) else { continue };
            heard = true;
            match message.status() {
                Some(100..=199) | None => {}
                Some(status) => {
                    *dialog.to.lock().unwrap() = message.header("To").unwrap_or_default();
                    if status >= 300 {
                        let ack = dialog.request("ACK", 1, here, &branch, "");
                        sip.send_to(ack.as_bytes(), agent).ok();
                        let retry_after = message.header("Retry-After");
                        return Err(TurnedAway { status, retry_after });
                    }
                    break message;
                }
            }
        };
        if let Some(contact) = answer.header("Contact") {
            *dialog.contact.lock().unwrap() = uri_of(&contact);
        }
        let ack = dialog.request("ACK", 1, here, &random(), "");
        sip.send_to(ack.as_bytes(), agent).ok();
        let voice = Voice::start(rtp, answer.media().expect("an answer names a port"), Before::Key);
        let ended = Arc::new(AtomicBool::new(false));
        let listener = Some(std::thread::spawn({
            let (sip, ended) = (Arc::clone(&sip), Arc::clone(&ended));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    let Some((message, from)) = receive(&sip) else { continue };
                    if message.method() == Some("BYE") {
                        sip.send_to(message.answer("200 OK", "", "").as_bytes(), from).ok();
                        ended.store(true, Ordering::Relaxed);
                    } else if message.status() == Some(200)
                        && message.header("CSeq").is_some_and(|c| c.contains("INVITE"))
                    {
                        sip.send_to(ack.as_bytes(), from).ok();
                    }
                }
            }
        }));
        Ok(Self { sip, agent, call: dialog, voice, ended, listener, user: user.to_owned() })
    }

    /// Listens to enough of the notice (a quarter of it), then presses `1`.
    pub fn accept(&self) {
        super::wait_for(Duration::from_secs(10), "the notice", || self.heard() >= 14);
        self.press('1');
    }

    /// Presses a key (RFC 4733) and numbers its packets from then on.
    pub fn press(&self, key: char) {
        self.voice.press(key);
    }

    /// How many numbered packets it has sent.
    pub fn numbered(&self) -> u32 {
        self.voice.sent.load(Ordering::SeqCst)
    }

    /// Says nothing any more. Returns how many numbered packets were sent.
    pub fn fall_silent(&self) -> u32 {
        self.voice.fall_silent()
    }

    /// Whether the agent has ended the call.
    pub fn was_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Packets that came from the agent.
    pub fn heard(&self) -> u32 {
        self.voice.heard()
    }

    /// Ends the call; does not mind when nobody answers.
    pub fn hang_up(&mut self) {
        self.voice.fall_silent();
        if !self.ended.swap(true, Ordering::Relaxed) {
            if let Some(listener) = self.listener.take() {
                listener.join().ok();
            }
            let here = self.sip.local_addr().expect("an address");
            let bye = self.call.request("BYE", 2, here, &random(), "");
            for _ in 0..3 {
                self.sip.send_to(bye.as_bytes(), self.agent).ok();
                if receive(&self.sip).is_some() {
                    return;
                }
            }
        }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.voice.fall_silent();
        self.ended.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
    }
}

impl Dialog {
    fn request(
        &self,
        method: &str,
        cseq: u32,
        here: SocketAddr,
        branch: &str,
        body: &str,
    ) -> String {
        let content =
            if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" }.to_owned();
        format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{branch};rport\r\n\
             From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:talker@{here}>\r\nMax-Forwards: 70\r\n{content}\
             Content-Length: {}\r\n\r\n{body}",
            self.contact.lock().unwrap(),
            self.from,
            self.to.lock().unwrap(),
            self.call_id,
            body.len(),
        )
    }
}

/// Whoever calls it is answered, and talked to with numbered packets.
#[derive(Debug)]
pub struct Answerer {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    calls: Arc<Mutex<HashMap<String, Voice>>>,
    thread: Option<JoinHandle<()>>,
}

impl Answerer {
    pub fn start() -> Self {
        let sip = UdpSocket::bind("127.0.0.1:0").expect("a port");
        sip.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        let addr = sip.local_addr().expect("an address");
        let stop = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(Mutex::new(HashMap::new()));
        let thread = Some(std::thread::spawn({
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            move || answer_all(&sip, &stop, &calls)
        }));
        Self { addr, stop, calls, thread }
    }

    /// What a route's `next_hop` is to name.
    pub fn uri(&self) -> String {
        format!("sip:{}", self.addr)
    }

    /// How many numbered packets were sent to the call for this user.
    pub fn numbered(&self, user: &str) -> u32 {
        self.calls.lock().unwrap().get(user).map_or(0, |v| v.sent.load(Ordering::SeqCst))
    }

    /// Says nothing any more to anybody.
    pub fn fall_silent(&self) {
        for voice in self.calls.lock().unwrap().values() {
            voice.fall_silent();
        }
    }

    /// Forgets the calls that there were.
    pub fn forget(&self) {
        self.calls.lock().unwrap().clear();
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn answer_all(sip: &UdpSocket, stop: &AtomicBool, calls: &Mutex<HashMap<String, Voice>>) {
    let mut answered: HashMap<String, String> = HashMap::new();
    let here = sip.local_addr().expect("an address");
    while !stop.load(Ordering::Relaxed) {
        let Some((message, from)) = receive(sip) else { continue };
        let id = message.header("Call-ID").unwrap_or_default();
        match message.method() {
            Some("INVITE") => {
                let answer = answered.entry(id).or_insert_with(|| {
                    let rtp = UdpSocket::bind("127.0.0.1:0").expect("a port");
                    let sdp = sdp(rtp.local_addr().expect("an address"));
                    let contact =
                        format!("Contact: <sip:{here}>\r\nContent-Type: application/sdp\r\n");
                    let user = user_of(message.0.lines().next().unwrap_or_default());
                    if let Some(peer) = message.media() {
                        let voice = Voice::start(rtp, peer, Before::Nothing);
                        calls.lock().unwrap().insert(user, voice);
                    }
                    message.answer("200 OK", &contact, &sdp)
                });
                sip.send_to(answer.as_bytes(), from).ok();
            }
            Some("ACK") | None => {}
            Some("BYE") => {
                sip.send_to(message.answer("200 OK", "", "").as_bytes(), from).ok();
            }
            Some(_) => {
                sip.send_to(message.answer("200 OK", "", "").as_bytes(), from).ok();
            }
        }
    }
}

/// What a voice says before it numbers its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// One known sound, until a key is pressed.
    Key,
    /// It numbers them from the first.
    Nothing,
}

#[derive(Debug)]
struct Voice {
    sent: Arc<AtomicU32>,
    heard: Arc<AtomicU32>,
    silent: Arc<AtomicBool>,
    keys: mpsc::Sender<char>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Voice {
    fn start(rtp: UdpSocket, peer: SocketAddr, before: Before) -> Self {
        let (sent, heard) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let silent = Arc::new(AtomicBool::new(false));
        let (keys, pressed) = mpsc::channel();
        let thread = std::thread::spawn({
            let (sent, heard, silent) =
                (Arc::clone(&sent), Arc::clone(&heard), Arc::clone(&silent));
            rtp.set_nonblocking(true).expect("a socket");
            move || talk(&rtp, peer, before, &sent, &heard, &silent, &pressed)
        });
        Self { sent, heard, silent, keys, thread: Mutex::new(Some(thread)) }
    }

    fn press(&self, key: char) {
        self.keys.send(key).ok();
    }

    fn heard(&self) -> u32 {
        self.heard.load(Ordering::Relaxed)
    }

    fn fall_silent(&self) -> u32 {
        self.silent.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().ok();
        }
        self.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.fall_silent();
    }
}

fn talk(
    rtp: &UdpSocket,
    peer: SocketAddr,
    before: Before,
    sent: &AtomicU32,
    heard: &AtomicU32,
    silent: &AtomicBool,
    pressed: &mpsc::Receiver<char>,
) {
    let (mut sequence, mut timestamp) = (1_u16, 0_u32);
    let ssrc: u32 = u32::from_str_radix(&random()[..8], 16).expect("hex");
    let mut numbering = before == Before::Nothing;
    let mut next = Instant::now();
    let mut buffer = [0; 2048];
    let mut packet = |payload_type: u8, timestamp: u32, payload: &[u8]| {
        let mut bytes = vec![0x80, payload_type];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(ssrc.to_be_bytes());
        bytes.extend(payload);
        sequence = sequence.wrapping_add(1);
        rtp.send_to(&bytes, peer).ok();
    };
    while !silent.load(Ordering::SeqCst) {
        while rtp.recv_from(&mut buffer).is_ok() {
            heard.fetch_add(1, Ordering::Relaxed);
        }
        if let Ok(key) = pressed.try_recv() {
            let event = match key {
                '*' => 10,
                '#' => 11,
                digit => digit.to_digit(10).expect("a key") as u8,
            };
            // Two beginnings, three ends, as RFC 4733, 2.5.1.4 has them.
            for (end, duration) in [(0, 160_u16), (0, 320), (0x80, 480), (0x80, 480), (0x80, 480)] {
                let [high, low] = duration.to_be_bytes();
                packet(101, timestamp, &[event, 10 | end, high, low]);
            }
            timestamp = timestamp.wrapping_add(480);
            numbering = true;
        }
        let octet = if numbering {
            let number = sent.load(Ordering::SeqCst);
            NUMBERED + u8::try_from(number % ROUND).expect("below 96")
        } else {
            BEFORE
        };
        packet(0, timestamp, &[octet; 160]);
        if numbering {
            sent.fetch_add(1, Ordering::SeqCst);
        }
        timestamp = timestamp.wrapping_add(160);
        next += PACKET;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// What of a voice is in 8 kHz samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Whether anything said before the key is in it.
    pub before: bool,
    /// The numbers of the packets, those that go round made unique.
    pub numbers: Vec<u32>,
    /// Samples that are neither silence nor anything that was said.
    pub foreign: usize,
}

/// Finds the numbered packets in exported samples.
pub fn find(samples: &[i16]) -> Found {
    let mut found = Found::default();
    let mut run = (0_i16, 0_usize);
    let mut runs = Vec::new();
    for &sample in samples.iter().chain(std::iter::once(&i16::MAX)) {
        if sample == run.0 {
            run.1 += 1;
        } else {
            runs.push(run);
            run = (sample, 1);
        }
    }
    for (value, length) in runs {
        if value.unsigned_abs() <= 8 {
            continue;
        }
        if value == linear(BEFORE) {
            found.before = true;
            continue;
        }
        let number = (0..ROUND).find(|n| linear(NUMBERED + u8::try_from(*n).unwrap()) == value);
        match number {
            // A packet that lies across the beginning or the end.
            Some(_) if length < 80 => {}
            Some(number) => {
                let round = found.numbers.last().map_or(number, |last| {
                    let base = last - last % ROUND;
                    if base + number >= *last { base + number } else { base + ROUND + number }
                });
                if found.numbers.last() != Some(&round) {
                    found.numbers.push(round);
                }
            }
            None => found.foreign += length,
        }
    }
    found
}

/// ITU-T G.711, µ-law.
fn linear(octet: u8) -> i16 {
    let bits = !octet;
    let magnitude = ((i16::from(bits & 0x0f) << 3) + 0x84) << ((bits >> 4) & 7);
    if bits & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

struct Message(String);

impl Message {
    fn status(&self) -> Option<u16> {
        self.0.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    fn method(&self) -> Option<&str> {
        if self.0.starts_with("SIP/2.0") { None } else { self.0.split(' ').next() }
    }

    fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.lines().take_while(|line| !line.is_empty()).filter_map(move |line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers(name).next().map(str::to_owned)
    }

    fn media(&self) -> Option<SocketAddr> {
        let ip = self.0.lines().find_map(|l| l.strip_prefix("c=IN IP4 "))?.trim();
        let port = self.0.lines().find_map(|l| l.strip_prefix("m=audio "))?;
        Some(SocketAddr::new(ip.parse().ok()?, port.split(' ').next()?.parse().ok()?))
    }

    fn answer(&self, status: &str, more: &str, body: &str) -> String {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "Record-Route"] {
            for value in self.headers(name) {
                text += &format!("{name}: {value}\r\n");
            }
        }
        let to = self.header("To").unwrap_or_default();
        let tag = if to.contains("tag=") { String::new() } else { format!(";tag={}", random()) };
        text += &format!(
            "From: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n{more}\
             Content-Length: {}\r\n\r\n{body}",
            self.header("From").unwrap_or_default(),
            self.header("Call-ID").unwrap_or_default(),
            self.header("CSeq").unwrap_or_default(),
            body.len(),
        );
        text
    }
}

fn receive(socket: &UdpSocket) -> Option<(Message, SocketAddr)> {
    let mut buffer = [0; 8192];
    let (length, from) = socket.recv_from(&mut buffer).ok()?;
    let text = String::from_utf8_lossy(&buffer[..length]).replace("\r\n", "\n");
    Some((Message(text), from))
}

fn sdp(rtp: SocketAddr) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n",
        ip = rtp.ip(),
        port = rtp.port()
    )
}

fn uri_of(header: &str) -> String {
    let inner = header.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or(header, |(uri, _)| uri).to_owned()
}

fn user_of(request_line: &str) -> String {
    let user = request_line.split_once("sip:").and_then(|(_, rest)| rest.split_once('@'));
    user.map(|(user, _)| user.to_owned()).unwrap_or_default()
}

fn random() -> String {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).expect("the system has randomness");
    hex::encode(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_packets_are_found_again() {
        let mut samples = vec![0; 300];
        for number in 90..110_u32 {
            samples.extend([linear(NUMBERED + u8::try_from(number % ROUND).unwrap()); 160]);
        }
        let numbers = find(&samples).numbers;
        assert_eq!(numbers.first(), Some(&90));
        assert_eq!(numbers.len(), 20);
        assert_eq!(numbers.last(), Some(&109));
    }
}

//! Two people with known voices: a SIP caller and a SIP callee over UDP whose every RTP packet
//! carries bytes that nothing else on this machine has, from the first packet on.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many bytes a packet carries: 20 ms of G.711.
pub const PAYLOAD: usize = 160;
const PACE: Duration = Duration::from_millis(20);
const TELEPHONE_EVENT: u8 = 101;

/// A voice that no other has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice([u8; 16]);

impl Voice {
    /// A fresh one.
    pub fn new() -> Self {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed).expect("the system has randomness");
        Self(seed)
    }

    /// What it says in its `n`th packet.
    pub fn payload(self, n: u32) -> [u8; PAYLOAD] {
        let mut bytes = [0; PAYLOAD];
        for (block, part) in bytes.chunks_mut(32).enumerate() {
            let mut text = self.0.to_vec();
            text.extend(n.to_be_bytes());
            text.push(block as u8);
            part.copy_from_slice(&assent::ids::Digest::of(&text).0);
        }
        bytes
    }
}

/// Sends a voice as G.711 from one socket, 50 packets a second, as soon as it knows where to.
#[derive(Debug)]
struct Mouth {
    addr: SocketAddr,
    voice: Voice,
    target: Arc<Mutex<Option<SocketAddr>>>,
    keys: Arc<Mutex<VecDeque<char>>>,
    said: Arc<AtomicU32>,
    heard: Arc<AtomicU32>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Mouth {
    fn open() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket for RTP");
        socket.set_nonblocking(true).expect("a socket that does not wait");
        let mut mouth = Self {
            addr: socket.local_addr().expect("its address"),
            voice: Voice::new(),
            target: Arc::default(),
            keys: Arc::default(),
            said: Arc::default(),
            heard: Arc::default(),
            over: Arc::default(),
            thread: None,
        };
        let (voice, target, keys) = (mouth.voice, mouth.target.clone(), mouth.keys.clone());
        let (said, heard, over) = (mouth.said.clone(), mouth.heard.clone(), mouth.over.clone());
        mouth.thread = Some(std::thread::spawn(move || {
            let mut due = Instant::now();
            let (mut sequence, mut timestamp) = (0_u16, 0_u32);
            let mut buffer = [0; 2048];
            while !over.load(Ordering::Relaxed) {
                while socket.recv(&mut buffer).is_ok() {
                    heard.fetch_add(1, Ordering::Relaxed);
                }
                let to = *target.lock().expect("no panic");
                if let Some(to) = to {
                    let header = |payload_type: u8, sequence: u16, timestamp: u32| {
                        let mut packet = vec![0x80, payload_type];
                        packet.extend(sequence.to_be_bytes());
                        packet.extend(timestamp.to_be_bytes());
                        packet.extend(&voice.0[..4]);
                        packet
                    };
                    let key = keys.lock().expect("no panic").pop_front();
                    if let Some(key) = key {
                        let event = "0123456789*#ABCD".find(key).expect("a key") as u8;
                        // Three packets of the key held, three of its end (RFC 4733, 2.5.1.4).
                        for (n, (flags, duration)) in
                            [(10, 160), (10, 320), (10, 480), (138, 640), (138, 640), (138, 640)]
                                .into_iter()
                                .enumerate()
                        {
                            let marker = if n == 0 { 0x80 } else { 0 };
                            let mut packet = header(TELEPHONE_EVENT | marker, sequence, timestamp);
                            packet.extend([event, flags]);
                            packet.extend(u16::to_be_bytes(duration));
                            socket.send_to(&packet, to).ok();
                            sequence = sequence.wrapping_add(1);
                        }
                        timestamp = timestamp.wrapping_add(640);
                    }
                    let mut packet = header(0, sequence, timestamp);
                    packet.extend(voice.payload(said.load(Ordering::Relaxed)));
                    if socket.send_to(&packet, to).is_ok() {
                        said.fetch_add(1, Ordering::Relaxed);
                    }
                    sequence = sequence.wrapping_add(1);
                    timestamp = timestamp.wrapping_add(160);
                }
                due = (due + PACE).max(Instant::now() - PACE);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }));
        mouth
    }

    fn sdp(&self) -> String {
        let (ip, port) = (self.addr.ip(), self.addr.port());
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0 {TELEPHONE_EVENT}\r\na=rtpmap:0 PCMU/8000\r\n\
             a=rtpmap:{TELEPHONE_EVENT} telephone-event/8000\r\na=fmtp:{TELEPHONE_EVENT} 0-15\r\n\
             a=ptime:20\r\na=sendrecv\r\n"
        )
    }

    /// Learns where to talk to from a description; keeps what it knows where there is none.
    fn aim(&self, message: &str) {
        let Some((_, body)) = message.split_once("\r\n\r\n") else { return };
        let port = body.lines().find_map(|l| l.strip_prefix("m=audio ")?.split(' ').next());
        let ip = body.lines().find_map(|l| l.strip_prefix("c=IN IP4 "));
        if let (Some(port), Some(ip)) = (port, ip) {
            let to = format!("{}:{port}", ip.trim()).parse().expect("an address in SDP");
            *self.target.lock().expect("no panic") = Some(to);
        }
    }

    fn close(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a caller says about themselves.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// The user part of `From`.
    pub from: String,
    /// The display name of `From`; empty for none.
    pub name: String,
    /// The user part of the Request-URI.
    pub to: String,
    /// Further header lines, without their line ends.
    pub headers: Vec<String>,
}

impl Default for Invitation {
    fn default() -> Self {
        Self {
            from: "caller".to_owned(),
            name: String::new(),
            to: "callee".to_owned(),
            headers: Vec::new(),
        }
    }
}

/// A caller whose INVITE is on its way, or answered.
#[derive(Debug)]
pub struct Caller {
    mouth: Mouth,
    sip: UdpSocket,
    agent: SocketAddr,
    invitation: Invitation,
    identity: String,
    responses: Receiver<String>,
    answer: Option<String>,
    over: Arc<AtomicBool>,
    cseq: u32,
}

impl Caller {
    /// Sends an INVITE. Talks as soon as an answer, provisional or not, says where to.
    pub fn invite(agent: SocketAddr, invitation: Invitation) -> Self {
        let sip = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket for SIP");
        sip.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        let (sender, responses) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let caller = Self {
            mouth: Mouth::open(),
            identity: hex::encode(Voice::new().0),
            sip,
            agent,
            invitation,
            responses,
            answer: None,
            over,
            cseq: 1,
        };
        caller.listen(sender);
        let body = caller.mouth.sdp();
        let content = format!("Content-Type: application/sdp\r\nContent-Length: {}", body.len());
        let further: String =
            caller.invitation.headers.iter().map(|line| format!("{line}\r\n")).collect();
        let text = caller.head("INVITE", 1, "", &caller.uri(), "1");
        caller.send(&format!("{text}{further}{content}\r\n\r\n{body}"));
        caller
    }

    fn listen(&self, responses: Sender<String>) {
        let socket = self.sip.try_clone().expect("a second handle");
        let over = self.over.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while !over.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if message.starts_with("SIP/2.0 ") {
                    if responses.send(message).is_err() {
                        return;
                    }
                } else if !message.starts_with("ACK ") {
                    socket.send_to(reply(&message, 200, "OK", "", "").as_bytes(), from).ok();
                }
            }
        });
    }

    /// Waits for the 200, confirms it, and talks.
    #[track_caller]
    pub fn answered(&mut self) {
        let answer = self.response(|status| (200..300).contains(&status));
        self.mouth.aim(&answer);
        let target = header(&answer, "Contact")
            .and_then(|contact| {
                let inside = contact.split_once('<')?.1.split_once('>')?.0;
                Some(inside.to_owned())
            })
            .unwrap_or_else(|| self.uri());
        let to = header(&answer, "To").expect("To in a response");
        self.answer = Some(to.clone());
        self.send(&format!(
            "{}Content-Length: 0\r\n\r\n",
            self.head("ACK", 1, &to, &target, "ack")
        ));
    }

    /// Waits for a response with a status that fits, and gives it. Aims the voice at whatever a
    /// provisional response describes, and confirms a final one that is no 2xx.
    #[track_caller]
    pub fn response(&mut self, fits: impl Fn(u16) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let response = self.responses.recv_timeout(left).expect("a response in time");
            let status: u16 =
                response.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
            let method = header(&response, "CSeq").unwrap_or_default();
            if method.ends_with("INVITE") {
                self.mouth.aim(&response);
                if status >= 300 {
                    let to = header(&response, "To").unwrap_or_default();
                    let ack = self.head("ACK", 1, &to, &self.uri(), "1");
                    self.send(&format!("{ack}Content-Length: 0\r\n\r\n"));
                }
            }
            if fits(status) && method.ends_with("INVITE") {
                return response;
            }
            assert!(status < 300 || !method.ends_with("INVITE"), "not answered:\n{response}");
        }
    }

    /// Presses a key (RFC 4733).
    pub fn press(&self, key: char) {
        self.mouth.keys.lock().expect("no panic").push_back(key);
    }

    /// Presses a key by SIP INFO.
    pub fn press_by_info(&mut self, key: char) {
        self.cseq += 1;
        let to = self.answer.clone().expect("an answered call");
        let body = format!("Signal={key}\r\nDuration=160\r\n");
        let head = self.head("INFO", self.cseq, &to, &self.uri(), &self.cseq.to_string());
        self.send(&format!(
            "{head}Content-Type: application/dtmf-relay\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }

    /// Gives up before an answer.
    pub fn cancel(&self) {
        let head = self.head("CANCEL", 1, "", &self.uri(), "1");
        self.send(&format!("{head}Content-Length: 0\r\n\r\n"));
    }

    /// Ends an answered call; goes on talking for a moment, as phones do.
    pub fn hang_up(&mut self) {
        self.cseq += 1;
        let to = self.answer.clone().expect("an answered call");
        let head = self.head("BYE", self.cseq, &to, &self.uri(), &self.cseq.to_string());
        self.send(&format!("{head}Content-Length: 0\r\n\r\n"));
    }

    /// Their voice.
    pub fn voice(&self) -> Voice {
        self.mouth.voice
    }

    /// How many packets they have sent.
    pub fn said(&self) -> u32 {
        self.mouth.said.load(Ordering::Relaxed)
    }

    /// How many packets they have received.
    pub fn heard(&self) -> u32 {
        self.mouth.heard.load(Ordering::Relaxed)
    }

    fn uri(&self) -> String {
        format!("sip:{}@{}", self.invitation.to, self.agent)
    }

    fn head(&self, method: &str, cseq: u32, to: &str, uri: &str, branch: &str) -> String {
        let (me, id) = (self.sip.local_addr().expect("its address"), &self.identity);
        let Invitation { from, name, .. } = &self.invitation;
        let name = if name.is_empty() { String::new() } else { format!("\"{name}\" ") };
        let to = if to.is_empty() { format!("<{}>", self.uri()) } else { to.to_owned() };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK{id}-{branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: {name}<sip:{from}@{me}>;tag={id}\r\nTo: {to}\r\n\
             Call-ID: {id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:{me}>\r\n"
        )
    }

    fn send(&self, text: &str) {
        self.sip.send_to(text.as_bytes(), self.agent).expect("sent");
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A callee who talks from the INVITE on, long before they answer.
#[derive(Debug)]
pub struct Callee {
    addr: SocketAddr,
    voice: Voice,
    said: Arc<AtomicU32>,
    invited: Arc<Mutex<Option<String>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// When a callee answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rings {
    /// After so long, with early media (183) until then.
    For(Duration),
    /// For ever, with early media.
    On,
    /// Not at all: 486 with this reason phrase.
    Busy(&'static str),
}

impl Callee {
    /// Waits for one call.
    pub fn start(rings: Rings) -> Self {
        let sip = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket for SIP");
        sip.set_read_timeout(Some(Duration::from_millis(10))).expect("a time-out");
        let mut mouth = Mouth::open();
        let (addr, voice) = (sip.local_addr().expect("its address"), mouth.voice);
        let over = Arc::new(AtomicBool::new(false));
        let mut callee = Self {
            addr,
            voice,
            said: mouth.said.clone(),
            invited: Arc::default(),
            over: over.clone(),
            thread: None,
        };
        let invited = callee.invited.clone();
        callee.thread = Some(std::thread::spawn(move || {
            let contact = format!("Contact: <sip:{addr}>\r\nContent-Type: application/sdp\r\n");
            let mut ringing: Option<(String, SocketAddr, Instant)> = None;
            let mut buffer = [0; 8192];
            while !over.load(Ordering::Relaxed) {
                if let Some((invite, from, since)) = &ringing
                    && let Rings::For(span) = rings
                    && since.elapsed() >= span
                {
                    let ok = reply(invite, 200, "OK", &contact, &mouth.sdp());
                    sip.send_to(ok.as_bytes(), from).ok();
                    ringing = None;
                }
                let Ok((length, from)) = sip.recv_from(&mut buffer) else { continue };
                let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let answer = |status, reason| {
                    sip.send_to(reply(&message, status, reason, "", "").as_bytes(), from).ok();
                };
                match message.split(' ').next().unwrap_or_default() {
                    "INVITE" if let Rings::Busy(reason) = rings => {
                        *invited.lock().expect("no panic") = Some(message.clone());
                        answer(486, reason);
                    }
                    "INVITE" if invited.lock().expect("no panic").is_none() => {
                        mouth.aim(&message);
                        let early =
                            reply(&message, 183, "Session Progress", &contact, &mouth.sdp());
                        sip.send_to(early.as_bytes(), from).ok();
                        *invited.lock().expect("no panic") = Some(message.clone());
                        ringing = Some((message, from, Instant::now()));
                    }
                    "CANCEL" => {
                        answer(200, "OK");
                        if let Some((invite, from, _)) = ringing.take() {
                            let ended = reply(&invite, 487, "Request Terminated", "", "");
                            sip.send_to(ended.as_bytes(), from).ok();
                        }
                    }
                    "INVITE" | "ACK" | "SIP/2.0" => {}
                    _ => answer(200, "OK"),
                }
            }
            mouth.close();
        }));
        callee
    }

    /// Where they are called.
    pub fn uri(&self) -> String {
        format!("sip:{}", self.addr)
    }

    /// The INVITE that came, if one did.
    pub fn invited(&self) -> Option<String> {
        self.invited.lock().expect("no panic").clone()
    }

    /// Their voice.
    pub fn voice(&self) -> Voice {
        self.voice
    }

    /// How many packets they have sent.
    pub fn said(&self) -> u32 {
        self.said.load(Ordering::Relaxed)
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A response to a request. `headers` are whole lines.
fn reply(request: &str, status: u16, reason: &str, headers: &str, body: &str) -> String {
    let mut text = format!("SIP/2.0 {status} {reason}\r\n");
    for line in request.lines().take_while(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "via" | "v" => text.push_str(&format!("Via: {value}\r\n")),
            "from" | "f" => text.push_str(&format!("From: {value}\r\n")),
            "to" | "t" if value.contains(";tag=") => text.push_str(&format!("To: {value}\r\n")),
            "to" | "t" => text.push_str(&format!("To: {value};tag=talker\r\n")),
            "call-id" | "i" => text.push_str(&format!("Call-ID: {value}\r\n")),
            "cseq" => text.push_str(&format!("CSeq: {value}\r\n")),
            _ => {}
        }
    }
    text.push_str(headers);
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text
}

fn header(message: &str, name: &str) -> Option<String> {
    message.lines().take_while(|line| !line.is_empty()).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

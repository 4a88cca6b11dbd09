//! A phone's one call: SIP, its tone, its keys.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::{Heard, Line, Log, Order, PicksUp, Said, Sent, now, random, tone_packet};

const PACKET: Duration = Duration::from_millis(20);
/// Packets of a key: four that say how long it lasts, and its end twice more (RFC 4733, 2.5.1.4).
const KEY_PACKETS: u16 = 4;
/// Packets of voice between two keys.
const BETWEEN_KEYS: u32 = 2;

/// Where it is reached.
pub(super) struct Sockets {
    pub(super) sip: UdpSocket,
    pub(super) rtp: UdpSocket,
}

/// What it says.
enum Speech {
    Voice {
        /// Packets before the next key.
        at_least: u32,
    },
    Key {
        key: char,
        timestamp: u32,
        packets: u16,
    },
}

pub(super) struct Phone {
    sip: UdpSocket,
    rtp: UdpSocket,
    here: SocketAddr,
    picks_up: PicksUp,
    log: Arc<Mutex<Log>>,
    tone: Vec<u8>,
    dialog: Option<Dialog>,
    media: Option<SocketAddr>,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    speech: Speech,
    keys: VecDeque<char>,
    may_send: bool,
    origin: u32,
}

/// The call as SIP sees it.
struct Dialog {
    peer: SocketAddr,
    target: String,
    call_id: String,
    from: String,
    to: String,
    cseq: u32,
    /// The request that has no final answer yet, and when it is sent again.
    open: Option<(String, Instant)>,
    /// The INVITE that is not answered yet.
    ringing: Option<(String, SocketAddr)>,
    /// The last answer, for requests that are sent again.
    last: Option<(String, String)>,
}

impl Phone {
    pub(super) fn new(
        Sockets { sip, rtp }: Sockets,
        picks_up: PicksUp,
        hz: f64,
        log: Arc<Mutex<Log>>,
    ) -> Self {
        let [a, b, c, d, e, f, g, h] = random();
        let here = sip.local_addr().expect("an address");
        Self {
            sip,
            rtp,
            here,
            picks_up,
            log,
            tone: tone_packet(hz),
            dialog: None,
            media: None,
            ssrc: u32::from_be_bytes([a, b, c, d]),
            sequence: u16::from_be_bytes([e, f]),
            timestamp: u32::from_be_bytes([g, h, e, f]),
            speech: Speech::Voice { at_least: 0 },
            keys: VecDeque::new(),
            may_send: true,
            origin: 1,
        }
    }

    pub(super) fn run(mut self, orders: &mpsc::Receiver<Order>, call_id: &str) {
        let mut due: Option<(Instant, i64)> = None;
        loop {
            loop {
                match orders.try_recv() {
                    Ok(order) => self.obey(order, call_id),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            self.listen();
            self.hear();
            if let Some(peer) = self.media {
                let (mut next, mut wall) = due.unwrap_or_else(|| (Instant::now(), now()));
                while next <= Instant::now() {
                    self.say(peer, wall);
                    next += PACKET;
                    wall += 20_000;
                }
                due = Some((next, wall));
                let rest = next.saturating_duration_since(Instant::now());
                std::thread::sleep(rest.min(PACKET));
            } else {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn say(&mut self, peer: SocketAddr, due: i64) {
        if let Speech::Voice { at_least: 0 } = self.speech
            && let Some(key) = self.keys.pop_front()
        {
            self.speech = Speech::Key { key, timestamp: self.timestamp, packets: 0 };
        }
        match &mut self.speech {
            Speech::Voice { at_least } => {
                *at_least = at_least.saturating_sub(1);
                let (timestamp, tone) = (self.timestamp, self.tone.clone());
                self.send(peer, due, Said::Voice, (0, timestamp), &tone);
            }
            Speech::Key { key, timestamp, packets } => {
                *packets += 1;
                let (key, timestamp, packets) = (*key, *timestamp, *packets);
                let (end, times) = if packets == KEY_PACKETS { (0x80, 3) } else { (0, 1) };
                let [high, low] = (packets * 160).to_be_bytes();
                for _ in 0..times {
                    let payload = [code(key), 10 | end, high, low];
                    self.send(peer, due, Said::Key(key), (101, timestamp), &payload);
                }
                if packets == KEY_PACKETS {
                    self.speech = Speech::Voice { at_least: BETWEEN_KEYS };
                }
            }
        }
        self.timestamp = self.timestamp.wrapping_add(160);
    }

    fn send(
        &mut self,
        peer: SocketAddr,
        due: i64,
        what: Said,
        (payload_type, timestamp): (u8, u32),
        payload: &[u8],
    ) {
        if !self.may_send {
            return;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = vec![0x80, payload_type];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(payload);
        let at = now();
        self.rtp.send_to(&bytes, peer).ok();
        self.log().sent.push(Sent { sequence: self.sequence, due, at, what });
    }

    fn hear(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = self.rtp.recv_from(&mut buffer) {
            // Ports are used again: what was meant for another call is not heard.
            if self.media.is_none_or(|peer| peer != from) {
                continue;
            }
            let Some((header, payload)) = buffer[..length].split_first_chunk::<12>() else {
                continue;
            };
            let [_, pt, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3] = *header;
            self.log().heard.push(Heard {
                at: now(),
                ssrc: u32::from_be_bytes([r0, r1, r2, r3]),
                sequence: u16::from_be_bytes([s0, s1]),
                timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
                payload_type: pt & 0x7f,
                payload: payload.to_vec(),
            });
        }
    }

    fn obey(&mut self, order: Order, call_id: &str) {
        match order {
            Order::Call { agent, user, headers } => {
                let here = self.here;
                self.dialog = Some(Dialog {
                    peer: agent,
                    target: format!("sip:{user}@{agent}"),
                    call_id: call_id.to_owned(),
                    from: format!("<sip:tone@{here}>;tag={}", hex::encode(random())),
                    to: format!("<sip:{user}@{agent}>"),
                    cseq: 0,
                    open: None,
                    ringing: None,
                    last: None,
                });
                self.log().line = Line::Ringing;
                let sdp = self.sdp("sendrecv");
                self.request("INVITE", &headers, &sdp);
            }
            Order::PickUp => self.pick_up(),
            Order::Press(keys) => self.keys.extend(keys.chars()),
            Order::Offer(direction) if self.log().line == Line::Talking => {
                let sdp = self.sdp(direction);
                self.request("INVITE", "", &sdp);
            }
            Order::HangUp => match self.log_line() {
                Line::Talking => {
                    self.request("BYE", "", "");
                    self.over();
                }
                Line::Ringing => {
                    self.picks_up = PicksUp::WhenTold;
                }
                Line::Idle | Line::Over => {}
            },
            Order::Offer(_) => {}
        }
    }

    fn log_line(&self) -> Line {
        self.log().line
    }

    fn over(&mut self) {
        self.media = None;
        self.log().line = Line::Over;
    }

    fn request(&mut self, method: &str, headers: &str, body: &str) {
        let here = self.here;
        let Some(dialog) = &mut self.dialog else { return };
        dialog.cseq += 1;
        let text = dialog.text(method, dialog.cseq, here, headers, body);
        self.sip.send_to(text.as_bytes(), dialog.peer).ok();
        dialog.open = Some((text, Instant::now() + Duration::from_millis(500)));
    }

    fn listen(&mut self) {
        let mut buffer = [0; 8192];
        while let Ok((length, from)) = self.sip.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.starts_with("SIP/2.0") {
                self.on_response(&text);
            } else {
                self.on_request(text, from);
            }
        }
        if let Some(dialog) = &mut self.dialog
            && let Some((text, again)) = &mut dialog.open
            && *again <= Instant::now()
        {
            self.sip.send_to(text.as_bytes(), dialog.peer).ok();
            *again = Instant::now() + Duration::from_secs(1);
        }
    }

    fn on_response(&mut self, text: &str) {
        let status: u16 = text.get(8..11).and_then(|s| s.parse().ok()).unwrap_or(0);
        let cseq = header(text, "CSeq").unwrap_or_default();
        let Some(dialog) = &mut self.dialog else { return };
        let asked = dialog.open.as_ref().and_then(|(request, _)| header(request, "CSeq"));
        let repeated = asked.as_ref() != Some(&cseq);
        if status < 200 {
            if !repeated && let Some((_, again)) = &mut dialog.open {
                *again = Instant::now() + Duration::from_secs(60);
            }
            return;
        }
        let invite = cseq.ends_with("INVITE");
        if !repeated {
            dialog.open = None;
            let method = cseq.split(' ').nth(1).unwrap_or_default().to_owned();
            self.log.lock().expect("no panic").answers.push((method, status));
            if invite && status < 300 {
                dialog.to = header(text, "To").unwrap_or_default();
                if let Some(contact) = header(text, "Contact") {
                    dialog.target = uri_of(&contact);
                }
            }
        }
        if invite {
            let to = header(text, "To").unwrap_or_default();
            let number: u32 = cseq.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(1);
            let kept = std::mem::replace(&mut dialog.to, to);
            let ack = dialog.text("ACK", number, self.here, "", "");
            if status >= 300 {
                dialog.to = kept;
            }
            self.sip.send_to(ack.as_bytes(), dialog.peer).ok();
        }
        if invite && !repeated {
            let line = self.log_line();
            if status < 300 {
                if line != Line::Over {
                    self.log().line = Line::Talking;
                    self.aim(text);
                }
            } else if line == Line::Ringing {
                self.over();
            }
        }
    }

    fn on_request(&mut self, text: String, from: SocketAddr) {
        let method = text.split(' ').next().unwrap_or_default().to_owned();
        if method == "ACK" {
            return;
        }
        let same = |dialog: &Dialog| header(&text, "Call-ID").as_ref() == Some(&dialog.call_id);
        if let Some(dialog) = self.dialog.as_ref().filter(|dialog| same(dialog)) {
            let cseq = header(&text, "CSeq").unwrap_or_default();
            if let Some((answered, answer)) = &dialog.last
                && *answered == cseq
            {
                self.sip.send_to(answer.as_bytes(), from).ok();
                return;
            }
        }
        match method.as_str() {
            "INVITE" if self.dialog.is_none() => {
                self.log().line = Line::Ringing;
                self.dialog = Some(Dialog {
                    peer: from,
                    target: uri_of(&header(&text, "Contact").unwrap_or_default()),
                    call_id: header(&text, "Call-ID").unwrap_or_default(),
                    from: format!("{};tag=tone", header(&text, "To").unwrap_or_default()),
                    to: header(&text, "From").unwrap_or_default(),
                    cseq: 0,
                    open: None,
                    ringing: Some((text.clone(), from)),
                    last: None,
                });
                self.answer(&text, from, "180 Ringing", "");
                if self.picks_up == PicksUp::AtOnce {
                    self.pick_up();
                }
            }
            "INVITE" if self.dialog.as_ref().is_some_and(same) => {
                if self.dialog.as_ref().is_some_and(|dialog| dialog.ringing.is_some()) {
                    return;
                }
                if text.contains("m=audio") {
                    self.aim(&text);
                }
                let direction = match () {
                    () if text.contains("a=sendonly") => "recvonly",
                    () if text.contains("a=recvonly") => "sendonly",
                    () if text.contains("a=inactive") => "inactive",
                    () => "sendrecv",
                };
                let sdp = self.sdp(direction);
                self.answer(&text, from, "200 OK", &sdp);
            }
            "CANCEL" => {
                self.answer(&text, from, "200 OK", "");
                let ringing = self.dialog.as_mut().and_then(|dialog| dialog.ringing.take());
                if let Some((invite, from)) = ringing {
                    self.answer(&invite, from, "487 Request Terminated", "");
                    self.over();
                }
            }
            "BYE" => {
                self.answer(&text, from, "200 OK", "");
                self.over();
            }
            _ => self.answer(&text, from, "200 OK", ""),
        }
    }

    fn pick_up(&mut self) {
        let ringing = self.dialog.as_mut().and_then(|dialog| dialog.ringing.take());
        let Some((invite, from)) = ringing else {
            self.picks_up = PicksUp::AtOnce;
            return;
        };
        let sdp = self.sdp("sendrecv");
        self.answer(&invite, from, "200 OK", &sdp);
        self.log().line = Line::Talking;
        self.aim(&invite);
    }

    fn answer(&mut self, request: &str, from: SocketAddr, status: &str, body: &str) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for line in request.lines().take_while(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once(':') else { continue };
            match name.to_ascii_lowercase().as_str() {
                "to" if !value.contains(";tag=") => {
                    text.push_str(&format!("To:{value};tag=tone\r\n"));
                }
                "via" | "from" | "to" | "call-id" | "cseq" | "record-route" => {
                    text.push_str(&format!("{name}:{value}\r\n"));
                }
                _ => {}
            }
        }
        let here = self.here;
        let typed = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let length = body.len();
        text.push_str(&format!(
            "Contact: <sip:{here}>\r\n{typed}Content-Length: {length}\r\n\r\n{body}"
        ));
        self.sip.send_to(text.as_bytes(), from).ok();
        let cseq = header(request, "CSeq").unwrap_or_default();
        if let Some(dialog) = self.dialog.as_mut().filter(|_| !status.starts_with('1')) {
            dialog.last = Some((cseq, text));
        }
    }

    fn aim(&mut self, description: &str) {
        let port = description.split("m=audio ").nth(1).and_then(|rest| rest.split(' ').next());
        let ip = description.split("c=IN IP4 ").nth(1).and_then(|rest| rest.lines().next());
        if let (Some(Ok(port)), Some(Ok(ip))) =
            (port.map(str::parse), ip.map(|ip| ip.trim().parse::<Ipv4Addr>()))
        {
            self.media = Some(SocketAddr::from((ip, port)));
        }
        // Who is told not to send does not.
        self.may_send = !description.contains("a=sendonly") && !description.contains("a=inactive");
    }

    fn sdp(&mut self, direction: &str) -> String {
        let port = self.rtp.local_addr().expect("bound").port();
        self.origin += 1;
        format!(
            "v=0\r\no=tone 1 {} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=fmtp:101 0-15\r\na={direction}\r\n",
            self.origin
        )
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().expect("no panic")
    }
}

impl Dialog {
    fn text(&self, method: &str, cseq: u32, here: SocketAddr, headers: &str, body: &str) -> String {
        let Self { target, call_id, from, to, .. } = self;
        let branch = format!("z9hG4bK{}{cseq}{method}", call_id.replace('@', ""));
        let typed = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let length = body.len();
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch={branch};rport\r\n\
             From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:tone@{here}>\r\nMax-Forwards: 70\r\n{headers}{typed}\
             Content-Length: {length}\r\n\r\n{body}"
        )
    }
}

fn code(key: char) -> u8 {
    match key {
        '*' => 10,
        '#' => 11,
        digit => digit.to_digit(10).and_then(|d| u8::try_from(d).ok()).expect("a key"),
    }
}

fn header(message: &str, name: &str) -> Option<String> {
    message.lines().take_while(|line| !line.is_empty()).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

fn uri_of(contact: &str) -> String {
    let inside = contact.split_once('<').map_or(contact, |(_, rest)| rest);
    inside.split('>').next().unwrap_or_default().to_owned()
}

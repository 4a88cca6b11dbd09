//! A caller made of two bare sockets, for what no decent telephone would send: every byte of its
//! SIP and RTP is the test's.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::audio;

/// A call of µ-law with telephone-event 101 over UDP.
#[derive(Debug)]
pub struct WirePhone {
    sip: UdpSocket,
    rtp: UdpSocket,
    agent: SocketAddr,
    user: String,
    call_id: String,
    to_tag: String,
    cseq: u32,
    media: Option<SocketAddr>,
    stream: Stream,
    tone: Vec<u8>,
}

/// What an RTP stream counts.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
}

/// One packet of a telephone-event (RFC 4733).
#[derive(Clone, Copy, Debug)]
pub struct EventPacket {
    pub payload_type: u8,
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub code: u8,
    pub end: bool,
    pub duration: u16,
}

impl EventPacket {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x80, self.payload_type];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend([self.code, if self.end { 0x8a } else { 0x0a }]);
        bytes.extend(self.duration.to_be_bytes());
        bytes
    }
}

impl WirePhone {
    /// Sends the INVITE and waits for its 200; nothing is acknowledged yet.
    pub fn dial(agent: SocketAddr, user: &str) -> Self {
        Self::dial_with(agent, user, |_| String::new())
    }

    /// The same with further headers, each with its end of line; they may depend on the Call-ID.
    pub fn dial_with(agent: SocketAddr, user: &str, headers: impl FnOnce(&str) -> String) -> Self {
        Self::dial_offering(agent, user, headers, "")
    }

    /// The same with further lines at the end of its SDP.
    pub fn dial_offering(
        agent: SocketAddr,
        user: &str,
        headers: impl FnOnce(&str) -> String,
        attributes: &str,
    ) -> Self {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let sip = UdpSocket::bind(any).expect("a port");
        let rtp = UdpSocket::bind(any).expect("a port");
        sip.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        rtp.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out");
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("randomness");
        let [a, b, c, d, e, f, ..] = random;
        let mut this = Self {
            call_id: hex::encode(random),
            sip,
            rtp,
            agent,
            user: user.to_owned(),
            to_tag: String::new(),
            cseq: 1,
            media: None,
            stream: Stream {
                ssrc: u32::from_be_bytes([a, b, c, d]),
                sequence: u16::from_be_bytes([e, f]),
                timestamp: u32::from_be_bytes([c, d, e, f]),
            },
            tone: audio::tone(8_000, 440.0, 1.0).iter().map(|s| ulaw(*s)).collect(),
        };
        let offer = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n{attributes}",
            this.rtp.local_addr().expect("bound").port()
        );
        let headers = format!("Content-Type: application/sdp\r\n{}", headers(&this.call_id));
        let invite = this.request("INVITE", 1, &headers, &offer);
        this.say(&invite);
        let answer = this.hear_final();
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
        let to = answer.lines().find(|line| line.starts_with("To:")).expect("To");
        this.to_tag = format!(";tag={}", to.split(";tag=").nth(1).expect("a tag"));
        let port = answer.lines().find_map(|l| l.strip_prefix("m=audio ")).expect("audio");
        let port = port.split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
        this.media = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        this
    }

    /// The same with the ACK.
    pub fn call(agent: SocketAddr, user: &str) -> Self {
        let this = Self::dial(agent, user);
        this.acknowledge();
        this
    }

    pub fn acknowledge(&self) {
        self.say(&self.request("ACK", 1, "", ""));
    }

    /// Where the agent takes this call's RTP.
    pub fn media(&self) -> SocketAddr {
        self.media.expect("it is answered")
    }

    /// What its stream counts, for packets that look like its own.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// What identifies its dialog: the Call-ID, and the tags of both sides.
    pub fn dialog(&self) -> [String; 3] {
        let theirs = self.to_tag.trim_start_matches(";tag=").to_owned();
        [self.call_id.clone(), format!("w{}", self.call_id), theirs]
    }

    /// Says its tone for so long; what comes meanwhile is counted.
    pub fn talk(&mut self, how_long: Duration) -> usize {
        let (begin, mut sent, mut heard) = (Instant::now(), 0u32, 0);
        let mut buffer = [0; 2048];
        while begin.elapsed() < how_long {
            let at = (sent as usize * 160) % 8_000;
            let Stream { ssrc, sequence, timestamp } = self.next();
            let mut packet = vec![0x80, 0];
            packet.extend(sequence.to_be_bytes());
            packet.extend(timestamp.to_be_bytes());
            packet.extend(ssrc.to_be_bytes());
            packet.extend(&self.tone[at..at + 160]);
            self.send_media(&packet);
            sent += 1;
            let due = begin + Duration::from_millis(20) * sent;
            while Instant::now() < due {
                heard += usize::from(self.rtp.recv(&mut buffer).is_ok());
            }
        }
        heard
    }

    /// Says its tone until so many packets were heard: enough of the notice, say.
    pub fn talk_until_heard(&mut self, packets: usize) {
        let (begin, mut heard) = (Instant::now(), 0);
        while heard < packets {
            assert!(begin.elapsed() < Duration::from_secs(10), "heard {heard} of {packets}");
            heard += self.talk(Duration::from_millis(40));
        }
    }

    /// Presses a key for 100 ms; its end is sent `ends` times.
    pub fn press(&mut self, code: u8, ends: u32) {
        let timestamp = self.stream.timestamp;
        for n in 1..=5 + ends {
            let sequence = self.next().sequence;
            let packet = EventPacket {
                payload_type: 101,
                ssrc: self.stream.ssrc,
                sequence,
                timestamp,
                code,
                end: n > 5,
                duration: u16::try_from(n.min(5) * 160).expect("short"),
            };
            self.send_media(&packet.bytes());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends these bytes from its own RTP port.
    pub fn send_media(&self, bytes: &[u8]) {
        self.rtp.send_to(bytes, self.media()).ok();
    }

    /// The text of a request in the dialog, for those who spoil it.
    pub fn in_dialog(&mut self, method: &str, headers: &str, body: &str) -> String {
        self.cseq += 1;
        self.request(method, self.cseq, headers, body)
    }

    /// Sends these bytes as a SIP message.
    pub fn send_signal(&self, bytes: &[u8]) {
        self.sip.send_to(bytes, self.agent).expect("sent");
    }

    /// A request in the dialog, and the status that answers it.
    pub fn asks(&mut self, method: &str, content_type: &str, body: &str) -> u16 {
        self.cseq += 1;
        let typed = if content_type.is_empty() {
            String::new()
        } else {
            format!("Content-Type: {content_type}\r\n")
        };
        self.say(&self.request(method, self.cseq, &typed, body));
        let mark = format!("CSeq: {} {method}", self.cseq);
        loop {
            let answer = self.hear_final();
            if answer.contains(&mark) {
                return answer[8..11].parse().expect("a status");
            }
        }
    }

    pub fn hang_up(&mut self) {
        assert_eq!(self.asks("BYE", "", ""), 200);
    }

    /// Counts one packet further.
    pub fn next(&mut self) -> Stream {
        self.stream.sequence = self.stream.sequence.wrapping_add(1);
        self.stream.timestamp = self.stream.timestamp.wrapping_add(160);
        self.stream
    }

    fn request(&self, method: &str, cseq: u32, headers: &str, body: &str) -> String {
        let (agent, user, to_tag) = (self.agent, &self.user, &self.to_tag);
        let (local, call_id) = (self.sip.local_addr().expect("bound"), &self.call_id);
        format!(
            "{method} sip:{user}@{agent} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-{call_id}-{cseq}-{method};rport\r\n\
             From: <sip:wire@{local}>;tag=w{call_id}\r\nTo: <sip:{user}@{agent}>{to_tag}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:wire@{local}>\r\n\
             Max-Forwards: 70\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn say(&self, text: &str) {
        self.sip.send_to(text.as_bytes(), self.agent).expect("sent");
    }

    fn hear_final(&self) -> String {
        let mut buffer = [0; 65_535];
        loop {
            let length = self.sip.recv(&mut buffer).expect("an answer");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.starts_with("SIP/2.0") && !text.starts_with("SIP/2.0 1") {
                return text;
            }
        }
    }
}

/// G.711 µ-law.
pub fn ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(32_635) + 132;
    let exponent = 23 - magnitude.leading_zeros() as i32 + 1;
    let exponent = exponent.clamp(0, 7);
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | ((exponent << 4) as u8) | mantissa as u8)
}

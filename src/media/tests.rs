//! The media threads over real sockets on loopback, with a small peer at either end.

mod beeps;
mod keys;
mod srtp;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::capture::{Capture, CaptureEnd};
use super::*;
use crate::call::media::{PlaybackId, Sound};
use crate::clock;
use crate::consent::{NoticePlayed, Stop};
use crate::rtp::rtcp::{self, Rtcp};
use crate::rtp::{
    Codec, Direction, LegMedia, PayloadType, ReceptionReport, RtpPacket, Security, TelephoneEvent,
};
use crate::segment::Appended;
use crate::segment::format::GapReason;
use crate::time::Timestamp;

const PATHS: [IoPath; 2] = [IoPath::Batched, IoPath::Portable];
const PATIENCE: Duration = Duration::from_secs(20);

/// The agent's side: media threads, and one call on them.
struct Rig {
    media: Media,
    call: CallId,
    reports: Mutex<mpsc::Receiver<(CallId, MediaReport)>>,
    caller: Peer,
    callee: Peer,
    _prompts: tempfile::TempDir,
}

/// A phone: two sockets, and where the agent receives from it.
struct Peer {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    ours: (SocketAddr, SocketAddr),
}

/// A packet as a peer heard it.
#[derive(Debug)]
struct Heard {
    payload_type: u8,
    marker: bool,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    payload: Vec<u8>,
}

impl Rig {
    fn new(config: MediaConfig) -> Self {
        let prompts = tempfile::tempdir().unwrap();
        write_wav(&prompts.path().join("en-US/short.wav"), 8 * 210);
        write_wav(&prompts.path().join("en-US/long.wav"), 8 * 30_000);
        let book = PromptBook::load(Some(prompts.path()), &Codec::ALL).unwrap();
        let (sender, reports) = mpsc::channel();
        let media = Media::start(config, book, move |call, report| {
            let _ = sender.send((call, report));
        })
        .unwrap();
        let call = clock::mint();
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (a, b) = (media.reserve(local).unwrap(), media.reserve(local).unwrap());
        let caller = Peer::new((a.rtp(), a.rtcp()));
        let callee = Peer::new((b.rtp(), b.rtcp()));
        media.open(call, a, Some(b));
        Self { media, call, reports: Mutex::new(reports), caller, callee, _prompts: prompts }
    }

    /// Both legs negotiated and each hearing the other; the callee numbers payloads its own way.
    fn bridged(config: MediaConfig) -> Self {
        let rig = Self::new(config);
        rig.connect_both();
        rig.order(MediaCommand::Relay { from: Leg::Caller, on: true });
        rig.order(MediaCommand::Relay { from: Leg::Callee, on: true });
        rig
    }

    fn connect_both(&self) {
        let media = self.caller.media();
        self.order(MediaCommand::Connect { leg: Leg::Caller, media });
        let event = PayloadType { send: 120, receive: 101 };
        let media = LegMedia {
            payload_type: PayloadType { send: 77, receive: 0 },
            telephone_event: Some(TelephoneEvent { payload_type: event, clock_rate: 8000 }),
            ..self.callee.media()
        };
        self.order(MediaCommand::Connect { leg: Leg::Callee, media });
    }

    fn order(&self, command: MediaCommand) {
        self.media.command(self.call, command);
    }

    /// Returns when the capture is in place: what comes before that is not recorded.
    fn record(&self, leg: Leg, capture: impl Capture + 'static) {
        self.media.order(self.call, Order::Record { leg, capture: Box::new(capture) });
        self.settle();
    }

    /// Returns when what was ordered so far is carried out.
    fn settle(&self) {
        // A call that is not there answers at once, after the order before, on the same thread.
        let mut bytes = *self.call.0.as_bytes();
        bytes[0] ^= 0xff;
        let nobody = CallId(uuid::Uuid::from_bytes(bytes));
        let (leg, capture) = (Leg::Caller, Box::new(Tape::default()));
        self.media.order(nobody, Order::Record { leg, capture });
        let (call, report) = self.reports.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        assert!(call == nobody, "{report:?}");
    }

    fn capture_ended(&self) -> (Leg, CaptureEnd, u64) {
        match self.report() {
            MediaReport::CaptureEnded { leg, why, finished } => (leg, why, finished.packets),
            other => panic!("{other:?}"),
        }
    }

    fn play(&self, leg: Leg, id: u32) {
        self.play_prompt("short", leg, id);
    }

    fn play_prompt(&self, name: &str, leg: Leg, id: u32) {
        let sound = Sound::Prompt { name: name.into(), locale: "en-US".into() };
        self.order(MediaCommand::Play { leg, playback: PlaybackId(id), sound });
    }

    /// The next report of this call.
    fn report(&self) -> MediaReport {
        let (call, report) = self.reports.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        assert_eq!(call, self.call);
        report
    }

    fn played(&self) -> (PlaybackId, NoticePlayed) {
        match self.report() {
            MediaReport::Event(MediaEvent::Played { playback, notice, .. }) => (playback, notice),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until what was ordered and sent so far is done: the counter has come that far.
    fn until(&self, name: &str, at_least: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(name) < at_least {
            assert!(Instant::now() < deadline, "{name}: {}", self.count(name));
            std::thread::yield_now();
        }
    }

    fn count(&self, name: &str) -> u64 {
        let snapshot = self.media.counters().snapshot();
        snapshot.into_iter().find(|(counter, _)| *counter == name).unwrap().1
    }

    fn close(&self) -> MediaReport {
        self.media.close(self.call);
        loop {
            let report = self.report();
            if matches!(report, MediaReport::Closed { .. }) {
                return report;
            }
        }
    }
}

impl Peer {
    fn new(ours: (SocketAddr, SocketAddr)) -> Self {
        let bind = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        Self { rtp: bind(), rtcp: bind(), ours }
    }

    fn media(&self) -> LegMedia {
        let event = PayloadType { send: 101, receive: 101 };
        LegMedia {
            remote_rtp: self.rtp.local_addr().unwrap(),
            remote_rtcp: self.rtcp.local_addr().unwrap(),
            codec: Codec::Pcmu,
            payload_type: PayloadType { send: 0, receive: 0 },
            telephone_event: Some(TelephoneEvent { payload_type: event, clock_rate: 8000 }),
            direction: Direction::SendRecv,
            ptime: 20,
            security: Security::Plain,
        }
    }

    fn say(&self, n: u16) {
        self.send(&packet(0, 0xabcd, n, &[n as u8; 160]));
    }

    fn send(&self, datagram: &[u8]) {
        self.rtp.send_to(datagram, self.ours.0).unwrap();
    }

    fn press(&self, code: u8, sequence: u16) {
        for n in 0..5u16 {
            let end = if n < 2 { 10 } else { 0x8a };
            let payload = [code, end, 0, 160];
            let mut event = packet(101, 0xabcd, sequence + n, &payload);
            event[4..8].copy_from_slice(&u32::from(sequence).to_be_bytes());
            self.send(&event);
        }
    }

    fn hear(&self) -> Heard {
        let mut buffer = [0; 2000];
        let (length, from) = self.rtp.recv_from(&mut buffer).unwrap();
        assert_eq!(from, self.ours.0);
        let packet = RtpPacket::parse(&buffer[..length]).unwrap();
        Heard {
            payload_type: packet.payload_type(),
            marker: packet.marker(),
            sequence: packet.sequence(),
            timestamp: packet.timestamp(),
            ssrc: packet.ssrc(),
            payload: packet.payload().to_vec(),
        }
    }

    fn hears_nothing_now(&self) {
        self.rtp.set_nonblocking(true).unwrap();
        assert!(self.rtp.recv_from(&mut [0; 2000]).is_err());
        self.rtp.set_nonblocking(false).unwrap();
    }

    fn hear_report(&self) -> Vec<u8> {
        let mut buffer = [0; 2000];
        let (length, from) = self.rtcp.recv_from(&mut buffer).unwrap();
        assert_eq!(from, self.ours.1);
        buffer[..length].to_vec()
    }
}

fn packet(payload_type: u8, ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, payload_type];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend((u32::from(sequence) * 160).to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn write_wav(path: &Path, samples: usize) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    (0..samples).for_each(|n| writer.write_sample((n % 100) as i16 * 50).unwrap());
    writer.finalize().unwrap();
}

fn config(io: IoPath) -> MediaConfig {
    // Each test is a process of its own; a pair that another one has is passed over.
    let start = 14_000 + (std::process::id() as u16 % 500) * 8;
    MediaConfig { ports: start..=start + 79, threads: 2, io, ..MediaConfig::default() }
}

/// Keeps what it is given.
#[derive(Clone, Default)]
struct Tape {
    packets: Arc<Mutex<Vec<Vec<u8>>>>,
    finished: Arc<Mutex<Vec<Timestamp>>>,
    held: Arc<Mutex<Vec<(Timestamp, Timestamp)>>>,
    answers: Arc<Mutex<Vec<Appended>>>,
    suspended: Arc<Mutex<Vec<Timestamp>>>,
}

impl Capture for Tape {
    fn append(&mut self, packet: &RtpPacket<'_>, _at: Timestamp) -> Appended {
        if !self.suspended.lock().unwrap().is_empty() {
            return Appended::Paused;
        }
        let answer = self.answers.lock().unwrap().pop().unwrap_or(Appended::Written);
        if answer == Appended::Written {
            self.packets.lock().unwrap().push(packet.bytes().to_vec());
        }
        answer
    }

    fn suspend(&mut self, stop: Stop, at: Timestamp) {
        if stop > Stop::default() {
            self.suspended.lock().unwrap().push(at);
        }
    }

    fn renegotiated(&mut self, _: &LegMedia) {}

    fn held(&mut self, from: Timestamp, to: Timestamp) {
        self.held.lock().unwrap().push((from, to));
    }

    fn finish(self: Box<Self>, at: Timestamp) -> Finished {
        self.finished.lock().unwrap().push(at);
        Finished { segments: 1, packets: self.packets.lock().unwrap().len() as u64, dropped: 0 }
    }
}

/// Does one thing with each packet.
struct With<F>(F);

impl<F: FnMut() + Send> Capture for With<F> {
    fn append(&mut self, _: &RtpPacket<'_>, _: Timestamp) -> Appended {
        self.0();
        Appended::Written
    }

    fn suspend(&mut self, _: Stop, _: Timestamp) {}

    fn renegotiated(&mut self, _: &LegMedia) {}

    fn held(&mut self, _: Timestamp, _: Timestamp) {}

    fn finish(self: Box<Self>, _: Timestamp) -> Finished {
        Finished { segments: 0, packets: 0, dropped: 0 }
    }
}

#[test]
fn each_party_hears_the_other_word_for_word_in_one_stream() {
    for io in PATHS {
        let rig = Rig::bridged(config(io));
        for n in 1..=20 {
            rig.caller.say(n);
            rig.callee.say(n + 100);
        }
        let at_callee: Vec<_> = (1..=20).map(|_| rig.callee.hear()).collect();
        let at_caller: Vec<_> = (1..=20).map(|_| rig.caller.hear()).collect();
        for (n, (there, here)) in at_callee.iter().zip(&at_caller).enumerate() {
            assert_eq!(there.payload, [n as u8 + 1; 160]);
            assert_eq!(here.payload, [n as u8 + 101; 160]);
            assert_eq!((there.payload_type, here.payload_type), (77, 0), "each side's own number");
            assert_eq!(there.marker, n == 0);
            assert_eq!(there.sequence, at_callee[0].sequence.wrapping_add(n as u16));
            assert_eq!(there.timestamp, at_callee[0].timestamp.wrapping_add(n as u32 * 160));
            assert_eq!(there.ssrc, at_callee[0].ssrc);
        }
        assert_ne!(at_callee[0].ssrc, 0xabcd, "the other side's SSRC is not shown");
        let MediaReport::Closed { caller, callee } = rig.close() else { panic!() };
        assert_eq!((caller.received, caller.sent, caller.lost), (20, 20, 0));
        assert_eq!(callee.map(|leg| leg.received), Some(20));
    }
}

#[test]
fn a_codec_that_the_other_side_does_not_have_is_not_passed_on() {
    let rig = Rig::bridged(config(IoPath::Batched));
    let alaw = PayloadType { send: 8, receive: 8 };
    let media = LegMedia { codec: Codec::Pcma, payload_type: alaw, ..rig.callee.media() };
    rig.order(MediaCommand::Connect { leg: Leg::Callee, media });
    rig.caller.say(1);
    rig.until("codec_mismatch", 1);
    rig.callee.hears_nothing_now();
}

#[test]
fn a_prompt_is_heard_whole_and_the_other_party_goes_on_in_the_same_stream() {
    for io in PATHS {
        let rig = Rig::new(config(io));
        rig.connect_both();
        rig.play(Leg::Caller, 1);
        let prompt: Vec<_> = (0..11).map(|_| rig.caller.hear()).collect();
        let (id, notice) = rig.played();
        assert_eq!(id, PlaybackId(1));
        assert!(notice.completed && !notice.held, "{notice:?}");
        assert_eq!((notice.played_ms, notice.total_ms, notice.packets), (210, 210, 11));
        assert_eq!((notice.prompt.as_str(), notice.locale.as_str()), ("short", "en-US"));
        assert!(notice.ended >= notice.started);
        rig.order(MediaCommand::Relay { from: Leg::Callee, on: true });
        rig.until("played", 11);
        rig.callee.say(9);
        let next = rig.caller.hear();
        let last = prompt.last().unwrap();
        assert_eq!((next.sequence, next.ssrc), (last.sequence.wrapping_add(1), last.ssrc));
        assert!(next.timestamp.wrapping_sub(last.timestamp) >= 160);
        assert!(prompt[0].marker && next.marker && !last.marker);
        rig.callee.hears_nothing_now();
    }
}

#[test]
fn a_prompt_that_is_cut_says_how_far_it_came() {
    let rig = Rig::new(config(IoPath::Batched));
    rig.connect_both();
    rig.play_prompt("long", Leg::Caller, 1);
    (0..3).for_each(|_| drop(rig.caller.hear()));
    rig.play_prompt("long", Leg::Caller, 2);
    let (id, notice) = rig.played();
    assert_eq!(id, PlaybackId(1));
    assert!(!notice.completed && notice.packets >= 3 && notice.played_ms < notice.total_ms);
    rig.caller.hear();
    rig.order(MediaCommand::Silence { leg: Leg::Caller });
    assert_eq!(rig.played().0, PlaybackId(2));
    rig.play_prompt("long", Leg::Caller, 3);
    rig.order(MediaCommand::Relay { from: Leg::Callee, on: true });
    let (id, notice) = rig.played();
    assert_eq!(id, PlaybackId(3), "who hears the other party hears no prompt");
    assert!(!notice.completed);
}

#[test]
fn a_prompt_into_a_leg_that_takes_no_audio_is_held_and_not_sent() {
    let rig = Rig::new(config(IoPath::Batched));
    rig.play(Leg::Callee, 1);
    let media = LegMedia { direction: Direction::RecvOnly, ..rig.caller.media() };
    rig.order(MediaCommand::Connect { leg: Leg::Caller, media });
    rig.play(Leg::Caller, 2);
    for _ in 0..2 {
        let (_, notice) = rig.played();
        assert!(notice.held && !notice.completed, "{notice:?}");
        assert_eq!((notice.packets, notice.played_ms), (0, 0));
    }
    rig.caller.hears_nothing_now();
}

#[test]
fn a_prompt_that_does_not_exist_ends_unheard() {
    let rig = Rig::new(config(IoPath::Batched));
    rig.connect_both();
    let sound = Sound::Prompt { name: "none".into(), locale: "en-US".into() };
    rig.order(MediaCommand::Play { leg: Leg::Caller, playback: PlaybackId(4), sound });
    let (id, notice) = rig.played();
    assert_eq!(id, PlaybackId(4));
    assert!(!notice.completed && notice.total_ms == 0);
}

#[test]
fn ringback_is_heard_until_it_is_replaced() {
    let rig = Rig::new(config(IoPath::Batched));
    rig.connect_both();
    let sound = Sound::Ringback { locale: "de-DE".into() };
    rig.order(MediaCommand::Play { leg: Leg::Caller, playback: PlaybackId(1), sound });
    let tone = rig.caller.hear();
    assert!(tone.payload.iter().any(|byte| *byte != 0xff), "a tone and no silence");
    rig.play(Leg::Caller, 2);
    assert_eq!(rig.played().0, PlaybackId(2), "ringback itself reports nothing");
}

#[test]
fn only_packets_of_the_negotiated_peer_and_payload_count() {
    for io in PATHS {
        let rig = Rig::new(config(io));
        rig.caller.say(1);
        rig.until("not_negotiated", 1);
        rig.connect_both();
        rig.order(MediaCommand::Relay { from: Leg::Caller, on: true });
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(&packet(0, 0xabcd, 2, &[66; 160]), rig.caller.ours.0).unwrap();
        rig.until("wrong_source", 1);
        rig.caller.send(&packet(8, 0xabcd, 3, &[66; 160]));
        rig.until("wrong_payload_type", 1);
        rig.caller.send(&[0x80, 0, 1]);
        rig.until("unparsable", 1);
        rig.caller.say(4);
        rig.caller.say(4);
        rig.until("stale", 1);
        rig.caller.send(&packet(0, 0x9999, 1, &[66; 160]));
        rig.until("wrong_ssrc", 1);
        assert_eq!(rig.callee.hear().payload, [4; 160]);
        rig.callee.hears_nothing_now();
        assert_eq!(rig.count("before_permission"), 1);
    }
}

#[test]
fn a_key_is_reported_once_and_passed_on_under_the_other_sides_number() {
    for io in PATHS {
        let rig = Rig::bridged(config(io));
        rig.caller.say(1);
        rig.caller.press(1, 2);
        rig.caller.press(11, 20);
        for (key, rtp_timestamp) in [('1', 2), ('#', 20)] {
            let report = rig.report();
            let MediaReport::Event(MediaEvent::Key { leg, at, key: k, rtp_timestamp: t, .. }) =
                report
            else {
                panic!("{report:?}");
            };
            assert_eq!((leg, k, t), (Leg::Caller, key, rtp_timestamp));
            assert!(at <= Instant::now());
        }
        assert_eq!(rig.callee.hear().payload_type, 77);
        let events: Vec<_> = (0..10).map(|_| rig.callee.hear()).collect();
        assert!(events.iter().all(|event| event.payload_type == 120 && !event.marker));
        assert!(matches!(rig.close(), MediaReport::Closed { .. }));
    }
}

#[test]
fn a_forged_key_never_counts() {
    let rig = Rig::new(config(IoPath::Batched));
    rig.connect_both();
    rig.caller.press(1, 1);
    rig.until("wrong_ssrc", 5);
    rig.caller.say(100);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..100u16 {
        let end = [1, 0x8a, 3, 0x20];
        stranger.send_to(&packet(101, 0xabcd, 101 + n, &end), rig.caller.ours.0).unwrap();
        rig.caller.send(&packet(101, 0xdcba, 101 + n, &end));
        rig.caller.send(&packet(97, 0xabcd, 101 + n, &end));
    }
    rig.until("wrong_source", 100);
    rig.until("wrong_ssrc", 105);
    rig.until("wrong_payload_type", 100);
    rig.media.close(rig.call);
    assert!(matches!(rig.report(), MediaReport::Closed { .. }), "no key before it");
}

#[test]
fn a_capture_gets_audio_as_received_from_its_grant_on_and_nothing_else() {
    for io in PATHS {
        let rig = Rig::bridged(config(io));
        rig.caller.say(1);
        rig.until("before_permission", 1);
        let tape = Tape::default();
        rig.record(Leg::Caller, tape.clone());
        // Orders are carried out in order, so that what a later one brings shows that it is there.
        rig.order(MediaCommand::Play {
            leg: Leg::Caller,
            playback: PlaybackId(1),
            sound: Sound::Prompt { name: "none".into(), locale: String::new() },
        });
        rig.played();
        rig.caller.say(2);
        rig.caller.press(1, 3);
        rig.caller.send(&packet(13, 0xabcd, 8, &[30]));
        rig.callee.say(50);
        let mut with_extension = packet(0, 0xabcd, 9, &[0xbe, 0xde, 0, 0]);
        with_extension[0] |= 0x10;
        with_extension.extend([9; 80]);
        rig.caller.send(&with_extension);
        rig.until("recorded", 2);
        rig.media.stop_recording(rig.call, Leg::Caller);
        rig.close();
        let kept = tape.packets.lock().unwrap().clone();
        assert_eq!(kept, [packet(0, 0xabcd, 2, &[2; 160]), with_extension]);
        assert_eq!(tape.finished.lock().unwrap().len(), 1);
    }
}

#[test]
fn a_packet_is_sent_on_before_it_is_recorded() {
    let rig = Rig::bridged(config(IoPath::Batched));
    let (sender, heard) = mpsc::channel();
    let ear = rig.callee.rtp.try_clone().unwrap();
    rig.record(
        Leg::Caller,
        With(move || {
            let _ = sender.send(ear.recv(&mut [0; 2000]).unwrap_or(0));
        }),
    );
    rig.caller.say(1);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), 172);
}

#[test]
fn a_capture_that_says_it_is_over_is_finished_and_reported() {
    let rig = Rig::bridged(config(IoPath::Batched));
    let tape = Tape::default();
    *tape.answers.lock().unwrap() =
        vec![Appended::Refused, Appended::Gap(GapReason::Overrun), Appended::Written];
    rig.record(Leg::Caller, tape.clone());
    (1..=5).for_each(|n| rig.caller.say(n));
    assert_eq!(rig.capture_ended(), (Leg::Caller, CaptureEnd::Refused, 1));
    (1..=5).for_each(|_| drop(rig.callee.hear()));
    assert_eq!(tape.finished.lock().unwrap().len(), 1);
    assert_eq!(tape.packets.lock().unwrap().len(), 1);
    rig.until("before_permission", 3);
    assert_eq!((rig.count("recorded"), rig.count("not_recorded")), (1, 1));
}

#[test]
fn a_hold_is_a_gap_in_the_recording() {
    let rig = Rig::bridged(config(IoPath::Batched));
    let tape = Tape::default();
    rig.record(Leg::Caller, tape.clone());
    let held = LegMedia { direction: Direction::SendOnly, ..rig.caller.media() };
    rig.order(MediaCommand::Connect { leg: Leg::Caller, media: held });
    rig.caller.say(1);
    rig.until("not_negotiated", 1);
    let media = rig.caller.media();
    rig.order(MediaCommand::Connect { leg: Leg::Caller, media });
    rig.caller.say(2);
    assert_eq!(rig.callee.hear().payload, [2; 160]);
    rig.media.stop_recording(rig.call, Leg::Caller);
    assert_eq!(rig.capture_ended(), (Leg::Caller, CaptureEnd::Ordered, 1));
    let held = tape.held.lock().unwrap().clone();
    assert!(matches!(held[..], [(from, to)] if from < to), "{held:?}");
}

#[test]
fn captures_are_finished_when_the_call_or_the_program_ends() {
    for end_program in [true, false] {
        let rig = Rig::bridged(config(IoPath::Batched));
        let tapes = [Tape::default(), Tape::default()];
        rig.record(Leg::Caller, tapes[0].clone());
        rig.record(Leg::Callee, tapes[1].clone());
        if end_program {
            rig.media.shutdown();
            assert!(!rig.media.is_running());
        } else {
            rig.media.close(rig.call);
        }
        for leg in Leg::BOTH {
            assert_eq!(rig.capture_ended(), (leg, CaptureEnd::Ordered, 0));
        }
        assert!(matches!(rig.report(), MediaReport::Closed { .. }));
        assert!(tapes.iter().all(|tape| tape.finished.lock().unwrap().len() == 1));
        // A capture for a call that is gone does not stay open either.
        if !end_program {
            let late = Tape::default();
            let capture = Box::new(late.clone());
            rig.media.order(rig.call, Order::Record { leg: Leg::Caller, capture });
            assert_eq!(rig.capture_ended(), (Leg::Caller, CaptureEnd::Ordered, 0));
            assert_eq!(late.finished.lock().unwrap().len(), 1);
        }
    }
}

#[test]
fn a_call_that_fails_ends_alone() {
    let rig = Rig::bridged(MediaConfig { threads: 1, ..config(IoPath::Batched) });
    rig.record(Leg::Caller, With(|| panic!("a defect")));
    rig.caller.say(1);
    assert!(matches!(rig.report(), MediaReport::Closed { .. }));
    assert!(rig.media.is_running());
    let ports = rig.media.reserve(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
    let other = Peer::new((ports.rtp(), ports.rtcp()));
    let call = clock::mint();
    rig.media.open(call, ports, None);
    rig.media.command(call, MediaCommand::Connect { leg: Leg::Caller, media: other.media() });
    let sound = Sound::Ringback { locale: "en-US".into() };
    let play = MediaCommand::Play { leg: Leg::Caller, playback: PlaybackId(1), sound };
    rig.media.command(call, play);
    assert_eq!(other.hear().payload_type, 0);
}

#[test]
fn a_closed_call_gives_its_ports_back() {
    let rig = Rig::bridged(config(IoPath::Batched));
    let free = rig.media.ports_available();
    let callee = rig.media.reserve(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
    rig.media.add_leg(rig.call, callee);
    rig.close();
    assert_eq!(rig.media.ports_available(), free + 2);
    rig.caller.say(1);
    assert!(UdpSocket::bind(rig.caller.ours.0).is_ok());
}

#[test]
fn a_second_callee_takes_the_place_of_the_first() {
    let rig = Rig::bridged(config(IoPath::Batched));
    let tape = Tape::default();
    rig.record(Leg::Callee, tape.clone());
    let ports = rig.media.reserve(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
    let second = Peer::new((ports.rtp(), ports.rtcp()));
    rig.media.add_leg(rig.call, ports);
    let media = second.media();
    rig.order(MediaCommand::Connect { leg: Leg::Callee, media });
    rig.order(MediaCommand::Relay { from: Leg::Callee, on: true });
    second.say(7);
    assert_eq!(rig.caller.hear().payload, [7; 160]);
    assert_eq!(tape.finished.lock().unwrap().len(), 1);
}

#[test]
fn reports_are_sent_for_each_leg_and_a_goodbye_at_the_end() {
    let every = Duration::from_millis(40);
    let rig = Rig::bridged(MediaConfig { report_every: every, ..config(IoPath::Batched) });
    rig.callee.say(1);
    rig.callee.say(3);
    let heard = rig.caller.hear();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let bytes = rig.caller.hear_report();
        let packets: Vec<_> = rtcp::parse(&bytes).unwrap().packets().collect();
        if let Rtcp::SenderReport { ssrc, .. } = packets[0] {
            assert_eq!(ssrc, heard.ssrc);
            break;
        }
        assert!(Instant::now() < deadline);
    }
    loop {
        let bytes = rig.callee.hear_report();
        let mut packets = rtcp::parse(&bytes).unwrap().packets();
        if let Some(Rtcp::ReceiverReport { reports, .. }) = packets.next()
            && let Some(report) = reports.about(0xabcd)
            && report.cumulative_lost == 1
        {
            break;
        }
        assert!(Instant::now() < deadline);
    }
    rig.close();
    loop {
        let bytes = rig.caller.hear_report();
        let last = rtcp::parse(&bytes).unwrap().packets().last();
        if last == Some(Rtcp::Goodbye { ssrc: Some(heard.ssrc) }) {
            break;
        }
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn loss_that_the_peer_reports_during_a_prompt_is_in_its_outcome() {
    let rig = Rig::new(config(IoPath::Batched));
    rig.connect_both();
    rig.play_prompt("long", Leg::Caller, 1);
    let heard = rig.caller.hear();
    let report = |ssrc| {
        let report = ReceptionReport {
            ssrc,
            fraction_lost: 77,
            cumulative_lost: 4,
            extended_highest: 0,
            jitter: 0,
        };
        let received = rtcp::Received { report, last_sender_report: 0, delay: 0 };
        let compound = rtcp::Compound {
            ssrc: 0xabcd,
            cname: "peer",
            sent: None,
            received: Some(received),
            goodbye: rtcp::Leaving::No,
        };
        let mut buffer = [0; rtcp::LONGEST];
        let length = compound.write(&mut buffer);
        buffer[..length].to_vec()
    };
    rig.callee.rtcp.send_to(&report(heard.ssrc), rig.caller.ours.1).unwrap();
    rig.until("bad_rtcp", 1);
    rig.caller.rtcp.send_to(&report(1), rig.caller.ours.1).unwrap();
    rig.caller.rtcp.send_to(&report(heard.ssrc), rig.caller.ours.1).unwrap();
    rig.caller.rtcp.send_to(b"no report", rig.caller.ours.1).unwrap();
    rig.until("bad_rtcp", 2);
    rig.order(MediaCommand::Silence { leg: Leg::Caller });
    assert_eq!(rig.played().1.loss_percent, Some(31));
    rig.play(Leg::Caller, 2);
    assert_eq!(rig.played().1.loss_percent, None);
}

#[test]
fn a_peer_that_may_send_and_does_not_is_told_of_once() {
    let silent_after = Duration::from_millis(50);
    let rig = Rig::new(MediaConfig { silent_after, ..config(IoPath::Batched) });
    for held in [Direction::SendOnly, Direction::RecvOnly, Direction::Inactive] {
        let media = LegMedia { direction: held, ..rig.callee.media() };
        rig.order(MediaCommand::Connect { leg: Leg::Callee, media });
        std::thread::sleep(silent_after * 2);
    }
    let media = rig.caller.media();
    rig.order(MediaCommand::Connect { leg: Leg::Caller, media });
    let silent = MediaReport::Event(MediaEvent::Silent { leg: Leg::Caller });
    assert_eq!(rig.report(), silent, "and not the callee, who is on hold");
    let media = rig.caller.media();
    rig.order(MediaCommand::Connect { leg: Leg::Caller, media });
    let heard = MediaReport::Event(MediaEvent::Heard { leg: Leg::Caller });
    assert_eq!(rig.report(), heard, "its silence counts anew");
    assert_eq!(rig.report(), silent);
    rig.media.close(rig.call);
    assert!(matches!(rig.report(), MediaReport::Closed { .. }));
}

#[test]
fn behind_nat_the_first_good_packet_names_the_peer_and_the_second_cannot() {
    let rig = Rig::new(MediaConfig { latch: true, ..config(IoPath::Batched) });
    let negotiated = UdpSocket::bind("127.0.0.1:0").unwrap();
    let media = LegMedia { remote_rtp: negotiated.local_addr().unwrap(), ..rig.caller.media() };
    rig.order(MediaCommand::Connect { leg: Leg::Caller, media });
    rig.caller.say(1);
    rig.until("before_permission", 1);
    negotiated.send_to(&packet(0, 0xabcd, 2, &[0; 160]), rig.caller.ours.0).unwrap();
    rig.until("wrong_source", 1);
    rig.play(Leg::Caller, 1);
    assert_eq!(rig.caller.hear().payload_type, 0, "what we send goes to where the peer is");
}

#[test]
fn without_a_pair_of_ports_the_threads_do_not_start() {
    let book = PromptBook::load(None, &[]).unwrap();
    let config = MediaConfig { ports: 20_001..=20_002, ..MediaConfig::default() };
    assert!(matches!(Media::start(config, book, |_, _| ()), Err(MediaError::NoPorts)));
}

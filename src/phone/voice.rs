//! Voice and ears of a phone: one task that sends a packet every 20 ms and listens between them.

use std::fs::File;
use std::io::BufWriter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::keys::{HeldKey, Press, key_of};
use super::packets::{Arrived, Incoming, Outgoing};
use super::sound::{Sound, Source};
use super::{Happening, PhoneError, Teller};
use crate::clock;
use crate::codec::{Decoder, Encoder, Resampler};
use crate::rtp::LegMedia;

/// What counts as sound: a root mean square of 1 % of the full scale.
const AUDIBLE: f64 = 327.0;
/// How long nothing must be heard before it counts as quiet: longer than between two sentences.
const QUIET_AFTER: Duration = Duration::from_millis(1200);
/// The most keys that wait to be pressed.
const MOST_KEYS: usize = 64;

/// The sockets of a phone's voice, open before anything is negotiated.
#[derive(Debug)]
pub(super) struct Sockets {
    rtp: UdpSocket,
    /// Takes RTCP so that no ICMP error goes back; what it says is not used.
    _rtcp: UdpSocket,
    pub(super) rtp_addr: SocketAddr,
    pub(super) rtcp_port: u16,
}

impl Sockets {
    pub(super) async fn bind(at: SocketAddr) -> std::io::Result<Self> {
        let any = SocketAddr::new(at.ip(), 0);
        let rtp = UdpSocket::bind(any).await?;
        let rtp_addr = rtp.local_addr()?;
        // The odd neighbour where it is free (RFC 3550, 11), else any port with an `a=rtcp`.
        let neighbour = SocketAddr::new(at.ip(), rtp_addr.port().wrapping_add(1));
        let rtcp = match UdpSocket::bind(neighbour).await {
            Ok(socket) => socket,
            Err(_) => UdpSocket::bind(any).await?,
        };
        let rtcp_port = rtcp.local_addr()?.port();
        Ok(Self { rtp, _rtcp: rtcp, rtp_addr, rtcp_port })
    }
}

/// A running voice.
#[derive(Debug)]
pub(super) struct Voice {
    orders: mpsc::UnboundedSender<VoiceOrder>,
    task: JoinHandle<Result<Tally, PhoneError>>,
}

/// What a voice has done and heard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) heard: Duration,
}

#[derive(Debug)]
enum VoiceOrder {
    Listen(LegMedia),
    Talk(LegMedia, Vec<Press>),
    Renegotiated(LegMedia),
    Press(char),
    Say(Sound),
    Stop,
}

impl Voice {
    /// Starts a voice that neither talks nor listens yet. `began` is what events count from.
    pub(super) fn start(
        sockets: Sockets,
        says: Sound,
        hears: Option<PathBuf>,
        teller: Teller,
        began: Instant,
    ) -> Self {
        let (orders, received) = mpsc::unbounded_channel();
        let worker = Worker {
            sockets,
            says,
            hears,
            teller,
            began,
            mouth: None,
            ear: None,
            waiting: Vec::new(),
            keys: Vec::new(),
            holding: None,
            outgoing: Outgoing::new(),
            incoming: Incoming::default(),
            sound: Hearing::default(),
            answered: None,
        };
        Self { orders, task: tokio::spawn(worker.run(received)) }
    }

    /// Listens to early media without talking.
    pub(super) fn listen(&self, media: LegMedia) {
        self.order(VoiceOrder::Listen(media));
    }

    /// The call is answered: talks, listens, and presses keys at their times.
    pub(super) fn talk(&self, media: LegMedia, presses: Vec<Press>) {
        self.order(VoiceOrder::Talk(media, presses));
    }

    /// The stream was negotiated anew.
    pub(super) fn renegotiated(&self, media: LegMedia) {
        self.order(VoiceOrder::Renegotiated(media));
    }

    /// Presses a key now.
    pub(super) fn press(&self, key: char) {
        self.order(VoiceOrder::Press(key));
    }

    /// Says something else from now on.
    pub(super) fn say(&self, sound: Sound) {
        self.order(VoiceOrder::Say(sound));
    }

    /// Falls silent and hands over what there was.
    pub(super) async fn stop(self) -> Result<Tally, PhoneError> {
        self.order(VoiceOrder::Stop);
        // A panic inside would be a defect of ours; the call then counts as one without media.
        self.task.await.unwrap_or_else(|_| Ok(Tally::default()))
    }

    fn order(&self, order: VoiceOrder) {
        // The task ends by itself only on an error, which `stop` then returns.
        let _ = self.orders.send(order);
    }
}

struct Worker {
    sockets: Sockets,
    says: Sound,
    hears: Option<PathBuf>,
    teller: Teller,
    began: Instant,
    mouth: Option<Mouth>,
    ear: Option<Ear>,
    /// Keys with a time, from the answer on.
    waiting: Vec<Press>,
    /// Keys to be pressed one after the other, the last one first.
    keys: Vec<char>,
    holding: Option<Holding>,
    outgoing: Outgoing,
    incoming: Incoming,
    sound: Hearing,
    answered: Option<Instant>,
}

struct Mouth {
    media: LegMedia,
    encoder: Encoder,
    source: Source,
}

struct Ear {
    media: LegMedia,
    decoder: Decoder,
    resampler: Resampler,
    /// What is written, if anything is.
    file: Option<Heard>,
}

struct Holding {
    key: HeldKey,
    timestamp: u32,
}

impl Worker {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<VoiceOrder>,
    ) -> Result<Tally, PhoneError> {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut buffer = vec![0; 2048];
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(VoiceOrder::Stop) | None => break,
                    Some(order) => self.obey(order)?,
                },
                _ = tick.tick() => self.speak().await?,
                received = self.sockets.rtp.recv_from(&mut buffer) => {
                    // An error here is an ICMP message about something that was sent.
                    if let Ok((length, from)) = received {
                        self.hear(buffer.get(..length).unwrap_or_default(), from)?;
                    }
                }
            }
        }
        self.finish()
    }

    fn obey(&mut self, order: VoiceOrder) -> Result<(), PhoneError> {
        match order {
            VoiceOrder::Listen(media) => self.open_ear(media)?,
            VoiceOrder::Talk(media, presses) => {
                self.answered = Some(clock::now());
                self.waiting = presses;
                self.open_ear(media.clone())?;
                self.open_mouth(media)?;
            }
            VoiceOrder::Renegotiated(media) => {
                self.open_ear(media.clone())?;
                self.open_mouth(media)?;
            }
            VoiceOrder::Press(key) => {
                if self.keys.len() < MOST_KEYS {
                    self.keys.insert(0, key);
                }
            }
            VoiceOrder::Say(sound) => {
                self.says = sound;
                if let Some(mouth) = self.mouth.take() {
                    self.open_mouth(mouth.media)?;
                }
            }
            VoiceOrder::Stop => {}
        }
        Ok(())
    }

    fn open_mouth(&mut self, media: LegMedia) -> Result<(), PhoneError> {
        let codec = media.codec;
        self.mouth = Some(match self.mouth.take() {
            Some(mouth) if mouth.media.codec == codec => Mouth { media, ..mouth },
            _ => Mouth {
                media,
                encoder: Encoder::new(codec)?,
                source: Source::new(&self.says, codec.sample_rate())?,
            },
        });
        Ok(())
    }

    fn open_ear(&mut self, media: LegMedia) -> Result<(), PhoneError> {
        let codec = media.codec;
        let previous = self.ear.take();
        let file = match previous {
            Some(ear) if ear.media.codec == codec => {
                self.ear = Some(Ear { media, ..ear });
                return Ok(());
            }
            Some(ear) => ear.file,
            None => match &self.hears {
                Some(path) => Some(Heard::create(path, codec.sample_rate())?),
                None => None,
            },
        };
        let rate = file.as_ref().map_or(codec.sample_rate(), |f| f.rate);
        self.ear = Some(Ear {
            media,
            decoder: Decoder::new(codec)?,
            resampler: Resampler::new(codec.sample_rate(), rate)?,
            file,
        });
        Ok(())
    }

    /// 20 ms have passed.
    async fn speak(&mut self) -> Result<(), PhoneError> {
        let now = clock::now();
        if let Some(after) = self.sound.quiet(now) {
            self.tell(Happening::Quiet { after });
        }
        let since = self.answered.map(|at| now.saturating_duration_since(at));
        while let Some(since) = since
            && let Some(due) = self.waiting.iter().position(|press| press.at <= since)
        {
            let press = self.waiting.remove(due);
            self.keys.insert(0, press.key);
        }
        self.begin_key();
        let Some(mouth) = &mut self.mouth else { return Ok(()) };
        // The source goes on while a key is held, as a microphone would.
        let frame = mouth.source.frame();
        let mut packets = Vec::new();
        if let Some(holding) = &mut self.holding
            && let Some(event) = mouth.media.telephone_event
        {
            let marker = holding.key.begins();
            match holding.key.next() {
                Some(payloads) => {
                    for payload in payloads {
                        let kind = event.payload_type.send;
                        let at = holding.timestamp;
                        packets.push(self.outgoing.packet_at(at, kind, marker, &payload));
                    }
                }
                None => self.holding = None,
            }
        } else if mouth.media.direction.sends() {
            let mut payload = Vec::with_capacity(320);
            mouth.encoder.encode(&frame, &mut payload)?;
            let kind = mouth.media.payload_type.send;
            packets.push(self.outgoing.packet(kind, false, &payload));
        }
        self.outgoing.advance(mouth.media.codec.clock_rate() / 50);
        let to = mouth.media.remote_rtp;
        for packet in packets {
            // A peer that is gone is told by signalling.
            let _ = self.sockets.rtp.send_to(&packet, to).await;
        }
        Ok(())
    }

    fn begin_key(&mut self) {
        if self.holding.is_some() {
            return;
        }
        let Some(event) = self.mouth.as_ref().and_then(|m| m.media.telephone_event) else { return };
        let Some(key) = self.keys.pop() else { return };
        let timestamp = self.outgoing.timestamp();
        self.holding = HeldKey::new(key, event.clock_rate).map(|key| Holding { key, timestamp });
        self.tell(Happening::Pressed { key });
    }

    fn hear(&mut self, bytes: &[u8], from: SocketAddr) -> Result<(), PhoneError> {
        let Some(ear) = &mut self.ear else { return Ok(()) };
        if from.ip() != ear.media.remote_rtp.ip() {
            return Ok(());
        }
        let codec = ear.media.codec;
        let units = codec.clock_rate() / 50;
        let keys = ear.media.telephone_event.map(|e| e.payload_type.receive);
        let kind = ear.media.payload_type.receive;
        let (payload, missing) = match self.incoming.take(bytes, kind, keys, units) {
            Arrived::Audio { gap, payload } => (
                payload,
                Some(Duration::from_secs_f64(f64::from(gap) / f64::from(codec.clock_rate()))),
            ),
            Arrived::Begins { payload } => (payload, None),
            Arrived::Key(code) => {
                if let Some(key) = key_of(code) {
                    self.tell(Happening::HeardKey { key });
                }
                return Ok(());
            }
            Arrived::Nothing => return Ok(()),
        };
        let mut samples = Vec::new();
        if ear.decoder.decode(payload, &mut samples).is_err() {
            return Ok(());
        }
        let now = clock::now();
        if let Some(file) = &mut ear.file {
            file.pad(missing, now)?;
            let mut out = Vec::new();
            ear.resampler.push(&samples, &mut out)?;
            file.write(&out)?;
        }
        let length = Duration::from_secs_f64(samples.len() as f64 / f64::from(codec.sample_rate()));
        if self.sound.packet(&samples, length, now) {
            self.tell(Happening::Sound);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Tally, PhoneError> {
        let now = clock::now();
        if let Some(after) = self.sound.end() {
            self.tell(Happening::Quiet { after });
        }
        if let Some(file) = self.ear.take().and_then(|ear| ear.file) {
            file.finish(now)?;
        }
        let (received, lost) = self.incoming.counts();
        Ok(Tally { sent: self.outgoing.sent(), received, lost, heard: self.sound.total })
    }

    fn tell(&self, what: Happening) {
        self.teller.tell(clock::now().saturating_duration_since(self.began), what);
    }
}

/// Tells sound from quiet.
#[derive(Debug, Default)]
struct Hearing {
    since: Option<Instant>,
    last: Option<Instant>,
    total: Duration,
}

impl Hearing {
    /// Takes what a packet says; true when sound begins with it.
    fn packet(&mut self, samples: &[i16], length: Duration, now: Instant) -> bool {
        let power: f64 = samples.iter().map(|s| f64::from(*s).powi(2)).sum();
        if (power / samples.len().max(1) as f64).sqrt() < AUDIBLE {
            return false;
        }
        self.total += length;
        self.last = Some(now);
        self.since.replace(self.since.unwrap_or(now)).is_none()
    }

    /// How long there was sound, once it has been quiet for long enough.
    fn quiet(&mut self, now: Instant) -> Option<Duration> {
        let last = self.last?;
        (now.saturating_duration_since(last) > QUIET_AFTER).then(|| self.end()).flatten()
    }

    fn end(&mut self) -> Option<Duration> {
        let (since, last) = (self.since.take()?, self.last.take()?);
        Some(last.saturating_duration_since(since))
    }
}

/// What is heard, on its way into a WAV file: in step with the time since it was opened.
struct Heard {
    path: PathBuf,
    rate: u32,
    wav: hound::WavWriter<BufWriter<File>>,
    opened: Instant,
    written: u64,
}

impl Heard {
    fn create(path: &std::path::Path, rate: u32) -> Result<Self, PhoneError> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let path = path.to_owned();
        match hound::WavWriter::create(&path, spec) {
            Ok(wav) => Ok(Self { path, rate, wav, opened: clock::now(), written: 0 }),
            Err(source) => Err(PhoneError::Hears { path, source }),
        }
    }

    /// Silence for what is missing before the next packet, or up to now where its time says
    /// nothing. Never more than the time that has passed, whatever the peer's timestamps say.
    fn pad(&mut self, missing: Option<Duration>, now: Instant) -> Result<(), PhoneError> {
        let behind = self.samples_in(now.saturating_duration_since(self.opened));
        let behind = behind.saturating_sub(self.written);
        let silence = match missing {
            Some(missing) => self.samples_in(missing).min(behind),
            None => behind,
        };
        for _ in 0..silence {
            self.sample(0)?;
        }
        Ok(())
    }

    fn write(&mut self, samples: &[i16]) -> Result<(), PhoneError> {
        samples.iter().try_for_each(|sample| self.sample(*sample))
    }

    fn finish(mut self, now: Instant) -> Result<(), PhoneError> {
        self.pad(None, now)?;
        let path = self.path;
        self.wav.finalize().map_err(|source| PhoneError::Hears { path, source })
    }

    fn sample(&mut self, sample: i16) -> Result<(), PhoneError> {
        self.written += 1;
        let written = self.wav.write_sample(sample);
        written.map_err(|source| PhoneError::Hears { path: self.path.clone(), source })
    }

    fn samples_in(&self, span: Duration) -> u64 {
        (span.as_secs_f64() * f64::from(self.rate)) as u64
    }
}

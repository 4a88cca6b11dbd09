//! One leg's stream: its sockets, what was negotiated, what it hears and where its audio goes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;

use super::LegStatistics;
use super::beep::{FLOWING, Mixing};
use super::bridge::Turn;
use super::capture::{Capture, CaptureEnd};
use super::counters::Tally;
use super::inbound::{Admitted, Inbound, Latch, Refused};
use super::io::{self, IoPath, LONGEST, Outbound};
use super::player::{FRAME, Playback};
use super::ports::{LocalPorts, PortLease};
use super::srtp::{Guard, Shaken};
use super::watch::Watch;
use crate::consent::Stop;
use crate::rtp::rtcp::{self, Compound, Leaving, Rtcp};
use crate::rtp::{Codec, Content, Direction, Header, LegMedia, Outgoing, RtpPacket};
use crate::segment::{Appended, Finished};
use crate::time::Timestamp;

/// Comfort noise (RFC 3389) has its payload type for 8 kHz clocks alone.
const COMFORT_NOISE: u8 = 13;

/// The stream of one leg.
pub(super) struct LegStream {
    /// Never used twice: tells its timers from those of a leg that was here before.
    pub(super) number: u64,
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
    _lease: PortLease,
    opened: Instant,
    negotiated: Option<Negotiated>,
    pub(super) outgoing: Outgoing,
    packets: u64,
    octets: u64,
    pub(super) playback: Option<Playback>,
    pub(super) frame_timer: FrameTimer,
    pub(super) handshake_timer: FrameTimer,
    /// When the frame last played has had its time.
    pub(super) next_slot: Instant,
    pub(super) hears: Hears,
    capture: Option<Box<dyn Capture>>,
    /// The keys of the peer that stop captures.
    pub(super) watch: Watch,
    /// When the other leg's audio last went out to this one.
    relayed_at: Option<Instant>,
    /// The tone of a recording, while it is mixed into that audio.
    mixing: Option<Mixing>,
    /// Since when the peer may not send.
    held_since: Option<Timestamp>,
    last_heard: Instant,
    pub(super) silence: Silence,
    pub(super) next_report: Instant,
    packets_at_report: u64,
    /// The peer's last sender report, and when it came.
    sender_report: Option<(u32, Instant)>,
}

/// What was agreed on for the leg, and what follows from it.
pub(super) struct Negotiated {
    pub(super) media: LegMedia,
    inbound: Inbound,
    guard: Guard,
}

/// Sends what a handshake wants sent; what is lost it sends again.
fn send_handshake(guard: &mut Guard, socket: &UdpSocket, to: SocketAddr) {
    for datagram in guard.outgoing() {
        let _ = socket.send_to(&datagram, to);
    }
}

/// Whether a timer of a leg is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameTimer {
    Idle,
    Set,
}

/// Whether a leg hears the other one when nothing is played into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hears {
    Nothing,
    OtherLeg,
}

/// Whether the peer's silence has been told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    Unreported,
    Reported,
}

impl LegStream {
    /// A leg on bound ports, with random numbers for its outgoing stream.
    pub(super) fn new(number: u64, ports: LocalPorts, random: [u8; 10], now: Instant) -> Self {
        let [a, b, c, d, e, f, g, h, i, j] = random;
        let ssrc = u32::from_be_bytes([a, b, c, d]);
        let timestamp = u32::from_be_bytes([e, f, g, h]);
        // Below 2^15, so that a peer which misses the first packets of SRTP does not count a turn
        // too few (RFC 4568, 6.4).
        let sequence = u16::from_be_bytes([i, j]) & 0x7fff;
        Self {
            number,
            rtp: UdpSocket::from_std(ports.rtp),
            rtcp: UdpSocket::from_std(ports.rtcp),
            _lease: ports.lease,
            opened: now,
            negotiated: None,
            outgoing: Outgoing::new(ssrc, sequence, timestamp, Codec::Pcmu.clock_rate()),
            packets: 0,
            octets: 0,
            playback: None,
            frame_timer: FrameTimer::Idle,
            handshake_timer: FrameTimer::Idle,
            next_slot: now,
            hears: Hears::Nothing,
            capture: None,
            watch: Watch::default(),
            relayed_at: None,
            mixing: None,
            held_since: None,
            last_heard: now,
            silence: Silence::Unreported,
            next_report: now,
            packets_at_report: 0,
            sender_report: None,
        }
    }

    /// Ends a silence that was told of; `false` when there is none.
    pub(super) fn is_heard_again(&mut self) -> bool {
        std::mem::replace(&mut self.silence, Silence::Unreported) == Silence::Reported
    }

    /// Takes over what was negotiated. `true` the first time.
    pub(super) fn connect(&mut self, media: LegMedia, turn: &Turn<'_>, wall: Timestamp) -> bool {
        let Turn { config, now, identity, .. } = *turn;
        let latch = if config.latch { Latch::On } else { Latch::Off };
        self.outgoing.set_clock_rate(media.codec.clock_rate());
        self.last_heard = now;
        self.mixing = None;
        if let Some(capture) = &mut self.capture {
            capture.renegotiated(&media);
        }
        if media.direction.receives() {
            self.mark_hold(wall);
            self.held_since = None;
        } else {
            self.held_since.get_or_insert(wall);
        }
        match &mut self.negotiated {
            Some(negotiated) => {
                negotiated.inbound.renegotiate(&negotiated.media, &media, latch);
                negotiated.guard.renegotiate(&media.security, identity, now);
                negotiated.media = media;
                false
            }
            None => {
                let inbound = Inbound::new(&media, latch);
                let guard = Guard::new(&media.security, identity, now);
                self.negotiated = Some(Negotiated { media, inbound, guard });
                true
            }
        }
    }

    /// What was negotiated, if the peer takes audio now.
    pub(super) fn sendable(&self) -> Option<&LegMedia> {
        let media = self.negotiated.as_ref().map(|negotiated| &negotiated.media)?;
        media.direction.sends().then_some(media)
    }

    /// What was negotiated.
    pub(super) fn media(&self) -> Option<&LegMedia> {
        self.negotiated.as_ref().map(|negotiated| &negotiated.media)
    }

    /// Decides on a datagram that came to the RTP port; counts it if it is nothing. The first of
    /// what is returned is the packet laid open, in one of the `spaces` if it was protected.
    pub(super) fn receive<'a>(
        &mut self,
        datagram: &'a [u8],
        from: SocketAddr,
        spaces: &mut std::slice::IterMut<'a, [u8; LONGEST]>,
        now: Instant,
        tally: &mut Tally,
    ) -> Option<(&'a [u8], RtpPacket<'a>, Admitted)> {
        tally.received += 1;
        let Some(Negotiated { media, inbound, guard }) = &mut self.negotiated else {
            tally.not_negotiated += 1;
            return None;
        };
        if !inbound.is_from_peer(from) {
            tally.wrong_source += 1;
            return None;
        }
        let datagram = if guard.is_plain() {
            datagram
        } else if guard.shake(datagram, now) == Shaken::Taken {
            send_handshake(guard, &self.rtp, inbound.remote_rtp());
            return None;
        } else if !Inbound::takes(media, datagram) {
            tally.wrong_payload_type += 1;
            return None;
        } else {
            // On hold too: what a peer sends all the same moves its counter on.
            let srtp = guard.srtp_mut();
            let clear = srtp.zip(spaces.next()).and_then(|(s, space)| s.open(datagram, space).ok());
            if clear.is_none() {
                tally.unauthentic += 1;
            }
            clear?
        };
        if !media.direction.receives() {
            tally.not_negotiated += 1;
            return None;
        }
        let Ok(packet) = RtpPacket::parse(datagram) else {
            tally.unparsable += 1;
            return None;
        };
        let arrived = now.saturating_duration_since(self.opened);
        match inbound.admit(media, &packet, from, arrived) {
            Ok(admitted) => {
                self.last_heard = now;
                if let Some(playback) = &mut self.playback {
                    playback.heard_peer();
                }
                Some((datagram, packet, admitted))
            }
            Err(refused) => {
                *match refused {
                    Refused::WrongPayloadType => &mut tally.wrong_payload_type,
                    Refused::WrongSsrc => &mut tally.wrong_ssrc,
                    Refused::Stale => &mut tally.stale,
                } += 1;
                None
            }
        }
    }

    /// The header under which a packet of the other leg goes out to this one; `None` when it is
    /// not for this one.
    pub(super) fn relay_header(
        &mut self,
        packet: &RtpPacket<'_>,
        admitted: Admitted,
        sender: &LegMedia,
        now: Instant,
        tally: &mut Tally,
    ) -> Option<Header> {
        if self.hears == Hears::Nothing || self.playback.is_some() {
            return None;
        }
        let media = self.sendable()?;
        if media.codec != sender.codec {
            tally.codec_mismatch += 1;
            return None;
        }
        let (payload_type, content) = match admitted {
            Admitted::Audio => {
                let payload_type = media.payload_type.send;
                self.relayed_at = Some(now);
                (payload_type, Content::Audio)
            }
            Admitted::ComfortNoise if media.codec.clock_rate() == 8000 => {
                (COMFORT_NOISE, Content::Audio)
            }
            Admitted::ComfortNoise => return None,
            Admitted::Event(_) => {
                let (ours, theirs) = (media.telephone_event?, sender.telephone_event?);
                if ours.clock_rate != theirs.clock_rate {
                    return None;
                }
                (ours.payload_type.send, Content::Event)
            }
        };
        self.outgoing.relay(packet, payload_type, content, now)
    }

    /// Begins to mix the tone of a recording into what this leg hears of the other one; `false`
    /// when there is nothing that it could be mixed into.
    pub(super) fn mix_beep(&mut self, now: Instant) -> bool {
        let flows = self.hears == Hears::OtherLeg
            && self.relayed_at.is_some_and(|at| now.saturating_duration_since(at) < FLOWING);
        let codec = self.media().map(|media| media.codec).filter(|_| flows);
        self.mixing = codec.and_then(|codec| Mixing::new(codec, now));
        self.mixing.is_some()
    }

    /// A payload for this leg with the tone of a recording in it, while there is one.
    pub(super) fn beep_into<'a>(
        &mut self,
        payload: &[u8],
        spaces: &mut std::slice::IterMut<'a, [u8; LONGEST]>,
        turn: &Turn<'_>,
    ) -> Option<&'a [u8]> {
        let mixing = self.mixing.as_mut()?;
        let tone = turn.prompts.beep_samples();
        let mixed = mixing.mix(payload, tone, spaces.next()?, turn.now);
        if mixed.is_none() {
            self.mixing = None;
        }
        mixed
    }

    /// Sends to the peer and returns how many left.
    pub(super) fn send(
        &mut self,
        path: IoPath,
        outbound: &[Outbound<'_>],
        tally: &mut Tally,
    ) -> u64 {
        let Some(Negotiated { inbound, guard, .. }) = &mut self.negotiated else { return 0 };
        let (socket, to) = (&self.rtp, inbound.remote_rtp());
        let sent = if guard.is_plain() {
            io::send(path, socket, to, outbound)
        } else {
            guard.srtp_mut().map_or(0, |srtp| {
                srtp.protect(outbound, |protected| io::send(path, socket, to, protected))
            })
        };
        self.octets += outbound.iter().take(sent).map(|one| one.payload.len() as u64).sum::<u64>();
        let failed = outbound.len().saturating_sub(sent) as u64;
        let sent = sent as u64;
        self.packets += sent;
        tally.send_failed += failed;
        sent
    }

    /// Puts a capture in the place of the one there is, which is finished. `stop` is the last stop
    /// of this leg: where nobody has noted it yet, nothing is written until somebody has.
    pub(super) fn record(
        &mut self,
        mut capture: Box<dyn Capture>,
        stop: Stop,
        wall: Timestamp,
    ) -> Option<Finished> {
        let finished = self.stop_recording(wall);
        capture.suspend(stop, wall);
        self.capture = Some(capture);
        // What was held before is no part of this recording.
        self.held_since = self.held_since.map(|_| wall);
        finished
    }

    /// Finishes the capture, if there is one.
    pub(super) fn stop_recording(&mut self, wall: Timestamp) -> Option<Finished> {
        self.mark_hold(wall);
        self.capture.take().map(|capture| capture.finish(wall))
    }

    /// Stops the capture, if there is one, until the permission's lease lets it go on.
    pub(super) fn suspend(&mut self, stop: Stop, wall: Timestamp) {
        if let Some(capture) = &mut self.capture {
            capture.suspend(stop, wall);
        }
    }

    fn mark_hold(&mut self, until: Timestamp) {
        if let (Some(capture), Some(since)) = (&mut self.capture, self.held_since) {
            capture.held(since, until);
        }
    }

    /// Gives a packet of audio to the capture; without one it is gone with its buffer. `Some` when
    /// that is the end of the capture.
    pub(super) fn append(
        &mut self,
        packet: &RtpPacket<'_>,
        wall: Timestamp,
        tally: &mut Tally,
    ) -> Option<(CaptureEnd, Finished)> {
        let Some(capture) = &mut self.capture else {
            tally.before_permission += 1;
            return None;
        };
        let why = match capture.append(packet, wall) {
            Appended::Written => {
                tally.recorded += 1;
                return None;
            }
            Appended::Masked => {
                tally.recorded += 1;
                tally.masked += 1;
                return None;
            }
            Appended::Paused => {
                tally.paused += 1;
                return None;
            }
            Appended::Gap(_) => {
                tally.not_recorded += 1;
                return None;
            }
            Appended::Refused => CaptureEnd::Refused,
            Appended::Failed => CaptureEnd::Failed,
        };
        tally.before_permission += 1;
        self.stop_recording(wall).map(|finished| (why, finished))
    }

    /// Goes on with the handshake, if there is one; `true` while it is to be looked after.
    pub(super) fn shake_hands(&mut self, now: Instant) -> bool {
        let Some(Negotiated { inbound, guard, .. }) = &mut self.negotiated else { return false };
        let again = guard.tick(now);
        send_handshake(guard, &self.rtp, inbound.remote_rtp());
        again
    }

    /// Whether a handshake is still to give the keys.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.negotiated.as_ref().is_some_and(|negotiated| negotiated.guard.waits_for_keys())
    }

    /// Takes note of what the peer reports.
    pub(super) fn receive_report(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> bool {
        let Some(Negotiated { inbound, guard, .. }) = &mut self.negotiated else { return false };
        if !inbound.is_report_from_peer(from) {
            return false;
        }
        let clear = match guard {
            Guard::Srtp(srtp) => srtp.open_report(datagram).ok(),
            // A handshake is for the port that it was made on (RFC 5764, 4.1).
            Guard::Plain | Guard::Dtls(_) | Guard::Shut => None,
        };
        let datagram = match (&clear, guard) {
            (None, Guard::Plain) => datagram,
            (Some(clear), _) => clear,
            (None, _) => return false,
        };
        let Ok(compound) = rtcp::parse(datagram) else { return false };
        inbound.learn_report_origin(from);
        // Whoever sends no packets in pauses of speech (RFC 3389, 4) is still there.
        self.last_heard = now;
        for packet in compound.packets() {
            let reports = match packet {
                Rtcp::SenderReport { ssrc, ntp, reports, .. } => {
                    if inbound.reception().is_some_and(|reception| reception.ssrc() == ssrc) {
                        self.sender_report = Some((rtcp::middle(ntp), now));
                    }
                    reports
                }
                Rtcp::ReceiverReport { reports, .. } => reports,
                Rtcp::Goodbye { .. } | Rtcp::Other => continue,
            };
            if let (Some(report), Some(playback)) =
                (reports.about(self.outgoing.ssrc()), &mut self.playback)
            {
                playback.peer_lost(report.fraction_lost);
            }
        }
        true
    }

    /// Sends a report of our own.
    pub(super) fn send_report(
        &mut self,
        cname: &str,
        goodbye: Leaving,
        now: Instant,
        wall: Timestamp,
    ) {
        let Some(Negotiated { inbound, guard, .. }) = &mut self.negotiated else { return };
        let delay_from = self.sender_report;
        let received = inbound.reception().map(|reception| rtcp::Received {
            report: reception.report(),
            last_sender_report: delay_from.map_or(0, |(middle, _)| middle),
            delay: delay_from.map_or(0, |(_, came)| {
                let delay = now.saturating_duration_since(came).as_micros() * 65_536 / 1_000_000;
                u32::try_from(delay).unwrap_or(u32::MAX)
            }),
        });
        let sent = (self.packets > self.packets_at_report).then(|| rtcp::Sent {
            ntp: rtcp::ntp(wall),
            rtp_timestamp: self.outgoing.timestamp_at(now),
            packets: self.packets as u32,
            octets: self.octets as u32,
        });
        self.packets_at_report = self.packets;
        let ssrc = self.outgoing.ssrc();
        let mut buffer = [0; rtcp::LONGEST];
        let length = Compound { ssrc, cname, sent, received, goodbye }.write(&mut buffer);
        let report = buffer.get(..length).unwrap_or_default();
        let to = inbound.remote_rtcp();
        // A report that cannot be sent is followed by another.
        let _ = match guard {
            Guard::Plain => self.rtcp.send_to(report, to),
            Guard::Srtp(srtp) => match srtp.protect_report(report) {
                Some(protected) => self.rtcp.send_to(&protected, to),
                None => return,
            },
            Guard::Dtls(_) | Guard::Shut => return,
        };
    }

    /// When the peer's silence is to be told of; `None` when it was told of already. On hold, in
    /// whichever direction, silence is allowed.
    pub(super) fn silent_at(&mut self, after: Duration, now: Instant) -> Option<Instant> {
        if self.media()?.direction != Direction::SendRecv {
            self.last_heard = now;
        }
        (self.silence == Silence::Unreported).then(|| self.last_heard + after)
    }

    /// When a sound that is asked for now can begin: not within the last frame of the one before.
    pub(super) fn free_at(&self, now: Instant) -> Instant {
        self.next_slot.clamp(now, now + FRAME)
    }

    /// What it has received and sent.
    pub(super) fn statistics(&self) -> LegStatistics {
        let inbound = self.negotiated.as_ref().map(|negotiated| negotiated.inbound.totals());
        let (received, lost, jitter) = inbound.unwrap_or_default();
        let jitter_us = u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX);
        LegStatistics { received, lost, jitter_us, sent: self.packets }
    }
}

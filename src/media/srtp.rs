//! SRTP and SRTCP (RFC 3711) of one leg: what leaves is protected, what arrives is checked and laid
//! open.
//!
//! The cryptography is that of `rtc-srtp`. A context of it keeps state for every SSRC that it is
//! shown, and begins its replay window, before it has authenticated anything. So it is shown an
//! SSRC that is new only after a context made for this one packet has found the packet authentic.
//! And it takes an SRTCP packet that says it is not encrypted without looking at its tag, so such a
//! packet never gets so far.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rtc_rtp::Header;
use rtc_rtp::header::Extension;
use rtc_srtp::context::Context;
use rtc_srtp::crypto;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;

use super::dtls::{Handshake, Identity, Progress};
use super::io::{BATCH, LONGEST, Outbound};
use crate::rtp::{DtlsPeer, FIXED_HEADER, MasterKey, Security, SrtpKeys, Suite};

/// How many packets back a packet may come and still be told from a repetition.
const WINDOW: usize = 128;

/// How many sources one master key is taken from. A peer changes its SSRC now and then, after a
/// transfer for instance; it does not do so all the time.
const MOST_SOURCES: usize = 32;

/// A packet that is not what the peer sent, or that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// Whether a leg's packets are protected, and with what.
pub(super) enum Guard {
    /// They are plain.
    Plain,
    /// They are protected.
    Srtp(Box<Srtp>),
    /// They are protected once a handshake is done, and do not pass before.
    Dtls(Box<Association>),
    /// They should be, and cannot be: nothing passes.
    Shut,
}

/// A handshake, and what has come of it.
pub(super) struct Association {
    peer: DtlsPeer,
    handshake: Handshake,
    srtp: Option<Box<Srtp>>,
}

/// Both directions of a leg.
pub(super) struct Srtp {
    keys: SrtpKeys,
    send: Context,
    receive: Receiver,
    /// The key before this one, until the peer is heard to use this one.
    before: Option<Receiver>,
}

/// What is received under one master key.
struct Receiver {
    suite: Suite,
    key: MasterKey,
    context: Context,
    rtp_sources: Vec<u32>,
    rtcp_sources: Vec<u32>,
}

impl Guard {
    /// For what was just negotiated.
    pub(super) fn new(security: &Security, identity: Option<&Identity>, now: Instant) -> Self {
        match security {
            Security::Plain => Guard::Plain,
            Security::Srtp(keys) => Srtp::new(keys).map_or(Guard::Shut, Self::srtp),
            Security::Dtls(peer) => identity
                .and_then(|identity| Handshake::start(identity, *peer, now))
                .map_or(Guard::Shut, |handshake| {
                    Guard::Dtls(Box::new(Association { peer: *peer, handshake, srtp: None }))
                }),
        }
    }

    /// The session was negotiated anew. A key that stays goes on counting where it is (RFC 3711,
    /// 3.3.1): a hold, for instance, changes none.
    pub(super) fn renegotiate(
        &mut self,
        security: &Security,
        identity: Option<&Identity>,
        now: Instant,
    ) {
        match (std::mem::replace(self, Guard::Shut), security) {
            (Guard::Srtp(srtp), Security::Srtp(keys)) if srtp.keys == **keys => {
                *self = Guard::Srtp(srtp);
            }
            (Guard::Srtp(srtp), Security::Srtp(keys)) => {
                *self = srtp.rekeyed(keys).map_or(Guard::Shut, Self::srtp);
            }
            (Guard::Dtls(association), Security::Dtls(peer)) if association.peer == *peer => {
                *self = Guard::Dtls(association);
            }
            (_, security) => *self = Self::new(security, identity, now),
        }
    }

    /// What protects packets; `None` while nothing may pass. Not to be asked of plain ones.
    pub(super) fn srtp_mut(&mut self) -> Option<&mut Srtp> {
        match self {
            Guard::Plain | Guard::Shut => None,
            Guard::Srtp(srtp) => Some(srtp),
            Guard::Dtls(association) => association.srtp.as_deref_mut(),
        }
    }

    /// Whether packets pass as they are.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Guard::Plain)
    }

    /// Whether a handshake is under way.
    pub(super) fn waits_for_keys(&self) -> bool {
        matches!(self, Guard::Dtls(association) if association.srtp.is_none())
    }

    /// Gives a datagram to the handshake, if it is one of it (RFC 5764, 5.1.2).
    pub(super) fn shake(&mut self, datagram: &[u8], now: Instant) -> Shaken {
        match (self, datagram) {
            (Guard::Dtls(association), [20..=63, ..]) => {
                let progress = association.handshake.read(datagram, now);
                association.note(progress);
                Shaken::Taken
            }
            _ => Shaken::NotOfIt,
        }
    }

    /// Looks after the handshake; `true` while it is to be looked after again.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let Guard::Dtls(association) = self else { return false };
        if association.srtp.is_some() {
            return false;
        }
        match association.handshake.tick(now) {
            Progress::Failed => {
                tracing::warn!("a DTLS handshake on the media path has failed");
                *self = Guard::Shut;
                false
            }
            progress => {
                association.note(progress);
                true
            }
        }
    }

    /// What the handshake wants sent.
    pub(super) fn outgoing(&mut self) -> Vec<BytesMut> {
        match self {
            Guard::Dtls(association) => association.handshake.outgoing().collect(),
            _ => Vec::new(),
        }
    }

    fn srtp(srtp: Srtp) -> Self {
        Guard::Srtp(Box::new(srtp))
    }
}

impl Association {
    fn note(&mut self, progress: Progress) {
        match progress {
            Progress::Done(keys) if self.srtp.is_none() => {
                self.srtp = Srtp::new(&keys).map(Box::new);
            }
            Progress::Done(_) | Progress::Waiting => {}
            Progress::Failed => tracing::warn!("a DTLS handshake came to nothing"),
        }
    }
}

/// Whether a datagram was one of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shaken {
    Taken,
    NotOfIt,
}

impl Srtp {
    fn new(keys: &SrtpKeys) -> Option<Self> {
        Some(Self {
            keys: keys.clone(),
            send: context(keys.suite, &keys.send)?,
            receive: Receiver::new(keys.suite, &keys.receive)?,
            before: None,
        })
    }

    /// The same leg under other keys. Each direction starts over only if its own key is another:
    /// to start over under the same one would use its bits twice.
    fn rekeyed(self, keys: &SrtpKeys) -> Option<Self> {
        let same_suite = self.keys.suite == keys.suite;
        let send = match same_suite && self.keys.send == keys.send {
            true => self.send,
            false => context(keys.suite, &keys.send)?,
        };
        let (receive, before) = match same_suite && self.keys.receive == keys.receive {
            true => (self.receive, self.before),
            false => (Receiver::new(keys.suite, &keys.receive)?, Some(self.receive)),
        };
        Some(Self { keys: keys.clone(), send, receive, before })
    }

    /// Checks a packet and lays it open into `space`.
    pub(super) fn open<'a>(
        &mut self,
        packet: &[u8],
        space: &'a mut [u8; LONGEST],
    ) -> Result<&'a [u8], Refused> {
        let header = header_of(packet).ok_or(Refused)?;
        match self.receive.open(packet, &header) {
            Ok(clear) => {
                self.before = None;
                copied(&clear, space)
            }
            Err(refused) => {
                let before = self.before.as_mut().ok_or(refused)?;
                copied(&before.open(packet, &header)?, space)
            }
        }
    }

    /// Checks a report and lays it open.
    pub(super) fn open_report(&mut self, packet: &[u8]) -> Result<BytesMut, Refused> {
        self.receive.open_report(packet).or_else(|refused| {
            self.before.as_mut().ok_or(refused).and_then(|before| before.open_report(packet))
        })
    }

    /// Protects packets, and hands them on a batch at a time; returns how many were taken.
    pub(super) fn protect(
        &mut self,
        outbound: &[Outbound<'_>],
        mut send: impl FnMut(&[Outbound<'_>]) -> usize,
    ) -> usize {
        let mut sent = 0;
        for batch in outbound.chunks(BATCH) {
            let sealed: [BytesMut; BATCH] = std::array::from_fn(|index| {
                batch.get(index).and_then(|one| self.seal(one)).unwrap_or_default()
            });
            let mut protected = [Outbound::default(); BATCH];
            let mut count = 0;
            for ((slot, one), sealed) in protected.iter_mut().zip(batch).zip(&sealed) {
                let Some(payload) = sealed.get(FIXED_HEADER..) else { break };
                *slot = Outbound { header: one.header, payload };
                count += 1;
            }
            sent += send(protected.get(..count).unwrap_or_default());
        }
        sent
    }

    /// Protects a report.
    pub(super) fn protect_report(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.send.encrypt_rtcp(packet).ok()
    }

    fn seal(&mut self, one: &Outbound<'_>) -> Option<BytesMut> {
        let mut plain = [0; FIXED_HEADER + LONGEST];
        let end = FIXED_HEADER + one.payload.len();
        plain.first_chunk_mut::<FIXED_HEADER>()?.copy_from_slice(one.header.as_bytes());
        plain.get_mut(FIXED_HEADER..end)?.copy_from_slice(one.payload);
        let plain = plain.get(..end)?;
        self.send.encrypt_rtp_with_header(plain, &header_of(plain)?).ok()
    }
}

impl Receiver {
    fn new(suite: Suite, key: &MasterKey) -> Option<Self> {
        let context = context(suite, key)?;
        let (rtp_sources, rtcp_sources) = (Vec::new(), Vec::new());
        Some(Self { suite, key: key.clone(), context, rtp_sources, rtcp_sources })
    }

    fn open(&mut self, packet: &[u8], header: &Header) -> Result<BytesMut, Refused> {
        if !self.rtp_sources.contains(&header.ssrc) {
            let mut probe = self.probe(&self.rtp_sources)?;
            probe.decrypt_rtp_with_header(packet, header).map_err(|_| Refused)?;
            self.rtp_sources.push(header.ssrc);
        }
        self.context.decrypt_rtp_with_header(packet, header).map_err(|_| Refused)
    }

    fn open_report(&mut self, packet: &[u8]) -> Result<BytesMut, Refused> {
        if !is_encrypted_report(packet, self.suite) {
            return Err(Refused);
        }
        let source = packet.get(4..8).and_then(|bytes| bytes.try_into().ok()).ok_or(Refused)?;
        let source = u32::from_be_bytes(source);
        if !self.rtcp_sources.contains(&source) {
            let mut probe = self.probe(&self.rtcp_sources)?;
            probe.decrypt_rtcp(packet).map_err(|_| Refused)?;
            self.rtcp_sources.push(source);
        }
        self.context.decrypt_rtcp(packet).map_err(|_| Refused)
    }

    /// A context that has seen nothing, if one more source is to be let in.
    fn probe(&self, sources: &[u32]) -> Result<Context, Refused> {
        let room = sources.len() < MOST_SOURCES;
        room.then(|| context(self.suite, &self.key)).flatten().ok_or(Refused)
    }
}

fn context(suite: Suite, key: &MasterKey) -> Option<Context> {
    let provider = crypto::default_provider().ok()?;
    let (key, salt) = key.parts(suite);
    let (rtp, rtcp) = (srtp_replay_protection(WINDOW), srtcp_replay_protection(WINDOW));
    let context = Context::new(key, salt, profile(suite), Some(rtp), Some(rtcp), provider.crypto());
    context.inspect_err(|error| tracing::error!(%error, "SRTP cannot be set up")).ok()
}

fn profile(suite: Suite) -> ProtectionProfile {
    match suite {
        Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Suite::Aes256CmHmacSha1_80 => ProtectionProfile::Aes256CmHmacSha1_80,
        Suite::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Suite::Aes256CmHmacSha1_32 => ProtectionProfile::Aes256CmHmacSha1_32,
        Suite::Aes128CmHmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
    }
}

/// Whether SRTCP has its E bit set (RFC 3711, 3.4; RFC 7714, 9.2). Always, since no session is
/// agreed on without encryption.
fn is_encrypted_report(packet: &[u8], suite: Suite) -> bool {
    let behind_index = profile(suite).rtcp_auth_tag_len();
    let at = packet.len().checked_sub(behind_index + 4);
    at.and_then(|at| packet.get(at)).is_some_and(|byte| byte & 0x80 != 0)
}

/// The header of a packet, as far as the library needs it: number, source, and where it ends. An
/// extension is one block of bytes here, so that its length stays what it is on the wire; padding
/// is encrypted and read by whoever parses the packet that was laid open.
fn header_of(packet: &[u8]) -> Option<Header> {
    let (fixed, rest) = packet.split_first_chunk::<FIXED_HEADER>()?;
    let [flags, _, high, low, _, _, _, _, ssrc @ ..] = *fixed;
    if flags >> 6 != 2 {
        return None;
    }
    let (sources, rest) = rest.split_at_checked(usize::from(flags & 0x0f) * 4)?;
    let extended = flags & 0x10 != 0;
    let extensions = match extended {
        false => Vec::new(),
        true => {
            let (&[_, _, high, low], rest) = rest.split_first_chunk::<4>()?;
            let words = usize::from(u16::from_be_bytes([high, low]));
            let payload = Bytes::copy_from_slice(rest.get(..words * 4)?);
            vec![Extension { id: 0, payload }]
        }
    };
    Some(Header {
        sequence_number: u16::from_be_bytes([high, low]),
        ssrc: u32::from_be_bytes(ssrc),
        csrc: vec![0; sources.len() / 4],
        extension: extended,
        extensions,
        ..Header::default()
    })
}

fn copied<'a>(clear: &[u8], space: &'a mut [u8; LONGEST]) -> Result<&'a [u8], Refused> {
    let space = space.get_mut(..clear.len()).ok_or(Refused)?;
    space.copy_from_slice(clear);
    Ok(space)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::{Outgoing, RtpPacket, rtcp};
    use zeroize::Zeroizing;

    fn keys(suite: Suite, seed: u8) -> SrtpKeys {
        let length = suite.key_length() + suite.salt_length();
        let key = |first: u8| {
            let bytes = (0..length).map(|n| first.wrapping_add(n as u8)).collect();
            MasterKey::new(suite, Zeroizing::new(bytes)).unwrap()
        };
        SrtpKeys { suite, send: key(seed), receive: key(seed.wrapping_add(100)) }
    }

    /// The same keys as the other side has them.
    fn turned(keys: &SrtpKeys) -> SrtpKeys {
        let SrtpKeys { suite, send, receive } = keys.clone();
        SrtpKeys { suite, send: receive, receive: send }
    }

    fn pair(suite: Suite) -> (Srtp, Srtp) {
        let keys = keys(suite, 1);
        (Srtp::new(&keys).unwrap(), Srtp::new(&turned(&keys)).unwrap())
    }

    fn open(srtp: &mut Srtp, packet: &[u8]) -> Result<Vec<u8>, Refused> {
        srtp.open(packet, &mut [0; LONGEST]).map(<[u8]>::to_vec)
    }

    fn plain(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80, 0];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend((u32::from(sequence) * 160).to_be_bytes());
        bytes.extend(ssrc.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn sealed(srtp: &mut Srtp, packet: &[u8]) -> Vec<u8> {
        srtp.send.encrypt_rtp_with_header(packet, &header_of(packet).unwrap()).unwrap().to_vec()
    }

    fn unhex(text: &str) -> Vec<u8> {
        hex::decode(text.replace(char::is_whitespace, "")).unwrap()
    }

    /// The packets by which libsrtp checks itself: what it protects is what we protect.
    #[test]
    fn packets_are_as_other_implementations_protect_them() {
        let packet = unhex("800f1234decafbadcafebabe abababababababababababababababab");
        for (suite, key, expected) in [
            (
                Suite::Aes128CmHmacSha1_80,
                "e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6",
                "4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb",
            ),
            (
                Suite::Aes128CmHmacSha1_32,
                "e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6",
                "4e55dc4ce79978d88ca4d215949d2402 b78d6acc",
            ),
            (
                Suite::Aes256CmHmacSha1_80,
                "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6
                 3b04803de51ee7c96423ab5b78d2",
                "f1d9de17ff251ff1aa007774b0b4b40d a08d9d9a5b3a55d8873b",
            ),
            (
                Suite::AeadAes128Gcm,
                "000102030405060708090a0b0c0d0e0f a0a1a2a3a4a5a6a7a8a9aaab",
                "c5002ede04cfdd2eb91159e0880aa06e d2976826f796b201df3131a127e8a392",
            ),
        ] {
            let key = MasterKey::new(suite, Zeroizing::new(unhex(key))).unwrap();
            let mut context = context(suite, &key).unwrap();
            let header = header_of(&packet).unwrap();
            let protected = context.encrypt_rtp_with_header(&packet, &header).unwrap();
            assert_eq!(hex::encode(&protected[..12]), hex::encode(&packet[..12]));
            assert_eq!(hex::encode(&protected[12..]), hex::encode(unhex(expected)), "{suite:?}");
        }
    }

    #[test]
    fn every_suite_carries_packets_and_reports_both_ways() {
        for suite in Suite::ALL {
            let (mut here, mut there) = pair(suite);
            let payload = [0xd5; 160];
            let mut stream = Outgoing::new(7, 0x7ffe, 0, 8000);
            let outbound: Vec<Outbound<'_>> = (0..BATCH + 2)
                .map(|_| Outbound {
                    header: stream.local(0, 160, Instant::now()),
                    payload: &payload,
                })
                .collect();
            let mut wire = Vec::new();
            let sent = here.protect(&outbound, |batch| {
                wire.extend(
                    batch.iter().map(|one| [&one.header.as_bytes()[..], one.payload].concat()),
                );
                batch.len()
            });
            assert_eq!((sent, wire.len()), (BATCH + 2, BATCH + 2));
            for (sealed, one) in wire.iter().zip(&outbound) {
                assert!(!sealed.windows(16).any(|window| window == &payload[..16]));
                let clear = open(&mut there, sealed).unwrap();
                let packet = RtpPacket::parse(&clear).unwrap();
                assert_eq!(packet.payload(), payload);
                assert_eq!(&clear[..12], &one.header.as_bytes()[..]);
            }

            let mut report = [0; rtcp::LONGEST];
            let length = rtcp::Compound {
                ssrc: 7,
                cname: "0123456789ab",
                sent: None,
                received: None,
                goodbye: rtcp::Leaving::No,
            }
            .write(&mut report);
            let sealed = here.protect_report(&report[..length]).unwrap();
            assert_eq!(&there.open_report(&sealed).unwrap()[..], &report[..length]);
            assert_eq!(there.open_report(&sealed), Err(Refused), "a repetition");
            let mut report = here.protect_report(&report[..length]).unwrap();
            for at in 0..report.len() {
                for bit in 0..8 {
                    report[at] ^= 1 << bit;
                    assert_eq!(there.open_report(&report), Err(Refused), "{suite:?}: {at}.{bit}");
                    report[at] ^= 1 << bit;
                }
            }
            assert!(there.open_report(&report).is_ok());
        }
    }

    #[test]
    fn extensions_and_sources_of_any_shape_stay_what_they_are() {
        let (mut here, mut there) = pair(Suite::AeadAes256Gcm);
        for (number, extension) in [
            // RFC 8285: an element, padding in between, and the end mark with rubbish behind it.
            "bede0003 10ff0000 22010203 f0aabbcc",
            "10000002 01000000 02020506",
            "abcd0001 01020304",
            "bede0000",
        ]
        .into_iter()
        .enumerate()
        {
            let mut packet = plain(9, number as u16, b"");
            packet[0] = 0x80 | 0x10 | 2;
            packet.extend([1; 8]);
            packet.extend(unhex(extension));
            packet.extend(b"somebody's voice");
            let sealed = sealed(&mut here, &packet);
            assert_eq!(open(&mut there, &sealed), Ok(packet), "{extension}");
        }
        for short in ["", "80", "900000010000000000000009", "9f0000010000000000000009 bede"] {
            assert_eq!(open(&mut there, &unhex(short)), Err(Refused));
        }
    }

    #[test]
    fn ten_thousand_hostile_packets_open_nothing_and_leave_nothing() {
        for suite in [Suite::Aes128CmHmacSha1_80, Suite::Aes128CmHmacSha1_32, Suite::AeadAes128Gcm]
        {
            let (mut here, mut there) = pair(suite);
            // A forged packet comes first, with a number that would start the window far away.
            let mut forged = plain(7, 40_000, &[1; 170]);
            assert_eq!(open(&mut there, &forged), Err(Refused));
            let genuine: Vec<Vec<u8>> = (0..100)
                .map(|n| sealed(&mut here, &plain(7, 20_000 + n, &[n as u8; 160])))
                .collect();
            for packet in &genuine[..50] {
                open(&mut there, packet).unwrap();
            }
            let mut passed = 0;
            for n in 0..10_000_u32 {
                let old = &genuine[(n % 50) as usize];
                let packet = match n % 5 {
                    // Changed in one bit: header, payload or tag.
                    0 => {
                        let mut changed = genuine[50 + (n % 50) as usize].clone();
                        let at = n as usize % changed.len();
                        changed[at] ^= 1 << (n % 8);
                        changed
                    }
                    1 => old.clone(),
                    // Somebody else's source.
                    2 => {
                        let mut foreign = old.clone();
                        foreign[8..12].copy_from_slice(&(1_000_000 + n).to_be_bytes());
                        foreign
                    }
                    3 => old[..n as usize % old.len()].to_vec(),
                    _ => {
                        forged[2..4].copy_from_slice(&(n as u16).to_be_bytes());
                        forged.clone()
                    }
                };
                let report = there.open_report(&packet);
                passed += u32::from(open(&mut there, &packet).is_ok() || report.is_ok());
            }
            assert_eq!(passed, 0, "{suite:?}");
            assert_eq!(there.receive.rtp_sources, [7]);
            assert!(there.receive.rtcp_sources.is_empty());
            // The call goes on.
            for packet in &genuine[50..] {
                open(&mut there, packet).unwrap();
            }
        }
    }

    #[test]
    fn a_key_admits_only_so_many_sources() {
        let (mut here, mut there) = pair(Suite::Aes128CmHmacSha1_80);
        for ssrc in 0..100 {
            let packet = sealed(&mut here, &plain(ssrc, 1, &[0; 20]));
            assert_eq!(open(&mut there, &packet).is_ok(), (ssrc as usize) < MOST_SOURCES);
        }
        let packet = sealed(&mut here, &plain(0, 2, &[0; 20]));
        assert!(open(&mut there, &packet).is_ok(), "those who are known are heard on");
    }

    #[test]
    fn numbers_turn_over_with_losses_and_disorder() {
        for suite in [Suite::Aes256CmHmacSha1_80, Suite::AeadAes256Gcm] {
            let (mut here, mut there) = pair(suite);
            let mut wire: Vec<(u32, Vec<u8>)> = (0..140_000_u32)
                .step_by(7)
                .map(|n| (n, sealed(&mut here, &plain(7, n as u16, &n.to_be_bytes()))))
                .collect();
            for at in (1..wire.len() - 1).step_by(50) {
                wire.swap(at, at + 1);
            }
            for (n, packet) in wire {
                let clear = open(&mut there, &packet).unwrap_or_else(|_| panic!("packet {n}"));
                assert_eq!(clear[12..], n.to_be_bytes());
            }
        }
    }

    #[test]
    fn a_new_key_takes_over_and_the_old_one_is_good_until_it_does() {
        let suite = Suite::AeadAes256Gcm;
        let (old, new) = (keys(suite, 1), keys(suite, 50));
        let mut peer = Srtp::new(&turned(&old)).unwrap();
        let now = Instant::now();
        let mut guard = Guard::new(&Security::Srtp(Box::new(old.clone())), None, now);
        let hears = |guard: &mut Guard, packet: Vec<u8>| match guard {
            Guard::Srtp(srtp) => open(srtp, &packet).is_ok(),
            _ => panic!("not SRTP"),
        };
        // Far into the stream, so that a count that starts over would show.
        for n in 0..70_000_u32 {
            let packet = sealed(&mut peer, &plain(7, n as u16, &[0; 10]));
            if n % 100 == 0 {
                assert!(hears(&mut guard, packet));
            }
        }
        // A hold names the same keys.
        guard.renegotiate(&Security::Srtp(Box::new(old.clone())), None, now);
        assert!(hears(&mut guard, sealed(&mut peer, &plain(7, 70_000_u32 as u16, &[0; 10]))));
        guard.renegotiate(&Security::Srtp(Box::new(new.clone())), None, now);
        let late = sealed(&mut peer, &plain(7, 70_001_u32 as u16, &[0; 10]));
        assert!(hears(&mut guard, late), "still under the old key");
        let last = sealed(&mut peer, &plain(7, 70_003_u32 as u16, &[0; 10]));
        let mut peer = Srtp::new(&turned(&new)).unwrap();
        assert!(hears(&mut guard, sealed(&mut peer, &plain(7, 70_002_u32 as u16, &[0; 10]))));
        assert!(!hears(&mut guard, last), "the old key is gone");
        guard.renegotiate(&Security::Plain, None, now);
        assert!(matches!(guard, Guard::Plain));
    }
}

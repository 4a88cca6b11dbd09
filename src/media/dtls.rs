//! The handshake of DTLS-SRTP (RFC 5764) on a leg's RTP port, by `rtc-dtls`.
//!
//! The certificate is self-signed and made anew at each start: what it is worth is its fingerprint
//! in the session description (RFC 5763). Nothing passes before the peer has shown the certificate
//! whose fingerprint its own description names.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::crypto_provider;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Profile;
use rtc_dtls::state::State;
use sha2::Digest as _;
use zeroize::Zeroizing;

use crate::rtp::{DtlsPeer, DtlsRole, MasterKey, SrtpKeys, Suite};

/// How often a handshake is looked after.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How long a handshake may take, and how many datagrams it may cost.
const PATIENCE: Duration = Duration::from_secs(20);
const MOST_DATAGRAMS: u32 = 200;

/// The library tells associations by address. There is one here, wherever it comes from.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// RFC 5764, 4.2.
const LABEL: &str = "EXTRACTOR-dtls_srtp";

/// The protection that we agree to, in this order.
const PROFILES: [(Profile, Suite); 4] = [
    (Profile::Srtp_Aead_Aes_256_Gcm, Suite::AeadAes256Gcm),
    (Profile::Srtp_Aead_Aes_128_Gcm, Suite::AeadAes128Gcm),
    (Profile::Srtp_Aes128_Cm_Hmac_Sha1_80, Suite::Aes128CmHmacSha1_80),
    (Profile::Srtp_Aes128_Cm_Hmac_Sha1_32, Suite::Aes128CmHmacSha1_32),
];

/// Who we are in handshakes.
#[derive(Clone)]
pub(super) struct Identity {
    certificate: Certificate,
    fingerprint: [u8; 32],
}

/// One handshake.
pub(super) struct Handshake {
    endpoint: Endpoint,
    peer: DtlsPeer,
    until: Instant,
    datagrams: u32,
}

/// How far a handshake is.
pub(super) enum Progress {
    Waiting,
    Done(Box<SrtpKeys>),
    Failed,
}

impl Identity {
    /// A fresh one; `None` when there is no certificate to be had.
    pub(super) fn generate() -> Option<Self> {
        let provider = crypto_provider::default_provider().ok()?;
        let names = vec!["assent".to_owned()];
        let certificate = Certificate::generate_self_signed(names, provider.crypto())
            .inspect_err(|error| tracing::error!(%error, "no certificate for DTLS-SRTP"))
            .ok()?;
        let fingerprint = digest(certificate.certificate.first()?);
        Some(Self { certificate, fingerprint })
    }

    /// The SHA-256 of the certificate.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

impl Handshake {
    /// Begins, if that is our part.
    pub(super) fn start(identity: &Identity, peer: DtlsPeer, now: Instant) -> Option<Self> {
        let begins = peer.role == DtlsRole::Active;
        let expected = peer.fingerprint;
        let config = ConfigBuilder::default()
            .with_crypto_provider(crypto_provider::default_provider().ok()?)
            .with_certificates(vec![identity.certificate.clone()])
            .with_cipher_suites(vec![
                CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
                CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
            ])
            .with_srtp_protection_profiles(PROFILES.map(|(profile, _)| profile).to_vec())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_extended_master_secret(ExtendedMasterSecretType::Request)
            // There is no chain and no name: the fingerprint alone says who it is.
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(move |shown: &[Vec<u8>], _: &_| {
                match is_expected(shown, &expected) {
                    true => Ok(()),
                    false => Err(std::io::Error::other("another certificate").into()),
                }
            })))
            .build(begins, None)
            .inspect_err(|error| tracing::error!(%error, "DTLS-SRTP cannot be set up"))
            .ok()?;
        let config = Arc::new(config);
        let server = (!begins).then(|| Arc::clone(&config));
        let mut endpoint = Endpoint::new(PEER, Default::default(), server);
        if begins {
            endpoint.connect(now, PEER, config, None).ok()?;
        }
        Some(Self { endpoint, peer, until: now + PATIENCE, datagrams: 0 })
    }

    /// Takes a datagram of the peer.
    pub(super) fn read(&mut self, datagram: &[u8], now: Instant) -> Progress {
        self.datagrams += 1;
        if self.datagrams > MOST_DATAGRAMS {
            return Progress::Waiting;
        }
        match self.endpoint.read(now, PEER, None, BytesMut::from(datagram)) {
            Ok(events) => {
                let done =
                    |event: &EndpointEvent| matches!(event, EndpointEvent::HandshakeComplete);
                match events.iter().any(done) {
                    true => self.keys().map_or(Progress::Failed, Progress::Done),
                    false => Progress::Waiting,
                }
            }
            // Whether it is the end is for the peer's next datagram, or for time, to say.
            Err(error) => {
                tracing::debug!(%error, "a datagram of a DTLS handshake was not taken");
                Progress::Waiting
            }
        }
    }

    /// Sends again what may be lost.
    pub(super) fn tick(&mut self, now: Instant) -> Progress {
        let begun = self.endpoint.get_connection_state(PEER).is_some();
        if now >= self.until || (begun && self.endpoint.handle_timeout(PEER, now).is_err()) {
            return Progress::Failed;
        }
        Progress::Waiting
    }

    /// What is to be sent.
    pub(super) fn outgoing(&mut self) -> impl Iterator<Item = BytesMut> + '_ {
        std::iter::from_fn(|| self.endpoint.poll_transmit().map(|one| one.message))
    }

    /// The keys of a handshake that is complete, if it is with the right peer.
    fn keys(&self) -> Option<Box<SrtpKeys>> {
        let state = self.endpoint.get_connection_state(PEER)?;
        if !is_expected(&state.peer_certificates, &self.peer.fingerprint) {
            return None;
        }
        keys_of(state, self.peer.role)
    }
}

/// RFC 5764, 4.2: the client's key, the server's key, the client's salt, the server's salt.
fn keys_of(state: &State, role: DtlsRole) -> Option<Box<SrtpKeys>> {
    let agreed = state.srtp_protection_profile();
    let (_, suite) = PROFILES.into_iter().find(|(profile, _)| *profile == agreed)?;
    let (key, salt) = (suite.key_length(), suite.salt_length());
    let material = state.export_keying_material(LABEL, &[], 2 * (key + salt)).ok()?;
    let material: &[u8] = material.as_ref();
    let (keys, salts) = material.split_at_checked(2 * key)?;
    let side = |index: usize| {
        let mut bytes = Zeroizing::new(Vec::with_capacity(key + salt));
        bytes.extend_from_slice(keys.chunks_exact(key).nth(index)?);
        bytes.extend_from_slice(salts.chunks_exact(salt).nth(index)?);
        MasterKey::new(suite, bytes)
    };
    let (client, server) = (side(0)?, side(1)?);
    let (send, receive) = match role {
        DtlsRole::Active => (client, server),
        DtlsRole::Passive => (server, client),
    };
    Some(Box::new(SrtpKeys { suite, send, receive }))
}

fn is_expected(shown: &[Vec<u8>], expected: &[u8; 32]) -> bool {
    shown.first().is_some_and(|certificate| digest(certificate) == *expected)
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a handshake between two who expect these fingerprints.
    fn between(
        client: &Identity,
        server: &Identity,
        expected: [[u8; 32]; 2],
    ) -> [Option<Box<SrtpKeys>>; 2] {
        let now = Instant::now();
        let of = |identity, fingerprint, role| {
            Handshake::start(identity, DtlsPeer { fingerprint, role }, now).unwrap()
        };
        let mut sides =
            [of(client, expected[0], DtlsRole::Active), of(server, expected[1], DtlsRole::Passive)];
        let mut keys = [None, None];
        for round in 0..20 {
            let (from, to) = (round % 2, 1 - round % 2);
            let flight: Vec<BytesMut> = sides[from].outgoing().collect();
            for datagram in flight {
                assert!(matches!(datagram[0], 20..=63) && datagram.len() < 1500);
                if let Progress::Done(agreed) = sides[to].read(&datagram, now) {
                    keys[to] = Some(agreed);
                }
            }
        }
        keys
    }

    #[test]
    fn both_sides_get_the_same_keys_for_opposite_directions() {
        let (client, server) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        assert_ne!(client.fingerprint(), server.fingerprint());
        let expected = [server.fingerprint(), client.fingerprint()];
        let [Some(here), Some(there)] = between(&client, &server, expected) else {
            panic!("no handshake")
        };
        assert_eq!(here.suite, Suite::AeadAes256Gcm);
        assert!(here.send == there.receive && here.receive == there.send);
        assert!(here.send != here.receive);
    }

    #[test]
    fn another_certificate_than_the_one_that_was_named_gets_no_keys() {
        let (client, server) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let right = [server.fingerprint(), client.fingerprint()];
        let [here, _] = between(&client, &server, [[7; 32], right[1]]);
        assert!(here.is_none(), "the client sees a stranger");
        let [_, there] = between(&client, &server, [right[0], [7; 32]]);
        assert!(there.is_none(), "the server sees a stranger");
    }

    #[test]
    fn hostile_datagrams_neither_end_nor_finish_a_handshake() {
        let (client, server) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let now = Instant::now();
        let mut flight = Vec::new();
        for role in [DtlsRole::Active, DtlsRole::Passive] {
            let peer = DtlsPeer { fingerprint: client.fingerprint(), role };
            let mut handshake = Handshake::start(&server, peer, now).unwrap();
            flight.extend(handshake.outgoing());
            for n in 0..5_000_usize {
                // Every read is the first: the limit is not what is tested.
                handshake.datagrams = 0;
                let mut datagram = flight[0].to_vec();
                let (at, length) = (n % datagram.len(), n * 7 % datagram.len());
                datagram[at] ^= (n / datagram.len() + 1) as u8;
                if n % 3 == 0 {
                    datagram.truncate(length.max(1));
                }
                let progress = handshake.read(&datagram, now);
                assert!(!matches!(progress, Progress::Done(_)), "{n}");
                handshake.outgoing().for_each(drop);
            }
        }
    }

    #[test]
    fn nobody_shakes_hands_for_ever() {
        let identity = Identity::generate().unwrap();
        let peer = DtlsPeer { fingerprint: [0; 32], role: DtlsRole::Active };
        let begin = Instant::now();
        let mut handshake = Handshake::start(&identity, peer, begin).unwrap();
        let mut sent = handshake.outgoing().count();
        let mut now = begin;
        while !matches!(handshake.tick(now), Progress::Failed) {
            sent += handshake.outgoing().count();
            now += TICK;
            assert!(now < begin + PATIENCE * 2);
        }
        assert!((2..40).contains(&sent), "sent {sent} times");
    }
}

//! What our descriptions of one leg say of SRTP, and where our keys come from.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::audio::Profile;
use super::crypto::{self, Crypto};
use super::dtls::{self, Identified};
use crate::rtp::{DtlsPeer, MasterKey, Security, SrtpKeys, Suite};

/// Whether a leg's packets are protected: `media.srtp` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrtpUse {
    /// Never: an offer of nothing but SRTP is refused.
    Off,
    /// Where the peer can (RFC 8643).
    Offer,
    /// Always: what would be plain is refused.
    Require,
}

/// What we offer, in this order. Short tags are taken from a peer that asks for them, and not
/// proposed. Few, since every line costs a hundred bytes of a request that has to fit a datagram.
const OFFERED: [Suite; 3] =
    [Suite::AeadAes256Gcm, Suite::Aes256CmHmacSha1_80, Suite::Aes128CmHmacSha1_80];

/// One leg's use of SRTP, the secret that its keys are made from, and what is agreed so far.
///
/// The secret is drawn where the leg is made, once a leg. Keys are derived from it: a new one for
/// each suite that is offered, and again whenever the peer changes its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Keying {
    wanted: SrtpUse,
    secret: Zeroizing<[u8; Keying::SECRET]>,
    /// Which dialog of the leg it is; empty for the first.
    dialog: String,
    generation: u32,
    /// The SHA-256 of the certificate that we show in a DTLS handshake.
    certificate: Option<[u8; 32]>,
    agreed: Option<Agreed>,
}

#[derive(Clone, PartialEq, Eq)]
struct Agreed {
    profile: Profile,
    security: Security,
}

/// How the audio of an offer is to be protected.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Proposed {
    Plain,
    Sdes(Crypto),
    Dtls(Identified),
}

impl Keying {
    /// The length of the secret in bytes.
    pub const SECRET: usize = 32;

    /// For a leg with this secret.
    #[must_use]
    pub fn new(wanted: SrtpUse, secret: Zeroizing<[u8; Keying::SECRET]>) -> Self {
        let dialog = String::new();
        Self { wanted, secret, dialog, generation: 0, certificate: None, agreed: None }
    }

    /// With a certificate of ours for DTLS-SRTP, which is answered then: its SHA-256.
    #[must_use]
    pub fn with_certificate(self, fingerprint: [u8; 32]) -> Self {
        Self { certificate: Some(fingerprint), ..self }
    }

    /// For a leg that never uses SRTP.
    #[must_use]
    pub fn off() -> Self {
        Self::new(SrtpUse::Off, Zeroizing::new([0; Self::SECRET]))
    }

    /// For another dialog of the same leg, named by a random tag of ours: whoever was on the leg
    /// before knows the keys that there were.
    #[must_use]
    pub fn another(&self, dialog: &str) -> Self {
        let dialog = dialog.to_owned();
        let certificate = self.certificate;
        Self { dialog, certificate, ..Self::new(self.wanted, self.secret.clone()) }
    }

    /// Whether and when the leg uses SRTP.
    #[must_use]
    pub fn wanted(&self) -> SrtpUse {
        self.wanted
    }

    /// The profile of our offer: that of the session once there is one (RFC 3264, 8.3).
    pub(super) fn profile(&self) -> Profile {
        match (&self.agreed, self.wanted) {
            (Some(agreed), _) => agreed.profile,
            (None, SrtpUse::Require) => Profile::Savp,
            (None, SrtpUse::Off | SrtpUse::Offer) => Profile::Avp,
        }
    }

    /// The keys of our offer: those in use once there are some, so that nothing starts anew.
    pub(super) fn offered(&self) -> Vec<Crypto> {
        match (&self.agreed, self.wanted) {
            (None, SrtpUse::Off) => Vec::new(),
            (Some(Agreed { security: Security::Plain | Security::Dtls(_), .. }), _) => Vec::new(),
            (Some(Agreed { security: Security::Srtp(keys), .. }), _) => {
                vec![Crypto {
                    tag: 1,
                    suite: keys.suite,
                    name: keys.suite.name(),
                    key: keys.send.clone(),
                }]
            }
            (None, SrtpUse::Offer | SrtpUse::Require) => (1..)
                .zip(OFFERED)
                .filter_map(|(tag, suite)| {
                    let key = self.key(suite)?;
                    Some(Crypto { tag, suite, name: suite.name(), key })
                })
                .collect(),
        }
    }

    /// Answers what an offer proposes: the line to write, and how packets are protected. Who names
    /// the same key again goes on as before; a new key of the peer gets a new one of ours, so that
    /// both directions start over together. `None` when there is no key to be had.
    pub(super) fn answer(&mut self, proposed: &Proposed) -> Option<(String, Security)> {
        let crypto = match proposed {
            Proposed::Plain => return Some((String::new(), Security::Plain)),
            Proposed::Dtls(identified) => {
                let peer = identified.peer(self.dtls());
                let lines = dtls::lines(self.certificate.as_ref()?, peer.role);
                return Some((lines, Security::Dtls(peer)));
            }
            Proposed::Sdes(crypto) => crypto,
        };
        let before = match &self.agreed {
            Some(Agreed { security: Security::Srtp(keys), .. }) => Some(keys),
            _ => None,
        };
        let suite = crypto.suite;
        let keys = match before {
            Some(keys) if keys.suite == suite && keys.receive == crypto.key => (**keys).clone(),
            before => {
                self.generation += u32::from(before.is_some());
                SrtpKeys { suite, send: self.key(suite)?, receive: crypto.key.clone() }
            }
        };
        Some((crypto.answer_line(&keys.send), Security::Srtp(Box::new(keys))))
    }

    /// The association by DTLS that is in use.
    pub(super) fn dtls(&self) -> Option<DtlsPeer> {
        match &self.agreed {
            Some(Agreed { security: Security::Dtls(peer), .. }) => Some(*peer),
            _ => None,
        }
    }

    /// What our offer says of that association.
    pub(super) fn dtls_lines(&self) -> Option<String> {
        Some(dtls::lines(self.certificate.as_ref()?, self.dtls()?.role))
    }

    /// What holds from now on.
    pub(super) fn agree(&mut self, profile: Profile, security: Security) {
        self.agreed = Some(Agreed { profile, security });
    }

    fn key(&self, suite: Suite) -> Option<MasterKey> {
        let mut bytes = Zeroizing::new(vec![0; suite.key_length() + suite.salt_length()]);
        let generation = self.generation.to_be_bytes();
        let dialog = self.dialog.as_bytes();
        let info = [b"assent-srtp-v1|", suite.name().as_bytes(), b"|", &generation, dialog];
        // Fails only for far more bytes than these.
        let keys = Hkdf::<Sha256>::new(None, self.secret.as_slice());
        keys.expand_multi_info(&info, &mut bytes).ok()?;
        MasterKey::new(suite, bytes)
    }
}

impl fmt::Debug for Keying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agreed = self.agreed.as_ref().map(|agreed| &agreed.security);
        f.debug_struct("Keying").field("wanted", &self.wanted).field("agreed", &agreed).finish()
    }
}

impl Proposed {
    /// What an audio line of this profile with these `a=crypto` values comes to; `None` when it
    /// cannot be taken.
    pub(super) fn of<'a>(
        profile: Profile,
        crypto: impl Iterator<Item = &'a str>,
        wanted: SrtpUse,
    ) -> Option<Self> {
        let first = || match wanted {
            SrtpUse::Off => None,
            SrtpUse::Offer | SrtpUse::Require => crypto::acceptable(crypto).into_iter().next(),
        };
        match profile {
            Profile::Savp | Profile::Savpf => first().map(Proposed::Sdes),
            Profile::Avp | Profile::Avpf => {
                let plain = (wanted != SrtpUse::Require).then_some(Proposed::Plain);
                first().map(Proposed::Sdes).or(plain)
            }
            Profile::DtlsSavp | Profile::DtlsSavpf | Profile::Other => None,
        }
    }

    pub(super) fn is_srtp(&self) -> bool {
        !matches!(self, Proposed::Plain)
    }
}

impl fmt::Debug for Proposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proposed::Plain => f.write_str("Plain"),
            Proposed::Sdes(crypto) => write!(f, "Sdes({})", crypto.name),
            Proposed::Dtls(identified) => identified.fmt(f),
        }
    }
}

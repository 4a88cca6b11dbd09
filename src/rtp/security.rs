//! How a leg's packets are protected (SRTP, RFC 3711), and the keys for it.

use std::fmt;

use zeroize::Zeroizing;

/// How a leg's packets travel.
///
/// The keys in it are shown to nobody: `Debug` names the suite alone.
#[derive(Clone, PartialEq, Eq)]
pub enum Security {
    /// RTP as it is.
    Plain,
    /// SRTP under keys that both descriptions named (RFC 4568).
    Srtp(Box<SrtpKeys>),
    /// SRTP under keys that a DTLS handshake on the media path gives (RFC 5764).
    Dtls(DtlsPeer),
}

/// Whom to shake hands with, and who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DtlsPeer {
    /// The SHA-256 of the certificate that the peer must show (RFC 8122).
    pub fingerprint: [u8; 32],
    /// Our part.
    pub role: DtlsRole,
}

/// Who begins a handshake (RFC 4145, RFC 5763).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// We do: the client.
    Active,
    /// The peer does.
    Passive,
}

/// A suite and a master key for each direction.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKeys {
    /// What protects both directions.
    pub suite: Suite,
    /// What we protect our packets with.
    pub send: MasterKey,
    /// What the peer protects its packets with.
    pub receive: MasterKey,
}

impl Security {
    /// Whether packets are encrypted.
    #[must_use]
    pub fn is_srtp(&self) -> bool {
        !matches!(self, Security::Plain)
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Security::Plain => f.write_str("Plain"),
            Security::Srtp(keys) => write!(f, "Srtp({})", keys.suite.name()),
            Security::Dtls(peer) => write!(f, "Dtls({:?})", peer.role),
        }
    }
}

/// A crypto-suite of RFC 4568, 6.2, of RFC 6188 or of RFC 7714.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// `AEAD_AES_256_GCM`
    AeadAes256Gcm,
    /// `AEAD_AES_128_GCM`
    AeadAes128Gcm,
    /// `AES_256_CM_HMAC_SHA1_80`
    Aes256CmHmacSha1_80,
    /// `AES_CM_128_HMAC_SHA1_80`
    Aes128CmHmacSha1_80,
    /// `AES_256_CM_HMAC_SHA1_32`
    Aes256CmHmacSha1_32,
    /// `AES_CM_128_HMAC_SHA1_32`
    Aes128CmHmacSha1_32,
}

impl Suite {
    /// All of them, the stronger first.
    pub const ALL: [Suite; 6] = [
        Suite::AeadAes256Gcm,
        Suite::AeadAes128Gcm,
        Suite::Aes256CmHmacSha1_80,
        Suite::Aes128CmHmacSha1_80,
        Suite::Aes256CmHmacSha1_32,
        Suite::Aes128CmHmacSha1_32,
    ];

    /// Its name in the registry of crypto-suites.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Suite::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Suite::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Suite::Aes256CmHmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            Suite::Aes128CmHmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Suite::Aes256CmHmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
            Suite::Aes128CmHmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// The length of the master key in bytes.
    #[must_use]
    pub fn key_length(self) -> usize {
        match self {
            Suite::AeadAes128Gcm | Suite::Aes128CmHmacSha1_80 | Suite::Aes128CmHmacSha1_32 => 16,
            Suite::AeadAes256Gcm | Suite::Aes256CmHmacSha1_80 | Suite::Aes256CmHmacSha1_32 => 32,
        }
    }

    /// The length of the master salt in bytes.
    #[must_use]
    pub fn salt_length(self) -> usize {
        match self {
            Suite::AeadAes256Gcm | Suite::AeadAes128Gcm => 12,
            _ => 14,
        }
    }
}

/// A master key and its salt, as many bytes as the suite says.
///
/// No `Debug`, and zeroised when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey(Zeroizing<Vec<u8>>);

impl MasterKey {
    /// Key and salt, one after the other; `None` when they are not as long as the suite says.
    #[must_use]
    pub fn new(suite: Suite, bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        (bytes.len() == suite.key_length() + suite.salt_length()).then_some(Self(bytes))
    }

    /// Key and salt, one after the other.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The key, and the salt.
    #[must_use]
    pub fn parts(&self, suite: Suite) -> (&[u8], &[u8]) {
        self.0.split_at_checked(suite.key_length()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_long_as_their_suite_says_and_are_not_shown() {
        let lengths = Suite::ALL.map(|suite| suite.key_length() + suite.salt_length());
        assert_eq!(lengths, [44, 28, 46, 30, 46, 30]);
        let suite = Suite::AeadAes128Gcm;
        let key = |length| MasterKey::new(suite, Zeroizing::new(vec![0xab; length]));
        assert!(key(27).is_none() && key(30).is_none());
        let key = key(28).unwrap();
        assert_eq!((key.parts(suite).0.len(), key.parts(suite).1.len()), (16, 12));
        let keys = SrtpKeys { suite, send: key.clone(), receive: key };
        let shown = format!("{:?}", Security::Srtp(Box::new(keys)));
        assert_eq!(shown, "Srtp(AEAD_AES_128_GCM)");
    }
}

//! `a=crypto` (RFC 4568): reading a peer's, and writing ours.

use super::base64;
use crate::rtp::{MasterKey, Suite};

/// The most `a=crypto` lines of one media line that are looked at.
const MOST: usize = 32;

/// An `a=crypto` line that can be taken.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Crypto {
    pub(super) tag: u32,
    pub(super) suite: Suite,
    /// How the peer writes the suite.
    pub(super) name: &'static str,
    pub(super) key: MasterKey,
}

/// Suites as they are written. AES-256 has a second spelling, from before RFC 6188, that telephones
/// still use.
const NAMES: [(&str, Suite); 8] = [
    ("AEAD_AES_256_GCM", Suite::AeadAes256Gcm),
    ("AEAD_AES_128_GCM", Suite::AeadAes128Gcm),
    ("AES_256_CM_HMAC_SHA1_80", Suite::Aes256CmHmacSha1_80),
    ("AES_CM_128_HMAC_SHA1_80", Suite::Aes128CmHmacSha1_80),
    ("AES_256_CM_HMAC_SHA1_32", Suite::Aes256CmHmacSha1_32),
    ("AES_CM_128_HMAC_SHA1_32", Suite::Aes128CmHmacSha1_32),
    ("AES_CM_256_HMAC_SHA1_80", Suite::Aes256CmHmacSha1_80),
    ("AES_CM_256_HMAC_SHA1_32", Suite::Aes256CmHmacSha1_32),
];

/// The lines that can be taken, in the peer's order. A line that cannot is passed over, as RFC
/// 4568, 5.1.2 has it: an unknown suite, a key of the wrong length, a parameter that weakens the
/// stream or that we do not know, a master key identifier.
pub(super) fn acceptable<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Crypto> {
    values.take(MOST).filter_map(Crypto::parse).collect()
}

impl Crypto {
    /// `<tag> <suite> <key parameters> [<session parameters>]`
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next().filter(|word| word.len() <= 9).and_then(number)?;
        let written = words.next()?;
        let (name, suite) =
            NAMES.into_iter().find(|(name, _)| written.eq_ignore_ascii_case(name))?;
        let key = key(words.next()?, suite)?;
        words.all(is_harmless).then_some(Self { tag, suite, name, key })
    }

    /// Our answer to this line, with our key.
    pub(super) fn answer_line(&self, key: &MasterKey) -> String {
        line(self.tag, self.name, key)
    }
}

/// A line of our own.
pub(super) fn line(tag: u32, name: &str, key: &MasterKey) -> String {
    format!("a=crypto:{tag} {name} inline:{}\r\n", *base64::encode(key.expose()))
}

/// `inline:<key and salt>["|" lifetime]["|" MKI ":" length]` (RFC 4568, 6.1). Several keys, and one
/// with an identifier that every packet then carries, are refused. A lifetime is the peer's to
/// keep: it has to give a new key before it sends that many packets.
fn key(parameters: &str, suite: Suite) -> Option<MasterKey> {
    let (method, info) = parameters.split_once(':')?;
    if !method.eq_ignore_ascii_case("inline") {
        return None;
    }
    let mut parts = info.split('|');
    let key = base64::decode(parts.next()?)?;
    let lifetime = parts.next().is_none_or(|part| {
        let text = part.strip_prefix("2^").unwrap_or(part);
        number::<u64>(text).is_some_and(|number| number > 0)
    });
    (lifetime && parts.next().is_none()).then(|| MasterKey::new(suite, key)).flatten()
}

fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Whether a session parameter can be passed over (RFC 4568, 6.3): one that only hints, or that
/// its sender marks as optional. Never one that leaves a stream unencrypted or unauthenticated.
fn is_harmless(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    match name.to_ascii_uppercase().as_str() {
        // The window size hint is for a receiver that would do with less than ours.
        "WSH" => true,
        // Keys are derived once: the default.
        "KDR" => value == "0",
        optional => optional.starts_with('-'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the examples in RFC 4568.
    const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

    fn parse(value: &str) -> Option<Crypto> {
        Crypto::parse(value)
    }

    #[test]
    fn lines_of_real_telephones_are_read() {
        for (value, tag, suite) in [
            // RFC 4568, 9.1
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20"), 1, Suite::Aes128CmHmacSha1_80),
            (format!("2 AES_CM_128_HMAC_SHA1_32 inline:{KEY}"), 2, Suite::Aes128CmHmacSha1_32),
            (
                format!("12 aes_cm_128_hmac_sha1_80 INLINE:{KEY}|2^31"),
                12,
                Suite::Aes128CmHmacSha1_80,
            ),
            (
                format!("7 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1048576"),
                7,
                Suite::Aes128CmHmacSha1_80,
            ),
            (
                format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} WSH=64"),
                1,
                Suite::Aes128CmHmacSha1_80,
            ),
            (
                format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=0 -NEW=1"),
                1,
                Suite::Aes128CmHmacSha1_80,
            ),
            (
                format!("3 AES_CM_256_HMAC_SHA1_80 inline:{}", "A".repeat(62)),
                3,
                Suite::Aes256CmHmacSha1_80,
            ),
            (format!("4 AEAD_AES_256_GCM inline:{}=", "A".repeat(59)), 4, Suite::AeadAes256Gcm),
        ] {
            let Some(crypto) = parse(&value) else { panic!("{value}") };
            assert_eq!((crypto.tag, crypto.suite), (tag, suite), "{value}");
        }
        let first = parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20")).unwrap();
        assert_eq!(first.key.expose(), b"wDfvg&T+)xG7@fb5jU,RaA}\\|p0%*#");
    }

    #[test]
    fn lines_that_weaken_or_cannot_be_served_are_passed_over() {
        for value in [
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTCP"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNAUTHENTICATED_SRTP"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} unencrypted_srtp"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=1"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} FEC_ORDER=FEC_SRTP"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} NEW=1"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:4"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|0"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 {KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 uri:{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", &KEY[..39]),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}AAAA"),
            format!("1 AES_256_CM_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 NULL_HMAC_SHA1_80 inline:{KEY}"),
            format!("x AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1234567890 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("-1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            "1 AES_CM_128_HMAC_SHA1_80".to_owned(),
            String::new(),
        ] {
            assert!(parse(&value).is_none(), "{value}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (name, suite) in NAMES {
            let bytes = vec![0xa5; suite.key_length() + suite.salt_length()];
            let key = MasterKey::new(suite, bytes.into()).unwrap();
            let text = line(9, name, &key);
            let value = text.strip_prefix("a=crypto:").unwrap().trim_end();
            let read = parse(value).unwrap();
            assert!(read.key == key && read.suite == suite && read.tag == 9);
            assert_eq!(read.answer_line(&key), text);
        }
    }
}

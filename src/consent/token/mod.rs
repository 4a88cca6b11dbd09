//! Consent tokens: what a PBX has found out about a party, signed, and bound to one call.
//!
//! ```text
//! v1.<base64url of the payload>.<base64url of the MAC or signature>
//! ```
//!
//! The payload is a JSON object with exactly the members `call`, `party`, `stated`, `issued` and
//! `key`; the HMAC-SHA-256 or Ed25519 signature is over the token's text up to its second dot.
//! `docs/consent-token.md` describes both for whoever writes them.
//!
//! Whatever is not right in every respect is no token: a [`Fault`] says which respect, and never
//! what the token said.

mod base64;
mod header;
mod rule;

pub use base64::decode_key;
pub use header::MAX_HEADER_BYTES;
pub use rule::{Found, TokenRule};

use std::fmt;
use std::time::Duration;

use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::consent::{Stated, TokenStated};
use crate::ids::{Digest, Leg};
use crate::time::Timestamp;

/// A longer text is no token.
pub const MAX_TOKEN_BYTES: usize = 1024;

/// The shortest HMAC key, in bytes: the length of the hash (RFC 2104, section 3).
pub const MIN_HMAC_KEY_BYTES: usize = 32;

/// How far the clock of the PBX may be ahead of ours.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// What every token begins with.
const VERSION: &str = "v1.";

/// A key that tokens are checked with. It does not print, and is zeroised when it is dropped.
pub enum TokenKey {
    /// Shared with the PBX.
    Hmac(Zeroizing<Vec<u8>>),
    /// The public half of a key that the PBX alone has.
    Ed25519(Box<VerifyingKey>),
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenKey::Hmac(_) => "Hmac(…)",
            TokenKey::Ed25519(_) => "Ed25519(…)",
        })
    }
}

/// A token that is right in every respect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whom it speaks for.
    pub leg: Leg,
    /// What it states.
    pub stated: TokenStated,
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// It came from a peer that is not trusted to state consent.
    Stranger,
    /// It is longer than a token may be, or one of more than may come with a call.
    TooMuch,
    /// It has not the form of a token.
    Malformed,
    /// It names a key that the policy does not have.
    UnknownKey,
    /// It was not signed with the key that it names, or was changed since.
    BadSignature,
    /// It is for another call.
    OtherCall,
    /// It was issued too long ago.
    Expired,
    /// It was issued in the future.
    FromTheFuture,
}

impl Fault {
    /// Every fault there is.
    pub const ALL: [Fault; 8] = [
        Fault::Stranger,
        Fault::TooMuch,
        Fault::Malformed,
        Fault::UnknownKey,
        Fault::BadSignature,
        Fault::OtherCall,
        Fault::Expired,
        Fault::FromTheFuture,
    ];

    /// One word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Stranger => "stranger",
            Fault::TooMuch => "too-much",
            Fault::Malformed => "malformed",
            Fault::UnknownKey => "unknown-key",
            Fault::BadSignature => "bad-signature",
            Fault::OtherCall => "other-call",
            Fault::Expired => "expired",
            Fault::FromTheFuture => "from-the-future",
        }
    }
}

/// What a token states.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    /// The Call-ID of the INVITE that it comes with.
    call: String,
    party: Leg,
    stated: Stated,
    /// Seconds since the Unix epoch.
    issued: u64,
    /// The identifier of the key that signed it.
    key: String,
}

/// Checks one token.
///
/// # Errors
///
/// The first [`Fault`] that is found. Nothing that the token says is looked at before its
/// signature, but the name of the key.
pub fn verify<'k>(
    text: &str,
    key_of: impl FnOnce(&str) -> Option<&'k TokenKey>,
    max_age: Duration,
    call_id: &str,
    now: Timestamp,
) -> Result<Verified, Fault> {
    if text.len() > MAX_TOKEN_BYTES {
        return Err(Fault::TooMuch);
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(Fault::Malformed)?;
    let payload = signed.strip_prefix(VERSION).ok_or(Fault::Malformed)?;
    let payload = base64::decode(payload).ok_or(Fault::Malformed)?;
    let signature = base64::decode(signature).ok_or(Fault::Malformed)?;
    let payload: Payload = serde_json::from_slice(&payload).map_err(|_| Fault::Malformed)?;
    let key = key_of(&payload.key).ok_or(Fault::UnknownKey)?;
    if !key.has_signed(signed.as_bytes(), &signature) {
        return Err(Fault::BadSignature);
    }
    if payload.call != call_id {
        return Err(Fault::OtherCall);
    }
    let seconds = i64::try_from(payload.issued).unwrap_or(i64::MAX);
    let issued = Timestamp::from_micros(seconds.saturating_mul(1_000_000));
    if issued > now.plus(CLOCK_SKEW) {
        return Err(Fault::FromTheFuture);
    }
    if now.since(issued) > max_age {
        return Err(Fault::Expired);
    }
    let digest = Digest::of(text.as_bytes());
    let stated = TokenStated { digest, key: payload.key, stated: payload.stated };
    Ok(Verified { leg: payload.party, stated })
}

impl TokenKey {
    /// Takes the same time for every wrong MAC of the right length.
    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            TokenKey::Hmac(key) => Hmac::<Sha256>::new_from_slice(key)
                .is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok()),
            TokenKey::Ed25519(key) => Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};
    use proptest::prelude::*;

    use super::*;

    pub(in crate::consent) const CALL: &str = "a84b4c76e66710@pbx.example";
    pub(in crate::consent) const NOW: Timestamp = Timestamp::from_micros(1_770_000_000_000_000);
    const AGE: Duration = Duration::from_secs(300);

    fn secret() -> TokenKey {
        TokenKey::Hmac(Zeroizing::new(vec![7; 32]))
    }

    fn signing() -> SigningKey {
        SigningKey::from_bytes(&[9; 32])
    }

    fn public() -> TokenKey {
        TokenKey::Ed25519(Box::new(signing().verifying_key()))
    }

    pub(in crate::consent) fn payload(party: &str, stated: &str, issued: i64) -> String {
        format!(
            r#"{{"call":"{CALL}","issued":{issued},"key":"k","party":"{party}","stated":"{stated}"}}"#
        )
    }

    pub(in crate::consent) fn by_hmac(payload: &str) -> String {
        let signed = format!("v1.{}", base64::encode(payload.as_bytes()));
        let mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap().chain_update(&signed);
        format!("{signed}.{}", base64::encode(&mac.finalize().into_bytes()))
    }

    fn by_ed25519(payload: &str) -> String {
        let signed = format!("v1.{}", base64::encode(payload.as_bytes()));
        let signature = signing().sign(signed.as_bytes());
        format!("{signed}.{}", base64::encode(&signature.to_bytes()))
    }

    fn checked(text: &str, key: &TokenKey) -> Result<Verified, Fault> {
        verify(text, |id| (id == "k").then_some(key), AGE, CALL, NOW)
    }

    fn issued() -> i64 {
        NOW.as_micros() / 1_000_000
    }

    #[test]
    fn a_good_token_says_who_agreed_to_be_recorded() {
        for (text, key) in [
            (by_hmac(&payload("caller", "granted", issued())), secret()),
            (by_ed25519(&payload("caller", "granted", issued())), public()),
        ] {
            let verified = checked(&text, &key).unwrap();
            assert_eq!(verified.leg, Leg::Caller);
            assert_eq!(verified.stated.stated, Stated::Granted);
            assert_eq!(verified.stated.key, "k");
            assert_eq!(verified.stated.digest, Digest::of(text.as_bytes()));
        }
        let text = by_hmac(&payload("callee", "refused", issued()));
        let verified = checked(&text, &secret()).unwrap();
        assert_eq!((verified.leg, verified.stated.stated), (Leg::Callee, Stated::Refused));
    }

    #[test]
    fn an_independent_program_makes_the_same_token() {
        // Python: hmac.new(bytes([7]) * 32, signed, "sha256"), as docs/consent-token.md has it.
        let text = "v1.eyJjYWxsIjoiYTg0YjRjNzZlNjY3MTBAcGJ4LmV4YW1wbGUiLCJpc3N1ZWQiOjE3NzAwMDAwMDAsImtleSI6ImsiLCJwYXJ0eSI6ImNhbGxlciIsInN0YXRlZCI6ImdyYW50ZWQifQ.TSI-_krEoXHJe-x0iYoUouKxY0J-QnKY-ZyLQbEhwUQ";
        assert_eq!(by_hmac(&payload("caller", "granted", issued())), text);
    }

    #[test]
    fn an_old_a_future_and_another_calls_token_are_none() {
        for (at, wanted) in [
            (issued() - 300, Ok(())),
            (issued() - 301, Err(Fault::Expired)),
            (0, Err(Fault::Expired)),
            (issued() + 30, Ok(())),
            (issued() + 31, Err(Fault::FromTheFuture)),
            (i64::MAX, Err(Fault::FromTheFuture)),
        ] {
            let text = by_hmac(&payload("caller", "granted", at));
            assert_eq!(checked(&text, &secret()).map(drop), wanted, "{at}");
        }
        let text = by_hmac(&payload("caller", "granted", issued()));
        let key = secret();
        let said = verify(&text, |_| Some(&key), AGE, "another@pbx", NOW);
        assert_eq!(said, Err(Fault::OtherCall));
    }

    #[test]
    fn what_is_not_signed_by_the_named_key_is_none() {
        let text = by_hmac(&payload("caller", "granted", issued()));
        let other = TokenKey::Hmac(Zeroizing::new(vec![8; 32]));
        assert_eq!(checked(&text, &other), Err(Fault::BadSignature));
        assert_eq!(checked(&text, &public()), Err(Fault::BadSignature));
        let said = verify(&text, |_| None, AGE, CALL, NOW);
        assert_eq!(said, Err(Fault::UnknownKey));
        // The public half is no secret, and must not do as one.
        let public_half =
            TokenKey::Hmac(Zeroizing::new(signing().verifying_key().to_bytes().into()));
        let text = by_ed25519(&payload("caller", "granted", issued()));
        assert_eq!(checked(&text, &public_half), Err(Fault::BadSignature));
    }

    #[test]
    fn what_has_not_the_form_of_a_token_is_none() {
        let good = payload("caller", "granted", issued());
        for payload in [
            "",
            "[]",
            "{}",
            &good.replace("caller", "both"),
            &good.replace("granted", "maybe"),
            &good.replace("\"key\"", "\"kid\""),
            &good.replace('}', ",\"more\":1}"),
            &good.replace('}', ",\"party\":\"callee\"}"),
            &good.replace("\"issued\":", "\"issued\":-"),
            &format!("{good}{good}"),
        ] {
            assert_eq!(checked(&by_hmac(payload), &secret()), Err(Fault::Malformed), "{payload}");
        }
        let text = by_hmac(&good);
        for bad in ["", ".", "..", "v1..", "v1.e30", &text[3..], &text.replace("v1.", "v2.")] {
            assert_eq!(checked(bad, &secret()), Err(Fault::Malformed), "{bad}");
        }
        assert_eq!(checked(&"x".repeat(MAX_TOKEN_BYTES + 1), &secret()), Err(Fault::TooMuch));
    }

    #[test]
    fn a_key_does_not_print() {
        assert_eq!(format!("{:?} {:?}", secret(), public()), "Hmac(…) Ed25519(…)");
    }

    proptest! {
        #[test]
        fn a_token_that_was_changed_anywhere_is_none(at in 0usize..400, to in 0u8..128, hmac: bool) {
            let (text, key) = match hmac {
                true => (by_hmac(&payload("caller", "granted", issued())), secret()),
                false => (by_ed25519(&payload("caller", "granted", issued())), public()),
            };
            let mut bytes = text.clone().into_bytes();
            let at = at % bytes.len();
            bytes[at] = to;
            let changed = String::from_utf8(bytes).unwrap();
            prop_assume!(changed != text);
            prop_assert!(checked(&changed, &key).is_err(), "{}", changed);
        }

        #[test]
        fn a_token_that_was_cut_or_added_to_is_none(cut in 0usize..300, more in "[A-Za-z0-9_=.-]{0,4}") {
            let text = by_hmac(&payload("caller", "granted", issued()));
            let changed = format!("{}{more}", &text[..text.len().min(cut)]);
            prop_assume!(changed != text);
            prop_assert!(checked(&changed, &secret()).is_err());
            let longer = format!("{text}{more}");
            prop_assert!(longer == text || checked(&longer, &secret()).is_err());
        }

        #[test]
        fn no_text_makes_the_check_panic(text in "(v1\\.)?\\PC{0,80}\\.?\\PC{0,60}") {
            prop_assert!(checked(&text, &secret()).is_err());
        }
    }
}

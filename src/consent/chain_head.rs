//! Where a chain stands, signed: whoever keeps one of these can tell later whether the records
//! up to it are still there, and still the same.
//!
//! ```text
//! {"head":{…},"signature":"<128 hex digits>"}
//! ```
//!
//! The signature is over the canonical form (RFC 8785) of `head`, whose `kind` keeps it from being
//! taken for an evidence record. See `docs/evidence-format.md`.

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::consent::evidence::{BadSignature, Head};
use crate::ids::Digest;
use crate::time::Timestamp;

/// The version of the format that this module writes and reads.
const VERSION: u32 = 1;

/// What is said of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadFacts {
    version: u32,
    kind: Kind,
    /// The agent whose chain it is: the node's name.
    pub agent: String,
    /// The last record's number.
    pub sequence: u64,
    /// The last record's digest.
    pub digest: Digest,
    /// The identifier of the key that signs.
    pub signing_key: String,
    /// When it was so.
    pub time: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    ChainHead,
}

/// A head with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// What is signed.
    pub head: HeadFacts,
    /// Ed25519, 128 lower-case hex digits.
    signature: String,
}

impl SignedHead {
    /// Says that an agent's chain stood at `at`, and has that signed.
    ///
    /// # Errors
    /// When it does not serialise, which nothing makes it do.
    pub fn sign(
        agent: &str,
        at: Head,
        time: Timestamp,
        signing_key: &str,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<Self, serde_json::Error> {
        let head = HeadFacts {
            version: VERSION,
            kind: Kind::ChainHead,
            agent: agent.to_owned(),
            sequence: at.sequence,
            digest: at.digest,
            signing_key: signing_key.to_owned(),
            time,
        };
        let signature = hex::encode(sign(serde_jcs::to_string(&head)?.as_bytes()));
        Ok(Self { head, signature })
    }

    /// Where the chain stood.
    #[must_use]
    pub fn at(&self) -> Head {
        Head { sequence: self.head.sequence, digest: self.head.digest }
    }

    /// Checks version and signature.
    ///
    /// # Errors
    /// [`BadSignature`], when `key` did not sign it.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), BadSignature> {
        let mut signature = [0; 64];
        hex::decode_to_slice(&self.signature, &mut signature).map_err(|_| BadSignature)?;
        let signed = serde_jcs::to_string(&self.head).map_err(|_| BadSignature)?;
        if self.head.version != VERSION {
            return Err(BadSignature);
        }
        key.verify_strict(signed.as_bytes(), &Signature::from_bytes(&signature))
            .map_err(|_| BadSignature)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    fn signed() -> (SignedHead, VerifyingKey) {
        let key = SigningKey::from_bytes(&[3; 32]);
        let at = Head { sequence: 7, digest: Digest([9; 32]) };
        let sign = |bytes: &[u8]| key.sign(bytes).to_bytes();
        let head = SignedHead::sign("node-1", at, Timestamp::from_micros(0), "00", sign).unwrap();
        (head, key.verifying_key())
    }

    #[test]
    fn a_signed_head_is_read_back_and_proved() {
        let (head, key) = signed();
        let text = serde_json::to_string(&head).unwrap();
        let back: SignedHead = serde_json::from_str(&text).unwrap();
        assert_eq!((back.verify(&key), back.at().sequence), (Ok(()), 7));
        assert_eq!(back, head);
    }

    #[test]
    fn a_head_that_was_changed_or_signed_by_another_is_not_proved() {
        let (head, key) = signed();
        let other = SigningKey::from_bytes(&[4; 32]).verifying_key();
        assert_eq!(head.verify(&other), Err(BadSignature));
        for (from, to) in [
            ("\"sequence\":7", "\"sequence\":6"),
            ("0909", "0809"),
            ("node-1", "node-2"),
            ("\"version\":1", "\"version\":2"),
            ("1970", "1971"),
        ] {
            let text = serde_json::to_string(&head).unwrap().replacen(from, to, 1);
            let changed: SignedHead = serde_json::from_str(&text).unwrap();
            assert_ne!(changed, head, "{from}");
            assert_eq!(changed.verify(&key), Err(BadSignature), "{from}");
        }
        let text = serde_json::to_string(&head).unwrap().replace("chain-head", "decision");
        assert!(serde_json::from_str::<SignedHead>(&text).is_err());
    }
}

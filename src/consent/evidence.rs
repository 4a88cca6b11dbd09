//! Evidence records: what was decided, signed, and chained to what was decided before.
//!
//! A record is one line of canonical JSON (RFC 8785):
//!
//! ```text
//! {"evidence":{…body…},"signature":"<128 hex digits>"}
//! ```
//!
//! The digest of a record is the SHA-256 of its canonical body; the Ed25519 signature is over the
//! same bytes; the body names the digest of the record before it on this agent. The bytes are
//! described in `docs/evidence-format.md`, which an independent program in
//! `tests/python/verify_evidence.py` follows.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::consent::DecisionFacts;
use crate::ids::{Digest, EvidenceId};

/// The version of the format that this module writes and reads.
pub const VERSION: u32 = 1;

/// Longer records are neither written nor read.
pub const MAX_RECORD_BYTES: usize = 256 * 1024;

/// The `kind` of a record about a decision.
const DECISION: &str = "decision";

/// Where a chain stands: its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last record's number; 0 before the first.
    pub sequence: u64,
    /// The last record's digest; all zeros before the first.
    pub digest: Digest,
}

impl Head {
    /// Before the first record.
    pub const START: Head = Head { sequence: 0, digest: Digest([0; 32]) };
}

/// `SEQUENCE:DIGEST`.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.digest)
    }
}

/// A text is not `SEQUENCE:DIGEST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chain's head is written SEQUENCE:DIGEST, a number and 64 hex digits")]
pub struct BadHead;

impl FromStr for Head {
    type Err = BadHead;

    fn from_str(text: &str) -> Result<Self, BadHead> {
        let (sequence, digest) = text.split_once(':').ok_or(BadHead)?;
        let sequence = sequence.parse().map_err(|_| BadHead)?;
        Ok(Self { sequence, digest: digest.parse().map_err(|_| BadHead)? })
    }
}

/// The place that a new record takes.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The agent whose chain it is: the node's name.
    pub agent: &'a str,
    /// The record's own identifier.
    pub id: EvidenceId,
    /// Where the chain stands before it.
    pub after: Head,
    /// The identifier of the key that will sign it.
    pub signing_key: &'a str,
}

/// A record's canonical body, before it is signed.
#[derive(Debug)]
#[must_use = "evidence that is not signed proves nothing"]
pub struct Unsigned {
    body: String,
    head: Head,
}

impl Unsigned {
    /// Writes the body of a decision's record.
    ///
    /// # Errors
    /// When the facts make a record longer than [`MAX_RECORD_BYTES`] or cannot be written.
    pub fn decision(facts: &DecisionFacts, place: Place<'_>) -> Result<Self, Unwritable> {
        let sequence = place.after.sequence.checked_add(1).ok_or(Unwritable::Full)?;
        let body = serde_jcs::to_string(&BodyOf {
            version: VERSION,
            kind: DECISION,
            id: place.id,
            agent: place.agent,
            sequence,
            previous: place.after.digest,
            signing_key: place.signing_key,
            facts,
        })?;
        if body.len() > MAX_RECORD_BYTES {
            return Err(Unwritable::TooLong(body.len()));
        }
        let digest = Digest::of(body.as_bytes());
        Ok(Self { body, head: Head { sequence, digest } })
    }

    /// The bytes to sign.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.body.as_bytes()
    }

    /// Where the chain stands once this record is in it.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// The whole record, as it is stored and handed out. `signature` is an Ed25519 signature over
    /// [`Unsigned::bytes`].
    #[must_use]
    pub fn signed(self, signature: &[u8; 64]) -> String {
        let Self { body, .. } = self;
        format!(r#"{{"evidence":{body},"signature":"{}"}}"#, hex::encode(signature))
    }
}

/// Why a record could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Unwritable {
    /// The facts do not serialise.
    #[error("the evidence record cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    /// Longer than [`MAX_RECORD_BYTES`].
    #[error("the evidence record has {0} bytes, more than {MAX_RECORD_BYTES}")]
    TooLong(usize),
    /// The chain has used all its numbers.
    #[error("the evidence chain has used all its numbers")]
    Full,
}

/// A signed record that was read back. Its form is right; whether it is genuine is for
/// [`Record::verify`] and [`verify_chain`] to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    body: Body,
    canonical: String,
    signature: [u8; 64],
}

impl Record {
    /// Reads a record in exactly the form in which [`Unsigned::signed`] wrote it. Anything else,
    /// be it one space, is refused: two readers must not see two records.
    ///
    /// # Errors
    /// [`Malformed`], when it is not such a record.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() > MAX_RECORD_BYTES + 1024 {
            return Err(Malformed::NotCanonical);
        }
        let envelope: Envelope = serde_json::from_str(text)?;
        let canonical = serde_jcs::to_string(&envelope.evidence)?;
        let mut signature = [0; 64];
        hex::decode_to_slice(&envelope.signature, &mut signature)
            .map_err(|_| Malformed::Signature)?;
        let again =
            format!(r#"{{"evidence":{canonical},"signature":"{}"}}"#, hex::encode(signature));
        if again != text {
            return Err(Malformed::NotCanonical);
        }
        let body: Body = serde_json::from_value(envelope.evidence)?;
        if body.version != VERSION {
            return Err(Malformed::Version(body.version));
        }
        Ok(Self { body, canonical, signature })
    }

    /// The record's identifier.
    #[must_use]
    pub fn id(&self) -> EvidenceId {
        self.body.id
    }

    /// The agent whose chain it is in.
    #[must_use]
    pub fn agent(&self) -> &str {
        &self.body.agent
    }

    /// What the record is about: `decision`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.body.kind
    }

    /// Which key signed it.
    #[must_use]
    pub fn signing_key(&self) -> &str {
        &self.body.signing_key
    }

    /// The digest of the record before it.
    #[must_use]
    pub fn previous(&self) -> Digest {
        self.body.previous
    }

    /// Its number and digest: where the chain stands with it.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { sequence: self.body.sequence, digest: self.digest() }
    }

    /// SHA-256 of the canonical body.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical.as_bytes())
    }

    /// The facts, as [`DecisionFacts`] serialises.
    #[must_use]
    pub fn facts(&self) -> &Value {
        &self.body.facts
    }

    /// The canonical body: the bytes that are signed.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.canonical
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`BadSignature`], when `key` did not sign these bytes.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), BadSignature> {
        key.verify_strict(self.canonical.as_bytes(), &Signature::from_bytes(&self.signature))
            .map_err(|_| BadSignature)
    }
}

/// The signature is not by the key that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not belong to this record")]
pub struct BadSignature;

/// Why a text is not an evidence record.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or not with these members.
    #[error("not an evidence record: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON, but not byte for byte its canonical form (RFC 8785).
    #[error("not an evidence record: it is not in canonical form (RFC 8785)")]
    NotCanonical,
    /// The signature is not 128 lower-case hex digits.
    #[error("not an evidence record: the signature is not 128 hex digits")]
    Signature,
    /// A version that this program does not know.
    #[error("evidence of version {0}, which this program does not know: use a newer assent")]
    Version(u32),
}

/// Checks an agent's chain from `from` (exclusive) to `to`, and returns where it stands then.
///
/// `keys` finds the public half of a signing key by its identifier. `to` is what somebody else
/// says the chain's head is (the catalog's own note, a published head): without it nobody can
/// tell a chain from one that lost its end.
///
/// # Errors
/// [`ChainError`]: the first record at which the chain does not hold, and why.
pub fn verify_chain<I, E>(
    records: I,
    agent: &str,
    from: Head,
    to: Option<Head>,
    keys: impl Fn(&str) -> Option<VerifyingKey>,
) -> Result<Head, ChainError<E>>
where
    I: IntoIterator<Item = Result<Record, E>>,
    E: std::error::Error,
{
    let mut at = from;
    for record in records {
        let expected = at.sequence.saturating_add(1);
        let record = record.map_err(|why| ChainError::Unreadable { expected, why })?;
        let Head { sequence, digest } = record.head();
        if record.agent() != agent {
            return Err(ChainError::OtherAgent { expected, agent: record.agent().to_owned() });
        }
        let key = keys(record.signing_key()).ok_or_else(|| ChainError::UnknownKey {
            sequence,
            key: record.signing_key().to_owned(),
        })?;
        record.verify(&key).map_err(|_| ChainError::Changed { sequence, id: record.id() })?;
        if sequence != expected {
            return Err(ChainError::OutOfOrder { expected, found: sequence });
        }
        if record.previous() != at.digest {
            return Err(ChainError::Unlinked { sequence, id: record.id() });
        }
        at = Head { sequence, digest };
    }
    match to {
        Some(to) if to.sequence > at.sequence => {
            Err(ChainError::CutShort { last: at.sequence, expected: to.sequence })
        }
        Some(to) if to != at => Err(ChainError::OtherHead { last: at, expected: to }),
        _ => Ok(at),
    }
}

/// Where and why a chain does not hold.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ChainError<E: std::error::Error> {
    /// A record could not be read.
    #[error("record {expected} cannot be read: {why}")]
    Unreadable {
        /// The number of the record that should be there.
        expected: u64,
        /// Why not.
        why: E,
    },
    /// A record's bytes are not those that were signed.
    #[error("record {sequence} ({id}) was changed: its signature does not belong to it")]
    Changed {
        /// Its number.
        sequence: u64,
        /// Its identifier.
        id: EvidenceId,
    },
    /// A record is signed by a key that nobody knows.
    #[error("record {sequence} is signed by key {key}, which is not known here")]
    UnknownKey {
        /// Its number.
        sequence: u64,
        /// The key's identifier.
        key: String,
    },
    /// A record was dropped, repeated or moved.
    #[error("record {expected} is missing: record {found} is in its place")]
    OutOfOrder {
        /// The number that should be there.
        expected: u64,
        /// The number that is.
        found: u64,
    },
    /// A record follows another one than the one that is before it.
    #[error("record {sequence} ({id}) does not follow the record before it, which was replaced")]
    Unlinked {
        /// Its number.
        sequence: u64,
        /// Its identifier.
        id: EvidenceId,
    },
    /// A record of another agent's chain.
    #[error("record {expected} is missing: a record of agent \"{agent}\" is in its place")]
    OtherAgent {
        /// The number that should be there.
        expected: u64,
        /// The other agent.
        agent: String,
    },
    /// Records are missing at the end.
    #[error("the chain ends at record {last}; {expected} records were written")]
    CutShort {
        /// The last record that is there.
        last: u64,
        /// The last one that should be.
        expected: u64,
    },
    /// The chain does not end where it is said to.
    #[error(
        "the chain ends with record {} ({}), not with {} ({})",
        last.sequence, last.digest, expected.sequence, expected.digest
    )]
    OtherHead {
        /// Where it ends.
        last: Head,
        /// Where it should.
        expected: Head,
    },
}

#[derive(Serialize)]
struct BodyOf<'a> {
    version: u32,
    kind: &'static str,
    id: EvidenceId,
    agent: &'a str,
    sequence: u64,
    previous: Digest,
    signing_key: &'a str,
    facts: &'a DecisionFacts,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    version: u32,
    kind: String,
    id: EvidenceId,
    agent: String,
    sequence: u64,
    previous: Digest,
    signing_key: String,
    facts: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    evidence: Value,
    signature: String,
}

/// Decisions for the tests of this crate; outside of it only the permission machine makes them.
#[cfg(test)]
pub(crate) mod sample {
    use std::time::Duration;

    use crate::consent::policy::{Basis, Gate};
    use crate::consent::{Answer, Decision, DecisionFacts, MediaTransport, Outcome};
    use crate::ids::{CallId, Digest, Leg, PartyRef, RecordingId};
    use crate::time::Timestamp;

    /// A standing permission of the caller, told apart by `n`.
    pub(crate) fn facts(n: u64, party_ref: PartyRef) -> DecisionFacts {
        DecisionFacts {
            call: CallId(uuid::Uuid::from_u128(u128::from(n))),
            recording: RecordingId(uuid::Uuid::from_u128(u128::from(n) | 1 << 100)),
            leg: Leg::Caller,
            party_ref,
            transport: MediaTransport::Rtp,
            policy: "default".into(),
            policy_digest: Digest::of(b"policy"),
            basis: Basis::Consent,
            gate: Gate::Standing,
            purposes: vec!["quality".into(), "training".into()],
            controller: "Example GmbH".into(),
            notices: Vec::new(),
            answer: Answer::Standing { agreement: "agreement-2026".into() },
            outcome: Outcome::Granted,
            ends: None,
            time: Timestamp::from_micros(1_795_298_400_000_000).plus(Duration::from_secs(n)),
        }
    }

    pub(crate) fn decision(facts: DecisionFacts) -> Decision {
        Decision { number: Default::default(), facts: Box::new(facts) }
    }
}

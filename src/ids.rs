//! Identifiers, digests and the wrapper that keeps personal data out of logs.
//!
//! All of it is plain data: nothing here reads a clock or draws a random number
//! ([`crate::clock`] mints identifiers).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }
    };
}

impl RecordingId {
    /// The identifier of the recording that follows this one in the same call: permission was
    /// taken back and given again. One higher, so that a machine without randomness can name it;
    /// 62 random bits keep it apart from those of other calls.
    #[must_use]
    pub fn successor(self) -> Self {
        Self(Uuid::from_u128(self.0.as_u128().wrapping_add(1)))
    }

    /// Whether this is `first`, `last`, or one that [`RecordingId::successor`] names between them.
    #[must_use]
    pub fn is_between(self, first: RecordingId, last: RecordingId) -> bool {
        let after_first = |id: RecordingId| id.0.as_u128().wrapping_sub(first.0.as_u128());
        after_first(self) <= after_first(last)
    }
}

uuid_id! {
    /// One call as Assent sees it: both legs, from the INVITE to the last BYE. The
    /// `correlationid` of every event of the call.
    CallId
}
uuid_id! {
    /// One recording: the artefact of one communication session.
    RecordingId
}
uuid_id! {
    /// One evidence record: one decision about one party.
    EvidenceId
}
uuid_id! {
    /// One event; also its `Nats-Msg-Id`.
    EventId
}

/// Which media stream of a recording: 0 is the caller's voice, 1 the callee's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamIndex(pub u8);

impl fmt::Display for StreamIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A media stream of a recording. Never the SSRC, which a peer may change at will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamId {
    /// The recording that the stream belongs to.
    pub recording: RecordingId,
    /// Its place in the recording.
    pub index: StreamIndex,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.recording, self.index)
    }
}

/// One of the two legs of a call, and the party on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leg {
    /// The party that called: the dialog in which Assent is the UAS.
    Caller,
    /// The party that is called: the dialog in which Assent is the UAC.
    Callee,
}

impl Leg {
    /// Both legs, caller first.
    pub const BOTH: [Leg; 2] = [Leg::Caller, Leg::Callee];

    /// The leg at the other side of the bridge.
    #[must_use]
    pub fn other(self) -> Leg {
        match self {
            Leg::Caller => Leg::Callee,
            Leg::Callee => Leg::Caller,
        }
    }

    /// The stream that records this leg's party.
    #[must_use]
    pub fn stream(self) -> StreamIndex {
        match self {
            Leg::Caller => StreamIndex(0),
            Leg::Callee => StreamIndex(1),
        }
    }

    /// `caller` or `callee`, as configuration and events write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Leg::Caller => "caller",
            Leg::Callee => "callee",
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! hex32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = hex::FromHexError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; 32];
                hex::decode_to_slice(s, &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex32! {
    /// A SHA-256 digest, written as 64 lower-case hex digits.
    Digest
}
hex32! {
    /// A person, as everything outside the catalog knows them: HMAC-SHA-256 under the tenant's
    /// reference key of the normalised number.
    PartyRef
}

impl Digest {
    /// The SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// A word that is safe in a NATS subject: one or more of `[a-z0-9_-]`.
///
/// Subjects are built from these alone, because a client that is handed `a..b` or `a.*` does not
/// always object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Token(String);

/// Why a text is not a [`Token`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" must be one or more of a-z, 0-9, - and _")]
pub struct BadToken(pub String);

impl Token {
    /// The word itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = BadToken;
    fn from_str(s: &str) -> Result<Self, BadToken> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if !s.is_empty() && s.len() <= 64 && s.bytes().all(fits) {
            Ok(Self(s.to_owned()))
        } else {
            Err(BadToken(s.to_owned()))
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Personal data: a number, a name, a URI that names somebody. Neither `Debug` nor `Display` nor
/// serde shows what is inside; who needs it says so with [`Pii::expose`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pii<T>(T);

impl<T> Pii<T> {
    /// Wraps personal data.
    pub fn new(inner: T) -> Self {
        Self(inner)
    }

    /// The data itself, for the wire, for the encrypted catalog, or for a person who asked.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// Unwraps the data.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pii(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_takes_nothing_that_nats_gives_a_meaning() {
        for bad in ["", "a.b", "a..b", "*", ">", "a b", "A", "ä", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<Token>().is_err(), "{bad:?}");
        }
        for good in ["default", "tenant-1", "a_b", "0"] {
            assert_eq!(good.parse::<Token>().map(|t| t.to_string()), Ok(good.to_owned()));
        }
    }

    #[test]
    fn personal_data_does_not_print() {
        let number = Pii::new("+4930123456");
        assert!(!format!("{number:?}").contains("4930"));
    }

    #[test]
    fn digests_round_trip_as_hex() {
        let digest = Digest::of(b"abc");
        assert_eq!(
            digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let json = serde_json::to_string(&digest).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Digest>(&json).ok(), Some(digest));
    }
}

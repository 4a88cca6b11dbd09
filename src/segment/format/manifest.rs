//! What is said about a segment beside it: canonical JSON (RFC 8785), signed.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, PartyRef, RecordingId, StreamId, StreamIndex};
use crate::time::Timestamp;

use super::codecs::Codecs;
use super::key_id::{KeyId, Signature};
use super::name::SegmentName;

/// A segment's manifest without its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format's name: `assent-manifest-v1`.
    pub format: Format,
    /// The recording.
    pub recording: RecordingId,
    /// The media stream's place in the recording.
    pub stream: StreamIndex,
    /// The segment's number in the stream.
    pub segment: u32,
    /// Whose voice it is; `null` where that is not known.
    pub party_ref: Option<PartyRef>,
    /// The codecs by payload type.
    pub codecs: Codecs,
    /// When the first packet arrived.
    pub start: Timestamp,
    /// When the segment ended: never before its last packet.
    pub end: Timestamp,
    /// How many packets are in it.
    pub packets: u64,
    /// How many of them hold silence in place of what was received, because that was the tone of
    /// a key. Written where there are any.
    #[serde(default, skip_serializing_if = "is_none")]
    pub masked: u64,
    /// What is not in it, and why.
    pub gaps: Vec<Gap>,
    /// The file's length in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// The digest of the evidence record that permits the segment; also in its associated data.
    pub evidence: Digest,
    /// Which data key it is encrypted with.
    pub key_id: KeyId,
    /// SHA-256 of the manifest (the whole file) that was written for this recording before.
    pub previous: Option<Digest>,
    /// Whether the segment has its last chunk.
    pub state: SegmentState,
    /// Who ended it.
    pub sealed_by: SealedBy,
    /// Which key signed: the first 8 bytes of the SHA-256 of its public half.
    pub signing_key: KeyId,
}

impl Manifest {
    /// The segment that it describes.
    #[must_use]
    pub fn name(&self) -> SegmentName {
        let stream = StreamId { recording: self.recording, index: self.stream };
        SegmentName { stream, segment: self.segment }
    }

    /// What the signature is over: the canonical JSON of everything but the signature.
    #[must_use]
    pub fn signed_text(&self) -> Vec<u8> {
        // Only maps with keys that are no texts, and numbers that are no numbers, fail.
        serde_jcs::to_vec(self).unwrap_or_default()
    }

    /// Adds the signature over [`signed_text`](Self::signed_text).
    #[must_use]
    pub fn with_signature(self, signature: Signature) -> SignedManifest {
        SignedManifest { manifest: self, signature }
    }
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

/// The manifest's format and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// This one.
    #[serde(rename = "assent-manifest-v1")]
    V1,
}

/// Time that a segment has no packets of, for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// How many packets arrived meanwhile and were not written, where that was counted.
    pub packets: u64,
}

/// Why packets are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// The recording was paused.
    Paused,
    /// The party was on hold.
    Held,
    /// The disk did not keep up.
    Overrun,
    /// Packets were longer than a recorder of audio takes.
    Oversized,
    /// Packets had a payload type that was not negotiated.
    NotNegotiated,
}

impl GapReason {
    /// As the manifest writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            GapReason::Paused => "paused",
            GapReason::Held => "held",
            GapReason::Overrun => "overrun",
            GapReason::Oversized => "oversized",
            GapReason::NotNegotiated => "not-negotiated",
        }
    }
}

/// Whether a segment has its last chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentState {
    /// It has: whole.
    Sealed,
    /// It has not: all whole chunks still read.
    Truncated,
}

/// Who ended a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SealedBy {
    /// The writer, with everything it knew.
    Writer,
    /// The next start after a crash, from the file alone: gaps are not known.
    Recovery,
}

/// A manifest as it lies beside its segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignedManifest {
    /// What it says.
    #[serde(flatten)]
    pub manifest: Manifest,
    /// Ed25519 over the canonical JSON of everything else.
    pub signature: Signature,
}

/// Bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a manifest: {0}")]
pub struct BadManifest(String);

impl SignedManifest {
    /// The file: canonical JSON in one line, without an end of line.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_jcs::to_vec(self).unwrap_or_default()
    }

    /// The digest of the file, which the next manifest of the recording names.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Reads a file. It must be the canonical form, byte for byte. The signature is not checked
    /// here.
    ///
    /// # Errors
    ///
    /// [`BadManifest`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadManifest> {
        let bad = |error: serde_json::Error| BadManifest(error.to_string());
        let mut value: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(bytes).map_err(bad)?;
        let signature = value.remove("signature").unwrap_or_default();
        let signed = Self {
            signature: serde_json::from_value(signature).map_err(bad)?,
            manifest: serde_json::from_value(value.into()).map_err(bad)?,
        };
        if signed.to_bytes() == bytes {
            Ok(signed)
        } else {
            Err(BadManifest("not in the canonical form of RFC 8785".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        Manifest {
            format: Format::V1,
            recording: "019aa8a6-2c00-7abc-8def-0123456789ab".parse().unwrap(),
            stream: StreamIndex(1),
            segment: 3,
            party_ref: None,
            codecs: Codecs::new().with(0, "PCMU", 8000),
            start: at("2026-11-21T10:00:00Z"),
            end: at("2026-11-21T10:01:00Z"),
            packets: 3000,
            masked: 0,
            gaps: vec![Gap {
                reason: GapReason::Paused,
                from: at("2026-11-21T10:00:10Z"),
                to: at("2026-11-21T10:00:20Z"),
                packets: 0,
            }],
            bytes: 2048,
            sha256: Digest([1; 32]),
            evidence: Digest([2; 32]),
            key_id: KeyId([3; 8]),
            previous: Some(Digest([4; 32])),
            state: SegmentState::Sealed,
            sealed_by: SealedBy::Writer,
            signing_key: KeyId([5; 8]),
        }
    }

    #[test]
    fn a_manifest_is_canonical_json() {
        let text = String::from_utf8(manifest().with_signature(Signature([6; 64])).to_bytes());
        let expected = [
            r#"{"bytes":2048,"codecs":{"0":{"clock_rate":8000,"name":"PCMU"}},"#,
            r#""end":"2026-11-21T10:01:00.000000Z","#,
            &format!(r#""evidence":"{}","#, "02".repeat(32)),
            r#""format":"assent-manifest-v1","#,
            r#""gaps":[{"from":"2026-11-21T10:00:10.000000Z","packets":0,"reason":"paused","#,
            r#""to":"2026-11-21T10:00:20.000000Z"}],"#,
            r#""key_id":"0303030303030303","packets":3000,"party_ref":null,"#,
            &format!(r#""previous":"{}","#, "04".repeat(32)),
            r#""recording":"019aa8a6-2c00-7abc-8def-0123456789ab","sealed_by":"writer","#,
            &format!(r#""segment":3,"sha256":"{}","#, "01".repeat(32)),
            &format!(r#""signature":"{}","#, "06".repeat(64)),
            r#""signing_key":"0505050505050505","start":"2026-11-21T10:00:00.000000Z","#,
            r#""state":"sealed","stream":1}"#,
        ];
        assert_eq!(text.unwrap(), expected.concat());
    }

    #[test]
    fn a_manifest_reads_back_and_in_no_other_form() {
        let signed = manifest().with_signature(Signature([6; 64]));
        let bytes = signed.to_bytes();
        assert_eq!(SignedManifest::parse(&bytes), Ok(signed));
        let text = String::from_utf8(bytes).unwrap();
        for other in [
            format!("{text}\n"),
            text.replace("\"stream\":1", "\"stream\": 1"),
            text.replace("\"stream\":1", "\"stream\":1,\"x\":1"),
            text.replace(",\"stream\":1", ""),
            text.replace("manifest-v1", "manifest-v2"),
            text.replace("\"bytes\":2048,", "\"bytes\":1,\"bytes\":2048,"),
            String::new(),
            "[]".to_owned(),
        ] {
            assert!(SignedManifest::parse(other.as_bytes()).is_err(), "{other}");
        }
    }

    #[test]
    fn the_signature_is_over_everything_else() {
        let signed = manifest().with_signature(Signature([6; 64]));
        let text = String::from_utf8(signed.to_bytes()).unwrap();
        let without = text.replace(&format!(r#""signature":"{}","#, "06".repeat(64)), "");
        assert_eq!(signed.manifest.signed_text(), without.as_bytes());
    }
}

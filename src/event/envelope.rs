//! From a fact to the text on the wire: the CloudEvents 1.0 envelope (structured JSON) and the
//! NATS subject.

use std::fmt;

use serde::Serialize;
use sha2::Digest as _;
use uuid::Uuid;

use crate::event::{
    AccessExported, AccessPlayed, AgentChain, AgentDegraded, AgentDraining, AgentReady,
    AgentStopped, CallEnded, CallStarted, Entity, Erasure, ErasureCompleted, ErasureFailed,
    ErasureRequested, Kind, NoticeEnded, NoticeStarted, PartyJoined, PartyLeft, PermissionDecided,
    RecordingBlocked, RecordingErased, RecordingFailed, RecordingPaused, RecordingResumed,
    RecordingSealed, RecordingStarted, SegmentSealed,
};
use crate::ids::{CallId, EventId, Leg, RecordingId, Token};
use crate::time::Timestamp;

/// Which agent speaks: fixed for its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The tenant: the third part of every subject.
    pub tenant: Token,
    /// The node: the `source` of every event is `/assent/<node>`.
    pub node: Token,
}

macro_rules! bodies {
    ($($body:ident),+ $(,)?) => {
        /// What an event says: one variant for each shape of `data`.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        #[allow(missing_docs)]
        pub enum Body { $($body($body)),+ }

        $(impl From<$body> for Body {
            fn from(body: $body) -> Self {
                Body::$body(body)
            }
        })+
    };
}

bodies! {
    CallStarted, CallEnded, PartyJoined, PartyLeft, NoticeStarted, NoticeEnded, PermissionDecided,
    RecordingStarted, RecordingPaused, RecordingResumed, RecordingSealed, RecordingBlocked,
    RecordingFailed, RecordingErased, SegmentSealed, ErasureRequested, ErasureCompleted,
    ErasureFailed, AccessPlayed, AccessExported, AgentReady, AgentDegraded, AgentDraining,
    AgentStopped, AgentChain,
}

/// An event that happened and is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a draft that is not committed never happened for anybody else"]
pub struct Draft {
    body: Body,
    call: Option<CallId>,
    causation: Option<EventId>,
}

impl Draft {
    /// An event with this data.
    pub fn new(body: impl Into<Body>) -> Self {
        let body = body.into();
        Self { call: body.call(), body, causation: None }
    }

    /// Names the event that led to this one.
    pub fn caused_by(mut self, event: EventId) -> Self {
        self.causation = Some(event);
        self
    }

    /// Names the call it belongs to, where the data does not: access to a recording.
    pub fn within(mut self, call: CallId) -> Self {
        self.call.get_or_insert(call);
        self
    }

    /// Which row of the catalogue it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.body.kind()
    }

    /// The call it belongs to: `correlationid`.
    #[must_use]
    pub fn correlation(&self) -> Option<CallId> {
        self.call
    }

    /// The recording it belongs to, if any.
    #[must_use]
    pub fn recording(&self) -> Option<RecordingId> {
        self.body.recording()
    }

    /// The uuid of what it is about: CloudEvents `subject`, and the last part of the NATS subject.
    /// `sequence` counts within this uuid.
    #[must_use]
    pub fn about(&self, origin: &Origin) -> Uuid {
        self.body.about(origin)
    }

    /// What it says.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }
}

impl Body {
    fn kind(&self) -> Kind {
        match self {
            Body::CallStarted(_) => Kind::CallStarted,
            Body::CallEnded(_) => Kind::CallEnded,
            Body::PartyJoined(_) => Kind::PartyJoined,
            Body::PartyLeft(_) => Kind::PartyLeft,
            Body::NoticeStarted(_) => Kind::NoticeStarted,
            Body::NoticeEnded(it) if it.reason.is_none() => Kind::NoticeCompleted,
            Body::NoticeEnded(_) => Kind::NoticeInterrupted,
            Body::PermissionDecided(it) => it.kind(),
            Body::RecordingStarted(_) => Kind::RecordingStarted,
            Body::RecordingPaused(_) => Kind::RecordingPaused,
            Body::RecordingResumed(_) => Kind::RecordingResumed,
            Body::RecordingSealed(_) => Kind::RecordingSealed,
            Body::RecordingBlocked(_) => Kind::RecordingBlocked,
            Body::RecordingFailed(_) => Kind::RecordingFailed,
            Body::RecordingErased(_) => Kind::RecordingErased,
            Body::SegmentSealed(_) => Kind::SegmentSealed,
            Body::ErasureRequested(_) => Kind::ErasureRequested,
            Body::ErasureCompleted(_) => Kind::ErasureCompleted,
            Body::ErasureFailed(_) => Kind::ErasureFailed,
            Body::AccessPlayed(_) => Kind::AccessPlayed,
            Body::AccessExported(_) => Kind::AccessExported,
            Body::AgentReady(_) => Kind::AgentReady,
            Body::AgentDegraded(_) => Kind::AgentDegraded,
            Body::AgentDraining(_) => Kind::AgentDraining,
            Body::AgentStopped(_) => Kind::AgentStopped,
            Body::AgentChain(_) => Kind::AgentChain,
        }
    }

    fn call(&self) -> Option<CallId> {
        match self {
            Body::CallStarted(it) => Some(it.call),
            Body::CallEnded(it) => Some(it.call),
            Body::PartyJoined(it) => Some(it.call),
            Body::PartyLeft(it) => Some(it.call),
            Body::NoticeStarted(it) => Some(it.call),
            Body::NoticeEnded(it) => Some(it.call),
            Body::PermissionDecided(it) => Some(it.call),
            Body::RecordingStarted(it) => Some(it.call),
            Body::RecordingPaused(it) => Some(it.call),
            Body::RecordingResumed(it) => Some(it.call),
            Body::RecordingSealed(it) => Some(it.call),
            Body::RecordingBlocked(it) => Some(it.call),
            Body::RecordingFailed(it) => Some(it.call),
            Body::RecordingErased(it) => Some(it.call),
            Body::SegmentSealed(it) => Some(it.call),
            Body::ErasureRequested(it) => Some(it.erasure.call),
            Body::ErasureCompleted(it) => Some(it.erasure.call),
            Body::ErasureFailed(it) => Some(it.erasure.call),
            Body::AccessPlayed(_)
            | Body::AccessExported(_)
            | Body::AgentReady(_)
            | Body::AgentDegraded(_)
            | Body::AgentDraining(_)
            | Body::AgentStopped(_)
            | Body::AgentChain(_) => None,
        }
    }

    fn recording(&self) -> Option<RecordingId> {
        match self {
            Body::PermissionDecided(it) => Some(it.recording),
            Body::RecordingStarted(it) => Some(it.recording),
            Body::RecordingPaused(it) => Some(it.recording),
            Body::RecordingResumed(it) => Some(it.recording),
            Body::RecordingSealed(it) => Some(it.recording),
            Body::RecordingBlocked(it) => Some(it.recording),
            Body::RecordingFailed(it) => Some(it.recording),
            Body::RecordingErased(it) => Some(it.recording),
            Body::SegmentSealed(it) => Some(it.recording),
            Body::ErasureRequested(it) => Some(it.erasure.recording),
            Body::ErasureCompleted(it) => Some(it.erasure.recording),
            Body::ErasureFailed(it) => Some(it.erasure.recording),
            Body::AccessPlayed(it) => Some(it.recording),
            Body::AccessExported(it) => Some(it.recording),
            Body::CallStarted(_)
            | Body::CallEnded(_)
            | Body::PartyJoined(_)
            | Body::PartyLeft(_)
            | Body::NoticeStarted(_)
            | Body::NoticeEnded(_)
            | Body::AgentReady(_)
            | Body::AgentDegraded(_)
            | Body::AgentDraining(_)
            | Body::AgentStopped(_)
            | Body::AgentChain(_) => None,
        }
    }

    /// Calls and recordings have an identifier of their own. The others are told apart by what
    /// they belong to, and their uuid is made from that, so that every event about the same party,
    /// playing, permission or segment names the same one.
    fn about(&self, origin: &Origin) -> Uuid {
        let entity = self.kind().entity();
        let leg = |call: CallId, leg: Leg| named(entity, call.0, &[u32::from(leg.stream().0)]);
        let playing = |call: CallId, leg: Leg, playback: u32| {
            named(entity, call.0, &[u32::from(leg.stream().0), playback])
        };
        let erasure = |it: &Erasure| named(entity, it.recording.0, &[u32::from(it.stream.0)]);
        match self {
            Body::CallStarted(it) => it.call.0,
            Body::CallEnded(it) => it.call.0,
            Body::PartyJoined(it) => leg(it.call, it.role),
            Body::PartyLeft(it) => leg(it.call, it.role),
            Body::NoticeStarted(it) => playing(it.call, it.role, it.playback),
            Body::NoticeEnded(it) => playing(it.call, it.role, it.playback),
            Body::PermissionDecided(it) => {
                named(entity, it.recording.0, &[u32::from(it.role.stream().0)])
            }
            Body::RecordingStarted(it) => it.recording.0,
            Body::RecordingPaused(it) => it.recording.0,
            Body::RecordingResumed(it) => it.recording.0,
            Body::RecordingSealed(it) => it.recording.0,
            Body::RecordingBlocked(it) => it.recording.0,
            Body::RecordingFailed(it) => it.recording.0,
            Body::RecordingErased(it) => it.recording.0,
            Body::SegmentSealed(it) => {
                named(entity, it.recording.0, &[u32::from(it.stream.0), it.index])
            }
            Body::ErasureRequested(it) => erasure(&it.erasure),
            Body::ErasureCompleted(it) => erasure(&it.erasure),
            Body::ErasureFailed(it) => erasure(&it.erasure),
            Body::AccessPlayed(it) => it.recording.0,
            Body::AccessExported(it) => it.recording.0,
            Body::AgentReady(_)
            | Body::AgentDegraded(_)
            | Body::AgentDraining(_)
            | Body::AgentStopped(_)
            | Body::AgentChain(_) => agent(origin),
        }
    }
}

/// A UUIDv8 (RFC 9562, 5.8): the start of the SHA-256 of what it stands for.
fn named(entity: Entity, within: Uuid, place: &[u32]) -> Uuid {
    let mut hash = sha2::Sha256::new();
    hash.update(b"assent-entity-v1|");
    hash.update(entity.as_str());
    hash.update(within.as_bytes());
    for part in place {
        hash.update(part.to_be_bytes());
    }
    from_hash(hash)
}

fn agent(origin: &Origin) -> Uuid {
    let mut hash = sha2::Sha256::new();
    hash.update(b"assent-agent-v1|");
    hash.update(origin.tenant.as_str());
    hash.update(b"|");
    hash.update(origin.node.as_str());
    from_hash(hash)
}

fn from_hash(hash: sha2::Sha256) -> Uuid {
    let hash: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A NATS subject: `assent.v1.<tenant>.<entity>.<event>.<entity-uuid>`. Made only from words of
/// the catalogue, a [`Token`] and a uuid, so it can hold neither an empty part nor a wildcard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject(String);

impl Subject {
    fn new(tenant: &Token, kind: Kind, about: Uuid) -> Self {
        Self(format!("assent.v1.{tenant}.{}.{}.{about}", kind.entity(), kind.event()))
    }

    /// Reads a subject back from where it was stored; `None` for anything that [`finish`] could
    /// not have made.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut next = || parts.next();
        if next()? != "assent" || next()? != "v1" {
            return None;
        }
        let tenant: Token = next()?.parse().ok()?;
        let (entity, event, about) = (next()?, next()?, next()?);
        let kind = *Kind::ALL
            .iter()
            .find(|kind| kind.entity().as_str() == entity && kind.event() == event)?;
        let subject = Self::new(&tenant, kind, about.parse().ok()?);
        (subject.0 == text).then_some(subject)
    }

    /// The whole subject.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event as it is stored and sent. The text is final: it is published again byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedEvent {
    /// Also its `Nats-Msg-Id`.
    pub id: EventId,
    /// What it is.
    pub kind: Kind,
    /// What it is about.
    pub about: Uuid,
    /// The call it belongs to.
    pub correlation: Option<CallId>,
    /// The recording it belongs to.
    pub recording: Option<RecordingId>,
    /// Its place among the events about the same thing, from 1.
    pub sequence: u64,
    /// When it happened.
    pub time: Timestamp,
    /// Where it is published.
    pub subject: Subject,
    /// The CloudEvents envelope with its data.
    pub json: String,
}

/// Gives a draft its identity, time and place.
///
/// `sequence` counts the events about the same [`Draft::about`], from 1.
///
/// # Errors
/// None for the types of this module; whoever stores events has to give up its transaction if
/// there ever is one.
pub fn finish(
    draft: Draft,
    id: EventId,
    time: Timestamp,
    sequence: u64,
    origin: &Origin,
) -> Result<FinishedEvent, serde_json::Error> {
    let kind = draft.kind();
    let about = draft.about(origin);
    let json = serde_json::to_string(&Envelope {
        specversion: "1.0",
        id,
        source: format!("/assent/{}", origin.node),
        kind,
        subject: about,
        time,
        datacontenttype: "application/json",
        correlationid: draft.call,
        causationid: draft.causation,
        sequence: format!("{sequence:010}"),
        traceparent: traceparent(draft.call, id),
        data: &draft.body,
    })?;
    Ok(FinishedEvent {
        id,
        kind,
        about,
        correlation: draft.call,
        recording: draft.recording(),
        sequence,
        time,
        subject: Subject::new(&origin.tenant, kind, about),
        json,
    })
}

#[derive(Serialize)]
struct Envelope<'a> {
    specversion: &'static str,
    id: EventId,
    source: String,
    #[serde(rename = "type")]
    kind: Kind,
    subject: Uuid,
    time: Timestamp,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<CallId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<EventId>,
    /// A string that sorts as the numbers do, as the CloudEvents `sequence` extension has it.
    sequence: String,
    traceparent: String,
    data: &'a Body,
}

/// W3C Trace Context: one trace a call, one span an event; not sampled, since no spans are kept.
fn traceparent(call: Option<CallId>, id: EventId) -> String {
    let trace = call.map_or(id.0, |call| call.0);
    let (_, span) = id.0.as_u64_pair();
    format!("00-{}-{span:016x}-00", trace.simple())
}

//! Tombstones: what is to be destroyed, and how far that has come.
//!
//! A tombstone is written in the transaction of the decision that asks for it, together with the
//! end of the wrapped key. Each later step of `erasure` is a [`Change`](crate::catalog::Change).
//! What reaches the catalog late about a stream that has a tombstone is passed over.

use rusqlite::{Connection, Row, params};
use serde::Serialize;
use uuid::Uuid;

use crate::catalog::{CommitError, QueryError, Reader, word};
use crate::consent::DecisionFacts;
use crate::event::{
    Draft, Erasure, ErasureReason, ErasureRequested, ErasureScope, ErasureStep, RecordingErased,
};
use crate::ids::{CallId, Digest, EventId, EvidenceId, RecordingId, StreamId, StreamIndex};
use crate::keys::Epoch;
use crate::time::Timestamp;

/// What a decision does to what was recorded of its party in this call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Erase {
    /// It stays.
    #[default]
    Nothing,
    /// Every stream of this party in this call is destroyed, in whichever recording it is.
    Party,
}

/// A stream that is to be destroyed, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tombstone {
    /// Which.
    #[serde(skip)]
    pub stream: StreamId,
    /// Of which call.
    #[serde(skip)]
    pub call: CallId,
    /// Why.
    pub reason: ErasureReason,
    /// The evidence record of the decision that asks for it.
    pub evidence: EvidenceId,
    /// Its digest.
    pub evidence_digest: Digest,
    /// The last step that is done.
    pub done: ErasureStep,
    /// When it was asked for.
    pub requested: Timestamp,
    /// The `erasure.requested` event.
    #[serde(skip)]
    pub event: EventId,
    /// Since when a step fails; it is tried again.
    pub failing: Option<Timestamp>,
    /// When nothing of it was found any more.
    pub verified: Option<Timestamp>,
}

impl Tombstone {
    /// As events write it.
    #[must_use]
    pub fn erasure(&self) -> Erasure {
        Erasure {
            call: self.call,
            recording: self.stream.recording,
            scope: ErasureScope::Stream,
            stream: self.stream.index,
            reason: self.reason,
            evidence: self.evidence,
            evidence_digest: self.evidence_digest,
        }
    }
}

/// What the catalog still holds of a stream, beside its permission and its tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains {
    /// Wrapped keys.
    pub keys: u64,
    /// Rows of segments.
    pub segments: u64,
    /// Rows of gaps.
    pub gaps: u64,
}

impl Remains {
    /// Nothing.
    pub const NONE: Remains = Remains { keys: 0, segments: 0, gaps: 0 };
}

const COLUMNS: &str = "recording, stream, call, reason, evidence_id, evidence, done, requested, \
                       event, failing, verified";

/// Raises a tombstone over every stream of the party in this call that has none yet, and takes its
/// wrapped key out. Returns the events that say so.
pub(super) fn raise(
    db: &Connection,
    facts: &DecisionFacts,
    evidence: EvidenceId,
    evidence_digest: Digest,
    event: EventId,
) -> Result<Vec<Draft>, CommitError> {
    let (call, index) = (facts.call.0.as_bytes(), facts.leg.stream());
    let reason = ErasureReason::Withdrawal;
    let mut statement = db.prepare_cached(
        "INSERT INTO tombstone (recording, stream, call, reason, evidence_id, evidence, epoch,
                                done, requested, event)
         SELECT stream.recording, stream.stream, recording.call, ?4, ?5, ?6, stream.epoch, ?7, ?8,
                ?9
         FROM recording JOIN stream ON stream.recording = recording.id
         WHERE recording.call = ?1 AND stream.stream = ?2 AND stream.party_ref = ?3
         ON CONFLICT DO NOTHING
         RETURNING recording",
    )?;
    let rows = statement.query_map(
        params![
            call,
            index.0,
            facts.party_ref.0,
            word(&reason)?,
            evidence.0.as_bytes(),
            evidence_digest.0,
            ErasureStep::Tombstoned.as_str(),
            facts.time.as_micros(),
            event.0.as_bytes(),
        ],
        |row| Ok(RecordingId(Uuid::from_bytes(row.get(0)?))),
    )?;
    let recordings: Vec<RecordingId> = rows.collect::<rusqlite::Result<_>>()?;
    let mut requested = Vec::with_capacity(recordings.len());
    for recording in recordings {
        db.prepare_cached(
            "UPDATE stream SET key = NULL, withdrawn = coalesce(withdrawn, ?3)
             WHERE recording = ?1 AND stream = ?2",
        )?
        .execute(params![recording.0.as_bytes(), index.0, facts.time.as_micros()])?;
        let (scope, stream) = (ErasureScope::Stream, index);
        let call = facts.call;
        requested.push(Draft::new(ErasureRequested {
            erasure: Erasure { call, recording, scope, stream, reason, evidence, evidence_digest },
        }));
    }
    Ok(requested)
}

/// Names the event that says that a stream is to be erased.
pub(super) fn announced(
    db: &Connection,
    recording: RecordingId,
    index: StreamIndex,
    event: EventId,
) -> Result<(), CommitError> {
    db.prepare_cached("UPDATE tombstone SET event = ?3 WHERE recording = ?1 AND stream = ?2")?
        .execute(params![recording.0.as_bytes(), index.0, event.0.as_bytes()])?;
    Ok(())
}

/// Notes that a step is done. Once the files are gone, the rows about them go too.
pub(super) fn advance(
    db: &Connection,
    stream: StreamId,
    done: ErasureStep,
    at: Timestamp,
) -> Result<Option<Draft>, CommitError> {
    let (recording, index) = (stream.recording.0.as_bytes(), stream.index.0);
    if done == ErasureStep::FilesRemoved {
        keep_links(db, stream)?;
        for table in ["segment", "gap"] {
            db.prepare_cached(&format!(
                "DELETE FROM {table} WHERE recording = ?1 AND stream = ?2"
            ))?
            .execute(params![recording, index])?;
        }
    }
    let verified = (done == ErasureStep::Verified).then_some(at.as_micros());
    let noted = db
        .prepare_cached(
            "UPDATE tombstone SET done = ?3, verified = coalesce(verified, ?4),
                 failing = CASE WHEN ?4 IS NULL THEN failing END
             WHERE recording = ?1 AND stream = ?2",
        )?
        .execute(params![recording, index, done.as_str(), verified])?;
    if noted == 0 {
        return Err(CommitError::Conflict(format!("stream {stream} is not to be erased")));
    }
    match verified {
        Some(_) => settle(db, stream.recording, at),
        None => Ok(None),
    }
}

/// Keeps the digests of a stream's manifests: they are links of a chain that goes on.
fn keep_links(db: &Connection, stream: StreamId) -> Result<(), CommitError> {
    db.prepare_cached(
        "INSERT OR IGNORE INTO erased_manifest (recording, digest)
         SELECT recording, manifest FROM segment
         WHERE recording = ?1 AND stream = ?2 AND manifest IS NOT NULL",
    )?
    .execute(params![stream.recording.0.as_bytes(), stream.index.0])?;
    Ok(())
}

/// Keeps the digest of a manifest that the catalog may never have heard of.
pub(super) fn keep_link(
    db: &Connection,
    stream: StreamId,
    manifest: Digest,
) -> Result<(), CommitError> {
    db.prepare_cached("INSERT OR IGNORE INTO erased_manifest (recording, digest) VALUES (?1, ?2)")?
        .execute(params![stream.recording.0.as_bytes(), manifest.0])?;
    Ok(())
}

/// Notes since when a step fails.
pub(super) fn failing(db: &Connection, stream: StreamId, at: Timestamp) -> Result<(), CommitError> {
    db.prepare_cached(
        "UPDATE tombstone SET failing = coalesce(failing, ?3)
         WHERE recording = ?1 AND stream = ?2 AND verified IS NULL",
    )?
    .execute(params![stream.recording.0.as_bytes(), stream.index.0, at.as_micros()])?;
    Ok(())
}

/// Whether a stream is erased, or about to be: nothing is added to it.
pub(super) fn stands(db: &Connection, stream: StreamId) -> Result<bool, CommitError> {
    Ok(db
        .prepare_cached("SELECT 1 FROM tombstone WHERE recording = ?1 AND stream = ?2")?
        .exists(params![stream.recording.0.as_bytes(), stream.index.0])?)
}

/// A recording that has ended, and of which nothing is left, is erased. Returns the event that says
/// so.
///
/// Of one that was sealed, all segments are known, so that a permitted stream without any never
/// held anything. Of one that failed, files may be found that the catalog does not know.
pub(super) fn settle(
    db: &Connection,
    recording: RecordingId,
    at: Timestamp,
) -> Result<Option<Draft>, CommitError> {
    let id = recording.0.as_bytes();
    let ended = db
        .prepare_cached(
            "UPDATE recording SET state = 'erased', expires = NULL
             WHERE id = ?1 AND state IN ('sealed', 'failed')
               AND EXISTS (SELECT 1 FROM tombstone WHERE recording = ?1)
               AND NOT EXISTS (SELECT 1 FROM tombstone
                               WHERE recording = ?1 AND verified IS NULL)
               AND NOT EXISTS (
                   SELECT 1 FROM stream
                   WHERE stream.recording = ?1
                     AND NOT EXISTS (SELECT 1 FROM tombstone
                                     WHERE tombstone.recording = ?1
                                       AND tombstone.stream = stream.stream)
                     AND (recording.state = 'failed'
                          OR EXISTS (SELECT 1 FROM segment
                                     WHERE segment.recording = ?1
                                       AND segment.stream = stream.stream)))
             RETURNING call",
        )?
        .query_map([id], |row| Ok(CallId(Uuid::from_bytes(row.get(0)?))))?
        .next()
        .transpose()?;
    let Some(call) = ended else { return Ok(None) };
    let streams = db
        .prepare_cached("SELECT stream FROM tombstone WHERE recording = ?1 ORDER BY stream")?
        .query_map([id], |row| Ok(StreamIndex(row.get(0)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let reason = ErasureReason::Withdrawal;
    Ok(Some(Draft::new(RecordingErased { call, recording, at, reason, streams })))
}

impl Reader {
    /// The erasures that are not finished, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn open_erasures(&self) -> Result<Vec<Tombstone>, QueryError> {
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM tombstone WHERE verified IS NULL ORDER BY requested"
        ))?;
        let rows = statement.query_and_then([], tombstone)?;
        rows.collect()
    }

    /// The streams of a recording that are erased, or about to be.
    ///
    /// # Errors
    /// When the database fails.
    pub fn erasures_of(&self, recording: RecordingId) -> Result<Vec<Tombstone>, QueryError> {
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM tombstone WHERE recording = ?1 ORDER BY stream"
        ))?;
        let rows = statement.query_and_then([recording.0.as_bytes()], tombstone)?;
        rows.collect()
    }

    /// The digests of a recording's manifests that were erased with their segments.
    ///
    /// # Errors
    /// When the database fails.
    pub fn erased_manifests(&self, recording: RecordingId) -> Result<Vec<Digest>, QueryError> {
        let mut statement = self.db.prepare_cached(
            "SELECT digest FROM erased_manifest WHERE recording = ?1 ORDER BY digest",
        )?;
        let rows = statement.query_map([recording.0.as_bytes()], |row| Ok(Digest(row.get(0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What the catalog still holds of a stream.
    ///
    /// # Errors
    /// When the database fails.
    pub fn remains_of(&self, stream: StreamId) -> Result<Remains, QueryError> {
        let count = |sql: &str| -> Result<u64, QueryError> {
            let values = params![stream.recording.0.as_bytes(), stream.index.0];
            let count: i64 = self.db.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
            Ok(count.unsigned_abs())
        };
        Ok(Remains {
            keys: count(
                "SELECT count(*) FROM stream
                 WHERE recording = ?1 AND stream = ?2 AND key IS NOT NULL",
            )?,
            segments: count("SELECT count(*) FROM segment WHERE recording = ?1 AND stream = ?2")?,
            gaps: count("SELECT count(*) FROM gap WHERE recording = ?1 AND stream = ?2")?,
        })
    }

    /// The epoch whose key wrapped the data key of an erased stream: once that key is destroyed,
    /// the erasure is final.
    ///
    /// # Errors
    /// When the database fails.
    pub fn epoch_of_erased(&self, stream: StreamId) -> Result<Option<Epoch>, QueryError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT epoch FROM tombstone WHERE recording = ?1 AND stream = ?2")?;
        let values = params![stream.recording.0.as_bytes(), stream.index.0];
        let mut rows = statement.query_map(values, |row| row.get::<_, Option<u32>>(0))?;
        Ok(rows.next().transpose()?.flatten().map(Epoch))
    }
}

fn tombstone(row: &Row<'_>) -> Result<Tombstone, QueryError> {
    let recording = RecordingId(Uuid::from_bytes(row.get(0)?));
    let (reason, done): (String, String) = (row.get(3)?, row.get(6)?);
    Ok(Tombstone {
        stream: StreamId { recording, index: StreamIndex(row.get(1)?) },
        call: CallId(Uuid::from_bytes(row.get(2)?)),
        reason: match reason.as_str() {
            "withdrawal" => ErasureReason::Withdrawal,
            _ => return Err(QueryError::Damaged { what: "a reason to erase", value: reason }),
        },
        evidence: EvidenceId(Uuid::from_bytes(row.get(4)?)),
        evidence_digest: Digest(row.get(5)?),
        done: ErasureStep::ALL
            .into_iter()
            .find(|step| step.as_str() == done)
            .ok_or(QueryError::Damaged { what: "a step of an erasure", value: done })?,
        requested: Timestamp::from_micros(row.get(7)?),
        event: EventId(Uuid::from_bytes(row.get(8)?)),
        failing: row.get::<_, Option<i64>>(9)?.map(Timestamp::from_micros),
        verified: row.get::<_, Option<i64>>(10)?.map(Timestamp::from_micros),
    })
}

//! Finding recordings, and everything in one.

use rusqlite::types::Value;
use rusqlite::{Row, params, params_from_iter};
use uuid::Uuid;

use crate::catalog::queries::wrapped_form;
use crate::catalog::{
    Filter, GapRow, Integrity, ParticipantRow, PermissionRow, QueryError, Reader, RecordingDetail,
    RecordingRow, RecordingState, SegmentRow, StreamRow, Unfinished, UnfinishedStream,
};
use crate::ids::{CallId, Digest, EvidenceId, Leg, PartyRef, RecordingId, StreamId, StreamIndex};
use crate::time::Timestamp;

/// The columns that [`recording_row`] reads.
const COLUMNS: &str = "id, call, state, truncated, policy, policy_digest, basis, purposes, \
                       controller, scope, began, started, ended, expires, result";

impl Reader {
    /// The recordings that a filter lets through, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn recordings(&self, filter: &Filter) -> Result<Vec<RecordingRow>, QueryError> {
        let (sql, values) = search(filter);
        let mut statement = self.db.prepare_cached(&sql)?;
        let rows = statement.query_and_then(params_from_iter(values), recording_row)?;
        let mut recordings = rows.collect::<Result<Vec<_>, QueryError>>()?;
        for recording in &mut recordings {
            recording.parties = self.participants(recording.call)?;
        }
        Ok(recordings)
    }

    /// How the database goes about a search.
    #[cfg(test)]
    pub(super) fn plan(&self, filter: &Filter) -> Result<Vec<String>, QueryError> {
        let (sql, values) = search(filter);
        let mut statement = self.db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
        let rows = statement.query_map(params_from_iter(values), |row| row.get(3))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// One recording with everything in it; `None` when there is no such recording.
    ///
    /// # Errors
    /// When the database fails.
    pub fn recording(&self, id: RecordingId) -> Result<Option<RecordingDetail>, QueryError> {
        let row = self
            .db
            .prepare_cached(&format!("SELECT {COLUMNS} FROM recording WHERE id = ?1"))?
            .query_and_then([id.0.as_bytes()], recording_row)?
            .next()
            .transpose()?;
        let Some(mut recording) = row else { return Ok(None) };
        recording.parties = self.participants(recording.call)?;
        Ok(Some(RecordingDetail {
            recording,
            streams: self.streams(id)?.into_iter().map(|stream| stream.row).collect(),
            segments: self.segments(id)?,
            gaps: self.gaps(id)?,
            permissions: self.permissions(id)?,
        }))
    }

    /// The recordings that have neither been sealed nor failed. When nothing runs, those that a
    /// crash left, to be sealed at start.
    ///
    /// # Errors
    /// When the database fails.
    pub fn unfinished(&self) -> Result<Vec<Unfinished>, QueryError> {
        self.with_keys("state IN ('permitted', 'capturing', 'paused')")
    }

    /// The recordings that failed: a disk that was full may have left their last segments open.
    ///
    /// # Errors
    /// When the database fails.
    pub fn failed(&self) -> Result<Vec<Unfinished>, QueryError> {
        self.with_keys("state = 'failed'")
    }

    fn with_keys(&self, which: &str) -> Result<Vec<Unfinished>, QueryError> {
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM recording WHERE {which} ORDER BY began"
        ))?;
        let rows = statement.query_and_then([], recording_row)?;
        rows.map(|row| {
            let mut recording = row?;
            recording.parties = self.participants(recording.call)?;
            let (streams, segments) = (self.streams(recording.id)?, self.segments(recording.id)?);
            Ok(Unfinished { recording, streams, segments })
        })
        .collect()
    }

    /// How many recordings are in each state.
    ///
    /// # Errors
    /// When the database fails.
    pub fn recordings_by_state(&self) -> Result<Vec<(RecordingState, u64)>, QueryError> {
        let mut statement =
            self.db.prepare_cached("SELECT state, count(*) FROM recording GROUP BY state")?;
        let rows = statement.query_and_then([], |row| {
            Ok((state_of(row.get(0)?)?, row.get::<_, i64>(1)?.unsigned_abs()))
        })?;
        rows.collect()
    }

    fn participants(&self, call: CallId) -> Result<Vec<ParticipantRow>, QueryError> {
        let mut statement = self.db.prepare_cached(
            "SELECT leg, party_ref, joined, departed FROM participant
             WHERE call = ?1 ORDER BY joined, leg DESC",
        )?;
        let rows = statement.query_and_then([call.0.as_bytes()], |row| {
            let leg: String = row.get(0)?;
            Ok(ParticipantRow {
                leg: Leg::BOTH
                    .into_iter()
                    .find(|known| known.as_str() == leg)
                    .ok_or(QueryError::Damaged { what: "a leg", value: leg })?,
                party_ref: PartyRef(row.get(1)?),
                joined: Timestamp::from_micros(row.get(2)?),
                left: time(row, 3)?,
            })
        })?;
        rows.collect()
    }

    fn streams(&self, recording: RecordingId) -> Result<Vec<UnfinishedStream>, QueryError> {
        let mut statement = self.db.prepare_cached(
            "SELECT stream, party_ref, evidence_id, evidence, granted, withdrawn, key, codecs
             FROM stream WHERE recording = ?1 ORDER BY stream",
        )?;
        let mut erased = self.erasures_of(recording)?;
        let rows = statement.query_and_then([recording.0.as_bytes()], |row| {
            let index = StreamIndex(row.get(0)?);
            let tombstone = erased.iter().position(|tombstone| tombstone.stream.index == index);
            Ok(UnfinishedStream {
                stream: StreamId { recording, index },
                row: StreamRow {
                    stream: index,
                    party_ref: PartyRef(row.get(1)?),
                    evidence: EvidenceId(Uuid::from_bytes(row.get(2)?)),
                    evidence_digest: Digest(row.get(3)?),
                    granted: Timestamp::from_micros(row.get(4)?),
                    withdrawn: time(row, 5)?,
                    codecs: row.get(7)?,
                    erased: tombstone.map(|at| erased.swap_remove(at)),
                },
                key: row.get::<_, Option<String>>(6)?.as_deref().map(wrapped_form).transpose()?,
            })
        })?;
        rows.collect()
    }

    fn segments(&self, recording: RecordingId) -> Result<Vec<SegmentRow>, QueryError> {
        let mut statement = self.db.prepare_cached(
            "SELECT stream, segment, state, began, ended, bytes, sha256, key, location, manifest
             FROM segment WHERE recording = ?1 ORDER BY stream, segment",
        )?;
        let rows = statement.query_and_then([recording.0.as_bytes()], |row| {
            let state: String = row.get(2)?;
            Ok(SegmentRow {
                stream: StreamIndex(row.get(0)?),
                index: row.get(1)?,
                integrity: match state.as_str() {
                    "sealed" => Integrity::Whole,
                    "truncated" => Integrity::Truncated,
                    _ => {
                        return Err(QueryError::Damaged {
                            what: "the state of a segment",
                            value: state,
                        });
                    }
                },
                start: Timestamp::from_micros(row.get(3)?),
                end: Timestamp::from_micros(row.get(4)?),
                bytes: row.get::<_, i64>(5)?.unsigned_abs(),
                sha256: Digest(row.get(6)?),
                key: row.get(7)?,
                location: row.get(8)?,
                manifest: row.get::<_, Option<[u8; 32]>>(9)?.map(Digest),
            })
        })?;
        rows.collect()
    }

    fn gaps(&self, recording: RecordingId) -> Result<Vec<GapRow>, QueryError> {
        let mut statement = self.db.prepare_cached(
            "SELECT stream, began, ended, reason FROM gap
             WHERE recording = ?1 ORDER BY began, stream",
        )?;
        let rows = statement.query_and_then([recording.0.as_bytes()], |row| {
            Ok(GapRow {
                stream: StreamIndex(row.get(0)?),
                start: Timestamp::from_micros(row.get(1)?),
                end: Timestamp::from_micros(row.get(2)?),
                reason: row.get(3)?,
            })
        })?;
        rows.collect()
    }

    fn permissions(&self, recording: RecordingId) -> Result<Vec<PermissionRow>, QueryError> {
        let mut statement = self.db.prepare_cached(
            "SELECT id, digest, agent, sequence, stream, party_ref, gate, outcome, at
             FROM evidence WHERE recording = ?1 ORDER BY agent, sequence",
        )?;
        let rows = statement.query_and_then(params![recording.0.as_bytes()], |row| {
            Ok(PermissionRow {
                evidence: EvidenceId(Uuid::from_bytes(row.get(0)?)),
                digest: Digest(row.get(1)?),
                agent: row.get(2)?,
                sequence: row.get::<_, i64>(3)?.unsigned_abs(),
                stream: StreamIndex(row.get(4)?),
                party_ref: PartyRef(row.get(5)?),
                gate: row.get(6)?,
                outcome: row.get(7)?,
                at: Timestamp::from_micros(row.get(8)?),
            })
        })?;
        rows.collect()
    }
}

/// The statement for a filter, and its values.
fn search(filter: &Filter) -> (String, Vec<Value>) {
    let mut sql = format!("SELECT {COLUMNS} FROM recording WHERE true");
    let mut values: Vec<Value> = Vec::new();
    let mut only = |condition: &str, value: Value| {
        values.push(value);
        sql.push_str(&condition.replace("?#", &format!("?{}", values.len())));
    };
    if let Some(party) = filter.party {
        only(
            " AND id IN (SELECT recording FROM stream WHERE party_ref = ?#
                   UNION SELECT recording.id FROM participant
                         JOIN recording ON recording.call = participant.call
                         WHERE participant.party_ref = ?#)",
            Value::Blob(party.0.to_vec()),
        );
    }
    if let Some(call) = filter.call {
        only(" AND call = ?#", Value::Blob(call.0.as_bytes().to_vec()));
    }
    // A `+` keeps the database from choosing an index that fits and is the wrong one: a party
    // and a call have few recordings, and most of all recordings are sealed.
    let few = filter.party.is_some() || filter.call.is_some();
    let sealed = filter.state == Some(RecordingState::Sealed);
    if let Some(state) = filter.state {
        let plus = if few || (sealed && filter.policy.is_some()) { "+" } else { "" };
        let state = Value::Text(state.as_str().to_owned());
        only(&format!(" AND {plus}state = ?#"), state);
    }
    if let Some(policy) = &filter.policy {
        let plus = if few || (filter.state.is_some() && !sealed) { "+" } else { "" };
        only(&format!(" AND {plus}policy = ?#"), Value::Text(policy.clone()));
    }
    let began = if few { "+began" } else { "began" };
    if let Some(from) = filter.from {
        only(&format!(" AND {began} >= ?#"), Value::Integer(from.as_micros()));
    }
    if let Some(until) = filter.until {
        only(&format!(" AND {began} < ?#"), Value::Integer(until.as_micros()));
    }
    let order = if few { "+began DESC, +id DESC" } else { "began DESC, id DESC" };
    only(&format!(" ORDER BY {order} LIMIT ?#"), Value::Integer(filter.limit.into()));
    only(" OFFSET ?#", Value::Integer(filter.offset.into()));
    (sql, values)
}

/// A row of [`COLUMNS`], without its parties.
fn recording_row(row: &Row<'_>) -> Result<RecordingRow, QueryError> {
    let purposes: String = row.get(7)?;
    Ok(RecordingRow {
        id: RecordingId(Uuid::from_bytes(row.get(0)?)),
        call: CallId(Uuid::from_bytes(row.get(1)?)),
        state: state_of(row.get(2)?)?,
        integrity: if row.get(3)? { Integrity::Truncated } else { Integrity::Whole },
        policy: row.get(4)?,
        policy_digest: Digest(row.get(5)?),
        basis: row.get(6)?,
        purposes: serde_json::from_str(&purposes)
            .map_err(|_| QueryError::Damaged { what: "a list of purposes", value: purposes })?,
        controller: row.get(8)?,
        scope: row.get(9)?,
        began: Timestamp::from_micros(row.get(10)?),
        started: time(row, 11)?,
        ended: time(row, 12)?,
        expires: time(row, 13)?,
        result: row.get(14)?,
        parties: Vec::new(),
    })
}

fn state_of(text: String) -> Result<RecordingState, QueryError> {
    text.parse().map_err(|_| QueryError::Damaged { what: "the state of a recording", value: text })
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
}

//! The outbox: events as they are published, kept until JetStream has them and a while longer.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::catalog::{CommitError, QueryError, Reader};
use crate::clock;
use crate::event::{Draft, Origin, finish};
use crate::ids::{CallId, EventId, RecordingId};
use crate::time::Timestamp;

/// An event, ready to publish: `json` goes out byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its place in the outbox. Grows with every event; numbers are never used twice.
    pub sequence: u64,
    /// Also its `Nats-Msg-Id`.
    pub id: EventId,
    /// What it is about.
    pub about: Uuid,
    /// The call it belongs to.
    pub call: Option<CallId>,
    /// The recording it belongs to.
    pub recording: Option<RecordingId>,
    /// When it happened.
    pub at: Timestamp,
    /// Where it is published, as it was stored. Whoever publishes it checks it again: one row that
    /// is damaged keeps no other from being read.
    pub subject: String,
    /// The CloudEvents envelope.
    pub json: String,
    /// JetStream's acknowledgement, once there is one.
    pub sent: Option<Acknowledged>,
    /// Why it can never be published, if so.
    pub set_aside: Option<String>,
}

/// What JetStream acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The JetStream stream.
    pub stream: String,
    /// The sequence in it.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
}

/// An acknowledgement to note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The event's place in the outbox.
    pub sequence: u64,
    /// What JetStream said.
    pub acknowledged: Acknowledged,
}

/// How much waits to be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxStatus {
    /// Events that JetStream has not acknowledged, those set aside not counted.
    pub unsent: u64,
    /// When the oldest of them happened.
    pub oldest: Option<Timestamp>,
    /// The last event's place; 0 when there has been none.
    pub last: u64,
}

/// How many rows a transaction prunes.
const PRUNE_AT_ONCE: u32 = 1000;

/// Gives a draft its identifier and its number, and stores it. Returns its place too.
pub(super) fn append(
    db: &Connection,
    draft: Draft,
    at: Timestamp,
    origin: &Origin,
) -> Result<(EventId, u64), CommitError> {
    let about = draft.about(origin);
    let sequence: u64 = db
        .prepare_cached(
            "INSERT INTO event_sequence (about, sequence) VALUES (?1, 1)
             ON CONFLICT (about) DO UPDATE SET sequence = sequence + 1 RETURNING sequence",
        )?
        .query_row([about.as_bytes()], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)?;
    let event = finish(draft, clock::mint(), at, sequence, origin)?;
    db.prepare_cached(
        "INSERT INTO outbox (id, about, entity, call, recording, at, subject, json)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        event.id.0.as_bytes(),
        event.about.as_bytes(),
        event.kind.entity().as_str(),
        event.correlation.map(|call| *call.0.as_bytes()),
        event.recording.map(|recording| *recording.0.as_bytes()),
        event.time.as_micros(),
        event.subject.as_str(),
        event.json,
    ])?;
    Ok((event.id, db.last_insert_rowid().unsigned_abs()))
}

pub(super) fn mark_sent(db: &Connection, sent: &[Sent]) -> Result<(), CommitError> {
    let mut update = db.prepare_cached(
        "UPDATE outbox SET js_stream = ?2, js_sequence = ?3, acknowledged = ?4
         WHERE sequence = ?1",
    )?;
    for Sent { sequence, acknowledged } in sent {
        update.execute(params![
            signed(*sequence),
            acknowledged.stream,
            signed(acknowledged.sequence),
            acknowledged.at.as_micros(),
        ])?;
    }
    Ok(())
}

pub(super) fn mark_unsent(db: &Connection, rows: &[u64]) -> Result<(), CommitError> {
    let mut update = db.prepare_cached(
        "UPDATE outbox SET js_stream = NULL, js_sequence = NULL, acknowledged = NULL
         WHERE sequence = ?1",
    )?;
    for sequence in rows {
        update.execute([signed(*sequence)])?;
    }
    Ok(())
}

/// Takes a row that can never be published out of the way of the others.
pub(super) fn set_aside(db: &Connection, row: u64, reason: &str) -> Result<(), CommitError> {
    db.prepare_cached(
        "UPDATE outbox SET set_aside = ?2 WHERE sequence = ?1 AND acknowledged IS NULL",
    )?
    .execute(params![signed(row), reason])?;
    Ok(())
}

/// Removes some of the rows that were acknowledged before `before`, or happened before it and were
/// set aside, and says how many.
pub(super) fn prune(db: &Connection, before: Timestamp) -> Result<u64, CommitError> {
    let mut delete = db.prepare_cached(
        "DELETE FROM outbox WHERE sequence IN
         (SELECT sequence FROM outbox WHERE acknowledged < ?1
          UNION ALL SELECT sequence FROM outbox WHERE set_aside IS NOT NULL AND at < ?1
          LIMIT ?2)",
    )?;
    Ok(delete.execute(params![before.as_micros(), PRUNE_AT_ONCE])? as u64)
}

/// The place of the last event that was ever stored.
pub(super) fn last(db: &Connection) -> rusqlite::Result<u64> {
    let last: Option<i64> = db
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(0).unsigned_abs())
}

impl Reader {
    /// Events after the place `cursor`, in order, sent or not: what `events --follow` reads.
    ///
    /// # Errors
    /// When the database fails.
    pub fn outbox_after(&self, cursor: u64, limit: u32) -> Result<Vec<OutboxRow>, QueryError> {
        self.outbox_rows("sequence > ?1 ORDER BY sequence LIMIT ?2", params![signed(cursor), limit])
    }

    /// Events after the place `cursor` that JetStream has not acknowledged, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub fn unsent(&self, cursor: u64, limit: u32) -> Result<Vec<OutboxRow>, QueryError> {
        self.outbox_rows(
            "acknowledged IS NULL AND set_aside IS NULL AND sequence > ?1
             ORDER BY sequence LIMIT ?2",
            params![signed(cursor), limit],
        )
    }

    /// Events that JetStream acknowledged in `stream` below its sequence `below`, the highest
    /// first: what the publisher compares when it connects again.
    ///
    /// # Errors
    /// When the database fails.
    pub fn acknowledged(
        &self,
        stream: &str,
        below: u64,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, QueryError> {
        self.outbox_rows(
            "js_stream = ?1 AND js_sequence < ?2 ORDER BY js_sequence DESC LIMIT ?3",
            params![stream, signed(below), limit],
        )
    }

    /// Events that another stream than `stream` acknowledged, in any order.
    ///
    /// # Errors
    /// When the database fails.
    pub fn acknowledged_elsewhere(
        &self,
        stream: &str,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, QueryError> {
        self.outbox_rows(
            // `<>` would walk all that is acknowledged here.
            "js_sequence IS NOT NULL AND (js_stream < ?1 OR js_stream > ?1) LIMIT ?2",
            params![stream, limit],
        )
    }

    /// The cursor from which [`Reader::outbox_after`] yields what happened at `at` and later.
    ///
    /// # Errors
    /// When the database fails.
    pub fn outbox_cursor(&self, at: Timestamp) -> Result<u64, QueryError> {
        let first: Option<i64> = self
            .db
            .prepare_cached("SELECT min(sequence) FROM outbox WHERE at >= ?1")?
            .query_row([at.as_micros()], |row| row.get(0))?;
        match first {
            Some(first) => Ok(first.unsigned_abs().saturating_sub(1)),
            None => Ok(last(&self.db)?),
        }
    }

    /// How much waits to be published.
    ///
    /// # Errors
    /// When the database fails.
    pub fn outbox_status(&self) -> Result<OutboxStatus, QueryError> {
        let unsent: i64 = self
            .db
            .prepare_cached(
                "SELECT count(*) FROM outbox WHERE acknowledged IS NULL AND set_aside IS NULL",
            )?
            .query_row([], |row| row.get(0))?;
        let oldest: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT at FROM outbox WHERE acknowledged IS NULL AND set_aside IS NULL
                 ORDER BY sequence LIMIT 1",
            )?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(OutboxStatus {
            unsent: unsent.unsigned_abs(),
            oldest: oldest.map(Timestamp::from_micros),
            last: last(&self.db)?,
        })
    }

    fn outbox_rows(
        &self,
        which: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<OutboxRow>, QueryError> {
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT sequence, id, about, call, recording, at, subject, json,
                    js_stream, js_sequence, acknowledged, set_aside
             FROM outbox WHERE {which}"
        ))?;
        let rows = statement.query_and_then(values, outbox_row)?;
        rows.collect()
    }
}

fn outbox_row(row: &Row<'_>) -> Result<OutboxRow, QueryError> {
    let uuid = |column| row.get::<_, [u8; 16]>(column).map(Uuid::from_bytes);
    let maybe = |column| -> rusqlite::Result<Option<Uuid>> {
        Ok(row.get::<_, Option<[u8; 16]>>(column)?.map(Uuid::from_bytes))
    };
    let stream: Option<String> = row.get(8)?;
    let sent = match (stream, row.get::<_, Option<i64>>(9)?, row.get::<_, Option<i64>>(10)?) {
        (Some(stream), Some(sequence), Some(at)) => Some(Acknowledged {
            stream,
            sequence: sequence.unsigned_abs(),
            at: Timestamp::from_micros(at),
        }),
        _ => None,
    };
    Ok(OutboxRow {
        sequence: row.get::<_, i64>(0)?.unsigned_abs(),
        id: EventId(uuid(1)?),
        about: uuid(2)?,
        call: maybe(3)?.map(CallId),
        recording: maybe(4)?.map(RecordingId),
        at: Timestamp::from_micros(row.get(5)?),
        subject: row.get(6)?,
        json: row.get(7)?,
        sent,
        set_aside: row.get(11)?,
    })
}

/// SQLite's integers are signed; none of ours reaches 2^63.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

//! Reading the catalog: a connection that cannot write, beside a running agent or without one.

use std::fmt;
use std::path::Path;

use ed25519_dalek::VerifyingKey;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::catalog::{FILE, OpenError, QueryError, open, schema};
use crate::consent::evidence::{Head, Record};
use crate::ids::{CallId, EvidenceId, PartyRef, Pii, RecordingId, StreamId};
use crate::keys::{ReferenceKey, WrappedKey};

/// A connection for queries. Blocks: an agent calls it through [`crate::catalog::Catalog::read`],
/// a command directly.
pub struct Reader {
    pub(super) db: Connection,
}

impl Reader {
    /// Opens the catalog in a data folder.
    ///
    /// # Errors
    /// [`OpenError`], whose message names the remedy.
    pub fn open(data: &Path) -> Result<Self, OpenError> {
        Self::at(&data.join(FILE))
    }

    pub(super) fn at(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { db: schema::open_reader(path)? })
    }

    /// The agents that have a chain here.
    ///
    /// # Errors
    /// When the database fails.
    pub fn agents(&self) -> Result<Vec<String>, QueryError> {
        let mut statement = self.db.prepare_cached("SELECT agent FROM chain ORDER BY agent")?;
        let agents = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(agents)
    }

    /// Where an agent's chain was noted to end.
    ///
    /// # Errors
    /// When the database fails.
    pub fn chain_head(&self, agent: &str) -> Result<Head, QueryError> {
        Ok(open::head(&self.db, agent)?)
    }

    /// The public half of a signing key that wrote evidence here.
    ///
    /// # Errors
    /// When the database fails, or what it holds is no key.
    pub fn verifying_key(&self, id: &str) -> Result<Option<VerifyingKey>, QueryError> {
        let public: Option<[u8; 32]> = self
            .db
            .prepare_cached("SELECT public FROM signing_key WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        public
            .map(|public| {
                VerifyingKey::from_bytes(&public).map_err(|_| QueryError::Damaged {
                    what: "a signing key",
                    value: hex::encode(public),
                })
            })
            .transpose()
    }

    /// An agent's chain from after the record `after`, in order, as it is read: a few records at
    /// a time, however long it is.
    #[must_use]
    pub fn evidence_chain(&self, agent: &str, after: u64) -> EvidenceRows<'_> {
        EvidenceRows {
            reader: self,
            agent: agent.to_owned(),
            after,
            read: Vec::new(),
            ended: false,
        }
    }

    /// The evidence about a recording, in order: permissions, refusals, withdrawals.
    ///
    /// # Errors
    /// When the database fails or a record is not one.
    pub fn evidence_of(&self, recording: RecordingId) -> Result<Vec<Record>, QueryError> {
        self.evidence("recording = ?1 ORDER BY agent, sequence", params![recording.0.as_bytes()])
    }

    /// The recording that the newest decision is about, whether or not anything was recorded.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_decided(&self) -> Result<Option<RecordingId>, QueryError> {
        let id: Option<[u8; 16]> = self
            .db
            .prepare_cached("SELECT recording FROM evidence ORDER BY rowid DESC LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(id.map(|id| RecordingId(Uuid::from_bytes(id))))
    }

    /// The evidence about a party, in order.
    ///
    /// # Errors
    /// When the database fails or a record is not one.
    pub fn evidence_about(&self, party: PartyRef) -> Result<Vec<Record>, QueryError> {
        self.evidence("party_ref = ?1 ORDER BY agent, sequence", params![party.0])
    }

    /// One evidence record.
    ///
    /// # Errors
    /// When the database fails or the record is not one.
    pub fn evidence_record(&self, id: EvidenceId) -> Result<Option<Record>, QueryError> {
        Ok(self.evidence("id = ?1", params![id.0.as_bytes()])?.pop())
    }

    /// The wrapped data key of a stream; `None` when there is no such stream or its key is
    /// destroyed.
    ///
    /// # Errors
    /// When the database fails or what it holds is no wrapped key.
    pub fn wrapped_key(&self, stream: StreamId) -> Result<Option<WrappedKey>, QueryError> {
        let key: Option<Option<String>> = self
            .db
            .prepare_cached("SELECT key FROM stream WHERE recording = ?1 AND stream = ?2")?
            .query_row(params![stream.recording.0.as_bytes(), stream.index.0], |row| row.get(0))
            .optional()?;
        key.flatten().as_deref().map(wrapped_form).transpose()
    }

    /// A party's number in clear, for a person who may see it.
    ///
    /// # Errors
    /// When the database fails, or `key` is not the one that encrypted the number.
    pub fn number(
        &self,
        party: PartyRef,
        key: &ReferenceKey,
    ) -> Result<Option<Pii<String>>, QueryError> {
        let sealed: Option<Option<Vec<u8>>> = self
            .db
            .prepare_cached("SELECT number FROM party WHERE party_ref = ?1")?
            .query_row([party.0], |row| row.get(0))
            .optional()?;
        sealed
            .flatten()
            .map(|sealed| key.open_sealed(party, &sealed).map_err(|_| QueryError::Number))
            .transpose()
    }

    /// Calls that a crash left without an end.
    ///
    /// # Errors
    /// When the database fails.
    pub fn open_calls(&self) -> Result<Vec<CallId>, QueryError> {
        let mut statement =
            self.db.prepare_cached("SELECT id FROM call WHERE ended IS NULL ORDER BY id")?;
        let calls = statement
            .query_map([], |row| Ok(CallId(Uuid::from_bytes(row.get(0)?))))?
            .collect::<Result<_, _>>()?;
        Ok(calls)
    }

    /// Reads the whole database and names what is damaged; empty when nothing is.
    ///
    /// # Errors
    /// When the database fails.
    pub fn integrity(&self) -> Result<Vec<String>, QueryError> {
        let mut statement = self.db.prepare("PRAGMA integrity_check")?;
        let lines: Vec<String> =
            statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    fn evidence(
        &self,
        which: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<Record>, QueryError> {
        let mut statement =
            self.db.prepare_cached(&format!("SELECT id, record FROM evidence WHERE {which}"))?;
        let rows = statement.query_and_then(values, |row| record_of(row, 0))?;
        rows.collect()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

pub(super) fn wrapped_form(text: &str) -> Result<WrappedKey, QueryError> {
    text.parse().map_err(|_| QueryError::Damaged { what: "a wrapped key", value: text.to_owned() })
}

/// The records of one chain, read in portions. Ends after the first error.
#[derive(Debug)]
pub struct EvidenceRows<'a> {
    reader: &'a Reader,
    agent: String,
    /// The place of the last record that was read: the row's, whatever the record says.
    after: u64,
    /// Read and not yet handed out, last first.
    read: Vec<(u64, Record)>,
    ended: bool,
}

impl EvidenceRows<'_> {
    const PORTION: u32 = 256;

    fn portion(&self) -> Result<Vec<(u64, Record)>, QueryError> {
        let after = i64::try_from(self.after).unwrap_or(i64::MAX);
        let mut statement = self.reader.db.prepare_cached(
            "SELECT sequence, id, record FROM evidence
             WHERE agent = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
        )?;
        let rows = statement.query_and_then(params![self.agent, after, Self::PORTION], |row| {
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), record_of(row, 1)?))
        })?;
        rows.collect()
    }
}

impl Iterator for EvidenceRows<'_> {
    type Item = Result<Record, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read.is_empty() && !self.ended {
            match self.portion() {
                Ok(records) => self.read = records.into_iter().rev().collect(),
                Err(why) => {
                    self.ended = true;
                    return Some(Err(why));
                }
            }
        }
        let Some((sequence, record)) = self.read.pop() else {
            self.ended = true;
            return None;
        };
        self.after = sequence;
        Some(Ok(record))
    }
}

fn record_of(row: &Row<'_>, column: usize) -> Result<Record, QueryError> {
    let id = EvidenceId(Uuid::from_bytes(row.get(column)?));
    let text: String = row.get(column + 1)?;
    Record::parse(&text).map_err(|why| QueryError::Evidence { id, why })
}

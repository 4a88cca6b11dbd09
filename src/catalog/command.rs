//! Commands that were given from outside the calls: who, when, what, and what became of it.

use rusqlite::{Connection, Row, params};
use serde::Serialize;
use uuid::Uuid;

use crate::catalog::{CommitError, QueryError, Reader, word};
use crate::event::Word;
use crate::ids::{CallId, Leg, RecordingId};
use crate::time::Timestamp;

/// One command, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandEntry {
    /// Its own identifier; `None` for one that had none.
    pub id: Option<Uuid>,
    /// What was wanted.
    pub verb: Word,
    /// How it came.
    pub way: CommandWay,
    /// Who gave it, as far as they said.
    pub actor: Option<Word>,
    /// Why, as far as they said.
    pub reason: Option<Word>,
    /// In which call.
    pub call: Option<CallId>,
    /// About which recording.
    pub recording: Option<RecordingId>,
    /// Whose permission it was about.
    pub party: Option<Leg>,
    /// When it was answered.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: CommandOutcome,
    /// Why it was refused.
    pub code: Option<&'static str>,
}

/// How a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandWay {
    /// Over the local control socket.
    Socket,
    /// Over NATS.
    Nats,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandOutcome {
    /// It was carried out.
    Done,
    /// What it asked for was so already.
    Unchanged,
    /// It was not.
    Refused,
}

/// A command as it is read back: words are as they were written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct CommandRow {
    pub id: Option<Uuid>,
    pub verb: String,
    pub way: String,
    pub actor: Option<String>,
    pub reason: Option<String>,
    pub call: Option<CallId>,
    pub recording: Option<RecordingId>,
    pub party: Option<String>,
    pub at: Timestamp,
    pub outcome: String,
    pub code: Option<String>,
}

impl Reader {
    /// The commands that were given last, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn commands(&self, limit: u32) -> Result<Vec<CommandRow>, QueryError> {
        let mut statement = self.db.prepare_cached(
            "SELECT id, verb, way, actor, reason, call, recording, party, at, outcome, code
             FROM command ORDER BY sequence DESC LIMIT ?1",
        )?;
        let rows = statement.query_map([limit], row)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<CommandRow> {
    let uuid = |index| -> rusqlite::Result<Option<Uuid>> {
        Ok(row.get::<_, Option<[u8; 16]>>(index)?.map(Uuid::from_bytes))
    };
    Ok(CommandRow {
        id: uuid(0)?,
        verb: row.get(1)?,
        way: row.get(2)?,
        actor: row.get(3)?,
        reason: row.get(4)?,
        call: uuid(5)?.map(CallId),
        recording: uuid(6)?.map(RecordingId),
        party: row.get(7)?,
        at: Timestamp::from_micros(row.get(8)?),
        outcome: row.get(9)?,
        code: row.get(10)?,
    })
}

/// Writes a command down.
pub(super) fn note(db: &Connection, entry: &CommandEntry) -> Result<(), CommitError> {
    db.prepare_cached(
        "INSERT INTO command (id, verb, way, actor, reason, call, recording, party, at, outcome,
                              code)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        entry.id.map(Uuid::into_bytes),
        entry.verb.as_str(),
        word(&entry.way)?,
        entry.actor.as_ref().map(Word::as_str),
        entry.reason.as_ref().map(Word::as_str),
        entry.call.map(|call| call.0.into_bytes()),
        entry.recording.map(|recording| recording.0.into_bytes()),
        entry.party.map(Leg::as_str),
        entry.at.as_micros(),
        word(&entry.outcome)?,
        entry.code,
    ])?;
    Ok(())
}

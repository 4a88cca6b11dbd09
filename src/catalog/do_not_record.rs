//! The do-not-record list: parties who count as having objected, before anybody asks them.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::catalog::writer::Identity;
use crate::catalog::{CommitError, QueryError, Reader};
use crate::ids::{PartyRef, Pii};
use crate::keys::ReferenceKey;
use crate::number::PartyNumber;
use crate::time::Timestamp;

/// The longest reason, and the longest name of whoever states it.
pub const MAX_REASON_BYTES: usize = 1000;

/// A party on the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedParty {
    /// Who.
    pub party_ref: PartyRef,
    /// Why, as whoever listed them put it.
    pub reason: String,
    /// Who listed them.
    pub actor: String,
    /// Since when.
    pub since: Timestamp,
}

/// Lists a party. Of one who is listed already the day stays; the reason is the new one.
pub(super) fn list(
    db: &Connection,
    identity: &Identity,
    entry: &ListedParty,
    number: &PartyNumber,
) -> Result<(), CommitError> {
    if identity.reference.party_ref(number.expose()) != entry.party_ref {
        return Err(CommitError::Conflict("a number that is not the party's".into()));
    }
    let sealed = identity
        .reference
        .seal(entry.party_ref, number.expose())
        .map_err(|why| CommitError::Unwritable(why.to_string()))?;
    db.prepare_cached(
        "INSERT INTO do_not_record (party_ref, number, reason, actor, since)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (party_ref) DO UPDATE SET reason = excluded.reason, actor = excluded.actor",
    )?
    .execute(params![
        entry.party_ref.0,
        sealed,
        entry.reason,
        entry.actor,
        entry.since.as_micros()
    ])?;
    Ok(())
}

/// Takes a party off the list.
pub(super) fn unlist(db: &Connection, party: PartyRef) -> Result<(), CommitError> {
    db.prepare_cached("DELETE FROM do_not_record WHERE party_ref = ?1")?.execute([party.0])?;
    Ok(())
}

impl Reader {
    /// The do-not-record list, the last one first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn do_not_record(&self) -> Result<Vec<ListedParty>, QueryError> {
        let mut statement = self.db.prepare_cached(
            "SELECT party_ref, reason, actor, since FROM do_not_record
             ORDER BY since DESC, party_ref",
        )?;
        let rows = statement.query_map([], listed_party)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// Everybody on the do-not-record list.
    ///
    /// # Errors
    /// When the database fails.
    pub fn listed(&self) -> Result<HashSet<PartyRef>, QueryError> {
        let mut statement = self.db.prepare_cached("SELECT party_ref FROM do_not_record")?;
        let rows = statement.query_map([], |row| Ok(PartyRef(row.get(0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A party's place on the do-not-record list, if they are on it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn is_listed(&self, party: PartyRef) -> Result<Option<ListedParty>, QueryError> {
        let found = self
            .db
            .prepare_cached(
                "SELECT party_ref, reason, actor, since FROM do_not_record WHERE party_ref = ?1",
            )?
            .query_row([party.0], listed_party)
            .optional()?;
        Ok(found)
    }

    /// The number of a listed party in clear, for a person who may see it.
    ///
    /// # Errors
    /// When the database fails, or `key` is not the one that encrypted the number.
    pub fn listed_number(
        &self,
        party: PartyRef,
        key: &ReferenceKey,
    ) -> Result<Option<Pii<String>>, QueryError> {
        let sealed: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT number FROM do_not_record WHERE party_ref = ?1")?
            .query_row([party.0], |row| row.get(0))
            .optional()?;
        sealed
            .map(|sealed| key.open_sealed(party, &sealed).map_err(|_| QueryError::Number))
            .transpose()
    }
}

fn listed_party(row: &Row<'_>) -> rusqlite::Result<ListedParty> {
    Ok(ListedParty {
        party_ref: PartyRef(row.get(0)?),
        reason: row.get(1)?,
        actor: row.get(2)?,
        since: Timestamp::from_micros(row.get(3)?),
    })
}

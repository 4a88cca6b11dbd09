//! Taking a data folder into use: one writer at a time, and a chain that ends where it was noted
//! to end.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use crate::catalog::writer::{Identity, Progress};
use crate::catalog::{OpenError, outbox, schema};
use crate::clock;
use crate::consent::evidence::Head;
use crate::ids::Digest;

/// Held for as long as somebody writes. Two writers would fork the chain.
const LOCK: &str = "catalog.lock";

/// Opens the database for writing, with the folder and the lock. Only its owner may read them.
pub(super) fn prepare(data: &Path, path: &Path) -> Result<(Connection, File), OpenError> {
    let refused = |path: &Path, why: &std::io::Error| OpenError::NotWritable {
        path: path.to_owned(),
        why: why.to_string(),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|why| refused(data, &why))?;
    let own = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|why| refused(path, &why))
    };
    let lock = own(&data.join(LOCK))?;
    lock.try_lock().map_err(|why| match why {
        TryLockError::WouldBlock => OpenError::InUse { path: path.to_owned() },
        TryLockError::Error(why) => refused(path, &why),
    })?;
    // The log and its index take the mode of the database.
    drop(own(path)?);
    Ok((schema::open_writer(path)?, lock))
}

/// Where the writer goes on: the head of this agent's chain and the end of the outbox.
pub(super) fn resume(
    db: &Connection,
    path: &Path,
    identity: &Identity,
) -> Result<Progress, OpenError> {
    let agent = identity.origin.node.as_str();
    let read = || -> rusqlite::Result<(Head, Head, u64)> {
        db.execute(
            "INSERT INTO signing_key (id, public, since) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO NOTHING",
            params![
                identity.signing_key,
                identity.signing.public().to_bytes(),
                clock::wall().as_micros()
            ],
        )?;
        let noted = head(db, agent)?;
        let last = db
            .query_row(
                "SELECT sequence, digest FROM evidence WHERE agent = ?1
                 ORDER BY sequence DESC LIMIT 1",
                [agent],
                head_of,
            )
            .optional()?
            .unwrap_or(Head::START);
        Ok((noted, last, outbox::last(db)?))
    };
    let (noted, last, outbox) = read().map_err(|why| OpenError::of(path, &why))?;
    if noted != last {
        return Err(OpenError::Chain { path: path.to_owned() });
    }
    Ok(Progress { head: noted, outbox })
}

/// Where an agent's chain was noted to end.
pub(super) fn head(db: &Connection, agent: &str) -> rusqlite::Result<Head> {
    let noted = db
        .prepare_cached("SELECT sequence, digest FROM chain WHERE agent = ?1")?
        .query_row([agent], head_of)
        .optional()?;
    Ok(noted.unwrap_or(Head::START))
}

fn head_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Head> {
    let sequence = row.get::<_, i64>(0)?.unsigned_abs();
    Ok(Head { sequence, digest: Digest(row.get(1)?) })
}

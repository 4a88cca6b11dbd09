//! The database's schema, its migrations, and how a connection is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::catalog::{CommitError, OpenError};

/// `ASST`: tells our database from anybody else's.
const APPLICATION_ID: i32 = 0x4153_5354;

/// One step a version: step `n` leads from version `n` to `n + 1`. A step that has been released
/// is never changed.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/v1.sql"),
    include_str!("schema/v2.sql"),
    include_str!("schema/v3.sql"),
    include_str!("schema/v4.sql"),
];

/// The version that this program reads and writes.
pub const VERSION: u32 = MIGRATIONS.len() as u32;

/// The bytes of write-ahead log that are kept after a checkpoint.
const JOURNAL_LIMIT: i64 = 64 * 1024 * 1024;

/// The writer's page cache. Party references are random, so each decision touches pages all over
/// their indexes.
const WRITER_CACHE_KIB: i64 = 16 * 1024;

/// The pages of write-ahead log after which it is copied into the database: 16 MiB.
const CHECKPOINT_PAGES: i64 = 4096;

/// How long a connection waits for a lock of another one before it gives up.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the database for the one writer, and brings it to [`VERSION`].
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<(Connection, Option<u32>)> {
        let mut db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(LOCK_TIMEOUT)?;
        let known = version(&db)?;
        if known.is_some_and(|version| version <= VERSION) {
            // `FULL` syncs the log at each commit; with `NORMAL` a power cut takes back what was
            // acknowledged.
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.pragma_update(None, "synchronous", "FULL")?;
            db.pragma_update(None, "secure_delete", true)?;
            db.pragma_update(None, "foreign_keys", true)?;
            db.pragma_update(None, "trusted_schema", false)?;
            db.pragma_update(None, "journal_size_limit", JOURNAL_LIMIT)?;
            db.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
            db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            db.set_prepared_statement_cache_capacity(64);
            migrate(&mut db)?;
        }
        Ok((db, known))
    };
    let (db, known) = open().map_err(|why| OpenError::of(path, &why))?;
    accept(path, known)?;
    Ok(db)
}

/// Copies the write-ahead log into the database and cuts it to nothing: pages from before a
/// deletion are then in no file any more.
pub(super) fn empty_log(db: &Connection) -> Result<(), CommitError> {
    // A reader in the middle of a query is not waited for: whoever asks comes again.
    db.busy_timeout(Duration::ZERO)?;
    let emptied = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    db.busy_timeout(LOCK_TIMEOUT)?;
    match emptied? {
        0 => Ok(()),
        _ => Err(CommitError::Busy),
    }
}

/// Opens the database for queries alone.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<(Connection, Option<u32>)> {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(LOCK_TIMEOUT)?;
        db.pragma_update(None, "trusted_schema", false)?;
        db.pragma_update(None, "query_only", true)?;
        db.set_prepared_statement_cache_capacity(64);
        let known = version(&db)?;
        Ok((db, known))
    };
    let (db, known) = open().map_err(|why| OpenError::of(path, &why))?;
    accept(path, known)?;
    if known != Some(VERSION) {
        return Err(OpenError::Older { path: path.into(), version: known.unwrap_or(0) });
    }
    Ok(db)
}

fn accept(path: &Path, known: Option<u32>) -> Result<(), OpenError> {
    match known {
        None => Err(OpenError::Foreign { path: path.into() }),
        Some(version) if version > VERSION => {
            Err(OpenError::Newer { path: path.into(), version, known: VERSION })
        }
        Some(_) => Ok(()),
    }
}

/// The schema's version, 0 for a new database; `None` when somebody else's tables are in it.
fn version(db: &Connection) -> rusqlite::Result<Option<u32>> {
    let id: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: u32 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let ours = id == APPLICATION_ID || (id == 0 && version == 0 && tables == 0);
    Ok(ours.then_some(version))
}

fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let from: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in MIGRATIONS.iter().skip(from as usize) {
        transaction.execute_batch(step)?;
    }
    if from < VERSION {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("catalog.db");
        (dir, path)
    }

    #[test]
    fn a_new_database_syncs_every_commit_and_overwrites_what_it_deletes() {
        let (_dir, path) = scratch();
        let db = open_writer(&path).expect("a new database opens");
        let text = |pragma| db.pragma_query_value::<String, _>(None, pragma, |row| row.get(0));
        let number = |pragma| db.pragma_query_value::<i64, _>(None, pragma, |row| row.get(0));
        assert_eq!(text("journal_mode").as_deref(), Ok("wal"));
        assert_eq!(number("synchronous"), Ok(2));
        assert_eq!(number("secure_delete"), Ok(1));
        assert_eq!(number("user_version"), Ok(i64::from(VERSION)));
        drop(db);
        open_writer(&path).expect("it opens again");
        open_reader(&path).expect("it opens for reading");
    }

    #[test]
    fn a_database_of_every_earlier_version_is_brought_up_to_date() {
        for version in 1..VERSION {
            let (_dir, path) = scratch();
            let old = Connection::open(&path).expect("a database");
            for step in MIGRATIONS.iter().take(version as usize) {
                old.execute_batch(step).expect("a schema");
            }
            old.pragma_update(None, "application_id", APPLICATION_ID).expect("a pragma");
            old.pragma_update(None, "user_version", version).expect("a pragma");
            drop(old);
            assert!(matches!(open_reader(&path), Err(OpenError::Older { .. })));
            drop(open_writer(&path).expect("it is brought up to date"));
            open_reader(&path).expect("it opens for reading");
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone_and_says_what_to_do() {
        let (_dir, path) = scratch();
        let db = open_writer(&path).expect("a new database opens");
        db.pragma_update(None, "user_version", VERSION + 1).expect("a pragma");
        drop(db);
        let newer = open_writer(&path).expect_err("a newer schema");
        assert!(matches!(newer, OpenError::Newer { .. }));
        assert!(newer.to_string().contains("use the version of assent that wrote it"), "{newer}");

        std::fs::write(&path, "not a database at all, and longer than a header".repeat(20))
            .expect("a file");
        let corrupt = open_writer(&path).expect_err("not a database");
        assert!(matches!(corrupt, OpenError::Corrupt { .. }), "{corrupt:?}");

        std::fs::remove_file(&path).expect("the file is there");
        Connection::open(&path)
            .and_then(|db| db.execute_batch("CREATE TABLE theirs(x)"))
            .expect("another program's database");
        assert!(matches!(open_writer(&path), Err(OpenError::Foreign { .. })));
        let (_dir, none) = scratch();
        assert!(matches!(open_reader(&none), Err(OpenError::Missing { .. })));
    }
}

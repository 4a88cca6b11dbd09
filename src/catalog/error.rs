//! What can go wrong with the catalog, and what to do about it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::catalog::DecisionEntry;
use crate::ids::EvidenceId;

/// Why the catalog does not open. Each message names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none, and this was to be read only.
    #[error("there is no catalog at {}: start `assent serve` once, or point `data` elsewhere", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Written by a newer program.
    #[error(
        "the catalog {} has schema version {version}, this assent knows {known}: use the version \
         of assent that wrote it, or a later one",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// Written by an older program, and this was to be read only.
    #[error(
        "the catalog {} has schema version {version} of an earlier assent: start `assent serve` \
         of this version once, which brings it up to date",
        path.display()
    )]
    Older {
        /// The database.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Somebody else's database.
    #[error("{} is a database, but not a catalog of assent: point `data` elsewhere", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// Not a database, or a damaged one.
    #[error(
        "the catalog {} is damaged ({why}): restore it from a backup; until then move it away, \
         and keep it",
        path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It may not be written.
    #[error(
        "the catalog {} cannot be written ({why}): give the user that runs assent the right to \
         write to the file and its folder",
        path.display()
    )]
    NotWritable {
        /// The database, or its folder.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Another agent writes to it.
    #[error(
        "the catalog {} is in use by another assent: stop that one, or give this one a `data` \
         folder of its own",
        path.display()
    )]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The chain's last record is not the one that was noted.
    #[error(
        "the evidence in {} does not end where its chain was noted to end: records were removed \
         or changed. Keep the file as it is, run `assent verify --all`, and restore a backup or \
         move the data folder away to go on",
        path.display()
    )]
    Chain {
        /// The database.
        path: PathBuf,
    },
    /// Something else.
    #[error("the catalog {} does not open: {why}", path.display())]
    Storage {
        /// The database.
        path: PathBuf,
        /// What the database said.
        why: String,
    },
}

impl OpenError {
    pub(super) fn of(path: &Path, why: &rusqlite::Error) -> Self {
        let (path, text) = (path.to_owned(), why.to_string());
        match why.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                OpenError::Corrupt { path, why: text }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                OpenError::NotWritable { path, why: text }
            }
            Some(ErrorCode::CannotOpen) if !path.exists() => OpenError::Missing { path },
            Some(ErrorCode::CannotOpen) => OpenError::NotWritable { path, why: text },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse { path },
            _ => OpenError::Storage { path, why: text },
        }
    }
}

/// Why something is not stored. Whatever it says, nothing of the request counts: there is no
/// receipt, and no query sees any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Something that comes before it could not be stored, so it was not tried.
    #[error("what comes before it could not be stored in the catalog")]
    Behind,
    /// The writer has more to do than it may have waiting.
    #[error("the catalog has more requests waiting than it takes")]
    Busy,
    /// The writer has ended.
    #[error("the catalog is closed")]
    Closed,
    /// No room.
    #[error("the disk of the catalog is full: make room in the data folder")]
    DiskFull,
    /// The disk, the file system or the database failed.
    #[error("the catalog cannot be written: {0}")]
    Storage(String),
    /// The request contradicts what is stored, or itself.
    #[error("the catalog refuses it: {0}")]
    Conflict(String),
    /// A record or an event cannot be written down.
    #[error("it cannot be written down: {0}")]
    Unwritable(String),
}

/// Why something is not stored, with the decision that could not be.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct NotStored {
    /// Why.
    pub why: CommitError,
    /// The decision, for somebody who tries again; `None` where it is lost with the writer.
    pub entry: Option<Box<DecisionEntry>>,
}

impl From<CommitError> for NotStored {
    fn from(why: CommitError) -> Self {
        Self { why, entry: None }
    }
}

impl From<rusqlite::Error> for CommitError {
    fn from(why: rusqlite::Error) -> Self {
        match why.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => CommitError::DiskFull,
            Some(ErrorCode::ConstraintViolation) => CommitError::Conflict(why.to_string()),
            _ => CommitError::Storage(why.to_string()),
        }
    }
}

impl From<crate::consent::evidence::Unwritable> for CommitError {
    fn from(why: crate::consent::evidence::Unwritable) -> Self {
        CommitError::Unwritable(why.to_string())
    }
}

impl From<serde_json::Error> for CommitError {
    fn from(why: serde_json::Error) -> Self {
        CommitError::Unwritable(why.to_string())
    }
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The database does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed.
    #[error("the catalog cannot be read: {0}")]
    Storage(#[from] rusqlite::Error),
    /// A row holds what this program would not have written.
    #[error("the catalog is damaged: {what} is \"{value}\"")]
    Damaged {
        /// Which column.
        what: &'static str,
        /// What it holds.
        value: String,
    },
    /// An evidence record that is not one.
    #[error("evidence {id} is damaged: {why}")]
    Evidence {
        /// Its identifier.
        id: EvidenceId,
        /// What is wrong with it.
        why: crate::consent::evidence::Malformed,
    },
    /// A number that the reference key does not decrypt.
    #[error(
        "a number in the catalog cannot be decrypted: is the reference key that of this catalog?"
    )]
    Number,
    /// The program is stopping.
    #[error("the catalog is closed")]
    Closed,
}

//! The catalog: recordings, permissions, the evidence chain and the outbox, in one SQLite
//! database with one writer.
//!
//! Callers put a request into a bounded queue and wait for its answer; one thread takes all that
//! wait, stores them in one transaction with one sync, and answers. A full queue, a full disk or
//! a failing one is an error, never a wait and never a permission: see [`CommitError`].
//!
//! [`Catalog::decide`] is where permission becomes durable, and the only way to a [`Receipt`].

mod change;
mod command;
mod decide;
mod do_not_record;
mod error;
mod head;
mod model;
mod open;
mod outbox;
mod queries;
mod receipt;
mod recordings;
mod schema;
#[cfg(test)]
mod tests;
mod tombstone;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::clock;
use crate::consent::Decision;
use crate::event::{Draft, Origin};
use crate::ids::EventId;
use crate::keys::{ReferenceKey, SigningKey};
use crate::time::Timestamp;
use writer::{Durable, Identity, Request, Work, Writer};

pub use command::{CommandEntry, CommandOutcome, CommandRow, CommandWay};
pub use do_not_record::{ListedParty, MAX_REASON_BYTES};
pub use error::{CommitError, NotStored, OpenError, QueryError};
pub use head::PublishedHead;
pub use model::{
    Change, DecisionEntry, Filter, GapRow, Integrity, NewRecording, ParticipantRow, PermissionRow,
    Permitted, RecordingDetail, RecordingRow, RecordingState, SegmentRow, Step, StreamRow,
    Unfinished, UnfinishedStream, UnknownState,
};
pub use outbox::{Acknowledged, OutboxRow, OutboxStatus, Sent};
pub use queries::{EvidenceRows, Reader};
pub use receipt::Receipt;
pub use schema::VERSION as SCHEMA_VERSION;
pub use tombstone::{Erase, Remains, Tombstone};

/// The database's name in the data folder.
pub const FILE: &str = "catalog.db";

/// How many requests may wait, unless said otherwise.
pub const QUEUE: usize = 4096;

/// How many queries run at a time.
const READERS: usize = 4;

/// What a catalog is opened with.
pub struct Settings {
    /// The data folder; made if it is not there.
    pub data: PathBuf,
    /// Who writes: names the chain and every event.
    pub origin: Origin,
    /// Signs evidence.
    pub signing: SigningKey,
    /// Makes party references, and encrypts numbers.
    pub reference: ReferenceKey,
    /// How many requests may wait: [`QUEUE`].
    pub queue: usize,
}

/// The catalog of a running agent. Clones share one writer; it ends with the last of them, or
/// with [`Catalog::close`].
#[derive(Clone, Debug)]
pub struct Catalog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    requests: SyncSender<Request>,
    outbox: watch::Receiver<u64>,
    counters: Arc<Counters>,
    idle: Mutex<Vec<Reader>>,
    readers: Arc<Semaphore>,
}

/// Counts since the catalog was opened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Transactions that are durable.
    pub commits: AtomicU64,
    /// Requests that were refused or could not be stored.
    pub failures: AtomicU64,
}

impl Catalog {
    /// Opens the catalog in a data folder, makes it if there is none, brings it up to date, and
    /// starts its writer. Reads and writes files: call it at start, before anything waits.
    ///
    /// # Errors
    /// [`OpenError`], whose message names the remedy.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        let Settings { data, origin, signing, reference, queue } = settings;
        let path = data.join(FILE);
        let (db, lock) = open::prepare(&data, &path)?;
        let signing_key = signing.key_id().to_string();
        let identity = Identity { origin, signing, signing_key, reference };
        let progress = open::resume(&db, &path, &identity)?;
        let (announce, outbox) = watch::channel(progress.outbox);
        let (requests, inbox) = sync_channel(queue.max(1));
        let counters = Arc::new(Counters::default());
        let writer = Writer::new(db, identity, progress, announce, Arc::clone(&counters));
        std::thread::Builder::new()
            .name("catalog".into())
            .spawn(move || writer.run(&inbox, lock))
            .map_err(|why| OpenError::Storage { path: path.clone(), why: why.to_string() })?;
        let (idle, readers) = (Mutex::new(Vec::new()), Arc::new(Semaphore::new(READERS)));
        Ok(Self { shared: Arc::new(Shared { path, requests, outbox, counters, idle, readers }) })
    }

    /// Stores a decision: its evidence, the recording and key of a permitted stream, its
    /// `permission` event and those given, in one durable transaction. It is queued when this
    /// returns; the future waits for it.
    ///
    /// # Errors
    /// [`CommitError`]: nothing of it is stored, and nothing is permitted.
    pub fn decide(
        &self,
        entry: DecisionEntry,
    ) -> impl Future<Output = Result<Receipt<Decision>, CommitError>> + Send + use<> {
        let stored = self.decide_or_give_back(Box::new(entry));
        async { stored.await.map_err(|not| not.why) }
    }

    /// The same, and gives back what could not be stored, for somebody who tries again.
    ///
    /// # Errors
    /// [`NotStored`].
    pub fn decide_or_give_back(
        &self,
        entry: Box<DecisionEntry>,
    ) -> impl Future<Output = Result<Receipt<Decision>, NotStored>> + Send + use<> {
        let asked = self.try_ask(Work::Decide(entry));
        async {
            match asked.await? {
                Durable::Decision(receipt) => Ok(*receipt),
                _ => Err(NotStored::from(CommitError::Closed)),
            }
        }
    }

    /// Stores changes and the events that tell of them, in one durable transaction. Returns the
    /// events' identifiers, in order.
    ///
    /// # Errors
    /// [`CommitError`]: nothing of it is stored.
    pub async fn record(
        &self,
        changes: Vec<Change>,
        events: Vec<Draft>,
    ) -> Result<Vec<EventId>, CommitError> {
        let at = clock::wall();
        match self.ask(Work::Record { changes, events, at }).await? {
            Durable::Events(events) => Ok(events),
            _ => Err(CommitError::Closed),
        }
    }

    /// Stores these in their order, in one durable transaction: whoever waits for a decision does
    /// not wait for a sync of what happened before it first. From the first one that cannot be
    /// stored on nothing is, and what comes after it is [`CommitError::Behind`]. One answer for each
    /// step. Queued when this returns.
    pub fn in_order(
        &self,
        steps: Vec<Step>,
    ) -> impl Future<Output = Vec<Result<Option<Receipt<Decision>>, NotStored>>> + Send + use<>
    {
        let at = clock::wall();
        let work = |step| match step {
            Step::Facts { changes, events } => Work::Record { changes, events, at },
            Step::Decision(entry) => Work::Decide(entry),
        };
        let count = steps.len();
        let asked = self.try_ask(Work::InOrder(steps.into_iter().map(work).collect()));
        async move {
            let stored = |durable| match durable {
                Durable::Decision(receipt) => Some(*receipt),
                _ => None,
            };
            match asked.await {
                Ok(Durable::InOrder(steps)) => {
                    steps.into_iter().map(|step| step.map(stored)).collect()
                }
                Ok(_) => Self::lost(count, &CommitError::Closed),
                Err(not) => Self::lost(count, &not.why),
            }
        }
    }

    /// The writer ended without an answer.
    fn lost<T>(steps: usize, why: &CommitError) -> Vec<Result<T, NotStored>> {
        (0..steps).map(|_| Err(NotStored::from(why.clone()))).collect()
    }

    /// Notes what JetStream has acknowledged.
    ///
    /// # Errors
    /// [`CommitError`]: the events will be published again.
    pub async fn mark_sent(&self, sent: Vec<Sent>) -> Result<(), CommitError> {
        self.ask(Work::MarkSent(sent)).await.map(drop)
    }

    /// Takes acknowledgements back that JetStream did not keep: these events wait again.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn mark_unsent(&self, rows: Vec<u64>) -> Result<(), CommitError> {
        self.ask(Work::MarkUnsent(rows)).await.map(drop)
    }

    /// Takes an event that can never be published out of the way of the others.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn set_aside(&self, row: u64, reason: String) -> Result<(), CommitError> {
        self.ask(Work::SetAside { row, reason }).await.map(drop)
    }

    /// Removes events that were acknowledged (or happened, when set aside) before `before`, a few at a time so that nobody
    /// waits for it. Returns how many.
    ///
    /// # Errors
    /// [`CommitError`]; what was removed until then stays removed.
    pub async fn prune_outbox(&self, before: Timestamp) -> Result<u64, CommitError> {
        let mut removed = 0;
        loop {
            match self.ask(Work::Prune(before)).await? {
                Durable::Rows(0) => return Ok(removed),
                Durable::Rows(rows) => removed += rows,
                _ => return Err(CommitError::Closed),
            }
        }
    }

    /// Publishes where this agent's chain stands, signed, if it moved since that was published
    /// last: an `agent.chain` event, in the transaction that notes it as published.
    ///
    /// # Errors
    /// [`CommitError`]; it is not published, and the next call tries again.
    pub async fn publish_head(&self) -> Result<(), CommitError> {
        self.ask(Work::PublishHead(clock::wall())).await.map(drop)
    }

    /// Writes the log into the database and empties it, so that what was deleted is in no file of
    /// the catalog. Nobody is waited for.
    ///
    /// # Errors
    /// [`CommitError::Busy`] while somebody reads; another one when the disk fails.
    pub async fn empty_log(&self) -> Result<(), CommitError> {
        self.ask(Work::EmptyLog).await.map(drop)
    }

    /// The place of the last event in the outbox. Changes whenever events were stored: what the
    /// publisher waits for.
    #[must_use]
    pub fn outbox(&self) -> watch::Receiver<u64> {
        self.shared.outbox.clone()
    }

    /// Returns when the thread that writes has ended: closed, or broken.
    pub async fn ended(&self) {
        let mut outbox = self.outbox();
        while outbox.changed().await.is_ok() {}
    }

    /// Runs a query on a thread that may wait, with a connection that cannot write.
    ///
    /// # Errors
    /// What the query says, or that no connection opens.
    pub async fn read<T, F>(&self, query: F) -> Result<T, QueryError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader) -> Result<T, QueryError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let readers = Arc::clone(&shared.readers);
        let slot = readers.acquire_owned().await.map_err(|_| QueryError::Closed)?;
        let task = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            let idle = shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let reader = match idle {
                Some(reader) => reader,
                None => Reader::at(&shared.path)?,
            };
            let answer = query(&reader)?;
            shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            Ok(answer)
        });
        task.await.map_err(|_| QueryError::Closed)?
    }

    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Stores what still waits, and closes the database. Every later request is refused.
    ///
    /// # Errors
    /// When it is closed already, or has too much waiting to be told.
    pub async fn close(&self) -> Result<(), CommitError> {
        self.ask(Work::Close).await.map(drop)
    }

    /// Puts work into the writer's queue at once, so that requests are carried out in the order in
    /// which they were made; the answer comes with the future.
    fn ask(&self, work: Work) -> impl Future<Output = Result<Durable, CommitError>> + Send + use<> {
        let asked = self.try_ask(work);
        async { asked.await.map_err(|not| not.why) }
    }

    fn try_ask(
        &self,
        work: Work,
    ) -> impl Future<Output = Result<Durable, NotStored>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let queued = self.shared.requests.try_send(Request { work, reply });
        let shared = Arc::clone(&self.shared);
        async move {
            let answer = match queued {
                Ok(()) => answer.await.unwrap_or(Err(NotStored::from(CommitError::Closed))),
                Err(TrySendError::Full(request)) => request.work.refused(&CommitError::Busy),
                Err(TrySendError::Disconnected(request)) => {
                    request.work.refused(&CommitError::Closed)
                }
            };
            if answer.is_err() {
                shared.counters.failures.fetch_add(1, Ordering::Relaxed);
            }
            answer
        }
    }
}

/// The name of a value that serialises as one word, as events and configuration write it.
fn word(value: &impl Serialize) -> Result<String, CommitError> {
    match serde_json::to_value(value)? {
        serde_json::Value::String(word) => Ok(word),
        other => Err(CommitError::Unwritable(format!("{other} is not one word"))),
    }
}

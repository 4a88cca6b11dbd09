//! Puts what happened into the catalog, in the order in which it happened, and loses none of it.
//!
//! Facts and decisions pass through one queue, so that a decision never overtakes the call it
//! belongs to. What waits together is stored together. A fact that the catalog cannot take now is
//! tried again until it can; a decision is not: it fails closed, and at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::catalog::{Catalog, Change, CommitError, DecisionEntry, Receipt};
use crate::consent::Decision;
use crate::event::{Body, Draft};
use crate::ids::{CallId, RecordingId};

/// How long until a fact is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The most entries that share a transaction.
const TOGETHER: usize = 256;

/// When so much waits, no new call is taken: what happened in those that there are is a bounded
/// amount, and none of it is lost.
const FULL: usize = 10_000;

/// What is stored together, and the events that tell of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) changes: Vec<Change>,
    pub(super) events: Vec<Draft>,
}

impl Told {
    pub(super) fn event(body: impl Into<Body>) -> Self {
        Self { changes: Vec::new(), events: vec![Draft::new(body)] }
    }

    pub(super) fn change(change: Change, body: impl Into<Body>) -> Self {
        Self { changes: vec![change], events: vec![Draft::new(body)] }
    }

    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.events.is_empty()
    }

    pub(super) fn extend(&mut self, more: Told) {
        self.changes.extend(more.changes);
        self.events.extend(more.events);
    }
}

/// The way to the catalog. Cheap to clone; nothing waits.
#[derive(Clone, Debug)]
pub(super) struct Scribe {
    entries: mpsc::UnboundedSender<Entry>,
    backlog: Arc<Backlog>,
}

/// How it goes with the catalog.
#[derive(Debug, Default)]
struct Backlog {
    /// Entries that are not stored yet.
    waiting: AtomicUsize,
    /// The catalog takes nothing at the moment.
    stuck: AtomicBool,
}

#[derive(Debug)]
enum Entry {
    Facts(Told),
    Decision(Box<DecisionEntry>, oneshot::Sender<Result<Receipt<Decision>, CommitError>>),
    /// Answered when everything before it is stored.
    Flush(oneshot::Sender<()>),
}

impl Scribe {
    /// Starts the task that writes.
    ///
    /// `unclaimed` is told of a permission that became durable when nobody waited for it any more.
    pub(super) fn start(
        catalog: Catalog,
        unclaimed: impl Fn(CallId, RecordingId) + Send + Sync + 'static,
    ) -> Self {
        let (entries, inbox) = mpsc::unbounded_channel();
        let backlog = Arc::new(Backlog::default());
        tokio::spawn(write(catalog, inbox, Arc::clone(&backlog), Arc::new(unclaimed)));
        Self { entries, backlog }
    }

    /// Stores changes and events.
    pub(super) fn tell(&self, told: Told) {
        if !told.is_empty() {
            self.send(Entry::Facts(told));
        }
    }

    /// Stores a decision; the answer comes when it is durable, or certain not to be.
    pub(super) fn decide(
        &self,
        entry: DecisionEntry,
    ) -> oneshot::Receiver<Result<Receipt<Decision>, CommitError>> {
        let (answer, receipt) = oneshot::channel();
        self.send(Entry::Decision(Box::new(entry), answer));
        receipt
    }

    /// Whether the catalog takes nothing at the moment, so that nothing can be permitted.
    pub(super) fn is_stuck(&self) -> bool {
        self.backlog.stuck.load(Ordering::Relaxed)
    }

    /// Whether so much waits that no new call may add to it.
    pub(super) fn is_full(&self) -> bool {
        self.backlog.waiting.load(Ordering::Relaxed) >= FULL
    }

    /// Returns when everything told so far is stored.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.send(Entry::Flush(done));
        let _ = flushed.await;
    }

    /// Returns when the task that writes has ended, which only a defect makes it do.
    pub(super) async fn ended(&self) {
        self.entries.closed().await;
    }

    fn send(&self, entry: Entry) {
        self.backlog.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.entries.send(entry);
    }
}

async fn write(
    catalog: Catalog,
    mut inbox: mpsc::UnboundedReceiver<Entry>,
    backlog: Arc<Backlog>,
    unclaimed: Arc<dyn Fn(CallId, RecordingId) + Send + Sync>,
) {
    let mut batch = Vec::with_capacity(TOGETHER);
    while inbox.recv_many(&mut batch, TOGETHER).await > 0 {
        let taken = batch.len();
        let mut facts = Vec::new();
        for entry in batch.drain(..) {
            match entry {
                Entry::Facts(told) => facts.push(told),
                Entry::Decision(entry, answer) => {
                    store(&catalog, std::mem::take(&mut facts), &backlog.stuck).await;
                    // Nobody waits for it any more, and the call goes on without: a permission
                    // that nobody was given is not stored. Anything else is.
                    if entry.permitted.is_some() && answer.is_closed() {
                        continue;
                    }
                    // Queued here, so that nothing overtakes it; waited for elsewhere.
                    let decided = catalog.decide(*entry);
                    let unclaimed = Arc::clone(&unclaimed);
                    tokio::spawn(async move {
                        if let Err(Ok(receipt)) = answer.send(decided.await)
                            && let Some(stream) = receipt.value().permits()
                        {
                            unclaimed(receipt.value().facts().call, stream.recording);
                        }
                    });
                }
                Entry::Flush(done) => {
                    store(&catalog, std::mem::take(&mut facts), &backlog.stuck).await;
                    let _ = done.send(());
                }
            }
        }
        store(&catalog, facts, &backlog.stuck).await;
        backlog.waiting.fetch_sub(taken, Ordering::Relaxed);
    }
}

/// Stores facts in one transaction; where one of them does not fit, each in its own.
async fn store(catalog: &Catalog, facts: Vec<Told>, stuck: &AtomicBool) {
    let mut together = Told::default();
    for told in &facts {
        together.extend(told.clone());
    }
    if together.is_empty() {
        return;
    }
    let Err(why) = persist(catalog, together, stuck).await else { return };
    if facts.len() == 1 {
        return tracing::error!(%why, "a fact does not fit into the catalog: it is left out");
    }
    for fact in facts {
        if let Err(why) = persist(catalog, fact, stuck).await {
            tracing::error!(%why, "a fact does not fit into the catalog: it is left out");
        }
    }
}

/// Tries until the catalog takes it, or says that it never will.
async fn persist(catalog: &Catalog, told: Told, stuck: &AtomicBool) -> Result<(), CommitError> {
    let mut said = false;
    loop {
        let Told { changes, events } = told.clone();
        match catalog.record(changes, events).await {
            Ok(_) => {
                stuck.store(false, Ordering::Relaxed);
                if said {
                    tracing::warn!("the catalog takes events again");
                }
                return Ok(());
            }
            Err(why) if is_permanent(&why) => return Err(why),
            Err(why) => {
                if !said {
                    tracing::error!(%why, "the catalog takes no events: they wait in memory");
                    said = true;
                    stuck.store(true, Ordering::Relaxed);
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

fn is_permanent(why: &CommitError) -> bool {
    match why {
        CommitError::Closed | CommitError::Conflict(_) | CommitError::Unwritable(_) => true,
        CommitError::Busy | CommitError::DiskFull | CommitError::Storage(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{FILE, QUEUE, Settings};
    use crate::event::{AgentReady, Origin, Word};
    use crate::keys::{ReferenceKey, SigningKey};

    fn ready() -> Told {
        Told::event(AgentReady { version: Word::new("1") })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_happens_while_the_catalog_is_stuck_is_bounded_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (data, keys) = (folder.path().join("data"), folder.path().join("keys"));
        let catalog = Catalog::open(Settings {
            data: data.clone(),
            origin: Origin { tenant: "t".parse().unwrap(), node: "n".parse().unwrap() },
            signing: SigningKey::open(&keys).unwrap(),
            reference: ReferenceKey::open(&keys).unwrap(),
            queue: QUEUE,
        })
        .unwrap();
        let scribe = Scribe::start(catalog.clone(), |_, _| {});
        let db = rusqlite::Connection::open(data.join(FILE)).unwrap();
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        scribe.tell(ready());
        while !scribe.is_stuck() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!scribe.is_full());
        for _ in 0..FULL {
            scribe.tell(ready());
        }
        assert!(scribe.is_full(), "no new call is taken");
        db.execute_batch("ROLLBACK").unwrap();
        scribe.flush().await;
        assert!(!scribe.is_stuck());
        let stored = catalog.read(|reader| reader.outbox_status()).await.unwrap();
        assert_eq!(stored.last, FULL as u64 + 1, "nothing that happened is lost");
        while scribe.is_full() {
            tokio::task::yield_now().await;
        }
    }
}

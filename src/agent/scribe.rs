//! Puts what happened into the catalog, in the order in which it happened, and loses none of it.
//!
//! Facts and decisions pass through one queue, so that a decision never overtakes the call it
//! belongs to. What waits together is stored together. A fact that the catalog cannot take now is
//! tried again until it can; a decision is not: it fails closed, and at once.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::catalog::{Catalog, Change, CommitError, DecisionEntry, Receipt};
use crate::consent::Decision;
use crate::event::{Body, Draft};

/// How long until a fact is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The most entries that share a transaction.
const TOGETHER: usize = 256;

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

    fn extend(&mut self, more: Told) {
        self.changes.extend(more.changes);
        self.events.extend(more.events);
    }
}

/// The way to the catalog. Cheap to clone; nothing waits.
#[derive(Clone, Debug)]
pub(super) struct Scribe {
    entries: mpsc::UnboundedSender<Entry>,
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
    pub(super) fn start(catalog: Catalog) -> Self {
        let (entries, inbox) = mpsc::unbounded_channel();
        tokio::spawn(write(catalog, inbox));
        Self { entries }
    }

    /// Stores changes and events.
    pub(super) fn tell(&self, told: Told) {
        if !told.is_empty() {
            let _ = self.entries.send(Entry::Facts(told));
        }
    }

    /// Stores a decision; the answer comes when it is durable, or certain not to be.
    pub(super) fn decide(
        &self,
        entry: DecisionEntry,
    ) -> oneshot::Receiver<Result<Receipt<Decision>, CommitError>> {
        let (answer, receipt) = oneshot::channel();
        let _ = self.entries.send(Entry::Decision(Box::new(entry), answer));
        receipt
    }

    /// Returns when everything told so far is stored.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.entries.send(Entry::Flush(done)).is_ok() {
            let _ = flushed.await;
        }
    }
}

async fn write(catalog: Catalog, mut inbox: mpsc::UnboundedReceiver<Entry>) {
    let mut batch = Vec::with_capacity(TOGETHER);
    while inbox.recv_many(&mut batch, TOGETHER).await > 0 {
        let mut facts = Vec::new();
        let mut deciding = Vec::new();
        for entry in batch.drain(..) {
            match entry {
                Entry::Facts(told) => facts.push(told),
                Entry::Decision(entry, answer) => {
                    store(&catalog, std::mem::take(&mut facts)).await;
                    let catalog = catalog.clone();
                    let decided = tokio::spawn(async move { catalog.decide(*entry).await });
                    deciding.push((decided, answer));
                }
                Entry::Flush(done) => {
                    store(&catalog, std::mem::take(&mut facts)).await;
                    let _ = done.send(());
                }
            }
        }
        store(&catalog, facts).await;
        for (decided, answer) in deciding {
            let _ = answer.send(decided.await.unwrap_or(Err(CommitError::Closed)));
        }
    }
}

/// Stores facts in one transaction; where one of them does not fit, each in its own.
async fn store(catalog: &Catalog, facts: Vec<Told>) {
    let mut together = Told::default();
    for told in &facts {
        together.extend(told.clone());
    }
    if together.is_empty() {
        return;
    }
    let Err(why) = persist(catalog, together).await else { return };
    if facts.len() == 1 {
        return tracing::error!(%why, "a fact does not fit into the catalog: it is left out");
    }
    for fact in facts {
        if let Err(why) = persist(catalog, fact).await {
            tracing::error!(%why, "a fact does not fit into the catalog: it is left out");
        }
    }
}

/// Tries until the catalog takes it, or says that it never will.
async fn persist(catalog: &Catalog, told: Told) -> Result<(), CommitError> {
    let mut said = false;
    loop {
        let Told { changes, events } = told.clone();
        match catalog.record(changes, events).await {
            Ok(_) => {
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

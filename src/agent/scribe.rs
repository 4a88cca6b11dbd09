//! Puts what happened into the catalog, in the order in which it happened, and loses none of it.
//!
//! Facts and decisions pass through one queue, so that a decision never overtakes the call it
//! belongs to. What waits together is stored together. A fact that the catalog cannot take now is
//! tried again until it can, and so is a decision that takes a permission back. Any other decision
//! is not: it fails closed, and at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::catalog::{
    Catalog, Change, CommitError, DecisionEntry, Erase, NotStored, Receipt, Step,
};
use crate::consent::{Decision, DecisionFacts, Outcome};
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
    /// `unclaimed` is told of a permission that became durable when nobody waited for it any more,
    /// `erases` of every decision that raised a tombstone.
    pub(super) fn start(
        catalog: Catalog,
        unclaimed: impl Fn(CallId, RecordingId) + Send + Sync + 'static,
        erases: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let (entries, inbox) = mpsc::unbounded_channel();
        let backlog = Arc::new(Backlog::default());
        let hears = Hears { unclaimed: Box::new(unclaimed), erases: Box::new(erases) };
        tokio::spawn(write(catalog, inbox, Arc::clone(&backlog), hears));
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

/// Who hears of what became durable.
struct Hears {
    unclaimed: Box<dyn Fn(CallId, RecordingId) + Send + Sync>,
    erases: Box<dyn Fn() + Send + Sync>,
}

async fn write(
    catalog: Catalog,
    mut inbox: mpsc::UnboundedReceiver<Entry>,
    backlog: Arc<Backlog>,
    hears: Hears,
) {
    let mut batch = Vec::with_capacity(TOGETHER);
    while inbox.recv_many(&mut batch, TOGETHER).await > 0 {
        let taken = batch.len();
        let mut sheet = Sheet::default();
        batch.drain(..).for_each(|entry| sheet.put(entry));
        sheet.store(&catalog, &backlog.stuck, &hears).await;
        backlog.waiting.fetch_sub(taken, Ordering::Relaxed);
    }
}

/// What waited together, in its order. It shares one transaction, so that nothing waits for the
/// sync of something else before it is tried.
#[derive(Default)]
struct Sheet {
    steps: Vec<Step>,
    parts: Vec<Part>,
}

/// Who waits for a step of a [`Sheet`].
enum Part {
    /// Tried again until they are stored.
    Facts(Vec<Told>),
    Decision(Waiting),
    /// No step of its own.
    Flush(oneshot::Sender<()>),
}

/// Somebody waits for a decision.
struct Waiting {
    answer: oneshot::Sender<Result<Receipt<Decision>, CommitError>>,
    permits: bool,
    takes_back: bool,
    erases: bool,
}

impl Sheet {
    fn put(&mut self, entry: Entry) {
        let part = match entry {
            Entry::Facts(told) => match (self.parts.last_mut(), self.steps.last_mut()) {
                (Some(Part::Facts(facts)), Some(Step::Facts { changes, events })) => {
                    changes.extend(told.changes.iter().cloned());
                    events.extend(told.events.iter().cloned());
                    return facts.push(told);
                }
                _ => {
                    let Told { changes, events } = told.clone();
                    self.steps.push(Step::Facts { changes, events });
                    Part::Facts(vec![told])
                }
            },
            Entry::Decision(entry, answer) => {
                let permits = entry.permitted.is_some();
                let takes_back = takes_back(entry.decision.facts());
                let erases = takes_back && entry.erase == Erase::Party;
                let waiting = Waiting { answer, permits, takes_back, erases };
                if waiting.is_over() {
                    return;
                }
                self.steps.push(Step::Decision(entry));
                Part::Decision(waiting)
            }
            Entry::Flush(done) => Part::Flush(done),
        };
        self.parts.push(part);
    }

    async fn store(self, catalog: &Catalog, stuck: &AtomicBool, hears: &Hears) {
        let Self { steps, parts } = self;
        if steps.is_empty() {
            return parts.into_iter().for_each(Part::flushed);
        }
        let mut answers = catalog.in_order(steps).await.into_iter();
        for part in parts {
            match part {
                Part::Facts(facts) => match answers.next() {
                    Some(Ok(_)) => stuck.store(false, Ordering::Relaxed),
                    _ => store(catalog, facts, stuck).await,
                },
                Part::Decision(waiting) => {
                    let stored = match answers.next() {
                        Some(Ok(Some(receipt))) => Ok(receipt),
                        Some(Err(not)) => waiting.try_again(catalog, not, stuck).await,
                        Some(Ok(None)) | None => Err(CommitError::Closed),
                    };
                    waiting.tell(stored, hears);
                }
                flush @ Part::Flush(_) => flush.flushed(),
            }
        }
    }
}

impl Part {
    fn flushed(self) {
        if let Part::Flush(done) = self {
            let _ = done.send(());
        }
    }
}

impl Waiting {
    /// Nobody waits for it any more, and the call goes on without: a permission that nobody was
    /// given is not stored. Anything else is.
    fn is_over(&self) -> bool {
        self.permits && self.answer.is_closed()
    }

    async fn try_again(
        &self,
        catalog: &Catalog,
        not: NotStored,
        stuck: &AtomicBool,
    ) -> Result<Receipt<Decision>, CommitError> {
        let NotStored { why, entry } = not;
        match entry {
            Some(entry) if self.takes_back && !is_permanent(&why) => {
                insist(catalog, entry, stuck).await
            }
            // It was not its turn yet.
            Some(entry) if why == CommitError::Behind && !self.is_over() => {
                catalog.decide(*entry).await
            }
            _ => Err(why),
        }
    }

    /// Whoever waited may have given up long ago.
    fn tell(self, stored: Result<Receipt<Decision>, CommitError>, hears: &Hears) {
        if self.erases && stored.is_ok() {
            (hears.erases)();
        }
        if let Err(Ok(receipt)) = self.answer.send(stored)
            && let Some(stream) = receipt.value().permits()
        {
            (hears.unclaimed)(receipt.value().facts().call, stream.recording);
        }
    }
}

/// Whether a decision ends a permission, or may: lost, it would leave what was recorded as if
/// nobody had objected.
fn takes_back(facts: &DecisionFacts) -> bool {
    facts.ends.is_some() || matches!(facts.outcome, Outcome::Withdrawn | Outcome::Objected)
}

/// Tries until the catalog takes a decision, or says that it never will.
async fn insist(
    catalog: &Catalog,
    mut entry: Box<DecisionEntry>,
    stuck: &AtomicBool,
) -> Result<Receipt<Decision>, CommitError> {
    let mut said = false;
    loop {
        let not = match catalog.decide_or_give_back(entry).await {
            Ok(receipt) => {
                stuck.store(false, Ordering::Relaxed);
                if said {
                    tracing::warn!("the catalog has taken the withdrawal that waited");
                }
                return Ok(receipt);
            }
            Err(not) => not,
        };
        entry = match not.entry {
            Some(entry) if !is_permanent(&not.why) => entry,
            _ => return Err(not.why),
        };
        if !said {
            tracing::error!(why = %not.why, "a withdrawal cannot be stored: it waits in memory");
            said = true;
            stuck.store(true, Ordering::Relaxed);
        }
        tokio::time::sleep(AGAIN).await;
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
        CommitError::Behind
        | CommitError::Busy
        | CommitError::DiskFull
        | CommitError::Storage(_) => false,
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
        let scribe = Scribe::start(catalog.clone(), |_, _| {}, || {});
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

    fn withdrawn() -> DecisionEntry {
        use crate::consent::Answer;
        use crate::consent::evidence::sample;
        use crate::ids::PartyRef;
        let answer = Answer::Command { id: "1".into() };
        let facts = sample::facts(1, PartyRef([1; 32]));
        let facts = DecisionFacts { outcome: Outcome::Withdrawn, answer, ..facts };
        DecisionEntry {
            decision: sample::decision(facts),
            number: None,
            permitted: None,
            erase: Erase::Party,
            events: Vec::new(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_withdrawal_that_cannot_be_stored_waits_until_it_can() {
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
        let (said, mut heard) = mpsc::unbounded_channel();
        let erases = move || {
            let _ = said.send(());
        };
        let scribe = Scribe::start(catalog.clone(), |_, _| {}, erases);
        let db = rusqlite::Connection::open(data.join(FILE)).unwrap();
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        // Whoever asked has given up.
        drop(scribe.decide(withdrawn()));
        while !scribe.is_stuck() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        db.execute_batch("ROLLBACK").unwrap();
        scribe.flush().await;
        assert!(!scribe.is_stuck());
        let head = catalog.read(|reader| reader.chain_head("n")).await.unwrap();
        assert_eq!(head.sequence, 1, "its evidence is there, once");
        assert!(heard.recv().await.is_some(), "and what there was can be erased");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_does_not_fit_holds_up_nobody_elses_permission() {
        use crate::consent::evidence::sample;
        use crate::ids::PartyRef;
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
        let scribe = Scribe::start(catalog.clone(), |_, _| {}, || {});
        let facts = sample::facts(1, PartyRef([1; 32]));
        let refused = DecisionFacts { outcome: Outcome::Refused, ..facts.clone() };
        let entry = DecisionEntry { decision: sample::decision(refused), ..withdrawn() };
        // A recording that nobody knows cannot begin.
        let impossible = Change::Capturing { recording: facts.recording, at: facts.time };
        scribe.tell(ready());
        scribe.tell(Told { changes: vec![impossible], events: Vec::new() });
        scribe.tell(ready());
        let decided = scribe.decide(DecisionEntry { erase: Erase::Nothing, ..entry });
        scribe.tell(ready());
        assert!(decided.await.unwrap().is_ok());
        scribe.flush().await;
        let events = catalog.read(|reader| reader.outbox_after(0, 10)).await.unwrap();
        let kind =
            |row: &crate::catalog::OutboxRow| row.subject.split('.').nth(3).map(str::to_owned);
        let kinds: Vec<String> = events.iter().filter_map(kind).collect();
        assert_eq!(
            kinds,
            ["agent", "agent", "permission", "agent"],
            "in the order of what happened"
        );
    }
}

//! The one thread that writes: it takes what is waiting, makes one transaction of it, and answers
//! only when that is durable.
//!
//! Each request has a savepoint of its own, so one that is refused takes nothing with it. When the
//! transaction itself fails, all its requests fail, and the thread goes on with the next ones.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::catalog::decide::{Written, decide};
use crate::catalog::outbox::{self, Sent};
use crate::catalog::{
    Change, CommitError, Counters, DecisionEntry, NotStored, Receipt, change, head, schema,
};
use crate::consent::Decision;
use crate::consent::evidence::Head;
use crate::event::{Draft, Origin};
use crate::ids::EventId;
use crate::keys::{ReferenceKey, SigningKey};
use crate::time::Timestamp;

/// The most requests of one transaction.
const BATCH: usize = 512;

/// Who writes, and with which keys.
pub(super) struct Identity {
    pub(super) origin: Origin,
    pub(super) signing: SigningKey,
    pub(super) signing_key: String,
    pub(super) reference: ReferenceKey,
}

/// Something to do, and who wants to know.
pub(super) struct Request {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Result<Durable, NotStored>>,
}

/// What the writer can be asked for.
pub(super) enum Work {
    Decide(Box<DecisionEntry>),
    /// One after the other; none after one that cannot be stored.
    InOrder(Vec<Work>),
    Record {
        changes: Vec<Change>,
        events: Vec<Draft>,
        at: Timestamp,
    },
    MarkSent(Vec<Sent>),
    MarkUnsent(Vec<u64>),
    SetAside {
        row: u64,
        reason: String,
    },
    Prune(Timestamp),
    /// Publishes the chain's head, if it moved since it was published.
    PublishHead(Timestamp),
    /// Not a part of any transaction.
    EmptyLog,
    Close,
    #[cfg(test)]
    Run(Box<dyn FnOnce(&Connection) + Send>),
}

impl Work {
    /// It is not stored; a decision goes back to whoever made it.
    pub(super) fn refused(self, why: &CommitError) -> Result<Durable, NotStored> {
        if let Work::InOrder(works) = self {
            let works = works.into_iter().map(|work| work.refused(why));
            return Ok(Durable::InOrder(works.collect()));
        }
        Err(NotStored { why: why.clone(), entry: self.entry() })
    }

    fn entry(self) -> Option<Box<DecisionEntry>> {
        match self {
            Work::Decide(entry) => Some(entry),
            _ => None,
        }
    }
}

/// What work came to, inside a transaction that may still fail.
enum Stored {
    Decision(Box<DecisionEntry>, Written),
    InOrder(Vec<Result<Stored, NotStored>>),
    Events(Vec<EventId>),
    Rows(u64),
    Nothing,
}

/// What work came to, once nothing can take it back.
pub(super) enum Durable {
    Decision(Box<Receipt<Decision>>),
    InOrder(Vec<Result<Durable, NotStored>>),
    Events(Vec<EventId>),
    Rows(u64),
    Nothing,
}

impl Stored {
    /// Called once the COMMIT has returned, and nowhere else: here receipts are made.
    fn durable(self) -> Durable {
        match self {
            Stored::Decision(entry, written) => {
                let Written { id, digest, .. } = written;
                Durable::Decision(Box::new(Receipt::new(entry.decision, id, digest)))
            }
            Stored::InOrder(steps) => {
                let steps = steps.into_iter().map(|step| step.map(Stored::durable));
                Durable::InOrder(steps.collect())
            }
            Stored::Events(events) => Durable::Events(events),
            Stored::Rows(rows) => Durable::Rows(rows),
            Stored::Nothing => Durable::Nothing,
        }
    }

    /// The COMMIT has failed.
    fn undone(self, why: &CommitError) -> Result<Durable, NotStored> {
        if let Stored::InOrder(steps) = self {
            let undone = |step: Result<Stored, NotStored>| step?.undone(why);
            return Ok(Durable::InOrder(steps.into_iter().map(undone).collect()));
        }
        Err(NotStored { why: why.clone(), entry: self.entry() })
    }

    fn entry(self) -> Option<Box<DecisionEntry>> {
        match self {
            Stored::Decision(entry, _) => Some(entry),
            _ => None,
        }
    }
}

/// The writer's state between transactions: what is durable.
pub(super) struct Writer {
    db: Connection,
    identity: Identity,
    durable: Progress,
    outbox: watch::Sender<u64>,
    counters: Arc<Counters>,
}

/// How far the chain and the outbox have come.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    pub(super) head: Head,
    pub(super) outbox: u64,
}

impl Writer {
    pub(super) fn new(
        db: Connection,
        identity: Identity,
        durable: Progress,
        outbox: watch::Sender<u64>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { db, identity, durable, outbox, counters }
    }

    /// Serves until every handle is gone, or somebody closes the catalog. Holds `lock` until the
    /// database is closed.
    pub(super) fn run(mut self, requests: &Receiver<Request>, lock: File) {
        let mut closed = None;
        while closed.is_none() {
            let Ok(first) = requests.recv() else { break };
            let mut batch = Vec::new();
            let mut emptying = Vec::new();
            let mut next = Some(first);
            while let Some(request) = next.take() {
                match request.work {
                    Work::Close => {
                        closed = Some(request.reply);
                        break;
                    }
                    Work::EmptyLog => {
                        emptying.push(request.reply);
                        break;
                    }
                    _ => batch.push(request),
                }
                if batch.len() < BATCH {
                    next = requests.try_recv().ok();
                }
            }
            if !batch.is_empty() {
                self.commit(batch);
            }
            for reply in emptying {
                let emptied = schema::empty_log(&self.db);
                let _ = reply.send(emptied.map(|()| Durable::Nothing).map_err(NotStored::from));
            }
        }
        // Whoever opens the database next finds it in one file; it is as sound without.
        if let Err(why) = self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::debug!(%why, "the catalog's log is left as it is");
        }
        drop(self.db);
        drop(lock);
        if let Some(reply) = closed {
            let _ = reply.send(Ok(Durable::Nothing));
        }
    }

    /// One transaction. A caller that has gone away wants no answer.
    fn commit(&mut self, batch: Vec<Request>) {
        let mut progress = self.durable;
        let mut answers = Vec::with_capacity(batch.len());
        let mut outcome = self.statement("BEGIN IMMEDIATE");
        for Request { work, reply } in batch {
            if let Err(why) = &outcome {
                let _ = reply.send(work.refused(why));
                continue;
            }
            match self.one_or_all(&mut progress, &mut outcome, work) {
                Ok(stored) => answers.push((reply, stored)),
                Err(not) => {
                    let _ = reply.send(Err(not));
                }
            }
        }
        if outcome.is_ok() {
            outcome = self.statement("COMMIT");
        }
        match outcome {
            Ok(()) => {
                let grown = progress.outbox > self.durable.outbox;
                self.durable = progress;
                self.counters.commits.fetch_add(1, Ordering::Relaxed);
                for (reply, stored) in answers {
                    let _ = reply.send(Ok(stored.durable()));
                }
                if grown {
                    self.outbox.send_replace(progress.outbox);
                }
            }
            Err(why) => {
                tracing::error!(%why, "the catalog cannot be written; nothing is permitted");
                // What a failed COMMIT left in the log is not seen, and is overwritten by the next
                // one. Should the machine stop right here, it may come back: evidence of a
                // permission that nobody was given, never the reverse.
                if !self.db.is_autocommit() {
                    // If even this fails, so does the next BEGIN, and its requests with it.
                    let _ = self.statement("ROLLBACK");
                }
                for (reply, stored) in answers {
                    let _ = reply.send(stored.undone(&why));
                }
            }
        }
    }

    /// `outcome` is that of the whole transaction, which some failures end.
    fn one_or_all(
        &self,
        progress: &mut Progress,
        outcome: &mut Result<(), CommitError>,
        work: Work,
    ) -> Result<Stored, NotStored> {
        let Work::InOrder(works) = work else {
            let before = *progress;
            return self.within_savepoint(progress, work).inspect_err(|not| {
                *progress = before;
                *outcome = self.undo_savepoint(&not.why);
            });
        };
        let mut steps: Vec<Result<Stored, NotStored>> = Vec::with_capacity(works.len());
        for work in works {
            steps.push(if steps.last().is_none_or(Result::is_ok) {
                self.one_or_all(progress, outcome, work)
            } else {
                work.refused(&CommitError::Behind).map(|_| Stored::Nothing)
            });
        }
        Ok(Stored::InOrder(steps))
    }

    fn within_savepoint(&self, progress: &mut Progress, work: Work) -> Result<Stored, NotStored> {
        if let Err(why) = self.statement("SAVEPOINT request") {
            return Err(NotStored { why, entry: work.entry() });
        }
        let stored = match work {
            Work::Decide(entry) => match decide(&self.db, &self.identity, progress.head, &entry) {
                Ok(written) => {
                    progress.head = written.head;
                    progress.outbox = written.outbox;
                    Stored::Decision(entry, written)
                }
                Err(why) => return Err(NotStored { why, entry: Some(entry) }),
            },
            other => self.carry_out(progress, other)?,
        };
        match self.statement("RELEASE request") {
            Ok(()) => Ok(stored),
            Err(why) => Err(NotStored { why, entry: stored.entry() }),
        }
    }

    /// Takes back one request. An error is that of the whole transaction, which SQLite gives up
    /// after some failures.
    fn undo_savepoint(&self, why: &CommitError) -> Result<(), CommitError> {
        if self.db.is_autocommit() {
            return Err(why.clone());
        }
        self.statement("ROLLBACK TO request")?;
        self.statement("RELEASE request")
    }

    fn carry_out(&self, progress: &mut Progress, work: Work) -> Result<Stored, CommitError> {
        let db = &self.db;
        match work {
            Work::Record { changes, events, at } => {
                let mut following = Vec::new();
                for change in &changes {
                    following.extend(change::apply(db, &self.identity, change, at)?);
                }
                let mut ids = Vec::with_capacity(events.len() + following.len());
                for draft in events.into_iter().chain(following) {
                    let (id, place) = outbox::append(db, draft, at, &self.identity.origin)?;
                    progress.outbox = place;
                    ids.push(id);
                }
                Ok(Stored::Events(ids))
            }
            Work::MarkSent(sent) => outbox::mark_sent(db, &sent).map(|()| Stored::Nothing),
            Work::MarkUnsent(rows) => outbox::mark_unsent(db, &rows).map(|()| Stored::Nothing),
            Work::SetAside { row, reason } => {
                outbox::set_aside(db, row, &reason).map(|()| Stored::Nothing)
            }
            Work::Prune(before) => outbox::prune(db, before).map(Stored::Rows),
            Work::PublishHead(at) => {
                if let Some(place) = head::publish(db, &self.identity, progress.head, at)? {
                    progress.outbox = place;
                }
                Ok(Stored::Nothing)
            }
            // Taken out before: see `run`, `one_or_all` and `within_savepoint`.
            Work::Decide(_) | Work::InOrder(_) | Work::EmptyLog | Work::Close => {
                Ok(Stored::Nothing)
            }
            #[cfg(test)]
            Work::Run(run) => {
                run(db);
                Ok(Stored::Nothing)
            }
        }
    }

    fn statement(&self, sql: &str) -> Result<(), CommitError> {
        self.db.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

//! The catalog as its callers see it.

mod commands;
mod crash;
mod decisions;
mod do_not_record;
mod full;
mod life;
mod order;
mod outbox;
mod speed;
mod syncs;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::catalog::writer::{Request, Work};
use crate::catalog::{
    Catalog, CommitError, DecisionEntry, Erase, NewRecording, OpenError, Permitted, QUEUE, Reader,
    Settings,
};
use crate::consent::evidence::{ChainError, Head, sample, verify_chain};
use crate::consent::policy::Scope;
use crate::consent::{Answer, Decision, DecisionFacts, Outcome};
use crate::event::Origin;
use crate::ids::{CallId, Leg, PartyRef, RecordingId};
use crate::keys::{Epoch, ReferenceKey, SigningKey, WrappedKey};
use crate::number::PartyNumber;

use super::QueryError;

const NODE: &str = "node-1";
const RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);

/// A catalog in a folder of its own.
struct Scratch {
    dir: TempDir,
    catalog: Catalog,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = open(dir.path()).unwrap();
        Self { dir, catalog }
    }

    fn reader(&self) -> Reader {
        Reader::open(self.dir.path()).unwrap()
    }

    /// Closes the catalog and opens it again, as a restart does.
    fn reopened(self) -> Self {
        wait(self.catalog.close()).unwrap();
        let catalog = open(self.dir.path()).unwrap();
        Self { dir: self.dir, catalog }
    }

    /// Stores a decision; the receipt is not looked at.
    async fn keep(&self, entry: DecisionEntry) {
        drop(self.catalog.decide(entry).await.unwrap());
    }

    /// Runs something on the writer's own connection.
    async fn on_writer(&self, run: impl FnOnce(&rusqlite::Connection) + Send + 'static) {
        self.catalog.ask(Work::Run(Box::new(run))).await.map(drop).unwrap();
    }

    /// Keeps the writer busy until the sender is dropped.
    fn busy_writer(&self) -> std::sync::mpsc::Sender<()> {
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let (started, running) = std::sync::mpsc::channel();
        let run = Box::new(move |_: &rusqlite::Connection| {
            let _ = started.send(());
            let _ = hold.recv();
        });
        let (reply, _) = oneshot::channel();
        let request = Request { work: Work::Run(run), reply };
        assert!(self.catalog.shared.requests.try_send(request).is_ok());
        running.recv().unwrap();
        release
    }
}

fn settings(data: &Path) -> Settings {
    Settings {
        data: data.to_owned(),
        origin: Origin { tenant: "default".parse().unwrap(), node: NODE.parse().unwrap() },
        signing: SigningKey::from_seed(&[3; 32]),
        reference: reference(),
        queue: QUEUE,
    }
}

fn open(data: &Path) -> Result<Catalog, OpenError> {
    Catalog::open(settings(data))
}

/// What a permitted stream of these tests begins with.
const CODECS: &str = r#"{"96":{"name":"opus","clock_rate":48000}}"#;

fn reference() -> ReferenceKey {
    ReferenceKey::from_bytes(&[4; 32])
}

fn number(n: u64) -> PartyNumber {
    PartyNumber::parse(&format!("+49301234{:06}", n % 1_000_000)).unwrap()
}

fn party(n: u64) -> PartyRef {
    reference().party_ref(number(n).expose())
}

fn wrapped(n: u8) -> WrappedKey {
    WrappedKey { epoch: Epoch(1), bytes: [n; WrappedKey::LENGTH] }
}

/// The facts of the `n`th call: its caller is permitted.
fn facts(n: u64) -> DecisionFacts {
    sample::facts(n, party(n))
}

fn call(n: u64) -> CallId {
    facts(n).call
}

fn recording(n: u64) -> RecordingId {
    facts(n).recording
}

fn entry(facts: DecisionFacts) -> DecisionEntry {
    let permitted = facts.outcome.permits().then(|| Permitted {
        recording: NewRecording { began: facts.time, scope: Scope::All, retention: RETENTION },
        key: wrapped(facts.leg.stream().0),
        codecs: CODECS.to_owned(),
    });
    let decision = sample::decision(facts);
    let erase = Erase::Nothing;
    DecisionEntry { decision, number: None, permitted, erase, events: Vec::new() }
}

/// A permission of the `n`th call's caller.
fn granted(n: u64) -> DecisionEntry {
    DecisionEntry { number: Some(number(n)), ..entry(facts(n)) }
}

/// A permission of the `n`th call's callee.
fn granted_callee(n: u64) -> DecisionEntry {
    entry(DecisionFacts { leg: Leg::Callee, party_ref: party(n + 50_000), ..facts(n) })
}

fn refused(n: u64) -> DecisionEntry {
    entry(DecisionFacts { outcome: Outcome::Refused, answer: Answer::HungUp, ..facts(n) })
}

fn withdrawn(n: u64) -> DecisionEntry {
    let answer = Answer::Command { id: "1".into() };
    let time = facts(n).time.plus(Duration::from_secs(30));
    entry(DecisionFacts { outcome: Outcome::Withdrawn, answer, time, ..facts(n) })
}

fn chain(reader: &Reader) -> Result<Head, ChainError<QueryError>> {
    let to = reader.chain_head(NODE).unwrap();
    let keys = |id: &str| -> Option<VerifyingKey> { reader.verifying_key(id).unwrap() };
    verify_chain(reader.evidence_chain(NODE, 0), NODE, Head::START, Some(to), keys)
}

fn wait<F: Future>(what: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(what)
}

/// Waits for all of them at once, so that the writer finds them together.
async fn decide_all(
    catalog: &Catalog,
    entries: Vec<DecisionEntry>,
) -> Vec<Result<super::Receipt<Decision>, CommitError>> {
    let mut tasks = Vec::new();
    for entry in entries {
        let catalog = catalog.clone();
        tasks.push(tokio::spawn(async move { catalog.decide(entry).await }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

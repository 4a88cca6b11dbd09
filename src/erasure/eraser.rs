//! The thread that erases, and what it waits for.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::catalog::{Catalog, Tombstone};
use crate::clock;
use crate::erasure::StepError;
use crate::erasure::steps::{Ground, Stage, note_failure};
use crate::ids::StreamId;

/// How long until a step that failed is tried again: this at first, then twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
/// And at most this.
const AGAIN_AT_MOST: Duration = Duration::from_secs(300);
/// How often it looks without being told to.
const LOOK: Duration = Duration::from_secs(60);

/// Erases what has a tombstone, as soon as nobody writes it any more. Clones share one thread, which
/// ends with the last of them.
#[derive(Clone, Debug)]
pub struct Eraser {
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
}

/// How it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Everything that could be erased is.
    Good,
    /// So many streams are to be erased and cannot be; they are tried again.
    Failing(usize),
}

#[derive(Debug, Default)]
struct Shared {
    /// Streams that a writer may still add to, and how many writers.
    written: Mutex<HashMap<StreamId, usize>>,
    failing: AtomicUsize,
}

enum Order {
    Look,
    /// Answered once everything that can be erased is.
    Rest(oneshot::Sender<()>),
}

impl Eraser {
    /// Starts the thread. It looks for work at once.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(catalog: Catalog, root: &Path) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        // Waits in the catalog and on the disk, which no task of the agent may.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let work = Work {
            ground: Ground { catalog, root: root.to_owned() },
            shared: Arc::clone(&shared),
            failed: HashMap::new(),
        };
        std::thread::Builder::new()
            .name("erasure".to_owned())
            .spawn(move || runtime.block_on(work.run(&inbox)))?;
        let _ = orders.send(Order::Look);
        Ok(Self { orders, shared })
    }

    /// A writer is opened for this stream: nothing of it is erased until it is closed.
    pub fn opened(&self, stream: StreamId) {
        *self.shared.written().entry(stream).or_default() += 1;
    }

    /// The store has reported everything of this stream.
    pub fn closed(&self, stream: StreamId) {
        let mut written = self.shared.written();
        if let Some(writers) = written.get_mut(&stream) {
            *writers = writers.saturating_sub(1);
            if *writers == 0 {
                written.remove(&stream);
            }
        }
        drop(written);
        self.look();
    }

    /// A tombstone may have been raised.
    pub fn look(&self) {
        let _ = self.orders.send(Order::Look);
    }

    /// Returns when everything that can be erased now is.
    pub async fn rest(&self) {
        let (done, rested) = oneshot::channel();
        let _ = self.orders.send(Order::Rest(done));
        let _ = rested.await;
    }

    /// How it goes.
    #[must_use]
    pub fn condition(&self) -> Condition {
        match self.shared.failing.load(Ordering::Relaxed) {
            0 => Condition::Good,
            streams => Condition::Failing(streams),
        }
    }
}

impl Shared {
    fn written(&self) -> std::sync::MutexGuard<'_, HashMap<StreamId, usize>> {
        // A panic elsewhere cannot leave the map half-changed: each change is one call.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_written(&self, stream: StreamId) -> bool {
        self.written().contains_key(&stream)
    }
}

/// Erases everything that has a tombstone, while nothing is written yet. What cannot be erased is
/// logged, told, and left to an [`Eraser`].
pub async fn finish_all(catalog: &Catalog, root: &Path) {
    let ground = Ground { catalog: catalog.clone(), root: root.to_owned() };
    let mut work = Work { ground, shared: Arc::default(), failed: HashMap::new() };
    work.pass().await;
}

/// The thread's state.
struct Work {
    ground: Ground,
    shared: Arc<Shared>,
    failed: HashMap<StreamId, Failed>,
}

/// An erasure that did not go on.
struct Failed {
    times: u32,
    again: Instant,
}

impl Failed {
    fn once_more(&mut self) {
        let wait = AGAIN.saturating_mul(1 << self.times.min(16)).min(AGAIN_AT_MOST);
        self.times += 1;
        self.again = clock::now() + wait;
    }
}

impl Work {
    async fn run(mut self, inbox: &mpsc::Receiver<Order>) {
        loop {
            let mut rests = Vec::new();
            match inbox.recv_timeout(self.wait()) {
                Ok(Order::Rest(done)) => rests.push(done),
                Ok(Order::Look) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(order) = inbox.try_recv() {
                if let Order::Rest(done) = order {
                    rests.push(done);
                }
            }
            self.pass().await;
            for done in rests {
                let _ = done.send(());
            }
        }
    }

    /// How long there is nothing to do.
    fn wait(&self) -> Duration {
        let next = self.failed.values().map(|failed| failed.again).min();
        next.map_or(LOOK, |at| at.saturating_duration_since(clock::now()).min(LOOK))
    }

    /// Takes every erasure as far as it goes.
    async fn pass(&mut self) {
        let open = match self.ground.catalog.read(|reader| reader.open_erasures()).await {
            Ok(open) => open,
            Err(why) => return tracing::error!(%why, "what is to be erased cannot be read"),
        };
        self.failed.retain(|stream, _| open.iter().any(|it| it.stream == *stream));
        for tombstone in open {
            let stream = tombstone.stream;
            let waits = self.failed.get(&stream).is_some_and(|failed| failed.again > clock::now());
            if waits || self.shared.is_written(stream) {
                continue;
            }
            match self.erase(&tombstone).await {
                Ok(()) => {
                    self.failed.remove(&stream);
                }
                Err(why) => self.failed(&tombstone, &why).await,
            }
        }
        self.shared.failing.store(self.failed.len(), Ordering::Relaxed);
    }

    async fn erase(&self, tombstone: &Tombstone) -> Result<(), StepError> {
        let mut stage = Stage::of(tombstone.clone());
        while !matches!(stage, Stage::Verified(_)) {
            stage = stage.next(&self.ground).await?;
        }
        Ok(())
    }

    async fn failed(&mut self, tombstone: &Tombstone, why: &StepError) {
        let stream = tombstone.stream;
        let again = clock::now();
        let failed = self.failed.entry(stream).or_insert(Failed { times: 0, again });
        failed.once_more();
        if failed.times == 1 {
            tracing::error!(%stream, %why, "what is to be erased cannot be; it is tried again");
        }
        if let Err(untold) = note_failure(&self.ground, tombstone, why).await {
            tracing::error!(%stream, %untold, "nor can it be told");
        }
    }
}

//! The thread that syncs, and that reports what is safe.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::{FailedSegment, StoreError, StoreReport};

/// Syncs the disk when it is told to, and reports.
pub(super) struct Syncer {
    orders: mpsc::Sender<Order>,
    busy: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

enum Order {
    Report(Box<StoreReport>),
    /// Sync; then report.
    Sync(Vec<StoreReport>),
}

impl Syncer {
    /// `folder` is open on the disk that is to be synced.
    pub(super) fn start(
        folder: File,
        root: &Path,
        report: impl Fn(StoreReport) + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let busy = Arc::new(AtomicBool::new(false));
        let (root, done) = (root.to_owned(), Arc::clone(&busy));
        let thread =
            std::thread::Builder::new().name("segment-sync".to_owned()).spawn(move || {
                for order in received {
                    match order {
                        Order::Report(now) => report(*now),
                        Order::Sync(then) => {
                            let synced = rustix::fs::syncfs(&folder);
                            done.store(false, Ordering::Release);
                            match synced {
                                Ok(()) => then.into_iter().for_each(&report),
                                Err(errno) => unsafe_reports(&root, errno.into(), then, &report),
                            }
                        }
                    }
                }
            })?;
        Ok(Self { orders, busy, thread })
    }

    /// Reports at once.
    pub(super) fn report(&self, now: StoreReport) {
        // The thread ends only after this half of the channel.
        let _ = self.orders.send(Order::Report(Box::new(now)));
    }

    /// Whether a sync is under way: another one is better begun after it.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Syncs everything written so far, then reports.
    pub(super) fn sync(&self, then: Vec<StoreReport>) {
        self.busy.store(true, Ordering::Release);
        let _ = self.orders.send(Order::Sync(then));
    }

    /// Waits until everything ordered is done.
    pub(super) fn finish(self) {
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("the thread that syncs segments has panicked");
        }
    }
}

/// The sync failed: what was to be reported as sealed is not.
fn unsafe_reports(
    root: &Path,
    error: io::Error,
    then: Vec<StoreReport>,
    report: &impl Fn(StoreReport),
) {
    let error = StoreError::of("sync", root, error);
    tracing::error!(%error, "recordings are not safe on the disk");
    for after in then {
        report(match after {
            StoreReport::Sealed(sealed) => StoreReport::Failed(FailedSegment {
                name: sealed.manifest.manifest.name(),
                location: sealed.location,
                error: error.clone(),
            }),
            other => other,
        });
    }
    report(StoreReport::SyncFailed { error });
}

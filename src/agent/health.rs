//! Whether the agent can record, and whether it takes calls: readings that others ask for often.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::catalog::{Catalog, OutboxStatus};

/// Below this many free bytes nothing new is recorded, so that what is being recorded can end.
const RESERVE: u64 = 64 * 1024 * 1024;

/// How often the slow readings are taken.
const EVERY: Duration = Duration::from_secs(2);

/// The agent's state as it was last seen.
#[derive(Debug)]
pub(super) struct Health {
    data: PathBuf,
    recordings: PathBuf,
    free: [AtomicU64; 2],
    catalog: AtomicBool,
    draining: AtomicBool,
    calls: AtomicUsize,
    outbox: Mutex<OutboxStatus>,
}

impl Health {
    pub(super) fn new(data: &Path, recordings: &Path) -> Self {
        let health = Self {
            data: data.to_owned(),
            recordings: recordings.to_owned(),
            free: [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)],
            catalog: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            outbox: Mutex::default(),
        };
        health.look_at_disks();
        health
    }

    /// Takes the slow readings from time to time, until it is dropped with its runtime.
    pub(super) async fn watch(&self, catalog: &Catalog) {
        let mut short = false;
        loop {
            self.look_at_disks();
            match catalog.read(|reader| reader.outbox_status()).await {
                Ok(status) => {
                    self.catalog.store(true, Ordering::Relaxed);
                    if let Ok(mut outbox) = self.outbox.lock() {
                        *outbox = status;
                    }
                }
                Err(why) => {
                    tracing::error!(%why, "the catalog cannot be read");
                    self.catalog.store(false, Ordering::Relaxed);
                }
            }
            let now_short = self.short_of_space();
            if now_short != short {
                short = now_short;
                if short {
                    tracing::error!(
                        "less than {} MiB free: calls are not recorded until there is more",
                        RESERVE >> 20
                    );
                } else {
                    tracing::info!("there is room again: calls are recorded");
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Whether a new call could be recorded.
    pub(super) fn can_record(&self) -> bool {
        self.catalog_works() && !self.short_of_space()
    }

    pub(super) fn catalog_works(&self) -> bool {
        self.catalog.load(Ordering::Relaxed)
    }

    pub(super) fn short_of_space(&self) -> bool {
        self.free.iter().any(|free| free.load(Ordering::Relaxed) < RESERVE)
    }

    /// Free bytes, by what the folder is for.
    pub(super) fn free(&self) -> Vec<(&'static str, u64)> {
        let [data, recordings] = &self.free;
        vec![
            ("data", data.load(Ordering::Relaxed)),
            ("recordings", recordings.load(Ordering::Relaxed)),
        ]
    }

    pub(super) fn outbox(&self) -> OutboxStatus {
        self.outbox.lock().map(|outbox| *outbox).unwrap_or_default()
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn calls(&self, calls: usize) {
        self.calls.store(calls, Ordering::Relaxed);
    }

    pub(super) fn calls_now(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn look_at_disks(&self) {
        for (free, path) in self.free.iter().zip([&self.data, &self.recordings]) {
            if let Ok(stat) = rustix::fs::statvfs(path) {
                free.store(stat.f_bavail.saturating_mul(stat.f_frsize), Ordering::Relaxed);
            }
        }
    }
}

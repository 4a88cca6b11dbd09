//! Puts chunks on the disk: a thread that writes, and one that syncs.
//!
//! Senders never wait: [`StoreSink`] hands chunks over a queue that is bounded by
//! [`StoreOptions::queue`] and refuses what does not fit. The writing thread makes one `write` of
//! each chunk as it comes, so that a crash of the process loses nothing that was handed over; the
//! syncing thread makes one `syncfs` a second while there is something new, so that a power cut
//! loses at most two seconds, and a slow disk holds up no write.

mod files;
mod sink;
mod sync;
mod worker;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use crate::ids::{Digest, StreamId};
use crate::keys::SigningKey;
use crate::segment::format::{SegmentName, SignedManifest};

pub(super) use files::write_manifest;
pub use sink::StoreSink;
use sink::{Message, Shared};

/// How a store works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The most chunks (of 2048 bytes) that wait to be written. A chunk beyond is refused.
    pub queue: usize,
    /// How often new data is synced.
    pub sync_every: std::time::Duration,
}

impl Default for StoreOptions {
    /// 32 MiB of chunks; a sync a second.
    fn default() -> Self {
        Self { queue: 16_384, sync_every: std::time::Duration::from_secs(1) }
    }
}

/// The recordings folder and the threads that write to it.
pub struct SegmentStore {
    root: PathBuf,
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
    worker: Option<JoinHandle<()>>,
}

/// What a store tells. Reports of one stream come in order.
#[derive(Debug)]
pub enum StoreReport {
    /// A segment and its manifest are written and synced.
    Sealed(Box<SealedSegment>),
    /// A segment could not be written to its end, and its stream is written no further.
    Failed(FailedSegment),
    /// The disk did not take what was written before. What was reported sealed earlier is safe.
    SyncFailed {
        /// Why.
        error: StoreError,
    },
    /// The sink of a stream is gone, and everything that it handed over has been reported. Comes
    /// once for each sink, also for one that never had anything to write.
    Closed {
        /// The stream.
        stream: StreamId,
    },
}

/// A segment that is on the disk, whole or truncated, with its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// Its manifest.
    pub manifest: SignedManifest,
    /// The digest of the manifest.
    pub digest: Digest,
    /// Where the segment is, relative to the recordings folder.
    pub location: String,
}

/// A segment that could not be written to its end. Its whole chunks stay, for
/// [`recover_truncated`](crate::segment::recover_truncated).
#[derive(Debug)]
pub struct FailedSegment {
    /// Which.
    pub name: SegmentName,
    /// Where it is, relative to the recordings folder.
    pub location: String,
    /// Why.
    pub error: StoreError,
}

/// What went wrong with the disk.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("no space left for {}: free some, or name another disk in [storage] url", path.display())]
    NoSpace {
        /// What was to be written.
        path: PathBuf,
    },
    /// A segment of this name is there already; it is never written over.
    #[error("{} is there already", path.display())]
    Exists {
        /// The segment.
        path: PathBuf,
    },
    /// Another error of the operating system.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// The store was closed before the segment was.
    #[error("the store was closed before {} was finished", path.display())]
    Unfinished {
        /// The segment.
        path: PathBuf,
    },
}

impl StoreError {
    fn of(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            _ => Self::Io { action, path, source: Arc::new(source) },
        }
    }
}

/// Counts since the start. Each is read on its own.
#[derive(Debug, Default)]
pub struct StoreCounters {
    /// Packets in chunks that are written.
    pub packets_written: AtomicU64,
    /// Packets that arrived under a grant and were not written.
    pub packets_dropped: AtomicU64,
    /// Bytes written to segments.
    pub bytes_written: AtomicU64,
    /// Chunks that were refused because the queue was full.
    pub chunks_refused: AtomicU64,
    /// Segments sealed, truncated ones included.
    pub segments_sealed: AtomicU64,
    /// Segments that failed.
    pub segments_failed: AtomicU64,
}

impl StoreCounters {
    fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

impl SegmentStore {
    /// Opens the recordings folder, making it where it is missing (mode 0700), and starts the
    /// threads. `report` is called on one of them and must not block for long.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the folder cannot be made, opened or written to, or a thread cannot be
    /// started.
    pub fn start(
        root: &Path,
        signing: Arc<SigningKey>,
        options: StoreOptions,
        report: impl Fn(StoreReport) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let folder = files::open_root(root)?;
        let shared = Arc::new(Shared::new(options.queue));
        let (queue, messages) = mpsc::channel();
        let syncer = sync::Syncer::start(folder, root, report)
            .map_err(|source| StoreError::of("start a thread for", root, source))?;
        let worker = worker::Worker::new(root, signing, options, Arc::clone(&shared), syncer);
        let worker = std::thread::Builder::new()
            .name("segment-store".to_owned())
            .spawn(move || worker.run(&messages))
            .map_err(|source| StoreError::of("start a thread for", root, source))?;
        Ok(Self { root: root.to_owned(), shared, queue, worker: Some(worker) })
    }

    /// A sink for one media stream.
    #[must_use]
    pub fn sink(&self, stream: StreamId) -> StoreSink {
        StoreSink::new(stream, Arc::clone(&self.shared), self.queue.clone())
    }

    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> &StoreCounters {
        &self.shared.counters
    }

    /// Bytes that may still be written to the disk.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.root)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Writes and syncs everything that was handed over, reports it, and ends the threads.
    /// Segments whose writers live on are left without a manifest and reported as failed.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(worker) = self.worker.take() else { return };
        // A worker that is gone has nothing left to close.
        let _ = self.queue.send(Message::Close);
        if worker.join().is_err() {
            tracing::error!("the thread that writes segments has panicked");
        }
    }
}

impl Drop for SegmentStore {
    fn drop(&mut self) {
        self.end();
    }
}

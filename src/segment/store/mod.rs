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
use std::sync::{Arc, Mutex, PoisonError, mpsc};
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
    worker: Mutex<Option<JoinHandle<()>>>,
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
        let worker = Mutex::new(Some(worker));
        Ok(Self { root: root.to_owned(), shared, queue, worker })
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

    /// Whether the thread that writes is running: `false` after [`SegmentStore::close`], or when it
    /// broke.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        worker.as_ref().is_some_and(|worker| !worker.is_finished())
    }

    /// Writes and syncs everything that was handed over, reports it, and ends the threads: when
    /// this returns, the last report has been made. Segments whose writers live on are left
    /// without a manifest and reported as failed. Waits for the disk; dropping the store does the
    /// same.
    pub fn close(&self) {
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(worker) = worker else { return };
        // A worker that is gone has nothing left to close.
        let _ = self.queue.send(Message::Close);
        if worker.join().is_err() {
            tracing::error!("the thread that writes segments has panicked");
        }
    }
}

impl Drop for SegmentStore {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StreamIndex;
    use crate::segment::format::{SealedBy, SegmentState};
    use crate::segment::stream::{Appended, StreamWriter};
    use crate::segment::testing::{EVIDENCE, at, key, packet, start, stream};
    use crate::segment::verify::{SegmentVerdict, verify_chain, verify_segment};
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    fn signing() -> Arc<SigningKey> {
        Arc::new(SigningKey::from_seed(&[9; 32]))
    }

    fn quick() -> StoreOptions {
        StoreOptions { sync_every: Duration::from_millis(1), ..StoreOptions::default() }
    }

    fn open(root: &Path, options: StoreOptions) -> (SegmentStore, mpsc::Receiver<StoreReport>) {
        let (reports, received) = mpsc::channel();
        let report = move |report| drop(reports.send(report));
        (SegmentStore::start(root, signing(), options, report).unwrap(), received)
    }

    fn writer(store: &SegmentStore, index: u8) -> StreamWriter<StoreSink> {
        let stream = StreamId { index: StreamIndex(index), ..stream() };
        StreamWriter::new(stream, EVIDENCE, key(), start(), store.sink(stream))
    }

    fn talk(writer: &mut StreamWriter<StoreSink>, from: u64, packets: u16) {
        for n in 0..packets {
            let appended = writer.append(&packet(0, n, 172), 0, at(from + 20 * u64::from(n)));
            assert_eq!(appended, Appended::Written);
        }
    }

    fn sealed(reports: &mpsc::Receiver<StoreReport>) -> Vec<SealedSegment> {
        let of = |report| match report {
            StoreReport::Sealed(sealed) => Some(*sealed),
            StoreReport::Closed { .. } => None,
            other => panic!("{other:?}"),
        };
        reports.iter().filter_map(of).collect()
    }

    fn verdict(root: &Path, sealed: &SealedSegment) -> SegmentVerdict {
        let path = root.join(&sealed.location);
        verify_segment(&path, EVIDENCE, &key(), &[signing().public()]).unwrap()
    }

    #[test]
    fn a_recording_lands_on_the_disk_signed_and_chained() {
        let root = tempfile::tempdir().unwrap();
        let (store, reports) = open(root.path(), quick());
        let (mut caller, mut callee) = (writer(&store, 0), writer(&store, 1));
        talk(&mut caller, 0, 3100);
        talk(&mut callee, 0, 100);
        callee.finish(at(2000));
        caller.finish(at(62_000));
        store.close();

        let sealed = sealed(&reports);
        assert_eq!(sealed.len(), 3);
        for segment in &sealed {
            let packets = segment.manifest.manifest.packets;
            let bytes = segment.manifest.manifest.bytes;
            assert_eq!(verdict(root.path(), segment), SegmentVerdict::Whole { packets, bytes });
            let path = root.path().join(&segment.location);
            let json = std::fs::read(path.with_extension("json")).unwrap();
            assert_eq!(Digest::of(&json), segment.digest);
            for file in [path.with_extension("json"), path] {
                assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
        let manifests: Vec<_> = sealed.iter().map(|segment| segment.manifest.clone()).collect();
        assert_eq!(verify_chain(&manifests, &[]), Ok(()));
        assert_eq!(manifests[0].manifest.previous, None);
        let folder = root.path().join(SegmentName::folder(stream().recording));
        for folder in folder.ancestors().take(4) {
            assert_eq!(std::fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 6);
    }

    #[test]
    fn counters_say_what_was_done() {
        let root = tempfile::tempdir().unwrap();
        let (store, _reports) = open(root.path(), quick());
        let mut writer = writer(&store, 0);
        talk(&mut writer, 0, 50);
        let _ = writer.append(&packet(96, 0, 172), 96, at(2000));
        writer.finish(at(2000));
        let shared = Arc::clone(&store.shared);
        assert!(store.free_bytes().unwrap() > 0);
        store.close();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(count(&shared.counters.packets_written), 50);
        assert_eq!(count(&shared.counters.packets_dropped), 1);
        assert_eq!(count(&shared.counters.segments_sealed), 1);
        let path = root.path().join(SegmentName { stream: stream(), segment: 0 }.path());
        let length = std::fs::metadata(path).unwrap().len();
        assert_eq!(count(&shared.counters.bytes_written), length);
    }

    #[test]
    fn the_chain_goes_on_after_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for index in 0..3 {
            let (store, reports) = open(root.path(), quick());
            let mut writer = writer(&store, index);
            talk(&mut writer, 1000 * u64::from(index), 20);
            writer.finish(at(1000 * u64::from(index) + 400));
            store.close();
            all.extend(sealed(&reports).into_iter().map(|segment| segment.manifest));
        }
        assert_eq!(all.len(), 3);
        assert_eq!(verify_chain(&all, &[]), Ok(()));
        let erased = all.remove(1).digest();
        assert!(verify_chain(&all, &[]).is_err());
        assert_eq!(verify_chain(&all, &[erased]), Ok(()), "a link that was erased");
    }

    #[test]
    fn a_dropped_writer_leaves_a_truncated_segment_with_its_manifest() {
        let root = tempfile::tempdir().unwrap();
        let (store, reports) = open(root.path(), quick());
        let mut writer = writer(&store, 0);
        talk(&mut writer, 0, 50);
        drop(writer);
        store.close();
        let sealed = sealed(&reports);
        let [segment] = &sealed[..] else { panic!("{sealed:?}") };
        let manifest = &segment.manifest.manifest;
        assert_eq!(manifest.state, SegmentState::Truncated);
        assert_eq!(manifest.sealed_by, SealedBy::Writer);
        assert_eq!(
            verdict(root.path(), segment),
            SegmentVerdict::Truncated {
                packets: manifest.packets,
                whole: manifest.bytes,
                of: manifest.bytes
            }
        );
    }

    #[test]
    fn a_full_queue_is_a_gap_and_never_a_wait() {
        let root = tempfile::tempdir().unwrap();
        let (store, reports) = open(root.path(), StoreOptions { queue: 0, ..quick() });
        let mut writer = writer(&store, 0);
        let mut written = 0;
        for n in 0..100 {
            if writer.append(&packet(0, n, 172), 0, at(20 * u64::from(n))) == Appended::Written {
                written += 1;
            }
        }
        writer.finish(at(2000));
        store.close();
        let sealed = sealed(&reports);
        let manifest = &sealed[0].manifest.manifest;
        assert_eq!((manifest.packets, manifest.state), (written, SegmentState::Sealed));
        assert_eq!(manifest.gaps[0].packets, 100 - written);
        assert!(verdict(root.path(), &sealed[0]).is_whole());
    }

    #[test]
    fn a_stream_that_cannot_be_stored_fails_and_the_others_do_not() {
        let root = tempfile::tempdir().unwrap();
        let (store, reports) = open(root.path(), quick());
        let name = SegmentName { stream: stream(), segment: 0 };
        std::fs::create_dir_all(root.path().join(name.path()).parent().unwrap()).unwrap();
        std::fs::write(root.path().join(name.path()), b"mine").unwrap();
        let mut bad = writer(&store, 0);
        let mut good = writer(&store, 1);
        talk(&mut good, 0, 50);
        talk(&mut bad, 0, 12);
        let StoreReport::Failed(failed) = reports.recv().unwrap() else { panic!() };
        assert!(matches!(failed.error, StoreError::Exists { .. }), "{failed:?}");
        assert_eq!(failed.name, name);
        let mut appended = Appended::Written;
        for n in 12..40 {
            appended = bad.append(&packet(0, n, 172), 0, at(20 * u64::from(n)));
        }
        assert_eq!(appended, Appended::Failed);
        good.finish(at(1000));
        bad.finish(at(1000));
        store.close();
        let sealed = sealed(&reports);
        assert_eq!(sealed.len(), 1);
        assert!(verdict(root.path(), &sealed[0]).is_whole());
        assert_eq!(std::fs::read(root.path().join(name.path())).unwrap(), b"mine");
    }

    #[test]
    fn a_stream_is_reported_closed_after_its_last_segment() {
        let root = tempfile::tempdir().unwrap();
        let (store, reports) = open(root.path(), quick());
        let mut talked = writer(&store, 0);
        talk(&mut talked, 0, 20);
        talked.finish(at(400));
        drop(writer(&store, 1));
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.push(match reports.recv().unwrap() {
                StoreReport::Sealed(sealed) => ("sealed", sealed.manifest.manifest.stream),
                StoreReport::Closed { stream } => ("closed", stream.index),
                other => panic!("{other:?}"),
            });
        }
        let [first, second] = [StreamIndex(0), StreamIndex(1)];
        assert_eq!(seen, [("sealed", first), ("closed", first), ("closed", second)]);
        store.close();
        assert!(reports.iter().next().is_none());
    }

    #[test]
    fn a_writer_that_outlives_the_store_fails() {
        let root = tempfile::tempdir().unwrap();
        let (store, reports) = open(root.path(), quick());
        let mut writer = writer(&store, 0);
        talk(&mut writer, 0, 50);
        store.close();
        let StoreReport::Failed(failed) = reports.recv().unwrap() else { panic!() };
        assert!(matches!(failed.error, StoreError::Unfinished { .. }), "{failed:?}");
        let appended: Vec<_> =
            (50..80).map(|n| writer.append(&packet(0, n, 172), 0, at(1000))).collect();
        assert_eq!(appended.last(), Some(&Appended::Failed));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        std::fs::write(&path, b"").unwrap();
        let error = SegmentStore::start(&path.join("x"), signing(), quick(), drop).err().unwrap();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

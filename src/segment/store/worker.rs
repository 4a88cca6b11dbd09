//! The thread that writes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::clock;
use crate::ids::{Digest, RecordingId, StreamId};
use crate::keys::SigningKey;
use crate::segment::format::{Chunk, ChunkBuffer, SegmentName, SegmentState};
use crate::segment::sink::{SegmentHead, SegmentTail};

use super::files::{Ended, SegmentFile, open_recording};
use super::sink::{Begins, Message, Shared, SinkId};
use super::sync::Syncer;
use super::{FailedSegment, SealedSegment, StoreCounters, StoreError, StoreOptions, StoreReport};

/// After a message the thread waits this long for more, so that under load it wakes for many
/// chunks at once and senders have nobody to wake.
const GATHER: Duration = Duration::from_millis(4);
/// At most so many messages are taken between two looks at the clock.
const BATCH: usize = 1024;
/// How long the thread sleeps when there is nothing to do.
const IDLE: Duration = Duration::from_secs(3600);

/// The state of the writing thread.
pub(super) struct Worker {
    root: PathBuf,
    signing: Arc<SigningKey>,
    shared: Arc<Shared>,
    syncer: Syncer,
    streams: HashMap<SinkId, Stream>,
    recordings: HashMap<RecordingId, Recording>,
    /// To be reported after the next sync.
    waiting: Vec<StoreReport>,
    used: Vec<ChunkBuffer>,
    dirty: Dirty,
    sync_every: Duration,
}

/// Whether something was written since the last sync was ordered.
#[derive(Clone, Copy)]
enum Dirty {
    No,
    /// And when it is to be synced.
    Until(Instant),
}

/// A stream that has at least one segment.
struct Stream {
    id: StreamId,
    failed: Arc<AtomicBool>,
    open: Option<SegmentFile>,
}

/// A recording that has at least one stream with a sink.
#[derive(Default)]
struct Recording {
    head: Head,
    streams: usize,
}

/// The manifest of a recording that was written last.
#[derive(Default)]
enum Head {
    /// Not looked for yet.
    #[default]
    Unknown,
    Known(Option<Digest>),
}

/// Whether the thread goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Go,
    Close,
}

impl Worker {
    pub(super) fn new(
        root: &Path,
        signing: Arc<SigningKey>,
        options: StoreOptions,
        shared: Arc<Shared>,
        syncer: Syncer,
    ) -> Self {
        Self {
            root: root.to_owned(),
            signing,
            shared,
            syncer,
            streams: HashMap::new(),
            recordings: HashMap::new(),
            waiting: Vec::new(),
            used: Vec::new(),
            dirty: Dirty::No,
            sync_every: options.sync_every,
        }
    }

    pub(super) fn run(mut self, messages: &mpsc::Receiver<Message>) {
        loop {
            let wait = match self.dirty {
                Dirty::No => IDLE,
                Dirty::Until(at) => at.saturating_duration_since(clock::now()).max(GATHER),
            };
            let first = match messages.recv_timeout(wait) {
                Ok(message) => Some(message),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            let had_some = first.is_some();
            let mut next = Next::Go;
            for message in first.into_iter().chain(messages.try_iter()).take(BATCH) {
                next = self.take(message);
                if next == Next::Close {
                    break;
                }
            }
            self.shared.recycle(&mut self.used);
            self.sync_when_due();
            if next == Next::Close {
                break;
            }
            if had_some {
                std::thread::sleep(GATHER);
            }
        }
        self.close();
    }

    fn take(&mut self, message: Message) -> Next {
        match message {
            Message::Chunk { sink, begins, chunk } => {
                self.shared.left();
                self.begin(sink, begins);
                self.write(sink, chunk);
            }
            Message::End { sink, begins, tail } => {
                self.begin(sink, begins);
                self.end(sink, *tail);
            }
            Message::Gone { sink, stream } => self.gone(sink, stream),
            Message::Close => return Next::Close,
        }
        Next::Go
    }

    /// Opens the file of a segment that is mentioned for the first time.
    fn begin(&mut self, sink: SinkId, begins: Option<Box<Begins>>) {
        let Some(begins) = begins else { return };
        let Begins { head, failed } = *begins;
        let name = head.name;
        let id = name.stream;
        if let Entry::Vacant(new) = self.streams.entry(sink) {
            new.insert(Stream { id, failed, open: None });
            self.recordings.entry(id.recording).or_default().streams += 1;
        }
        if self.streams.get(&sink).is_some_and(Stream::is_dead) {
            return;
        }
        self.touch();
        match self.create(head) {
            Ok(file) => {
                if let Some(stream) = self.streams.get_mut(&sink) {
                    stream.open = Some(file);
                }
            }
            Err(error) => self.fail(sink, name, error),
        }
    }

    fn create(&mut self, head: SegmentHead) -> Result<SegmentFile, StoreError> {
        let recording = self.recordings.entry(head.name.stream.recording).or_default();
        if let Head::Unknown = recording.head {
            recording.head = Head::Known(open_recording(&self.root, head.name.stream.recording)?);
        }
        SegmentFile::create(&self.root, head)
    }

    fn write(&mut self, sink: SinkId, chunk: Chunk) {
        let counters = &self.shared.counters;
        let open = self.streams.get_mut(&sink).and_then(|stream| stream.open.as_mut());
        if let Some(file) = open {
            let written = file.write(chunk.bytes(), chunk.packets(), counters);
            let name = file.head.name;
            self.touch();
            if let Err(error) = written {
                self.fail(sink, name, error);
            }
        }
        self.used.push(chunk.into_buffer());
    }

    fn end(&mut self, sink: SinkId, mut tail: SegmentTail) {
        let whole = tail.last.is_some();
        for chunk in tail.kept.take().into_iter().chain(tail.last.take()) {
            self.write(sink, chunk);
        }
        let Some(stream) = self.streams.get_mut(&sink) else { return };
        let Some(file) = stream.open.take() else { return };
        let name = file.head.name;
        let recording = self.recordings.entry(name.stream.recording).or_default();
        let state = if whole { SegmentState::Sealed } else { SegmentState::Truncated };
        let SegmentTail { end, packets, masked, gaps, .. } = tail;
        let ended = Ended { end, packets, masked, gaps, state };
        match file.seal(ended, recording.head.digest(), &self.signing) {
            Ok(manifest) => {
                let digest = manifest.digest();
                recording.head = Head::Known(Some(digest));
                StoreCounters::add(&self.shared.counters.segments_sealed, 1);
                let location = location(name);
                let sealed = SealedSegment { manifest, digest, location };
                self.waiting.push(StoreReport::Sealed(Box::new(sealed)));
            }
            Err(error) => self.fail(sink, name, error),
        }
    }

    fn gone(&mut self, sink: SinkId, id: StreamId) {
        if let Some(mut stream) = self.streams.remove(&sink) {
            if let Some(file) = stream.open.take() {
                let error = StoreError::Unfinished { path: file.path().to_owned() };
                self.report_failed(file.head.name, error);
            }
            if let Some(recording) = self.recordings.get_mut(&id.recording) {
                recording.streams = recording.streams.saturating_sub(1);
                if recording.streams == 0 {
                    self.recordings.remove(&id.recording);
                }
            }
        }
        self.waiting.push(StoreReport::Closed { stream: id });
        // Reported in order, so with the next sync, also where nothing new was written.
        self.touch();
    }

    /// Ends a stream for good: its writer is told, its file is closed as it is.
    fn fail(&mut self, sink: SinkId, name: SegmentName, error: StoreError) {
        if let Some(stream) = self.streams.get_mut(&sink) {
            stream.failed.store(true, Ordering::Relaxed);
            stream.open = None;
        }
        self.report_failed(name, error);
    }

    fn report_failed(&mut self, name: SegmentName, error: StoreError) {
        tracing::error!(segment = %name, recording = %name.stream.recording, %error,
            "a segment cannot be written to its end");
        StoreCounters::add(&self.shared.counters.segments_failed, 1);
        let location = location(name);
        self.syncer.report(StoreReport::Failed(FailedSegment { name, location, error }));
    }

    fn touch(&mut self) {
        if let Dirty::No = self.dirty {
            self.dirty = Dirty::Until(clock::now() + self.sync_every);
        }
    }

    fn sync_when_due(&mut self) {
        let Dirty::Until(at) = self.dirty else { return };
        if clock::now() >= at && !self.syncer.is_busy() {
            self.dirty = Dirty::No;
            self.syncer.sync(std::mem::take(&mut self.waiting));
        }
    }

    /// Syncs and reports everything; waits for it.
    fn close(mut self) {
        let streams: Vec<_> =
            self.streams.iter().map(|(sink, stream)| (*sink, stream.id)).collect();
        for (sink, id) in streams {
            if let Some(stream) = self.streams.get(&sink) {
                stream.failed.store(true, Ordering::Relaxed);
            }
            self.gone(sink, id);
        }
        self.syncer.sync(self.waiting);
        self.syncer.finish();
    }
}

impl Stream {
    fn is_dead(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Head {
    fn digest(&self) -> Option<Digest> {
        match self {
            Head::Unknown => None,
            Head::Known(digest) => *digest,
        }
    }
}

fn location(name: SegmentName) -> String {
    name.path().display().to_string()
}

//! The senders' half of the store: the queue's bound and the buffers that go round.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::ids::StreamId;
use crate::segment::format::{Chunk, ChunkBuffer, SegmentName};
use crate::segment::sink::{NotTaken, SegmentHead, SegmentSink, SegmentTail};

use super::StoreCounters;

/// More free buffers than this are given back to the allocator (1 MiB of them).
const MOST_FREE: usize = 512;

/// What senders and the writing thread share.
pub(super) struct Shared {
    pub(super) counters: StoreCounters,
    /// Chunks that wait; control messages are not counted and never refused.
    queued: AtomicUsize,
    limit: usize,
    free: Mutex<Vec<ChunkBuffer>>,
    sinks: AtomicU64,
}

impl Shared {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            counters: StoreCounters::default(),
            queued: AtomicUsize::new(0),
            limit,
            free: Mutex::new(Vec::new()),
            sinks: AtomicU64::new(0),
        }
    }

    /// A chunk has left the queue.
    pub(super) fn left(&self) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }

    /// Puts buffers back. Nobody waits for the lock: who does not get it goes without.
    pub(super) fn recycle(&self, buffers: &mut Vec<ChunkBuffer>) {
        if let Ok(mut free) = self.free.try_lock() {
            let room = MOST_FREE.saturating_sub(free.len());
            free.extend(buffers.drain(..room.min(buffers.len())));
        }
        buffers.clear();
    }

    fn buffer(&self) -> ChunkBuffer {
        let used = self.free.try_lock().ok().and_then(|mut free| free.pop());
        used.unwrap_or_default()
    }

    fn enter(&self) -> bool {
        let fits = self.queued.fetch_add(1, Ordering::Relaxed) < self.limit;
        if !fits {
            self.left();
        }
        fits
    }
}

/// Names a sink to the writing thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SinkId(u64);

/// What goes over the queue.
pub(super) enum Message {
    Chunk { sink: SinkId, begins: Option<Box<Begins>>, chunk: Chunk },
    End { sink: SinkId, begins: Option<Box<Begins>>, tail: Box<SegmentTail> },
    Gone { sink: SinkId, stream: StreamId },
    Close,
}

/// The first mention of a segment.
pub(super) struct Begins {
    pub(super) head: SegmentHead,
    /// Set when the stream cannot be written any more.
    pub(super) failed: Arc<AtomicBool>,
}

/// The sink of one media stream: hands chunks to the store's thread and never waits.
pub struct StoreSink {
    id: SinkId,
    stream: StreamId,
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
    failed: Arc<AtomicBool>,
    /// The segment that the thread knows of.
    begun: Option<SegmentName>,
}

impl StoreSink {
    pub(super) fn new(stream: StreamId, shared: Arc<Shared>, queue: mpsc::Sender<Message>) -> Self {
        let id = SinkId(shared.sinks.fetch_add(1, Ordering::Relaxed));
        let failed = Arc::new(AtomicBool::new(false));
        Self { id, stream, shared, queue, failed, begun: None }
    }

    fn begins(&self, head: &SegmentHead) -> Option<Box<Begins>> {
        (self.begun != Some(head.name))
            .then(|| Box::new(Begins { head: head.clone(), failed: Arc::clone(&self.failed) }))
    }
}

impl SegmentSink for StoreSink {
    fn chunk(&mut self, head: &SegmentHead, chunk: Chunk) -> Result<(), NotTaken> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(NotTaken::Closed);
        }
        if !self.shared.enter() {
            StoreCounters::add(&self.shared.counters.chunks_refused, 1);
            return Err(NotTaken::Full(chunk));
        }
        let message = Message::Chunk { sink: self.id, begins: self.begins(head), chunk };
        self.queue.send(message).map_err(|_| NotTaken::Closed)?;
        self.begun = Some(head.name);
        Ok(())
    }

    fn end(&mut self, head: &SegmentHead, tail: SegmentTail) {
        // A segment without a chunk leaves no file.
        if tail.last.is_none() && tail.kept.is_none() && self.begun != Some(head.name) {
            return;
        }
        let begins = self.begins(head);
        // A store that is closed has reported the segment as failed.
        let _ = self.queue.send(Message::End { sink: self.id, begins, tail: Box::new(tail) });
        self.begun = Some(head.name);
    }

    fn dropped(&mut self, packets: u64) {
        StoreCounters::add(&self.shared.counters.packets_dropped, packets);
    }

    fn buffer(&mut self) -> ChunkBuffer {
        self.shared.buffer()
    }
}

impl Drop for StoreSink {
    fn drop(&mut self) {
        let _ = self.queue.send(Message::Gone { sink: self.id, stream: self.stream });
    }
}

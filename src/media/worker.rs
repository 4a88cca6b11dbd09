//! One media thread: its calls, its sockets, its timers.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use mio::{Poll, Token, Waker};

use super::{Capture, LocalPorts, MediaConfig, MediaCounters, MediaReport, PromptBook};
use crate::call::media::MediaCommand;
use crate::ids::{CallId, Leg};

/// Where reports go.
pub(super) type Report = Arc<dyn Fn(CallId, MediaReport) + Send + Sync>;

/// What a media thread is told about one call.
pub(super) enum Order {
    Open { caller: LocalPorts, callee: Option<LocalPorts> },
    AddLeg { callee: LocalPorts },
    Command(MediaCommand),
    Record { leg: Leg, capture: Box<dyn Capture> },
    StopRecording { leg: Leg },
    Close,
}

/// What comes through a media thread's queue.
enum Message {
    Order(CallId, Order),
    End,
}

/// The outside of a media thread.
pub(super) struct WorkerHandle {
    /// Unbounded: the agent alone gives orders, a handful for each call that it has admitted.
    queue: mpsc::Sender<Message>,
    waker: Waker,
    thread: Mutex<Option<JoinHandle<()>>>,
}

const WAKE: Token = Token(usize::MAX);

impl WorkerHandle {
    /// Starts the thread.
    pub(super) fn start(
        index: usize,
        _config: &MediaConfig,
        _prompts: PromptBook,
        _counters: &Arc<MediaCounters>,
        _report: Report,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (queue, orders) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("media-{index}"))
            .spawn(move || while let Ok(Message::Order(..)) = orders.recv() {})?;
        Ok(Self { queue, waker, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn send(&self, call: CallId, order: Order) {
        self.push(Message::Order(call, order));
    }

    /// Asks the thread to close its calls and end.
    pub(super) fn end(&self) {
        self.push(Message::End);
    }

    /// Waits for the thread to end.
    pub(super) fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!("a media thread panicked");
        }
    }

    pub(super) fn is_running(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn push(&self, message: Message) {
        // Both fail only when the thread is gone, which `is_running` tells.
        if self.queue.send(message).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

//! Media threads: ports, relay, prompts, keys, RTCP. Apart from tokio, with the calls shared out
//! among them; no lock, allocation or task switch is spent on a packet.

mod beep;
mod bridge;
mod builtin;
mod capture;
mod counters;
mod dtls;
mod inbound;
mod io;
mod leg;
mod pace;
mod passage;
mod player;
mod ports;
mod prompt;
mod srtp;
mod timers;
mod tone;
mod watch;
mod wav;
mod worker;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::call::media::{MediaCommand, MediaEvent};
use crate::ids::{CallId, Leg};
use crate::segment::{Finished, SegmentSink, SegmentWriter};

pub use capture::CaptureEnd;
pub use counters::MediaCounters;
pub use io::IoPath;
pub use ports::{LocalPorts, ReserveError};
pub use prompt::{PromptBook, PromptError, PromptFacts};

use dtls::Identity;
use ports::PortPool;
use worker::{Order, WorkerHandle};

/// How the media threads are set up.
#[derive(Clone, Debug)]
pub struct MediaConfig {
    /// The ports that calls may use, both ends included.
    pub ports: RangeInclusive<u16>,
    /// How many threads; one a core is right.
    pub threads: usize,
    /// Whether a peer's address is learnt from its first packet, for peers behind NAT. Learnt
    /// once, then fixed.
    pub latch: bool,
    /// How long a peer that is not on hold can be silent before [`MediaEvent::Silent`].
    pub silent_after: Duration,
    /// The receive buffer that each socket asks the kernel for, in bytes.
    pub receive_buffer: usize,
    /// How often each leg sends RTCP, on average (RFC 3550, 6.2).
    pub report_every: Duration,
    /// How long packets may gather under load before they are relayed together: the longest
    /// delay that is added on purpose. Zero relays each by itself.
    pub gather: Duration,
    /// Whether recordings hold the tones of keys, which are otherwise silence there.
    pub keep_keys: bool,
    /// Which system calls move the packets.
    pub io: IoPath,
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            ports: 20_000..=29_999,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            latch: false,
            silent_after: Duration::from_secs(60),
            receive_buffer: 1 << 20,
            report_every: Duration::from_secs(5),
            gather: Duration::from_micros(500),
            keep_keys: false,
            io: IoPath::Batched,
        }
    }
}

/// What the media threads report about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaReport {
    /// For the call machine.
    Event(MediaEvent),
    /// A leg's writer is finished.
    CaptureEnded {
        /// Which leg's.
        leg: Leg,
        /// Why.
        why: CaptureEnd,
        /// What it has written.
        finished: Finished,
    },
    /// The call is closed: writers are finished, sockets are shut, ports are released. The last
    /// report about it.
    Closed {
        /// What the caller's leg received.
        caller: LegStatistics,
        /// What the callee's leg received, if there was one.
        callee: Option<LegStatistics>,
    },
}

/// What one leg received and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegStatistics {
    /// RTP packets taken from the peer.
    pub received: u64,
    /// Packets that never came (RFC 3550, A.3).
    pub lost: u64,
    /// Interarrival jitter at the end, in microseconds (RFC 3550, A.8).
    pub jitter_us: u64,
    /// RTP packets sent to the peer.
    pub sent: u64,
}

/// The media threads could not be started.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The range has no whole pair of an even port and the odd one above it.
    #[error("media.ports has no pair of an even port and the one above it: name a wider range")]
    NoPorts,
    /// The operating system refused.
    #[error("cannot start the media threads: {0}")]
    Io(#[from] std::io::Error),
}

/// The media threads, as the rest of the agent holds them. Cheap to clone; no method waits. The
/// threads end when the last one is dropped, or with [`Media::shutdown`].
#[derive(Clone)]
pub struct Media {
    shared: Arc<Shared>,
}

struct Shared {
    workers: Vec<WorkerHandle>,
    ports: Arc<PortPool>,
    counters: Arc<MediaCounters>,
    keep_keys: bool,
    identity: Option<Identity>,
}

impl Media {
    /// Starts the threads. `report` is called from them, in order for one call, and must not
    /// wait.
    ///
    /// # Errors
    ///
    /// [`MediaError`] when there are no ports or no threads to be had.
    pub fn start(
        config: MediaConfig,
        prompts: PromptBook,
        report: impl Fn(CallId, MediaReport) + Send + Sync + 'static,
    ) -> Result<Self, MediaError> {
        let mut rotation = [0; 2];
        // Without randomness the rotation starts at the range's beginning.
        let _ = getrandom::fill(&mut rotation);
        let rotation = usize::from(u16::from_ne_bytes(rotation));
        let ports = Arc::new(PortPool::new(&config.ports, rotation, config.receive_buffer));
        if ports.available() == 0 {
            return Err(MediaError::NoPorts);
        }
        let counters = Arc::new(MediaCounters::default());
        let report: worker::Report = Arc::new(report);
        let identity = Identity::generate();
        let workers = (0..config.threads.max(1))
            .map(|index| {
                let report = Arc::clone(&report);
                let prompts = prompts.clone();
                WorkerHandle::start(index, &config, prompts, identity.clone(), &counters, report)
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        let keep_keys = config.keep_keys;
        let shared = Shared { workers, ports, counters, keep_keys, identity };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Binds a pair of ports for one leg on a local address. Dropping them gives them back.
    ///
    /// # Errors
    ///
    /// [`ReserveError::PortsExhausted`] when all are in use, [`ReserveError::Unusable`] when the
    /// address cannot be bound.
    pub fn reserve(&self, ip: IpAddr) -> Result<LocalPorts, ReserveError> {
        self.shared.ports.reserve(ip)
    }

    /// The SHA-256 of the certificate that legs show in DTLS handshakes.
    #[must_use]
    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        self.shared.identity.as_ref().map(Identity::fingerprint)
    }

    /// Pairs of ports that are free.
    #[must_use]
    pub fn ports_available(&self) -> usize {
        self.shared.ports.available()
    }

    /// Takes a call in hand. Nothing is accepted or sent before [`MediaCommand::Connect`].
    pub fn open(&self, call: CallId, caller: LocalPorts, callee: Option<LocalPorts>) {
        self.order(call, Order::Open { caller, callee });
    }

    /// Adds the callee's leg, or replaces a callee leg that did not come about.
    pub fn add_leg(&self, call: CallId, callee: LocalPorts) {
        self.order(call, Order::AddLeg { callee });
    }

    /// Orders of one call are carried out in the order in which they were given.
    pub fn command(&self, call: CallId, command: MediaCommand) {
        self.order(call, Order::Command(command));
    }

    /// Has a leg's audio packets written, from the next one on. A writer that is there already is
    /// finished first. Each writer's end is told by one [`MediaReport::CaptureEnded`].
    pub fn record<S>(&self, call: CallId, leg: Leg, writer: SegmentWriter<S>)
    where
        S: SegmentSink + Send + 'static,
    {
        let writer = if self.shared.keep_keys { writer.keep_keys() } else { writer };
        self.order(call, Order::Record { leg, capture: Box::new(writer) });
    }

    /// Finishes a leg's writer, if there is one.
    pub fn stop_recording(&self, call: CallId, leg: Leg) {
        self.order(call, Order::StopRecording { leg });
    }

    /// Ends a call's media: writers are finished, RTCP says goodbye, ports are released. Ends
    /// with [`MediaReport::Closed`].
    pub fn close(&self, call: CallId) {
        self.order(call, Order::Close);
    }

    /// What has been counted since start.
    #[must_use]
    pub fn counters(&self) -> &MediaCounters {
        &self.shared.counters
    }

    /// Whether every thread is running: a readiness check.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.shared.workers.iter().all(WorkerHandle::is_running)
    }

    /// Closes every call, ends the threads and waits for them: for the end of the program, from a
    /// thread that may wait.
    pub fn shutdown(&self) {
        for worker in &self.shared.workers {
            worker.end();
        }
        for worker in &self.shared.workers {
            worker.join();
        }
    }

    /// A call stays with one thread; random bits of its identifier choose which.
    fn order(&self, call: CallId, order: Order) {
        let choice = usize::from(call.0.as_bytes()[15]);
        if let Some(worker) = self.shared.workers.get(choice % self.shared.workers.len().max(1)) {
            worker.send(call, order);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.end();
        }
    }
}

#[cfg(test)]
mod tests;

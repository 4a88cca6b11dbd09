//! One media thread: its calls, its sockets, its timers.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::bridge::{Bridge, Turn};
use super::capture::{Capture, CaptureEnd};
use super::counters::Tally;
use super::dtls::Identity;
use super::io::{BATCH, Inbox, LONGEST, Left};
use super::leg::LegStream;
use super::pace::Pace;
use super::timers::Timers;
use super::{LegStatistics, LocalPorts, MediaConfig, MediaCounters, MediaReport, PromptBook};
use crate::call::media::MediaCommand;
use crate::clock;
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

/// How many batches are read from one socket before the next one has its turn.
const BATCHES_A_TURN: usize = 16;

/// How often a socket is given a turn to be emptied before its leg is recorded.
const TURNS_BEFORE_RECORDING: usize = 256;

const WAKE: Token = Token(usize::MAX);

impl WorkerHandle {
    /// Starts the thread.
    pub(super) fn start(
        index: usize,
        config: &MediaConfig,
        prompts: PromptBook,
        identity: Option<Identity>,
        counters: &Arc<MediaCounters>,
        report: Report,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (queue, orders) = mpsc::channel();
        let registry = poll.registry().try_clone()?;
        let worker = Worker::new(registry, config, prompts, identity, counters, report);
        let thread = std::thread::Builder::new()
            .name(format!("media-{index}"))
            .spawn(move || worker.run(poll, &orders))?;
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

/// The inside of a media thread.
struct Worker {
    registry: Registry,
    /// Calls by slot; a socket's token names the slot.
    calls: Vec<Option<Bridge>>,
    free: Vec<usize>,
    slots: HashMap<CallId, usize>,
    /// Sockets that had more to read than one turn allows.
    unfinished: Vec<Token>,
    next_leg: u64,
    counters: Arc<MediaCounters>,
    shared: Shared,
}

/// What the thread lends to the call in hand.
struct Shared {
    config: MediaConfig,
    prompts: PromptBook,
    identity: Option<Identity>,
    report: Report,
    timers: Timers,
    tally: Tally,
    inbox: Inbox,
    spaces: Box<[[u8; LONGEST]; BATCH]>,
    clear: Box<[[u8; LONGEST]; BATCH]>,
    dice: u64,
    now: Instant,
}

/// Which socket a token stands for.
#[derive(Clone, Copy)]
struct Place {
    slot: usize,
    leg: Leg,
    port: Port,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Rtp,
    Rtcp,
}

/// Whether a thread goes on.
#[derive(PartialEq, Eq)]
enum Life {
    On,
    Over,
}

impl Place {
    fn token(self) -> Token {
        let leg = usize::from(self.leg == Leg::Callee);
        let port = usize::from(self.port == Port::Rtcp);
        Token(self.slot << 2 | leg << 1 | port)
    }

    fn of(Token(token): Token) -> Self {
        Self {
            slot: token >> 2,
            leg: if token & 2 == 0 { Leg::Caller } else { Leg::Callee },
            port: if token & 1 == 0 { Port::Rtp } else { Port::Rtcp },
        }
    }
}

impl Worker {
    fn new(
        registry: Registry,
        config: &MediaConfig,
        prompts: PromptBook,
        identity: Option<Identity>,
        counters: &Arc<MediaCounters>,
        report: Report,
    ) -> Self {
        let shared = Shared {
            config: config.clone(),
            prompts,
            identity,
            report,
            timers: Timers::default(),
            tally: Tally::default(),
            inbox: Inbox::new(config.io),
            spaces: Box::new([[0; LONGEST]; BATCH]),
            clear: Box::new([[0; LONGEST]; BATCH]),
            dice: u64::from_ne_bytes(random()) | 1,
            now: clock::now(),
        };
        Self {
            registry,
            calls: Vec::new(),
            free: Vec::new(),
            slots: HashMap::new(),
            unfinished: Vec::new(),
            next_leg: 0,
            counters: Arc::clone(counters),
            shared,
        }
    }

    fn run(mut self, mut poll: Poll, orders: &mpsc::Receiver<Message>) {
        let mut events = Events::with_capacity(1024);
        let mut pace = Pace::new(self.shared.config.gather, clock::now());
        loop {
            let timeout = if self.unfinished.is_empty() {
                if let Some(rest) = pace.rest(clock::now()) {
                    std::thread::sleep(rest);
                }
                self.shared.timers.until_next(clock::now())
            } else {
                Some(Duration::ZERO)
            };
            match poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "a media thread cannot wait for its sockets");
                    break;
                }
            }
            self.shared.now = clock::now();
            pace.woken(self.shared.now);
            // Orders come first: one that was given before a packet came holds for that packet. A
            // token may by now stand for another call's socket, which is then found empty.
            let life = self.carry_out(orders);
            let mut unfinished = std::mem::take(&mut self.unfinished);
            // A socket may be here twice: by itself and by a new event.
            unfinished.sort_unstable();
            unfinished.dedup();
            unfinished.drain(..).for_each(|token| {
                self.drain(token);
            });
            for token in events.iter().map(Event::token).filter(|token| *token != WAKE) {
                self.drain(token);
            }
            self.run_timers();
            self.shared.tally.flush(&self.counters);
            if life == Life::Over {
                break;
            }
        }
        for call in self.slots.keys().copied().collect::<Vec<_>>() {
            self.close(call);
        }
        self.shared.tally.flush(&self.counters);
    }

    /// Reads from a socket until it is empty, or has had its turn.
    fn drain(&mut self, token: Token) -> Left {
        let Place { slot, leg, port } = Place::of(token);
        for _ in 0..BATCHES_A_TURN {
            let Some(stream) = self.calls.get_mut(slot).and_then(Option::as_mut) else {
                return Left::Nothing;
            };
            let Some(stream) = stream.leg(leg) else { return Left::Nothing };
            let socket = if port == Port::Rtp { &stream.rtp } else { &stream.rtcp };
            let left = self.shared.inbox.fill(socket);
            if self.shared.inbox.len() > 0 {
                self.with_call(slot, |bridge, turn| match port {
                    Port::Rtp => bridge.receive(leg, turn),
                    Port::Rtcp => bridge.receive_reports(leg, turn),
                });
            }
            if left == Left::Nothing {
                return Left::Nothing;
            }
        }
        self.unfinished.push(token);
        Left::Perhaps
    }

    fn run_timers(&mut self) {
        while let Some(timer) = self.shared.timers.pop(self.shared.now) {
            self.with_call(timer.slot, |bridge, turn| {
                if let Some(leg) = bridge.leg_numbered(timer.leg) {
                    bridge.on_timer(leg, timer.due, turn);
                }
            });
        }
    }

    fn carry_out(&mut self, orders: &mpsc::Receiver<Message>) -> Life {
        loop {
            match orders.try_recv() {
                Ok(Message::Order(call, order)) => self.obey(call, order),
                Ok(Message::End) | Err(mpsc::TryRecvError::Disconnected) => return Life::Over,
                Err(mpsc::TryRecvError::Empty) => return Life::On,
            }
        }
    }

    fn obey(&mut self, call: CallId, order: Order) {
        if let Order::Open { caller, callee } = order {
            self.open(call, caller, callee);
            return;
        }
        let Some(&slot) = self.slots.get(&call) else {
            // Orders may follow the end of a call; what they bring ends here as it would there.
            if let Order::Record { leg, capture } = order {
                let finished = capture.finish(clock::wall());
                let why = CaptureEnd::Ordered;
                (self.shared.report)(call, MediaReport::CaptureEnded { leg, why, finished });
            }
            return;
        };
        match order {
            Order::Open { .. } => {}
            Order::AddLeg { callee } => self.add_leg(slot, callee),
            Order::Command(command) => self.with_call(slot, |bridge, turn| {
                bridge.command(command, turn);
            }),
            Order::Record { leg, capture } => {
                // What came before the grant may still wait in the socket: it is relayed, and
                // gone, before the writer is there.
                let token = Place { slot, leg, port: Port::Rtp }.token();
                let empty = (0..TURNS_BEFORE_RECORDING).any(|_| self.drain(token) == Left::Nothing);
                self.with_call(slot, |bridge, turn| {
                    bridge.record(leg, capture, turn);
                    if !empty {
                        // Somebody floods the port: what is old and what is new cannot be told.
                        tracing::error!(call = %bridge.call(), %leg, "not recorded: flooded");
                        bridge.stop_recording(leg, turn);
                    }
                });
            }
            Order::StopRecording { leg } => self.with_call(slot, |bridge, turn| {
                bridge.stop_recording(leg, turn);
            }),
            Order::Close => self.close(call),
        }
    }

    fn open(&mut self, call: CallId, caller: LocalPorts, callee: Option<LocalPorts>) {
        if self.slots.contains_key(&call) {
            tracing::error!(%call, "this call's media is open already");
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.calls.push(None);
            self.calls.len() - 1
        });
        let cname = hex::encode(random::<12>());
        let caller = self.stream(Place { slot, leg: Leg::Caller, port: Port::Rtp }, caller);
        let bridge = Bridge::new(call, slot, (self.shared.now, clock::wall()), cname, caller);
        if let Some(space) = self.calls.get_mut(slot) {
            *space = Some(bridge);
        }
        self.slots.insert(call, slot);
        if let Some(callee) = callee {
            self.add_leg(slot, callee);
        }
    }

    fn add_leg(&mut self, slot: usize, ports: LocalPorts) {
        let callee = self.stream(Place { slot, leg: Leg::Callee, port: Port::Rtp }, ports);
        let mut before = None;
        self.with_call(slot, |bridge, turn| {
            bridge.stop_recording(Leg::Callee, turn);
            before = bridge.set_callee(callee);
        });
        if let Some(mut before) = before {
            forget(&self.registry, &mut before);
        }
    }

    /// A leg's stream with its sockets registered.
    fn stream(&mut self, at: Place, ports: LocalPorts) -> LegStream {
        self.next_leg += 1;
        let mut stream = LegStream::new(self.next_leg, ports, random(), self.shared.now);
        let rtcp = Place { port: Port::Rtcp, ..at }.token();
        let registered = self
            .registry
            .register(&mut stream.rtp, at.token(), Interest::READABLE)
            .and_then(|()| self.registry.register(&mut stream.rtcp, rtcp, Interest::READABLE));
        if let Err(error) = registered {
            // A leg that hears nothing ends by its silence.
            tracing::error!(%error, "cannot wait for a media socket");
        }
        stream
    }

    fn close(&mut self, call: CallId) {
        if let Some(mut bridge) = self.take(call) {
            for leg in Leg::BOTH {
                if let Some(stream) = bridge.leg(leg) {
                    forget(&self.registry, stream);
                }
            }
            let mut turn = self.shared.turn();
            if catch_unwind(AssertUnwindSafe(|| bridge.close(&mut turn))).is_err() {
                self.failed(call);
            }
        }
    }

    /// Takes a call out of its slot.
    fn take(&mut self, call: CallId) -> Option<Bridge> {
        let slot = self.slots.remove(&call)?;
        self.free.push(slot);
        self.calls.get_mut(slot)?.take()
    }

    /// Lends the thread to one call. A call that panics ends alone: whatever it captures is
    /// dropped, which ends its recording, and the others go on.
    fn with_call(&mut self, slot: usize, act: impl FnOnce(&mut Bridge, &mut Turn<'_>)) {
        let Some(bridge) = self.calls.get_mut(slot).and_then(Option::as_mut) else { return };
        let mut turn = self.shared.turn();
        if catch_unwind(AssertUnwindSafe(|| act(bridge, &mut turn))).is_err() {
            let call = bridge.call();
            self.take(call);
            self.failed(call);
        }
    }

    fn failed(&self, call: CallId) {
        tracing::error!(%call, "the media of a call failed and is closed");
        let report = MediaReport::Closed { caller: LegStatistics::default(), callee: None };
        (self.shared.report)(call, report);
    }
}

impl Shared {
    fn turn(&mut self) -> Turn<'_> {
        // xorshift64 (Marsaglia 2003).
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        Turn {
            now: self.now,
            config: &self.config,
            prompts: &self.prompts,
            identity: self.identity.as_ref(),
            timers: &mut self.timers,
            tally: &mut self.tally,
            report: &self.report,
            inbox: &self.inbox,
            spaces: self.spaces.as_mut_slice(),
            clear: self.clear.as_mut_slice(),
            dice: (self.dice >> 32) as u32,
        }
    }
}

fn forget(registry: &Registry, stream: &mut LegStream) {
    // Closing a socket takes it out of the registry as well.
    let _ = registry.deregister(&mut stream.rtp);
    let _ = registry.deregister(&mut stream.rtcp);
}

/// Random bytes; zeroes where the system has none, which costs unpredictability alone.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let _ = getrandom::fill(&mut bytes);
    bytes
}

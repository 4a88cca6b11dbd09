//! The one task that owns the calls: everything that happens comes here, one thing after the
//! other, and every call's machine is asked what to do about it.

mod orders;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::agent::command::{CallOrder, Refusal};
use crate::agent::core::orders::Awaited;
use crate::agent::counters::Counters;
use crate::agent::health::Health;
use crate::agent::keeper::{Decided, Keeper, Permits};
use crate::agent::next_hop::{Locator, Place};
use crate::agent::prior::PriorBook;
use crate::agent::probe::Probes;
use crate::agent::scribe::{Scribe, Told};
use crate::agent::targets::TargetBook;
use crate::agent::tell::{Known, Party};
use crate::call::machine::{Call, Fact, Input, Output, Phase};
use crate::call::message::{Incoming, Method, Response, ServerTxn};
use crate::call::passing::CALL_HEADER;
use crate::catalog::Receipt;
use crate::clock;
use crate::config::Config;
use crate::consent::Decision;
use crate::control::{CallList, OrderDone};
use crate::ids::{CallId, Leg, RecordingId};
use crate::keys::ReferenceKey;
use crate::media::{Media, MediaReport, PromptBook};
use crate::segment::StoreReport;
use crate::sip::{Sip, SipEvent, Target};
use crate::time::Timestamp;

/// How many client transactions a call may use: the step between calls' first numbers.
const TXNS_A_CALL: u64 = 1 << 16;

/// What reaches the core from inside the agent.
#[derive(Debug)]
pub(super) enum Inward {
    /// From the media threads.
    Media(CallId, MediaReport),
    /// A decision is durable, or is not and never will be.
    Decided(Decided, Option<Receipt<Decision>>),
    /// A permission became durable when nobody waited for it any more.
    Unclaimed { call: CallId, recording: RecordingId },
    /// From the segment store.
    Stored(StoreReport),
    /// A next hop's name was looked up.
    Resolved { txn: ServerTxn, request: Box<Incoming>, places: Vec<Place> },
    /// What is there, for the control socket.
    Status(oneshot::Sender<Status>),
    /// Which calls there are, for the control socket.
    Calls(oneshot::Sender<CallList>),
    /// An order for a call, from outside.
    Order { order: CallOrder, reply: oneshot::Sender<Result<OrderDone, Refusal>> },
    /// Calls that arrive from now on are routed by this.
    Reload(Arc<Config>),
    /// End every call.
    HangUp,
}

/// The calls, for the control socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Status {
    pub(super) calls: usize,
    /// Calls that are being recorded, or whose recording is being sealed.
    pub(super) keeping: usize,
}

/// Everything the core works with.
pub(super) struct Core {
    pub(super) config: Arc<Config>,
    pub(super) sip: Sip,
    pub(super) media: Media,
    pub(super) scribe: Scribe,
    pub(super) keeper: Keeper,
    pub(super) counters: Arc<Counters>,
    pub(super) health: Arc<Health>,
    pub(super) reference: Arc<ReferenceKey>,
    pub(super) prior: Arc<PriorBook>,
    pub(super) prompts: PromptBook,
    pub(super) locator: Locator,
    pub(super) book: Arc<TargetBook>,
    pub(super) probes: Arc<Probes>,
    pub(super) inward: mpsc::UnboundedSender<Inward>,
    pub(super) table: Table,
}

/// The calls there are, and the ways to find them.
#[derive(Default)]
pub(super) struct Table {
    calls: HashMap<CallId, Live>,
    dialogs: HashMap<DialogKey, (CallId, Leg)>,
    invites: HashMap<ServerTxn, CallId>,
    txns: HashMap<u64, CallId>,
    deadlines: BTreeSet<(Instant, CallId)>,
    /// INVITEs whose next hop is being looked up, and whether they were cancelled meanwhile.
    pub(super) resolving: HashMap<ServerTxn, Standing>,
    /// Where the other leg of a call may go.
    pub(super) targets: HashMap<CallId, Vec<Target>>,
    awaited: Awaited,
    started: u64,
}

/// Whether an INVITE that waits is still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Wanted,
    Cancelled,
}

/// How a dialog is found: Call-ID and our tag (RFC 3261, 12).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DialogKey {
    pub(super) call_id: String,
    pub(super) local_tag: String,
}

/// A call in progress.
struct Live {
    call: Call,
    known: Known,
    deadline: Option<Instant>,
    dialogs: Vec<DialogKey>,
    invite: ServerTxn,
    first_txn: u64,
    phase: Phase,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Calls, and those whose next hop is still being looked up.
    pub(super) fn taken(&self) -> usize {
        self.calls.len() + self.resolving.len()
    }

    /// Whether a call of this identifier is in progress.
    fn has(&self, call: CallId) -> bool {
        self.calls.contains_key(&call)
    }

    /// A call in progress.
    pub(super) fn call(&self, call: CallId) -> Option<&Call> {
        self.calls.get(&call).map(|live| &live.call)
    }

    /// The call and leg of a dialog.
    pub(super) fn dialog(&self, key: &DialogKey) -> Option<(CallId, Leg)> {
        self.dialogs.get(key).copied()
    }

    /// A call has another dialog.
    pub(super) fn add_dialog(&mut self, call: CallId, key: DialogKey, leg: Leg) {
        if let Some(live) = self.calls.get_mut(&call) {
            live.dialogs.push(key.clone());
            self.dialogs.insert(key, (call, leg));
        }
    }

    /// Puts another party in the place of the one on their leg, and says what is to be told of it.
    pub(super) fn replace(&mut self, call: CallId, at: Timestamp, party: Party) -> Option<Told> {
        self.calls.get_mut(&call).map(|live| live.known.replace(at, party))
    }

    /// The number of the first client transaction of the next call.
    pub(super) fn next_first_txn(&mut self) -> u64 {
        self.started += 1;
        self.started * TXNS_A_CALL
    }
}

impl Core {
    /// Runs until both ends are closed.
    pub(super) async fn run(
        mut self,
        mut events: mpsc::Receiver<SipEvent>,
        mut inward: mpsc::UnboundedReceiver<Inward>,
    ) {
        loop {
            let due = self.table.deadlines.first().map(|(at, _)| *at);
            tokio::select! {
                biased;
                Some(event) = inward.recv() => self.on_inward(event),
                event = events.recv() => match event {
                    Some(event) => self.on_sip(event),
                    None => return,
                },
                () = sleep_until(due) => self.on_deadline(),
            }
        }
    }

    fn on_inward(&mut self, event: Inward) {
        match event {
            Inward::Media(call, MediaReport::Event(event)) => {
                self.feed(call, Input::Media(event));
            }
            Inward::Media(call, MediaReport::CaptureEnded { leg, why, finished }) => {
                tracing::debug!(%call, %leg, ?why, packets = finished.packets, "capture ended");
            }
            Inward::Media(call, MediaReport::Closed { caller, callee }) => {
                self.counters.lost(caller.lost + callee.map_or(0, |leg| leg.lost));
                // Where the call did not ask for it, its media has failed.
                self.feed(call, Input::MediaLost);
                self.keeper.media_closed(call);
            }
            Inward::Decided(Decided { call, leg, number, recording }, receipt) => {
                self.table.awaited.decided(call, number, receipt.is_some());
                let permits = receipt.as_ref().is_some_and(|it| it.value().permits().is_some());
                let input = match receipt {
                    Some(receipt) => Input::Durable(receipt),
                    None => Input::NotDurable { leg, number },
                };
                self.feed(call, input);
                self.keeper.decided(recording, if permits { Permits::Yes } else { Permits::No });
            }
            Inward::Unclaimed { call, recording } => self.keeper.unclaimed(call, recording),
            Inward::Stored(report) => self.keeper.stored(report),
            Inward::Resolved { txn, request, places } => self.on_resolved(txn, *request, places),
            Inward::Status(answer) => {
                let status = Status { calls: self.table.len(), keeping: self.keeper.len() };
                let _ = answer.send(status);
            }
            Inward::Calls(answer) => {
                let _ = answer.send(self.calls());
            }
            Inward::Order { order, reply } => self.on_order(&order, reply),
            Inward::Reload(config) => self.config = config,
            Inward::HangUp => {
                let calls: Vec<CallId> = self.table.calls.keys().copied().collect();
                for call in calls {
                    self.feed(call, Input::HangUp);
                }
            }
        }
    }

    fn on_sip(&mut self, event: SipEvent) {
        match event {
            SipEvent::Request { txn, request } => {
                if request.to.tag.is_some() {
                    self.on_dialog_request(txn, request);
                } else if request.method == Method::Invite {
                    if self.is_ours(&request) {
                        // It went out from here, and a PBX sent it back (RFC 3261, 16.3).
                        return self.sip.respond(txn, Response::new(482, None));
                    }
                    if let Some(request) = self.replacement(txn, request) {
                        self.on_invite(txn, request);
                    }
                } else {
                    self.sip.respond(txn, Response::new(481, None));
                }
            }
            SipEvent::Ack { request } => {
                if let Some((call, leg)) = self.dialog_of(&request) {
                    self.feed(call, Input::Ack { leg, request });
                }
            }
            SipEvent::Cancelled { txn, headers } => {
                if let Some(standing) = self.table.resolving.get_mut(&txn) {
                    *standing = Standing::Cancelled;
                } else if let Some(call) = self.table.invites.get(&txn).copied() {
                    self.feed(call, Input::Cancelled { txn, headers });
                }
            }
            SipEvent::Response { txn, response } => {
                if let Some(reached) = &response.reached
                    && response.status != 503
                {
                    self.book.answered(reached.hop);
                }
                self.probes.answered(txn, response.status);
                if let Some(call) = self.table.txns.get(&(txn.0 / TXNS_A_CALL)).copied() {
                    self.settle(call, &response);
                    self.feed(call, Input::Response { txn, response });
                }
            }
            SipEvent::PassedBy { hop, why } => self.book.failed(hop, why),
            SipEvent::Unanswered { txn, why } => {
                self.probes.unanswered(txn);
                if let Some(call) = self.table.txns.get(&(txn.0 / TXNS_A_CALL)).copied() {
                    self.feed(call, Input::Unanswered { txn, why });
                }
            }
            // The transaction ended by itself; the call is over either way.
            SipEvent::NoAck { .. } => {}
        }
    }

    /// Whether an INVITE names a call that is in progress here.
    fn is_ours(&self, request: &Incoming) -> bool {
        let named = request.headers.first(CALL_HEADER);
        let call = named.and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
        call.is_some_and(|call| self.table.has(call))
    }

    fn on_dialog_request(&mut self, txn: ServerTxn, request: Incoming) {
        match self.dialog_of(&request) {
            Some((call, leg)) => self.feed(call, Input::Request { leg, txn, request }),
            None => self.sip.respond(txn, Response::new(481, None)),
        }
    }

    fn dialog_of(&self, request: &Incoming) -> Option<(CallId, Leg)> {
        let local_tag = request.to.tag.clone()?;
        let key = DialogKey { call_id: request.call_id.clone(), local_tag };
        self.table.dialog(&key)
    }

    fn on_deadline(&mut self) {
        let now = clock::now();
        while let Some((at, call)) = self.table.deadlines.first().copied() {
            if at > now {
                return;
            }
            self.table.deadlines.pop_first();
            if let Some(live) = self.table.calls.get_mut(&call) {
                live.deadline = None;
            }
            self.feed(call, Input::Tick);
        }
    }

    /// Enters a call that has just started, and carries out its first wishes.
    pub(super) fn enter(
        &mut self,
        call: Call,
        known: Known,
        dialogs: Vec<(DialogKey, Leg)>,
        invite: ServerTxn,
        first_txn: u64,
        outputs: Vec<Output>,
    ) {
        let id = known.call;
        for (key, leg) in &dialogs {
            self.table.dialogs.insert(key.clone(), (id, *leg));
        }
        self.table.invites.insert(invite, id);
        self.table.txns.insert(first_txn / TXNS_A_CALL, id);
        let phase = call.phase();
        self.counters.entered(phase);
        let dialogs = dialogs.into_iter().map(|(key, _)| key).collect();
        let live = Live { call, known, deadline: None, dialogs, invite, first_txn, phase };
        self.table.calls.insert(id, live);
        self.carry_out(id, outputs);
    }

    pub(super) fn feed(&mut self, id: CallId, input: Input) {
        let Some(live) = self.table.calls.get_mut(&id) else { return };
        let outputs = live.call.handle(clock::moment(), input);
        self.carry_out(id, outputs);
    }

    fn carry_out(&mut self, id: CallId, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Respond { txn, response } => self.sip.respond(txn, response),
                Output::Send { txn, request } => self.send(id, txn, request),
                Output::Cancel { txn, headers } => self.sip.cancel(txn, headers),
                Output::Ack(request) => self.sip.ack(request),
                Output::Media(command) => self.media.command(id, command),
                Output::CloseMedia => self.media.close(id),
                Output::Commit(decision) => self.commit(id, decision),
                Output::Capture { leg, grant } => {
                    let Some(live) = self.table.calls.get(&id) else { continue };
                    let Some(media) = live.call.media(leg) else { continue };
                    if let Some(writer) = self.keeper.capture(id, leg, grant, media) {
                        self.media.record(id, leg, writer);
                    }
                }
                Output::Identify { leg, number } => self.identify(id, leg, number),
                Output::Refer { leg, replaces } => self.refer(id, leg, replaces),
                Output::Release { leg } => self.media.stop_recording(id, leg),
                Output::EndRecording { recording } => self.keeper.over(recording),
                Output::Tell(fact) => self.tell(id, &fact),
                Output::Over => return self.remove(id),
            }
        }
        self.reschedule(id);
    }

    fn commit(&mut self, id: CallId, decision: Decision) {
        let Some(live) = self.table.calls.get(&id) else { return };
        let leg = decision.facts().leg;
        self.counters.decided(decision.facts().gate, decision.facts().outcome);
        let number = live.known.party(leg).map(|party| party.number.clone());
        self.keeper.commit(&self.inward, id, decision, number, live.call.media(leg));
    }

    fn tell(&mut self, id: CallId, fact: &Fact) {
        let Some(live) = self.table.calls.get(&id) else { return };
        log(id, fact);
        match fact {
            Fact::Ended { cause, .. } => self.counters.ended(*cause),
            Fact::Blocked { .. } => self.keeper.blocked(live.known.recording),
            _ => {}
        }
        self.scribe.tell(live.known.tell(clock::wall(), fact));
    }

    fn reschedule(&mut self, id: CallId) {
        let Some(live) = self.table.calls.get_mut(&id) else { return };
        let phase = live.call.phase();
        if phase != live.phase {
            self.counters.moved(live.phase, phase);
            live.phase = phase;
        }
        let deadline = live.call.deadline();
        if deadline == live.deadline {
            return;
        }
        if let Some(old) = live.deadline {
            self.table.deadlines.remove(&(old, id));
        }
        if let Some(new) = deadline {
            self.table.deadlines.insert((new, id));
        }
        live.deadline = deadline;
    }

    fn remove(&mut self, id: CallId) {
        let Some(live) = self.table.calls.remove(&id) else { return };
        self.counters.left(live.phase);
        for key in &live.dialogs {
            self.table.dialogs.remove(key);
        }
        self.table.invites.remove(&live.invite);
        self.table.targets.remove(&id);
        self.table.txns.remove(&(live.first_txn / TXNS_A_CALL));
        if let Some(at) = live.deadline {
            self.table.deadlines.remove(&(at, id));
        }
        self.health.calls(self.table.len());
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn log(call: CallId, fact: &Fact) {
    match fact {
        Fact::Joined { leg } => tracing::info!(%call, %leg, "party joined"),
        Fact::Left { leg, .. } => tracing::info!(%call, %leg, "party left"),
        Fact::NoticeStarted { leg, prompt, locale, .. } => {
            tracing::info!(%call, %leg, prompt, locale, "notice starts");
        }
        Fact::NoticeEnded { leg, notice, .. } => {
            let NoticeEnd { played_ms, total_ms, packets, completed } = NoticeEnd::of(notice);
            tracing::info!(%call, %leg, played_ms, total_ms, packets, completed, "notice ended");
        }
        Fact::Paused { recording, by } => tracing::info!(%call, %recording, ?by, "paused"),
        Fact::Resumed { recording, by, .. } => tracing::info!(%call, %recording, ?by, "resumed"),
        Fact::Blocked { why } => tracing::info!(%call, ?why, "not recorded"),
        Fact::Bridged { codec } => tracing::info!(%call, codec = codec.name(), "bridged"),
        Fact::Ended { cause, .. } => {
            let status = cause.status();
            tracing::info!(%call, cause = cause.as_str(), status, "call ended");
        }
    }
}

struct NoticeEnd {
    played_ms: u64,
    total_ms: u64,
    packets: u64,
    completed: bool,
}

impl NoticeEnd {
    fn of(notice: &crate::consent::NoticePlayed) -> Self {
        let crate::consent::NoticePlayed { played_ms, total_ms, packets, completed, .. } = *notice;
        Self { played_ms, total_ms, packets, completed }
    }
}

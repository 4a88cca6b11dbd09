//! Permission as a value that the compiler tracks: `Receipt<Decision>` → [`Lease`] + [`Grant`].
//!
//! A [`Grant`] is linear (neither `Clone` nor `Copy` nor `Default` nor serde), belongs to one
//! media stream, and is worth nothing once its [`Lease`] is gone. The lease is held by the
//! permission machine: a withdrawal, a hang-up or an unwinding panic drops it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::catalog::Receipt;
use crate::consent::{Decision, Stop};
use crate::ids::{Digest, StreamId};

/// What a [`Grant`] is worth at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The stream may be written.
    Live,
    /// Not now: the recording is paused, or somebody pressed keys that may end it.
    Paused,
    /// Never again.
    Ended,
}

/// The right to write one media stream for as long as its [`Lease`] lives.
#[derive(Debug)]
#[must_use = "a grant that is dropped permits nothing"]
pub struct Grant {
    stream: StreamId,
    evidence: Digest,
    /// The last stop of the writer's side.
    stopped: Stop,
    state: Arc<AtomicU64>,
}

impl Grant {
    /// The one stream that may be written.
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The digest of the evidence record that permits it; goes into every segment's associated
    /// data.
    pub fn evidence(&self) -> Digest {
        self.evidence
    }

    /// What the permission is worth now. Asked for every packet.
    pub fn standing(&self) -> Standing {
        let state = self.state.load(Ordering::Acquire);
        if state & ENDED != 0 {
            Standing::Ended
        } else if state & PAUSED != 0 || state & NOTED < u64::from(self.stopped.number()) {
            Standing::Paused
        } else {
            Standing::Live
        }
    }

    /// Whether the stream may be written now.
    pub fn is_live(&self) -> bool {
        self.standing() == Standing::Live
    }

    /// Nothing is written until the lease's holder has noted this stop. Whoever writes may always
    /// write less: keys that may end a permission stop it with their packet, before anybody has
    /// decided.
    pub fn suspend(&mut self, stop: Stop) {
        self.stopped = self.stopped.max(stop);
    }
}

/// Keeps a [`Grant`] alive. Dropping it ends the permission for good.
#[derive(Debug)]
#[must_use = "dropping a lease ends the permission"]
pub struct Lease {
    stream: StreamId,
    evidence: Digest,
    state: Arc<AtomicU64>,
}

impl Lease {
    /// The stream whose writing it permits.
    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    /// The evidence that permits it.
    pub(super) fn evidence(&self) -> Digest {
        self.evidence
    }

    /// Nothing is written until [`Lease::resume`].
    pub(super) fn pause(&self) {
        change(&self.state, |state| Some(state | PAUSED));
    }

    /// The stream is written again, unless a stop of the writer's side is still to be noted.
    pub(super) fn resume(&self) {
        change(&self.state, |state| Some(state & !PAUSED));
    }

    /// What this stop was for has been decided, and with it what every one before was for.
    pub(super) fn note(&self, stop: Stop) {
        change(&self.state, |state| {
            let noted = u64::from(stop.number());
            (noted > state & NOTED).then_some(state & !NOTED | noted)
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.state.store(ENDED, Ordering::Release);
    }
}

/// Turns a decision that permits, and whose evidence is durable, into the right to write.
///
/// `None` when the decision does not permit: there is no grant to be had from a refusal. `noted`
/// is the last stop of this leg that has been noted by then.
pub(super) fn issue(receipt: Receipt<Decision>, noted: Stop) -> Option<(Lease, Grant)> {
    let stream = receipt.value().permits()?;
    let evidence = receipt.evidence();
    let state = Arc::new(AtomicU64::new(u64::from(noted.number())));
    let grant = Grant { stream, evidence, stopped: Stop::default(), state: Arc::clone(&state) };
    Some((Lease { stream, evidence, state }, grant))
}

/// The number of the last stop that was noted.
const NOTED: u64 = 0xffff_ffff;
const PAUSED: u64 = 1 << 62;
const ENDED: u64 = 1 << 63;

/// An ended grant stays ended, whatever is wished.
fn change(state: &AtomicU64, to: impl Fn(u64) -> Option<u64>) {
    let still = |state: u64| if state & ENDED == 0 { to(state) } else { None };
    let _ = state.fetch_update(Ordering::AcqRel, Ordering::Acquire, still);
}

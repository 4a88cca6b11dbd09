//! Permission as a value that the compiler tracks: `Receipt<Decision>` → [`Lease`] + [`Grant`].
//!
//! A [`Grant`] is linear (neither `Clone` nor `Copy` nor `Default` nor serde), belongs to one
//! media stream, and is worth nothing once its [`Lease`] is gone. The lease is held by the
//! permission machine: a withdrawal, a hang-up or an unwinding panic drops it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::catalog::Receipt;
use crate::consent::Decision;
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
    state: Arc<AtomicU32>,
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
        match self.state.load(Ordering::Acquire) {
            LIVE => Standing::Live,
            ended if ended & ENDED != 0 => Standing::Ended,
            _ => Standing::Paused,
        }
    }

    /// Whether the stream may be written now.
    pub fn is_live(&self) -> bool {
        self.standing() == Standing::Live
    }

    /// Stops the writing until the lease's holder has taken note. Whoever writes may always write
    /// less: keys that may end a permission stop it with their packet, before anybody has decided.
    pub fn suspend(&self) {
        change(&self.state, |state| (state & SUSPENSIONS < SUSPENSIONS).then_some(state + 1));
    }
}

/// Keeps a [`Grant`] alive. Dropping it ends the permission for good.
#[derive(Debug)]
#[must_use = "dropping a lease ends the permission"]
pub struct Lease {
    stream: StreamId,
    evidence: Digest,
    state: Arc<AtomicU32>,
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

    /// The stream is written again, unless the writer's side waits for something to be noted.
    pub(super) fn resume(&self) {
        change(&self.state, |state| Some(state & !PAUSED));
    }

    /// What one [`Grant::suspend`] was for has been decided.
    pub(super) fn note(&self) {
        change(&self.state, |state| (state & SUSPENSIONS > 0).then(|| state - 1));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.state.store(ENDED, Ordering::Release);
    }
}

/// Turns a decision that permits, and whose evidence is durable, into the right to write.
///
/// `None` when the decision does not permit: there is no grant to be had from a refusal.
pub(super) fn issue(receipt: Receipt<Decision>) -> Option<(Lease, Grant)> {
    let stream = receipt.value().permits()?;
    let evidence = receipt.evidence();
    let state = Arc::new(AtomicU32::new(LIVE));
    let grant = Grant { stream, evidence, state: Arc::clone(&state) };
    Some((Lease { stream, evidence, state }, grant))
}

/// Neither paused nor suspended nor ended.
const LIVE: u32 = 0;
/// How often the writer's side stopped without an answer yet.
const SUSPENSIONS: u32 = 0xffff;
const PAUSED: u32 = 1 << 30;
const ENDED: u32 = 1 << 31;

/// An ended grant stays ended, whatever is wished.
fn change(state: &AtomicU32, to: impl Fn(u32) -> Option<u32>) {
    let still = |state: u32| if state & ENDED == 0 { to(state) } else { None };
    let _ = state.fetch_update(Ordering::AcqRel, Ordering::Acquire, still);
}

//! Permission as a value that the compiler tracks: `Receipt<Decision>` → [`Lease`] + [`Grant`].
//!
//! A [`Grant`] is linear (neither `Clone` nor `Copy` nor `Default` nor serde), belongs to one
//! media stream, and is worth nothing once its [`Lease`] is gone. The lease is held by the
//! permission machine: a withdrawal, a hang-up or an unwinding panic drops it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::catalog::Receipt;
use crate::consent::Decision;
use crate::ids::{Digest, StreamId};

/// The right to write one media stream for as long as its [`Lease`] lives.
#[derive(Debug)]
#[must_use = "a grant that is dropped permits nothing"]
pub struct Grant {
    stream: StreamId,
    evidence: Digest,
    live: Arc<AtomicBool>,
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

    /// Whether the permission still stands. Asked for every packet.
    pub fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }
}

/// Keeps a [`Grant`] alive. Dropping it ends the permission for good.
#[derive(Debug)]
#[must_use = "dropping a lease ends the permission"]
pub struct Lease {
    live: Arc<AtomicBool>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.live.store(false, Ordering::Release);
    }
}

/// Turns a decision that permits, and whose evidence is durable, into the right to write.
///
/// `None` when the decision does not permit: there is no grant to be had from a refusal.
#[allow(dead_code)]
pub(super) fn issue(receipt: Receipt<Decision>) -> Option<(Lease, Grant)> {
    let stream = receipt.value().permits()?;
    let live = Arc::new(AtomicBool::new(true));
    let grant = Grant { stream, evidence: receipt.evidence(), live: Arc::clone(&live) };
    Some((Lease { live }, grant))
}

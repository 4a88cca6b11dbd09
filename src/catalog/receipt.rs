//! The proof that something is durable.

use crate::ids::{Digest, EvidenceId};

/// `T` is committed: it has survived the `fsync` of the transaction that stored it.
///
/// Only the catalog's commit makes one. The pure layer may name it (the one exception to the
/// rule that dependencies point up), since a [`crate::consent::Grant`] cannot exist without it.
#[derive(Debug)]
#[must_use = "a receipt is what a grant is made from"]
pub struct Receipt<T> {
    value: T,
    id: EvidenceId,
    evidence: Digest,
}

impl<T> Receipt<T> {
    pub(super) fn new(value: T, id: EvidenceId, evidence: Digest) -> Self {
        Self { value, id, evidence }
    }

    /// What is durable.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The evidence record's identifier.
    pub fn id(&self) -> EvidenceId {
        self.id
    }

    /// The digest of the evidence record as stored and chained.
    pub fn evidence(&self) -> Digest {
        self.evidence
    }

    /// What a commit would give, for the model check, which explores more commits than a disk has
    /// syncs. The forbidden programs of `tests/` cannot name it: it is not in the library.
    #[cfg(test)]
    pub(crate) fn assumed(value: T, evidence: Digest) -> Self {
        Self { value, id: EvidenceId(uuid::Uuid::nil()), evidence }
    }
}

//! The one transaction from which a permission follows: evidence, recording, key and events.

use rusqlite::{Connection, params};

use crate::catalog::writer::Identity;
use crate::catalog::{
    CommitError, DecisionEntry, Erase, Permitted, RecordingState, outbox, tombstone, word,
};
use crate::clock;
use crate::consent::evidence::{Head, Place, Unsigned};
use crate::consent::{DecisionFacts, Outcome};
use crate::event::{Body, Draft, PermissionDecided};
use crate::ids::{Digest, EvidenceId, PartyRef, StreamId};
use crate::number::PartyNumber;
use crate::time::Timestamp;

/// A decision's evidence, written but not yet durable.
pub(super) struct Written {
    pub(super) id: EvidenceId,
    pub(super) digest: Digest,
    /// Where the chain stands with it.
    pub(super) head: Head,
    /// The place of its last event in the outbox.
    pub(super) outbox: u64,
}

/// Writes everything that belongs to a decision, after `head` in the chain.
pub(super) fn decide(
    db: &Connection,
    identity: &Identity,
    head: Head,
    entry: &DecisionEntry,
) -> Result<Written, CommitError> {
    let DecisionEntry { decision, number, permitted, erase, events } = entry;
    let facts = decision.facts();
    let id: EvidenceId = clock::mint();
    let head = write_evidence(db, identity, head, id, facts)?;
    let digest = head.digest;
    note_party(db, identity, facts.party_ref, number.as_ref(), facts.time)?;
    match (decision.permits(), permitted) {
        (Some(stream), Some(permitted)) => {
            permit(db, facts, stream, permitted, id, digest)?;
        }
        (None, None) => note_end(db, facts)?,
        (Some(_), None) => {
            return Err(CommitError::Conflict("a permission without a recording".into()));
        }
        (None, Some(_)) => {
            return Err(CommitError::Conflict("a recording without a permission".into()));
        }
    }
    let permission = Draft::new(PermissionDecided::of(facts, id, digest));
    let append = |draft: Draft| outbox::append(db, draft, facts.time, &identity.origin);
    let (cause, mut outbox) = append(permission)?;
    if *erase == Erase::Party && !facts.outcome.permits() {
        for requested in tombstone::raise(db, facts, id, digest, cause)? {
            let Body::ErasureRequested(body) = requested.body().clone() else { continue };
            let (event, place) = append(requested.caused_by(cause))?;
            tombstone::announced(db, body.erasure.recording, body.erasure.stream, event)?;
            outbox = place;
        }
    }
    for draft in events {
        (_, outbox) = append(draft.clone())?;
    }
    Ok(Written { id, digest, head, outbox })
}

fn write_evidence(
    db: &Connection,
    identity: &Identity,
    after: Head,
    id: EvidenceId,
    facts: &DecisionFacts,
) -> Result<Head, CommitError> {
    let agent = identity.origin.node.as_str();
    let signing_key = identity.signing_key.as_str();
    let unsigned = Unsigned::decision(facts, Place { agent, id, after, signing_key })?;
    let head = unsigned.head();
    let signature = identity.signing.sign(unsigned.bytes());
    let record = unsigned.signed(&signature);
    let sequence = i64::try_from(head.sequence)
        .map_err(|_| CommitError::Unwritable("the evidence chain is full".into()))?;
    db.prepare_cached(
        "INSERT INTO evidence (agent, sequence, id, digest, call, recording, stream, party_ref,
                               gate, outcome, at, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        agent,
        sequence,
        id.0.as_bytes(),
        head.digest.0,
        facts.call.0.as_bytes(),
        facts.recording.0.as_bytes(),
        facts.leg.stream().0,
        facts.party_ref.0,
        word(&facts.gate)?,
        word(&facts.outcome)?,
        facts.time.as_micros(),
        record,
    ])?;
    db.prepare_cached(
        "INSERT INTO chain (agent, sequence, digest) VALUES (?1, ?2, ?3)
         ON CONFLICT (agent) DO UPDATE SET sequence = excluded.sequence, digest = excluded.digest",
    )?
    .execute(params![agent, sequence, head.digest.0])?;
    Ok(head)
}

/// Notes that a party was heard of, and their number if it is new.
pub(super) fn note_party(
    db: &Connection,
    identity: &Identity,
    party_ref: PartyRef,
    number: Option<&PartyNumber>,
    at: Timestamp,
) -> Result<(), CommitError> {
    let Some(number) = number else {
        db.prepare_cached("UPDATE party SET last_seen = max(last_seen, ?2) WHERE party_ref = ?1")?
            .execute(params![party_ref.0, at.as_micros()])?;
        return Ok(());
    };
    if identity.reference.party_ref(number.expose()) != party_ref {
        return Err(CommitError::Conflict("a number that is not the party's".into()));
    }
    let known = db
        .prepare_cached(
            "UPDATE party SET last_seen = max(last_seen, ?2)
             WHERE party_ref = ?1 AND number IS NOT NULL",
        )?
        .execute(params![party_ref.0, at.as_micros()])?;
    if known == 0 {
        let sealed = identity
            .reference
            .seal(party_ref, number.expose())
            .map_err(|why| CommitError::Unwritable(why.to_string()))?;
        db.prepare_cached(
            "INSERT INTO party (party_ref, number, first_seen, last_seen) VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT (party_ref) DO UPDATE SET number = excluded.number,
                 last_seen = max(last_seen, excluded.last_seen)",
        )?
        .execute(params![party_ref.0, sealed, at.as_micros()])?;
    }
    Ok(())
}

/// The recording, if this is its first permission, and the stream with its key.
fn permit(
    db: &Connection,
    facts: &DecisionFacts,
    stream: StreamId,
    permitted: &Permitted,
    id: EvidenceId,
    digest: Digest,
) -> Result<(), CommitError> {
    let Permitted { recording, key, codecs } = permitted;
    let retention = i64::try_from(recording.retention.as_millis()).unwrap_or(i64::MAX);
    db.prepare_cached(
        "INSERT INTO recording (id, call, state, policy, policy_digest, basis, purposes,
                                controller, scope, retention_ms, began)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (id) DO NOTHING",
    )?
    .execute(params![
        stream.recording.0.as_bytes(),
        facts.call.0.as_bytes(),
        RecordingState::Permitted.as_str(),
        facts.policy,
        facts.policy_digest.0,
        word(&facts.basis)?,
        serde_json::to_string(&facts.purposes)?,
        facts.controller,
        word(&recording.scope)?,
        retention,
        recording.began.as_micros(),
    ])?;
    // A later permission finds the recording of this call, and finds it open.
    let added = db
        .prepare_cached(
            "INSERT INTO stream (recording, stream, party_ref, evidence, evidence_id, granted,
                                 key, epoch, codecs)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?10 FROM recording
             WHERE id = ?1 AND call = ?9 AND state IN ('permitted', 'capturing', 'paused')",
        )?
        .execute(params![
            stream.recording.0.as_bytes(),
            stream.index.0,
            facts.party_ref.0,
            digest.0,
            id.0.as_bytes(),
            facts.time.as_micros(),
            key.to_string(),
            key.epoch.0,
            facts.call.0.as_bytes(),
            codecs,
        ])?;
    if added == 0 {
        return Err(CommitError::Conflict(format!(
            "recording {} has ended, or is of another call",
            stream.recording
        )));
    }
    Ok(())
}

/// A permission that was there before ends with a withdrawal or an objection.
fn note_end(db: &Connection, facts: &DecisionFacts) -> Result<(), CommitError> {
    if matches!(facts.outcome, Outcome::Withdrawn | Outcome::Objected | Outcome::Refused) {
        db.prepare_cached(
            "UPDATE stream SET withdrawn = coalesce(withdrawn, ?3)
             WHERE recording = ?1 AND stream = ?2",
        )?
        .execute(params![
            facts.recording.0.as_bytes(),
            facts.leg.stream().0,
            facts.time.as_micros(),
        ])?;
    }
    Ok(())
}

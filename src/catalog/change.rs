//! Everything that is stored besides decisions: calls, parties, the states of a recording, its
//! segments and gaps.

use rusqlite::{Connection, params};

use crate::catalog::decide::note_party;
use crate::catalog::writer::Identity;
use crate::catalog::{Change, CommitError, command, do_not_record, tombstone, word};
use crate::event::{
    CallEnded, CallStarted, Draft, FailReason, GapSpan, PartyLeft, RecordingFailed,
    RecordingSealed, SealResult, SegmentEnd, SegmentSealed,
};
use crate::ids::{Digest, Leg, PartyRef, RecordingId, StreamId};
use crate::time::Timestamp;

/// Writes one change, and returns the event that follows from it and from what is there already.
pub(super) fn apply(
    db: &Connection,
    identity: &Identity,
    change: &Change,
    now: Timestamp,
) -> Result<Option<Draft>, CommitError> {
    match change {
        Change::Sealed(sealed) => {
            sealed_recording(db, sealed)?;
            return tombstone::settle(db, sealed.recording, now);
        }
        Change::Failed { recording, at } => {
            failed_recording(db, recording, *at)?;
            return tombstone::settle(db, recording.recording, now);
        }
        Change::ErasureStep { stream, done, at } => {
            return tombstone::advance(db, *stream, *done, *at);
        }
        other => write(db, identity, other)?,
    }
    Ok(None)
}

fn write(db: &Connection, identity: &Identity, change: &Change) -> Result<(), CommitError> {
    match change {
        Change::CallStarted { call, at } => call_started(db, call, *at),
        Change::CallEnded { call, at } => call_ended(db, call, *at),
        Change::PartyJoined { call, leg, party_ref, number, at } => {
            note_party(db, identity, *party_ref, Some(number), *at)?;
            join(db, call.0.as_bytes(), *leg, *party_ref, *at)
        }
        Change::PartyLeft { party, at } => party_left(db, party, *at),
        Change::Capturing { recording, at } => step(
            db,
            *recording,
            "UPDATE recording SET state = 'capturing', started = coalesce(started, ?2)
             WHERE id = ?1 AND state IN ('permitted', 'capturing', 'paused')",
            params![recording.0.as_bytes(), at.as_micros()],
        ),
        Change::StreamOpened { stream, codecs } => stream_opened(db, *stream, codecs),
        Change::Paused { recording } => step(
            db,
            *recording,
            "UPDATE recording SET state = 'paused'
             WHERE id = ?1 AND state IN ('permitted', 'capturing', 'paused')",
            params![recording.0.as_bytes()],
        ),
        Change::SegmentSealed { segment, manifest } => segment_sealed(db, segment, *manifest),
        Change::Gap { recording, gap } => add_gap(db, *recording, gap),
        Change::Listed { entry, number } => do_not_record::list(db, identity, entry, number),
        Change::Unlisted { party } => do_not_record::unlist(db, *party),
        Change::Commanded(entry) => command::note(db, entry),
        Change::ErasureFailing { stream, at } => tombstone::failing(db, *stream, *at),
        Change::ErasedManifest { stream, digest } => tombstone::keep_link(db, *stream, *digest),
        Change::Sealed(_) | Change::Failed { .. } | Change::ErasureStep { .. } => Ok(()),
    }
}

fn call_started(db: &Connection, call: &CallStarted, at: Timestamp) -> Result<(), CommitError> {
    db.prepare_cached(
        "INSERT INTO call (id, mode, direction, route, policy, policy_digest, started)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        call.call.0.as_bytes(),
        word(&call.mode)?,
        word(&call.direction)?,
        call.route,
        call.policy.as_str(),
        call.policy_digest.0,
        at.as_micros(),
    ])?;
    Ok(())
}

fn call_ended(db: &Connection, call: &CallEnded, at: Timestamp) -> Result<(), CommitError> {
    let (id, at) = (call.call.0.as_bytes(), at.as_micros());
    db.prepare_cached("UPDATE call SET ended = ?2, cause = ?3 WHERE id = ?1 AND ended IS NULL")?
        .execute(params![id, at, word(&call.cause)?])?;
    db.prepare_cached("UPDATE participant SET departed = ?2 WHERE call = ?1 AND departed IS NULL")?
        .execute(params![id, at])?;
    Ok(())
}

fn join(
    db: &Connection,
    call: &[u8; 16],
    leg: Leg,
    party_ref: PartyRef,
    at: Timestamp,
) -> Result<(), CommitError> {
    db.prepare_cached(
        "INSERT INTO participant (call, leg, party_ref, joined) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (call, leg, party_ref) DO UPDATE SET departed = NULL",
    )?
    .execute(params![call, leg.as_str(), party_ref.0, at.as_micros()])?;
    Ok(())
}

fn party_left(db: &Connection, party: &PartyLeft, at: Timestamp) -> Result<(), CommitError> {
    db.prepare_cached(
        "UPDATE participant SET departed = ?4
         WHERE call = ?1 AND leg = ?2 AND party_ref = ?3 AND departed IS NULL",
    )?
    .execute(params![
        party.call.0.as_bytes(),
        party.role.as_str(),
        party.party_ref.0,
        at.as_micros(),
    ])?;
    Ok(())
}

fn sealed_recording(db: &Connection, sealed: &RecordingSealed) -> Result<(), CommitError> {
    step(
        db,
        sealed.recording,
        "UPDATE recording SET state = 'sealed', result = ?2, truncated = ?3,
                              started = coalesce(started, ?4), ended = ?5,
                              expires = coalesce(?6, ?5 + retention_ms * 1000)
         WHERE id = ?1 AND state IN ('permitted', 'capturing', 'paused')",
        params![
            sealed.recording.0.as_bytes(),
            word(&sealed.result)?,
            sealed.result == SealResult::Truncated,
            sealed.started.as_micros(),
            sealed.ended.as_micros(),
            sealed.expires_at.map(Timestamp::as_micros),
        ],
    )
}

fn failed_recording(
    db: &Connection,
    failed: &RecordingFailed,
    at: Timestamp,
) -> Result<(), CommitError> {
    step(
        db,
        failed.recording,
        "UPDATE recording SET state = 'failed', result = ?2, truncated = ?3, ended = ?4,
                              expires = ?4 + retention_ms * 1000
         WHERE id = ?1 AND state IN ('permitted', 'capturing', 'paused')",
        params![
            failed.recording.0.as_bytes(),
            word(&failed.reason)?,
            failed.reason == FailReason::Crashed,
            at.as_micros(),
        ],
    )
}

fn stream_opened(db: &Connection, stream: StreamId, codecs: &str) -> Result<(), CommitError> {
    step(
        db,
        stream.recording,
        "UPDATE stream SET codecs = ?3 WHERE recording = ?1 AND stream = ?2",
        params![stream.recording.0.as_bytes(), stream.index.0, codecs],
    )
}

fn segment_sealed(
    db: &Connection,
    segment: &SegmentSealed,
    manifest: Option<Digest>,
) -> Result<(), CommitError> {
    let stream = StreamId { recording: segment.recording, index: segment.stream };
    if tombstone::stands(db, stream)? {
        return match manifest {
            Some(digest) => tombstone::keep_link(db, stream, digest),
            None => Ok(()),
        };
    }
    let bytes = i64::try_from(segment.bytes)
        .map_err(|_| CommitError::Conflict("a segment of impossible size".into()))?;
    db.prepare_cached(
        "INSERT INTO segment (recording, stream, segment, state, began, ended, bytes, sha256,
                              key, location, manifest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        segment.recording.0.as_bytes(),
        segment.stream.0,
        segment.index,
        match segment.result {
            SegmentEnd::Complete => "sealed",
            SegmentEnd::Truncated => "truncated",
        },
        segment.start.as_micros(),
        segment.end.as_micros(),
        bytes,
        segment.sha256.0,
        segment.key.as_str(),
        segment.location.as_str(),
        manifest.map(|digest| digest.0),
    ])?;
    Ok(())
}

fn add_gap(db: &Connection, recording: RecordingId, gap: &GapSpan) -> Result<(), CommitError> {
    if tombstone::stands(db, StreamId { recording, index: gap.stream })? {
        return Ok(());
    }
    db.prepare_cached(
        "INSERT INTO gap (recording, stream, began, ended, reason) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET ended = max(ended, excluded.ended)",
    )?
    .execute(params![
        recording.0.as_bytes(),
        gap.stream.0,
        gap.start.as_micros(),
        gap.end.as_micros(),
        word(&gap.reason)?,
    ])?;
    Ok(())
}

/// One step in the life of a recording; refused when it is not where the step begins.
fn step(
    db: &Connection,
    recording: RecordingId,
    update: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<(), CommitError> {
    match db.prepare_cached(update)?.execute(values)? {
        0 => Err(CommitError::Conflict(format!(
            "recording {recording} is not there, or has already ended"
        ))),
        _ => Ok(()),
    }
}

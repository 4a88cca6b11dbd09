//! A recording's life, and how it is found.

use proptest::prelude::*;

use super::*;
use crate::catalog::{Change, Filter, Integrity, RecordingState};
use crate::event::{
    CallDirection, CallEnded, CallMode, CallStarted, Draft, EndCause, FailReason, GapReason,
    GapSpan, RecordingFailed, RecordingSealed, SealResult, SegmentEnd, SegmentLocation,
    SegmentSealed, Word,
};
use crate::ids::{Digest, StreamId, StreamIndex};
use crate::time::Timestamp;

fn at(n: u64, seconds: u64) -> Timestamp {
    facts(n).time.plus(Duration::from_secs(seconds))
}

fn started(n: u64) -> CallStarted {
    CallStarted {
        call: call(n),
        mode: CallMode::Inline,
        direction: CallDirection::Inbound,
        legs: Vec::new(),
        route: 1,
        policy: Word::new("default"),
        policy_digest: Digest::of(b"policy"),
    }
}

fn joined(n: u64, leg: Leg, who: u64) -> Change {
    let (party_ref, number) = (party(who), number(who));
    Change::PartyJoined { call: call(n), leg, party_ref, number, at: at(n, 0) }
}

fn ended(n: u64) -> CallEnded {
    CallEnded {
        call: call(n),
        duration_ms: 60_000,
        cause: EndCause::HungUp,
        by: Some(Leg::Caller),
        status: None,
    }
}

fn sealed(n: u64, result: SealResult) -> RecordingSealed {
    RecordingSealed {
        call: call(n),
        recording: recording(n),
        started: at(n, 1),
        ended: at(n, 60),
        duration_ms: 59_000,
        result,
        streams: Vec::new(),
        gaps: Vec::new(),
        gap_count: 0,
        expires_at: None,
    }
}

fn segment(n: u64, index: u32, result: SegmentEnd) -> Change {
    let stream = StreamId { recording: recording(n), index: StreamIndex(0) };
    let segment = SegmentSealed {
        call: call(n),
        recording: recording(n),
        stream: stream.index,
        index,
        start: at(n, 1),
        end: at(n, 60),
        bytes: 4096,
        sha256: Digest::of(b"file"),
        key: "0123456789abcdef".parse().unwrap(),
        location: SegmentLocation::parse(&format!(
            "2026/11/21/{}/{}-{index}.seg",
            stream.recording, stream.index
        ))
        .unwrap(),
        result,
    };
    Change::SegmentSealed { segment, manifest: Some(Digest::of(b"manifest")) }
}

fn gap(n: u64, from: u64, to: u64) -> Change {
    let (stream, reason) = (StreamIndex(0), GapReason::Paused);
    let gap = GapSpan { stream, start: at(n, from), end: at(n, to), reason };
    Change::Gap { recording: recording(n), gap }
}

fn capturing(n: u64) -> Change {
    Change::Capturing { recording: recording(n), at: at(n, 1) }
}

fn paused(n: u64) -> Change {
    Change::Paused { recording: recording(n) }
}

fn failed(n: u64) -> Change {
    let reason = FailReason::DiskFull;
    let recording =
        RecordingFailed { call: call(n), recording: recording(n), stream: None, reason };
    Change::Failed { recording, at: at(n, 5) }
}

async fn change(scratch: &Scratch, changes: Vec<Change>) -> Result<(), CommitError> {
    scratch.catalog.record(changes, Vec::new()).await.map(drop)
}

fn state(scratch: &Scratch, n: u64) -> RecordingState {
    scratch.reader().recording(recording(n)).unwrap().unwrap().recording.state
}

#[tokio::test]
async fn a_whole_call_is_found_with_everything_in_it() {
    let scratch = Scratch::new();
    let begin = vec![
        Change::CallStarted { call: started(1), at: at(1, 0) },
        joined(1, Leg::Caller, 1),
        joined(1, Leg::Callee, 50_001),
    ];
    let events = vec![Draft::new(started(1)), Draft::new(ended(1))];
    assert_eq!(scratch.catalog.record(begin, events).await.unwrap().len(), 2);
    scratch.keep(granted(1)).await;
    change(&scratch, vec![capturing(1)]).await.unwrap();
    change(&scratch, vec![paused(1), gap(1, 10, 12), gap(1, 10, 20)]).await.unwrap();
    change(&scratch, vec![capturing(1)]).await.unwrap();
    assert_eq!(state(&scratch, 1), RecordingState::Capturing);
    let end = vec![
        segment(1, 0, SegmentEnd::Complete),
        Change::Sealed(sealed(1, SealResult::Complete)),
        Change::CallEnded { call: ended(1), at: at(1, 60) },
    ];
    change(&scratch, end).await.unwrap();

    let detail = scratch.reader().recording(recording(1)).unwrap().unwrap();
    let row = &detail.recording;
    assert_eq!((row.state, row.integrity), (RecordingState::Sealed, Integrity::Whole));
    assert_eq!((row.started, row.ended), (Some(at(1, 1)), Some(at(1, 60))));
    assert_eq!(row.expires, Some(at(1, 60).plus(RETENTION)));
    assert_eq!(row.result.as_deref(), Some("complete"));
    let legs: Vec<_> = row.parties.iter().map(|p| (p.leg, p.party_ref, p.left)).collect();
    let until = Some(at(1, 60));
    assert_eq!(legs, [(Leg::Caller, party(1), until), (Leg::Callee, party(50_001), until)]);
    assert_eq!(detail.segments.len(), 1);
    assert_eq!(detail.segments[0].manifest, Some(Digest::of(b"manifest")));
    let gaps: Vec<_> = detail.gaps.iter().map(|g| (g.start, g.end, g.reason.as_str())).collect();
    assert_eq!(gaps, [(at(1, 10), at(1, 20), "paused")]);
    assert!(scratch.reader().unfinished().unwrap().is_empty());
    assert!(scratch.reader().open_calls().unwrap().is_empty());
    serde_json::to_string(&detail).unwrap();
}

#[tokio::test]
async fn what_has_ended_does_not_begin_again() {
    let scratch = Scratch::new();
    for n in [1, 2] {
        scratch.keep(granted(n)).await;
    }
    let sealed_1 = || Change::Sealed(sealed(1, SealResult::Complete));
    change(&scratch, vec![sealed_1()]).await.unwrap();
    change(&scratch, vec![failed(2)]).await.unwrap();
    for late in [capturing(1), paused(1), sealed_1(), failed(1), capturing(2), capturing(3)] {
        let why = change(&scratch, vec![late]).await.unwrap_err();
        assert!(matches!(why, CommitError::Conflict(_)), "{why:?}");
    }
    // Nor does it take a further stream.
    let why = scratch.catalog.decide(granted_callee(1)).await.unwrap_err();
    assert!(matches!(why, CommitError::Conflict(_)), "{why:?}");
    let failed = scratch.reader().recording(recording(2)).unwrap().unwrap().recording;
    assert_eq!(failed.result.as_deref(), Some("disk-full"));
    assert_eq!(failed.expires, Some(at(2, 5).plus(RETENTION)), "what there is of it expires too");
}

#[tokio::test]
async fn changes_are_stored_together_or_not_at_all() {
    let scratch = Scratch::new();
    scratch.keep(granted(1)).await;
    let before = scratch.reader().outbox_status().unwrap();
    // The second change has no stream to belong to.
    let changes = vec![capturing(1), segment(2, 0, SegmentEnd::Complete)];
    let why = scratch.catalog.record(changes, vec![Draft::new(started(1))]).await.unwrap_err();
    assert!(matches!(why, CommitError::Conflict(_)), "{why:?}");
    assert_eq!(state(&scratch, 1), RecordingState::Permitted);
    assert_eq!(scratch.reader().outbox_status().unwrap(), before);
}

#[tokio::test]
async fn a_crash_leaves_what_is_needed_to_seal() {
    let scratch = Scratch::new();
    let receipt = scratch.catalog.decide(granted(1)).await.unwrap();
    scratch.keep(granted(2)).await;
    let changes = vec![
        Change::CallStarted { call: started(1), at: at(1, 0) },
        capturing(1),
        Change::StreamOpened {
            stream: StreamId { recording: recording(1), index: StreamIndex(0) },
            codecs: "{}".into(),
        },
        segment(1, 0, SegmentEnd::Complete),
        Change::Sealed(sealed(2, SealResult::Complete)),
    ];
    change(&scratch, changes).await.unwrap();

    let unfinished = scratch.reader().unfinished().unwrap();
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].recording.id, recording(1));
    assert_eq!(unfinished[0].segments.len(), 1);
    let stream = &unfinished[0].streams[0];
    assert_eq!(stream.row.evidence_digest, receipt.evidence());
    assert_eq!(stream.key, Some(wrapped(0)));
    assert_eq!(stream.row.codecs.as_deref(), Some("{}"));
    assert_eq!(scratch.reader().open_calls().unwrap(), [call(1)]);

    let truncated = vec![
        segment(1, 1, SegmentEnd::Truncated),
        Change::Sealed(sealed(1, SealResult::Truncated)),
    ];
    change(&scratch, truncated).await.unwrap();
    let detail = scratch.reader().recording(recording(1)).unwrap().unwrap();
    assert_eq!(detail.recording.integrity, Integrity::Truncated);
    assert_eq!(detail.segments[1].integrity, Integrity::Truncated);
    assert_eq!(scratch.reader().recordings_by_state().unwrap(), [(RecordingState::Sealed, 2)]);
}

#[tokio::test]
async fn a_crash_right_after_the_grant_leaves_the_codecs() {
    let scratch = Scratch::new();
    scratch.keep(granted(1)).await;
    let unfinished = scratch.reader().unfinished().unwrap();
    assert_eq!(unfinished[0].streams[0].row.codecs.as_deref(), Some(CODECS));
}

#[tokio::test]
async fn a_party_is_found_whether_recorded_or_not() {
    let scratch = Scratch::new();
    let others = vec![joined(1, Leg::Caller, 1), joined(1, Leg::Callee, 77)];
    change(&scratch, others).await.unwrap();
    scratch.keep(granted(1)).await;
    scratch.keep(granted(2)).await;
    let reader = scratch.reader();
    for (who, found) in [(1, vec![1]), (77, vec![1]), (2, vec![2]), (3, vec![])] {
        let filter = Filter { party: Some(party(who)), ..Filter::default() };
        let ids: Vec<_> = reader.recordings(&filter).unwrap().iter().map(|r| r.id).collect();
        assert_eq!(ids, found.into_iter().map(recording).collect::<Vec<_>>(), "{who}");
    }
}

#[derive(Clone, Debug)]
struct Kept {
    n: u64,
    state: RecordingState,
    policy: &'static str,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every filter finds what a plain look at all recordings finds.
    #[test]
    fn a_filter_finds_all_that_fits_and_nothing_else(
        kept in proptest::collection::vec((0..3_usize, 0..2_usize), 1..12),
        state in proptest::option::of(0..3_usize),
        policy in proptest::option::of(0..2_usize),
        from in proptest::option::of(0..12_u64),
        until in proptest::option::of(0..12_u64),
        only in proptest::option::of(0..12_u64),
        (limit, offset) in (0..15_u32, 0..4_u32),
    ) {
        let states =
            [RecordingState::Permitted, RecordingState::Capturing, RecordingState::Sealed];
        let policies = ["default", "other"];
        let scratch = Scratch::new();
        let kept: Vec<Kept> = (0..)
            .zip(kept)
            .map(|(n, (s, p))| Kept { n, state: states[s], policy: policies[p] })
            .collect();
        wait(async {
            for Kept { n, state, policy } in kept.clone() {
                let named = DecisionFacts { policy: policy.to_owned(), ..facts(n) };
                scratch.keep(entry(named)).await;
                match state {
                    RecordingState::Capturing => change(&scratch, vec![capturing(n)]).await.unwrap(),
                    RecordingState::Sealed => {
                        let sealed = Change::Sealed(sealed(n, SealResult::Complete));
                        change(&scratch, vec![sealed]).await.unwrap();
                    }
                    _ => {}
                }
            }
        });
        let filter = Filter {
            party: only.map(party),
            from: from.map(|n| at(n, 0)),
            until: until.map(|n| at(n, 0)),
            state: state.map(|s| states[s]),
            policy: policy.map(|p| policies[p].to_owned()),
            call: None,
            limit,
            offset,
        };
        let expected: Vec<_> = kept
            .iter()
            .rev()
            .filter(|k| only.is_none_or(|n| k.n == n))
            .filter(|k| from.is_none_or(|n| k.n >= n))
            .filter(|k| until.is_none_or(|n| k.n < n))
            .filter(|k| filter.state.is_none_or(|s| k.state == s))
            .filter(|k| filter.policy.as_deref().is_none_or(|p| k.policy == p))
            .skip(offset as usize)
            .take(limit as usize)
            .map(|k| recording(k.n))
            .collect();
        let found = scratch.reader().recordings(&filter).unwrap();
        let found: Vec<_> = found.iter().map(|r| r.id).collect();
        prop_assert_eq!(found, expected);
    }
}

/// However many recordings there are, none of these walks all of them.
#[test]
fn every_search_goes_through_an_index() {
    let scratch = Scratch::new();
    let reader = scratch.reader();
    let (party, call) = (Some(party(1)), Some(call(1)));
    let (from, state, policy) =
        (Some(at(1, 0)), Some(RecordingState::Sealed), Some("default".to_owned()));
    let all = Filter::default();
    let rare = Some(RecordingState::Capturing);
    for (filter, through) in [
        (Filter { party, ..all.clone() }, "PRIMARY KEY"),
        (Filter { party, from, state, policy: policy.clone(), ..all.clone() }, "PRIMARY KEY"),
        (Filter { call, from, state, ..all.clone() }, "recording_call"),
        (Filter { from, ..all.clone() }, "recording_began"),
        (all.clone(), "recording_began"),
        (Filter { from, state, ..all.clone() }, "recording_state"),
        (Filter { state: rare, policy: policy.clone(), ..all.clone() }, "recording_state"),
        (Filter { state, policy, from, ..all }, "recording_policy"),
    ] {
        let plan = reader.plan(&filter).unwrap();
        assert!(plan[0].contains(through), "{filter:?}: {plan:#?}");
    }
}

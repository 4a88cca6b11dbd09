//! What a stream's writer keeps, and what it says of the rest.

use super::*;
use crate::segment::reader::ReadError;
use crate::segment::testing::{Memory, at, packet, read_all, writer};
use proptest::prelude::*;

const G711: usize = 172;

/// Packets of 20 ms each from `from`, all of which are written.
fn talk(writer: &mut StreamWriter<Memory>, from: u64, packets: u16) {
    for sequence in 0..packets {
        let arrival = at(from + 20 * u64::from(sequence));
        let packet = packet(0, sequence, G711);
        assert_eq!(writer.append(&packet, 0, arrival), Appended::Written);
    }
}

#[test]
fn what_is_appended_reads_back() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    talk(&mut writer, 0, 100);
    let finished = writer.finish(at(2500));
    assert_eq!(finished, Finished { segments: 1, packets: 100, dropped: 0 });
    let segment = memory.segment(0);
    let tail = segment.tail.clone().unwrap();
    assert!(tail.whole && tail.gaps.is_empty());
    assert_eq!((tail.packets, tail.end), (100, at(2500)));
    assert_eq!(segment.head.start, at(0));
    let (records, ended) = read_all(&*segment.bytes, segment.head.name);
    ended.unwrap();
    assert_eq!(records.len(), 100);
    for (sequence, (offset, rtp)) in (0..).zip(records) {
        assert_eq!(offset, Duration::from_millis(20 * u64::from(sequence)));
        assert_eq!(rtp, packet(0, sequence, G711));
    }
}

#[test]
fn a_segment_ends_by_its_length() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    talk(&mut writer, 0, 6100);
    assert_eq!(writer.finish(at(122_000)).segments, 3);
    let packets = |number| memory.segment(number).tail.unwrap().packets;
    assert_eq!([packets(0), packets(1), packets(2)], [3000, 3000, 100]);
    assert_eq!(memory.segment(1).head.start, at(60_000));
    for number in 0..3 {
        let segment = memory.segment(number);
        read_all(&*segment.bytes, segment.head.name).1.unwrap();
    }
}

#[test]
fn a_segment_ends_with_its_codec_but_not_for_a_key() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    talk(&mut writer, 0, 100);
    let _ = writer.append(&packet(101, 100, 16), 101, at(2000));
    talk(&mut writer, 2020, 1);
    let _ = writer.append(&packet(8, 102, G711), 8, at(2040));
    writer.finish(at(2060));
    assert_eq!(memory.count(), 2);
    assert_eq!(memory.segment(0).tail.unwrap().packets, 102);
}

#[test]
fn a_peer_who_alternates_codecs_does_not_make_a_file_of_each_packet() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    for sequence in 0..500u16 {
        let payload_type = if sequence % 2 == 0 { 0 } else { 8 };
        let arrival = at(20 * u64::from(sequence));
        let _ = writer.append(&packet(payload_type, sequence, G711), payload_type, arrival);
    }
    assert_eq!(writer.finish(at(10_000)).packets, 500);
    assert!(memory.count() <= 10, "{} segments in 10 s", memory.count());
}

#[test]
fn a_new_negotiation_begins_a_new_segment() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    talk(&mut writer, 0, 2);
    let codecs = Codecs::new().with(9, "G722", 8000);
    writer.renegotiated(codecs.clone(), "192.0.2.7:4000".parse().unwrap());
    assert_eq!(
        writer.append(&packet(0, 2, G711), 0, at(40)),
        Appended::Gap(GapReason::NotNegotiated)
    );
    assert_eq!(writer.append(&packet(9, 3, G711), 9, at(60)), Appended::Written);
    writer.finish(at(80));
    assert_eq!(memory.segment(1).head.codecs, codecs);
    assert_eq!(memory.segment(0).tail.unwrap().gaps.len(), 1);
}

#[test]
fn a_clock_that_is_set_back_begins_a_new_segment() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    talk(&mut writer, 100_000, 10);
    talk(&mut writer, 0, 10);
    writer.finish(at(200));
    assert_eq!(memory.count(), 2);
    assert_eq!(memory.segment(1).head.start, at(0));
}

#[test]
fn what_is_not_negotiated_or_too_long_is_a_counted_gap() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    talk(&mut writer, 0, 1);
    for sequence in 1..4 {
        let arrival = at(20 * u64::from(sequence));
        let appended = writer.append(&packet(96, sequence, G711), 96, arrival);
        assert_eq!(appended, Appended::Gap(GapReason::NotNegotiated));
    }
    let long = SegmentEncoder::LONGEST + 1;
    assert_eq!(writer.append(&packet(0, 4, long), 0, at(80)), Appended::Gap(GapReason::Oversized));
    assert_eq!(writer.append(&packet(0, 5, long - 1), 0, at(100)), Appended::Written);
    assert_eq!(writer.finish(at(120)).dropped, 4);
    assert_eq!(
        memory.segment(0).tail.unwrap().gaps,
        [
            Gap { reason: GapReason::NotNegotiated, from: at(20), to: at(60), packets: 3 },
            Gap { reason: GapReason::Oversized, from: at(80), to: at(80), packets: 1 },
        ]
    );
    assert_eq!(memory.with(|contents| contents.dropped), 4);
}

#[test]
fn a_marked_gap_stays_as_marked() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    talk(&mut writer, 0, 1);
    writer.mark_gap(GapReason::Paused, at(20), at(5020));
    writer.mark_gap(GapReason::Paused, at(5040), at(6000));
    talk(&mut writer, 6000, 1);
    writer.finish(at(6020));
    let pause = |from, to| Gap { reason: GapReason::Paused, from, to, packets: 0 };
    assert_eq!(
        memory.segment(0).tail.unwrap().gaps,
        [pause(at(20), at(5020)), pause(at(5040), at(6000))]
    );
}

#[test]
fn a_pause_is_a_gap_from_its_first_moment_to_the_next_packet_that_is_written() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    talk(&mut writer, 0, 50);
    writer.begin_pause(at(1000));
    for n in 1..=100 {
        assert_eq!(writer.pass_over(at(1000 + 20 * n)), Appended::Paused);
    }
    talk(&mut writer, 3040, 1);
    // Soon after, but not the same one. Nobody said when it began: its first packet did.
    assert_eq!(writer.pass_over(at(3060)), Appended::Paused);
    talk(&mut writer, 3080, 1);
    writer.begin_pause(at(3100));
    let finished = writer.finish(at(4000));
    assert_eq!((finished.packets, finished.dropped), (52, 0), "nothing is lost");
    assert_eq!(memory.with(|contents| contents.dropped), 0);
    let tail = memory.segment(0).tail.unwrap();
    let pause = |from, to, packets| Gap { reason: GapReason::Paused, from, to, packets };
    assert_eq!(
        tail.gaps,
        [
            pause(at(1000), at(3040), 100),
            pause(at(3060), at(3080), 1),
            pause(at(3100), at(4000), 0)
        ]
    );
    let (records, ended) = read_all(&*memory.segment(0).bytes, memory.segment(0).head.name);
    ended.unwrap();
    assert_eq!((records.len(), tail.end), (52, at(4000)));
}

#[test]
fn a_pause_longer_than_a_segment_is_in_the_one_that_it_began_in() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    talk(&mut writer, 0, 50);
    let _ = writer.pass_over(at(1000));
    talk(&mut writer, 100_000, 10);
    writer.finish(at(101_000));
    assert_eq!(memory.count(), 2);
    let gap = Gap { reason: GapReason::Paused, from: at(1000), to: at(100_000), packets: 1 };
    assert_eq!(memory.segment(0).tail.unwrap().gaps, [gap]);
    assert_eq!(memory.segment(1).head.start, at(100_000));
}

#[test]
fn a_stream_that_is_paused_before_its_first_packet_says_so_in_its_first_segment() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    let _ = writer.pass_over(at(0));
    talk(&mut writer, 500, 5);
    writer.finish(at(600));
    let gap = Gap { reason: GapReason::Paused, from: at(0), to: at(500), packets: 1 };
    assert_eq!(memory.segment(0).tail.unwrap().gaps, [gap]);
}

#[test]
fn a_full_sink_costs_packets_but_never_a_chunk() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    talk(&mut writer, 0, 5);
    memory.with(|contents| contents.full_for = 20);
    let mut written = 5;
    let mut refused = Vec::new();
    for sequence in 5..100 {
        let arrival = at(20 * u64::from(sequence));
        match writer.append(&packet(0, sequence, G711), 0, arrival) {
            Appended::Written => written += 1,
            Appended::Gap(GapReason::Overrun) => refused.push(arrival),
            other => panic!("{other:?}"),
        }
    }
    let finished = writer.finish(at(2000));
    assert_eq!((finished.packets, finished.dropped), (written, refused.len() as u64));
    assert_eq!(refused.len(), 19, "the first refusal cost no packet");
    let segment = memory.segment(0);
    let (records, ended) = read_all(&*segment.bytes, segment.head.name);
    ended.unwrap();
    assert_eq!(records.len() as u64, written);
    let gap = Gap { reason: GapReason::Overrun, from: refused[0], to: refused[18], packets: 19 };
    assert_eq!(segment.tail.unwrap().gaps, [gap]);
}

#[test]
fn a_segment_is_sealed_even_when_the_sink_is_full() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    memory.with(|contents| contents.full_for = u32::MAX);
    for sequence in 0..50 {
        let _ = writer.append(&packet(0, sequence, G711), 0, at(0));
    }
    let finished = writer.finish(at(1000));
    let segment = memory.segment(0);
    let (records, ended) = read_all(&*segment.bytes, segment.head.name);
    ended.unwrap();
    assert_eq!(records.len() as u64, finished.packets);
    assert!(segment.bytes.len() <= 2 * 2048, "memory stays at two chunks");
}

#[test]
fn nothing_is_written_after_storage_failed() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    memory.with(|contents| contents.closed = true);
    let appended: Vec<_> = (0..20).map(|n| writer.append(&packet(0, n, G711), 0, at(0))).collect();
    let failed = appended.iter().position(|&a| a == Appended::Failed).unwrap();
    memory.with(|contents| contents.closed = false);
    assert!(appended[failed..].iter().all(|&a| a == Appended::Failed));
    assert_eq!(writer.append(&packet(0, 20, G711), 0, at(0)), Appended::Failed);
    writer.finish(at(0));
    assert_eq!(memory.count(), 0);
}

#[test]
fn a_dropped_writer_leaves_its_whole_chunks() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    talk(&mut writer, 0, 100);
    drop(writer);
    let segment = memory.segment(0);
    let tail = segment.tail.unwrap();
    let (records, ended) = read_all(&*segment.bytes, segment.head.name);
    let whole = segment.bytes.len() as u64;
    assert!(matches!(ended, Err(ReadError::Truncated { whole: found }) if found == whole));
    assert!(!tail.whole && whole.is_multiple_of(2048));
    assert_eq!(records.len() as u64, tail.packets);
    assert!(records.len() >= 88, "one chunk holds 11 packets, and one lies across its edge");
    assert_eq!(tail.end, at(20 * (tail.packets - 1)));
}

#[test]
fn gaps_stay_few_whatever_a_peer_sends() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    talk(&mut writer, 0, 1);
    for second in 0..10_000 {
        let _ = writer.append(&packet(96, 0, G711), 96, at(2000 * second));
        writer.mark_gap(GapReason::Paused, at(2000 * second), at(2000 * second + 1));
    }
    writer.finish(at(0));
    let gaps = memory.segment(0).tail.unwrap().gaps;
    assert_eq!(gaps.len(), MOST_GAPS);
    assert_eq!(gaps.iter().map(|gap| gap.packets).sum::<u64>(), 10_000);
}

#[test]
fn a_stream_without_a_packet_leaves_no_segment() {
    let memory = Memory::default();
    let mut writer = writer(memory.clone());
    writer.mark_gap(GapReason::Held, at(0), at(10));
    assert_eq!(writer.finish(at(20)).segments, 0);
    assert_eq!(memory.count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever arrives, and however often the sink is full: what was written reads back, and
    /// what was not is counted.
    #[test]
    fn any_sequence_of_packets_round_trips(
        script in proptest::collection::vec(
            (0..3u8, 1..=SegmentEncoder::LONGEST + 20, 0..3000u64, 0..4u32), 0..200)
    ) {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        let mut now = 0;
        let mut written = Vec::new();
        for (sequence, (kind, length, after, full)) in (0u16..).zip(script) {
            now += after;
            if full == 3 {
                memory.with(|contents| contents.full_for = 2);
            }
            let payload_type = [0, 8, 101][usize::from(kind)];
            let packet = packet(payload_type, sequence, length);
            if writer.append(&packet, payload_type, at(now)) == Appended::Written {
                written.push((at(now), packet));
            }
        }
        let finished = writer.finish(at(now));
        prop_assert_eq!(finished.packets, written.len() as u64);
        prop_assert_eq!(finished.dropped, memory.with(|contents| contents.dropped));
        let mut read = Vec::new();
        for number in 0..finished.segments {
            let segment = memory.segment(number);
            let (records, ended) = read_all(&*segment.bytes, segment.head.name);
            prop_assert!(ended.is_ok());
            prop_assert_eq!(segment.tail.unwrap().packets, records.len() as u64);
            let start = segment.head.start;
            read.extend(records.into_iter().map(|(offset, rtp)| (start.plus(offset), rtp)));
        }
        prop_assert_eq!(read, written);
    }

    #[test]
    fn a_dropped_writer_leaves_a_prefix(
        lengths in proptest::collection::vec(1..=SegmentEncoder::LONGEST, 0..60)
    ) {
        let memory = Memory::default();
        let mut writer = writer(memory.clone());
        for (sequence, &length) in (0u16..).zip(&lengths) {
            let _ = writer.append(&packet(0, sequence, length), 0, at(0));
        }
        drop(writer);
        if let Some(segment) = memory.with(|contents| contents.segments.get(&0).cloned()) {
            let (records, _) = read_all(&*segment.bytes, segment.head.name);
            prop_assert_eq!(records.len() as u64, segment.tail.unwrap().packets);
            for (sequence, (_, rtp)) in (0u16..).zip(records) {
                prop_assert_eq!(rtp, packet(0, sequence, lengths[usize::from(sequence)]));
            }
        }
    }
}

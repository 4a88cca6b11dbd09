//! Promise: a segment opens with any Tink implementation and reads as RTP in Wireshark, and what
//! Tink writes opens here.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assent::ids::{Digest, StreamId, StreamIndex};
use assent::keys::{DataKey, SigningKey};
use assent::segment::format::{AssociatedData, SegmentName};
use assent::segment::{ReadError, SegmentReader, SegmentVerdict, verify_segment};

/// The example that `docs/segment-format.md` describes.
const KEY: [u8; 32] = [0x42; 32];
const EVIDENCE: Digest = Digest([0xe5; 32]);
const SIGNING_SEED: [u8; 32] = [9; 32];

fn name() -> SegmentName {
    let recording = "019aa8a6-2c00-7abc-8def-0123456789ab".parse().unwrap();
    SegmentName { stream: StreamId { recording, index: StreamIndex(0) }, segment: 0 }
}

fn associated() -> AssociatedData {
    name().associated_data(EVIDENCE)
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn example() -> PathBuf {
    project().join("tests/vectors/segment-v1").join(name().path())
}

/// The packets of a segment, with their offsets in milliseconds.
fn packets(segment: &[u8]) -> Result<Vec<(u128, Vec<u8>)>, ReadError> {
    let mut reader = SegmentReader::open(segment, &DataKey::from_bytes(&KEY), &associated())?;
    let mut packets = Vec::new();
    while let Some(record) = reader.next_record()? {
        packets.push((record.offset.as_millis(), record.rtp.to_vec()));
    }
    Ok(packets)
}

fn python() -> PathBuf {
    if let Some(named) = std::env::var_os("ASSENT_PYTHON") {
        return named.into();
    }
    let installed = project().join("target/test-tools/venv/bin/python");
    if installed.exists() { installed } else { "python3".into() }
}

/// Runs a tool that the tests need; fails with the remedy where it is missing.
fn run(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    let remedy = "`make test` installs what the tests need";
    let output = command.output().unwrap_or_else(|error| panic!("{shown}: {error}; {remedy}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown} failed; {remedy}\n{complaint}");
    output
}

fn tink(verb: &str, from: &Path, to: &Path) {
    run(Command::new(python())
        .arg(project().join("tests/python/tink_segment.py"))
        .args([verb, &hex::encode(KEY), associated().as_str()])
        .args([from, to]));
}

#[test]
fn tink_decrypts_a_segment_to_rtpdump() {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("0-0.rtpdump");
    tink("decrypt", &example(), &dump);
    let text = std::fs::read(&dump).unwrap();
    assert!(text.starts_with(b"#!rtpplay1.0 192.0.2.7/4000\n"));

    let mut rest = &text[28 + 16..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        let plen = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        assert_eq!(length, plen + 8);
        let offset = u32::from_be_bytes([rest[4], rest[5], rest[6], rest[7]]);
        found.push((u128::from(offset), rest[8..length].to_vec()));
        rest = &rest[length..];
    }
    assert_eq!(found.len(), 100);
    assert_eq!(found, packets(&std::fs::read(example()).unwrap()).unwrap());
}

/// Wireshark opens rtpdump since 4.2; Debian 12 has 4.0.
fn reads_rtpdump() -> bool {
    let version = run(Command::new("tshark").arg("--version")).stdout;
    let version = String::from_utf8_lossy(&version).into_owned();
    let number = version.split(' ').find(|word| word.contains('.')).expect("a version");
    let mut parts = number.split('.').map(|part| part.parse::<u32>().expect("a number"));
    (parts.next(), parts.next()) >= (Some(4), Some(2))
}

fn capture(dump: &Path) -> PathBuf {
    let pcap = dump.with_extension("pcap");
    let script = project().join("tests/python/rtpdump_to_pcap.py");
    run(Command::new(python()).arg(script).args([dump, &pcap]));
    pcap
}

/// Sequence number, payload type, timestamp and SSRC of each RTP packet, a line each.
fn tshark(file: &Path) -> String {
    let fields = ["rtp.seq", "rtp.p_type", "rtp.timestamp", "rtp.ssrc"];
    let listed = run(Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(["-d", "udp.port==4000,rtp", "-T", "fields", "-E", "separator=/s"])
        .args(fields.iter().flat_map(|field| ["-e", field])));
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn wireshark_lists_the_rtp_packets_of_a_segment() {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("0-0.rtpdump");
    tink("decrypt", &example(), &dump);
    let readable = if reads_rtpdump() { dump } else { capture(&dump) };
    let listed = tshark(&readable);
    let expected: Vec<String> = packets(&std::fs::read(example()).unwrap())
        .unwrap()
        .iter()
        .map(|(_, rtp)| {
            let sequence = u16::from_be_bytes([rtp[2], rtp[3]]);
            let timestamp = u32::from_be_bytes([rtp[4], rtp[5], rtp[6], rtp[7]]);
            format!("{sequence} {} {timestamp} 0x{}", rtp[1] & 0x7f, hex::encode(&rtp[8..12]))
        })
        .collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_segment_that_tink_wrote_opens() {
    let folder = tempfile::tempdir().unwrap();
    let (dump, again) = (folder.path().join("dump"), folder.path().join("again.seg"));
    tink("decrypt", &example(), &dump);
    tink("encrypt", &dump, &again);
    let (ours, theirs) = (std::fs::read(example()).unwrap(), std::fs::read(&again).unwrap());
    assert_ne!(ours, theirs, "Tink draws its own salt");
    assert_eq!(packets(&theirs).unwrap(), packets(&ours).unwrap());
}

#[test]
fn the_example_verifies_here_and_its_manifest_with_tink() {
    let signing = SigningKey::from_seed(&SIGNING_SEED);
    let key = DataKey::from_bytes(&KEY);
    let verdict = verify_segment(&example(), EVIDENCE, &key, &[signing.public()]).unwrap();
    assert!(matches!(verdict, SegmentVerdict::Whole { packets: 100, .. }), "{verdict:?}");
    run(Command::new(python())
        .arg(project().join("tests/python/tink_segment.py"))
        .args(["verify", &signing.public().to_string()])
        .arg(example().with_extension("json")));
}

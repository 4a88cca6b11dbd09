//! Every parser survives its seeds, and a few thousand changes of them, in each run of the tests.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::{TARGETS, Target};

/// How many inputs each target gets beside its seeds: few in `make test`, many in `make soak`.
fn changed() -> usize {
    if std::env::var_os("ASSENT_SOAK").is_some() { 300_000 } else { 3_000 }
}

/// Pieces that mean something to one parser or another.
const ODD: [&[u8]; 26] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"\0",
    b"\xff",
    b"\x80",
    b";",
    b",",
    b"<",
    b">",
    b"\"",
    b"\\",
    b":",
    b" ",
    b"%00",
    b"4294967296",
    b"-1",
    b"99999999999999999999",
    b"[::1]",
    b"{",
    b"]",
    b"m=audio 0 RTP/AVP 0\r\n",
    b"a=rtpmap:0 opus/48000/2\r\n",
    b"Content-Length: 1\r\n",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
];

#[test]
fn every_target_has_a_program_and_seeds() {
    let cargo = std::fs::read_to_string(folder("fuzz/Cargo.toml")).unwrap();
    for Target { name, .. } in TARGETS {
        assert!(!seeds(name).is_empty(), "no seeds for {name}");
        let program = folder("fuzz/fuzz_targets").join(name).with_extension("rs");
        let program = std::fs::read_to_string(program).unwrap();
        assert!(program.contains(&format!("::{name}(")), "{name}: {program}");
        assert!(cargo.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml lacks {name}");
    }
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len());
    assert_eq!(cargo.matches("[[bin]]").count(), TARGETS.len());
}

/// The seeds get as far as the parsers go; those of SIP and SDP are good calls by their own tests.
#[test]
fn seeds_are_read() {
    let seed = |path: &str| std::fs::read(folder("fuzz/seeds").join(path)).unwrap();
    for n in 0..6 {
        let line = seed(&format!("control_socket/{n}"));
        let command = serde_json::from_slice::<crate::control::Command>(&line);
        assert!(command.is_ok(), "{n}: {command:?}");
    }
    for n in 0..3 {
        let text = String::from_utf8(seed(&format!("nats_command/{n}"))).unwrap();
        let (subject, payload) = text.split_once('\n').unwrap();
        let command = crate::bus::read_command(subject, payload.as_bytes()).unwrap();
        let now = crate::fuzz::signalling::NOW;
        assert!(crate::agent::order_reads(command.verb.as_str(), &command.body, now), "{text}");
    }
    let manifest = crate::segment::format::SignedManifest::parse(&seed("manifest/published"));
    assert!(manifest.is_ok(), "{manifest:?}");
}

macro_rules! survives {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let target = TARGETS.into_iter().find(|target| target.name == stringify!($name));
            survives_its_seeds(target.unwrap());
        })*

        #[test]
        fn every_target_is_run() {
            assert_eq!([$(stringify!($name)),*], TARGETS.map(|target| target.name));
        }
    };
}

survives! {
    sip_framing sip_message sip_headers sip_multipart identity number consent_token sdp_offer
    sdp_answer rtp telephone_event rtcp segment_file segment_records manifest control_socket
    nats_command
}

fn survives_its_seeds(target: Target) {
    let seeds = seeds(target.name);
    for seed in &seeds {
        run(target, seed);
    }
    run(target, b"");
    let mut dice = Dice(0x5eed_f055_4711_0001);
    for n in 0..changed() {
        let mut input = seeds[n % seeds.len()].clone();
        for _ in 0..=dice.roll(4) {
            let other = &seeds[dice.roll(seeds.len())];
            dice.change(&mut input, other);
        }
        input.truncate(16 * 1024);
        run(target, &input);
    }
}

fn run(target: Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        panic!(
            "{} fails; put this into fuzz/seeds/{0}, in bytes: {}",
            target.name,
            hex::encode(input)
        );
    }
}

fn folder(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// The seeds of a target; SIP's are the torture messages too.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut folders = vec![folder("fuzz/seeds").join(target)];
    if matches!(target, "sip_framing" | "sip_message") {
        folders.push(folder("tests/vectors/sip-torture"));
    }
    let mut files: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten())
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_none_or(|extension| extension != "md"))
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }

    /// Changes, removes, doubles or adds a few bytes, or goes on as another seed does.
    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.roll(bytes.len() + 1);
        let end = (at + 1 + self.roll(24)).min(bytes.len());
        match self.roll(8) {
            0 if at < bytes.len() => bytes[at] = self.roll(256) as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
            2 => bytes.truncate(at),
            3 if at < end => drop(bytes.drain(at..end)),
            4 if at < end => {
                let piece = bytes[at..end].to_vec();
                let to = self.roll(bytes.len());
                bytes.splice(to..to, piece);
            }
            5 => {
                bytes.truncate(at);
                bytes.extend(&other[self.roll(other.len())..]);
            }
            _ => {
                let piece = ODD[self.roll(ODD.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
}

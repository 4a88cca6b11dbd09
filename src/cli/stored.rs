//! The commands on a data folder that holds one recording.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use serde_json::Value;

use crate::catalog::{
    Catalog, Change, DecisionEntry, Erase, NewRecording, Permitted, QUEUE, Settings,
};
use crate::cli::{Arguments, Context, Failure, Output, Running, Serve, dispatch};
use crate::config::{Config, Loaded};
use crate::consent::DecisionFacts;
use crate::consent::evidence::sample;
use crate::consent::policy::Scope;
use crate::event::{
    Origin, RecordingSealed, SealResult, SegmentEnd, SegmentLocation, SegmentSealed,
};
use crate::ids::{Digest, StreamId};
use crate::keys::{DataKey, FileKeyStore, KeyStore, ReferenceKey, SigningKey};
use crate::number::PartyNumber;
use crate::segment::format::aead::{FIRST_PLAINTEXT, PLAINTEXT, Place, Seed, SegmentCipher};
use crate::segment::format::rtpdump::{Preamble, record_header};
use crate::segment::format::{
    Codecs, Format, Manifest, SealedBy, SegmentName, SegmentState, Signature,
};

const NUMBER: &str = "+4930123456";
const PACKETS: u64 = 50;

/// A data folder with one recording: a second of the caller's voice.
struct Stored {
    folder: tempfile::TempDir,
    facts: DecisionFacts,
    segment: PathBuf,
}

impl Stored {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let text = format!("data = \"{}\"\n", at("data").display());
        std::fs::write(at("assent.toml"), text).unwrap();
        let (config, _) = crate::config::parse(
            &std::fs::read_to_string(at("assent.toml")).unwrap(),
            "assent.toml",
        )
        .unwrap();
        let (facts, segment) = fill(&config);
        Self { folder, facts, segment }
    }

    /// Runs a command; gives what it printed, and how it went.
    fn run(&self, arguments: &[&str]) -> (String, Result<(), Failure>) {
        let config = self.folder.path().join("assent.toml");
        let head = ["assent", "--config", config.to_str().unwrap()];
        let parsed = Arguments::try_parse_from(head.iter().chain(arguments)).unwrap();
        let said = Said::default();
        let mut output = Output::into(Box::new(said.clone()), parsed.shared.json);
        let context = Context::new(parsed.shared.config);
        let result = dispatch(parsed.command, &context, &mut output, NoAgent);
        output.finish().unwrap();
        let bytes = said.0.lock().unwrap().clone();
        (String::from_utf8(bytes).unwrap(), result)
    }

    fn good(&self, arguments: &[&str]) -> String {
        let (said, result) = self.run(arguments);
        result.unwrap_or_else(|why| panic!("{arguments:?}: {why}\n{said}"));
        said
    }

    fn id(&self) -> String {
        self.facts.recording.to_string()
    }
}

#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn fill(config: &Config) -> (DecisionFacts, PathBuf) {
    let store = FileKeyStore::open(&config.keys.path).unwrap();
    let key = DataKey::generate().unwrap();
    let reference = ReferenceKey::open(&config.keys.path).unwrap();
    let number = PartyNumber::parse(NUMBER).unwrap();
    let facts = sample::facts(1, reference.party_ref(number.expose()));
    let catalog = Catalog::open(Settings {
        data: config.data.clone(),
        origin: Origin { tenant: config.tenant.clone(), node: config.node.clone() },
        signing: SigningKey::open(&config.keys.path).unwrap(),
        reference,
        queue: QUEUE,
    })
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let began = facts.time;
    let entry = DecisionEntry {
        decision: sample::decision(facts.clone()),
        number: Some(number),
        permitted: Some(Permitted {
            recording: NewRecording {
                began,
                scope: Scope::All,
                retention: Duration::from_secs(90 * 86_400),
            },
            key: store.wrap(&key).unwrap(),
            codecs: "{}".to_owned(),
        }),
        erase: Erase::Nothing,
        events: Vec::new(),
    };
    runtime.block_on(async {
        let receipt = catalog.decide(entry).await.unwrap();
        let (path, sealed, manifest) = segment(config, &facts, &key, receipt.evidence());
        let ended = began.plus(Duration::from_secs(1));
        let recording = RecordingSealed {
            call: facts.call,
            recording: facts.recording,
            started: began,
            ended,
            duration_ms: 1000,
            result: SealResult::Complete,
            streams: Vec::new(),
            gaps: Vec::new(),
            gap_count: 0,
            expires_at: None,
        };
        let changes = vec![
            Change::Capturing { recording: facts.recording, at: began },
            Change::SegmentSealed { segment: sealed, manifest: Some(manifest) },
            Change::Sealed(recording),
        ];
        catalog.record(changes, Vec::new()).await.unwrap();
        catalog.close().await.unwrap();
        (facts, path)
    })
}

/// A second of µ-law, written as a segment writer does.
fn segment(
    config: &Config,
    facts: &DecisionFacts,
    key: &DataKey,
    evidence: Digest,
) -> (PathBuf, SegmentSealed, Digest) {
    let stream = StreamId { recording: facts.recording, index: facts.leg.stream() };
    let name = SegmentName { stream, segment: 0 };
    let start = facts.time;
    let mut text = Preamble { start, source: "127.0.0.1:4000".parse().unwrap() }.encode();
    for n in 0..PACKETS {
        let mut rtp = vec![0x80, 0];
        rtp.extend_from_slice(&u16::try_from(n).unwrap().to_be_bytes());
        rtp.extend_from_slice(&u32::try_from(n * 160).unwrap().to_be_bytes());
        rtp.extend_from_slice(&[0, 0, 0, 7]);
        rtp.extend_from_slice(&[0x10; 160]);
        let offset = Duration::from_millis(n * 20);
        text.extend_from_slice(&record_header(rtp.len(), offset).unwrap());
        text.extend_from_slice(&rtp);
    }
    let bytes = encrypt(&text, key, &name, evidence);
    let path = config.storage.recordings.join(name.path());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let signing = SigningKey::open(&config.keys.path).unwrap();
    let (end, length) = (start.plus(Duration::from_secs(1)), bytes.len() as u64);
    let manifest = Manifest {
        format: Format::V1,
        recording: facts.recording,
        stream: stream.index,
        segment: 0,
        party_ref: Some(facts.party_ref),
        codecs: Codecs::new().with(0, "PCMU", 8000),
        start,
        end,
        packets: PACKETS,
        masked: 0,
        gaps: Vec::new(),
        bytes: length,
        sha256: Digest::of(&bytes),
        evidence,
        key_id: key.id(),
        previous: None,
        state: SegmentState::Sealed,
        sealed_by: SealedBy::Writer,
        signing_key: signing.key_id(),
    };
    let signature = Signature(signing.sign(&manifest.signed_text()));
    let signed = manifest.with_signature(signature);
    std::fs::write(path.with_extension("json"), signed.to_bytes()).unwrap();
    let sealed = SegmentSealed {
        call: facts.call,
        recording: facts.recording,
        stream: stream.index,
        index: 0,
        start,
        end,
        bytes: length,
        sha256: Digest::of(&bytes),
        key: key.id().to_string().parse().unwrap(),
        location: SegmentLocation::parse(&name.path().to_string_lossy()).unwrap(),
        result: SegmentEnd::Complete,
    };
    (path, sealed, signed.digest())
}

fn encrypt(text: &[u8], key: &DataKey, name: &SegmentName, evidence: Digest) -> Vec<u8> {
    let seed = Seed { salt: [5; 32], nonce_prefix: [6; 7] };
    let cipher = SegmentCipher::new(key.expose(), &seed, &name.associated_data(evidence));
    let mut bytes = seed.header().to_vec();
    let (first, rest) = text.split_at(FIRST_PLAINTEXT.min(text.len()));
    let chunks: Vec<&[u8]> = std::iter::once(first).chain(rest.chunks(PLAINTEXT)).collect();
    for (number, chunk) in chunks.iter().enumerate() {
        let place = if number + 1 == chunks.len() { Place::Last } else { Place::Inner };
        let mut chunk = chunk.to_vec();
        let tag = cipher.seal(u32::try_from(number).unwrap(), place, &mut chunk).unwrap();
        bytes.extend_from_slice(&chunk);
        bytes.extend_from_slice(&tag);
    }
    bytes
}

fn values(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_recording_is_listed_and_found_by_number() {
    let stored = Stored::new();
    let table = stored.good(&["list"]);
    assert!(table.contains(&stored.id()) && table.contains("sealed"), "{table}");
    assert!(!table.contains(NUMBER), "{table}");
    let found = stored.good(&["list", "--party", NUMBER, "--json"]);
    assert_eq!(values(&found)[0]["id"], stored.id());
    assert!(stored.good(&["list", "--party", "+4989", "--json"]).is_empty());
    assert!(stored.good(&["list", "--until", "2026-01-01"]).contains("no recording fits"));
}

#[test]
fn one_recording_is_shown_with_its_permission_and_segment() {
    let stored = Stored::new();
    let said = stored.good(&["show", &stored.id()]);
    for part in ["sealed", "0:01", "consent, for quality, training", "granted", "caller"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let value = &values(&stored.good(&["show", &stored.id(), "--json"]))[0];
    assert_eq!(value["segments"][0]["index"], 0);
    assert_eq!(value["permissions"][0]["outcome"], "granted");
    let nobody = "019aa8a6-2c00-7abc-8def-0123456789ab";
    let why = stored.run(&["show", nobody]).1.unwrap_err().to_string();
    assert!(why.contains("assent list"), "{why}");
}

#[test]
fn a_receipt_is_read_by_people_and_proved() {
    let stored = Stored::new();
    let said = stored.good(&["evidence", &stored.id()]);
    assert!(said.contains("agreement on file: agreement-2026"), "{said}");
    assert!(said.contains("granted on 2026-11-21"), "{said}");
    let json = stored.good(&["evidence", &stored.id(), "--json"]);
    assert!(crate::consent::evidence::Record::parse(json.trim_end()).is_ok(), "{json}");
    let said = stored.good(&["evidence", "last", "--verify"]);
    assert_eq!(said.lines().count(), 2, "{said}");
    let one = "00000000-0000-0000-0000-000000000001";
    let (_, result) = stored.run(&["evidence", one]);
    assert!(result.is_err(), "an identifier of nothing");
    let digest = values(&json)[0]["evidence"]["facts"]["policy_digest"].clone();
    let head = format!("1:{}", digest.as_str().unwrap());
    let (said, result) = stored.run(&["evidence", "last", "--verify", "--head", &head]);
    assert!(matches!(result, Err(Failure::Found(_))), "{said}");
    assert!(said.contains("WRONG: record 1 is not the one that --head names"), "{said}");
}

#[test]
fn a_whole_recording_is_proved_and_damage_is_named() {
    let stored = Stored::new();
    let said = stored.good(&["verify", &stored.id()]);
    assert!(said.contains("whole, 50 packets"), "{said}");
    assert!(values(&stored.good(&["verify", "--all", "--json"])).iter().all(|c| c["ok"] == true));
    let mut bytes = std::fs::read(&stored.segment).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&stored.segment, bytes).unwrap();
    let (said, result) = stored.run(&["verify", "--all", "--json"]);
    assert!(matches!(result, Err(Failure::Found(_))));
    let wrong: Vec<Value> = values(&said).into_iter().filter(|c| c["ok"] == false).collect();
    assert_eq!(wrong.len(), 1, "{said}");
    assert_eq!(wrong[0]["range"], serde_json::json!({"start": 4096, "end": 6144}));
    std::fs::remove_file(&stored.segment).unwrap();
    let (said, result) = stored.run(&["verify", &stored.id()]);
    assert!(matches!(result, Err(Failure::Found(_))) && said.contains("missing"), "{said}");
}

#[test]
fn an_export_is_noted_first_and_is_never_in_the_place_of_another_file() {
    let stored = Stored::new();
    let out = stored.folder.path().join("out.wav");
    let (id, path) = (stored.id(), out.to_str().unwrap());
    let command = ["export", id.as_str(), "--out", path, "--reason", "complaint", "--json"];
    let value = &values(&stored.good(&command))[0];
    assert_eq!(value["tracks"][0]["packets"], PACKETS);
    assert_eq!(value["tracks"][1]["packets"], 0);
    let wav = hound::WavReader::open(&out).unwrap();
    assert_eq!((wav.spec().channels, wav.duration()), (2, 8000));
    assert!(!Path::new(&format!("{path}.part")).exists());
    let events = values(&stored.good(&["events", "--json"]));
    let noted = events.iter().filter(|e| e["type"] == "io.assent.access.exported.v1");
    let reasons: Vec<&Value> = noted.map(|e| &e["data"]["reason"]).collect();
    assert_eq!(reasons, ["complaint"]);
    assert!(stored.run(&command).1.unwrap_err().to_string().contains("is there already"));
    assert!(stored.good(&["events", "--unsent"]).contains("access.exported"));
}

#[test]
fn an_export_leaves_out_what_does_not_authenticate_and_says_so() {
    let stored = Stored::new();
    let mut bytes = std::fs::read(&stored.segment).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&stored.segment, bytes).unwrap();
    let out = stored.folder.path().join("out.wav");
    let id = stored.id();
    let (said, result) = stored.run(&[
        "export",
        &id,
        "--out",
        out.to_str().unwrap(),
        "--reason",
        "x",
        "--party",
        "caller",
    ]);
    assert!(matches!(result, Err(Failure::Found(_))), "{said}");
    assert!(said.contains("damaged from byte 4096"), "{said}");
    assert_eq!(hound::WavReader::open(&out).unwrap().spec().channels, 1);
}

#[test]
fn keys_are_shown_by_their_public_half_alone() {
    let stored = Stored::new();
    let said = stored.good(&["keys", "public", "--json"]);
    let secret = std::fs::read(stored.folder.path().join("data/keys/signing-key")).unwrap();
    assert!(!said.contains(&hex::encode(secret)));
    let key = &values(&said)[0];
    assert_eq!(key["algorithm"], "Ed25519");
    let pem = key["pem"].as_str().unwrap();
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA"), "{pem}");
    let plain = stored.good(&["keys", "public"]);
    for form in ["public", "base64"] {
        assert!(plain.contains(key[form].as_str().unwrap()), "{form}: {plain}");
    }
    assert!(pem.lines().all(|line| plain.contains(line)), "{plain}");
    assert_eq!(values(&stored.good(&["keys", "status", "--json"]))[0]["current"], 1);
}

#[test]
fn the_do_not_record_list_is_kept_without_an_agent() {
    let stored = Stored::new();
    assert!(stored.good(&["do-not-record", "list"]).contains("Nobody"));
    let add = ["do-not-record", "add", NUMBER, "--reason", "objected in writing", "--json"];
    let value = &values(&stored.good(&add))[0];
    assert_eq!((&value["listed"], &value["was_listed"]), (&true.into(), &false.into()));
    assert_eq!(values(&stored.good(&add))[0]["was_listed"], true);
    let table = stored.good(&["do-not-record", "list"]);
    assert!(table.contains("objected in writing") && !table.contains(NUMBER), "{table}");
    assert!(stored.good(&["do-not-record", "list", "--numbers"]).contains(NUMBER));
    let listed = &values(&stored.good(&["do-not-record", "list", "--numbers", "--json"]))[0];
    assert_eq!(listed["number"], NUMBER);
    let check = format!("from={NUMBER},to=200");
    let said = stored.good(&["check", "--call", &check]);
    assert!(said.contains("The caller is on the do-not-record list since"), "{said}");
    assert!(said.contains("objected in writing"), "{said}");
    let value = &values(&stored.good(&["check", "--call", &check, "--json"]))[0];
    assert_eq!(value["do_not_record"]["caller"]["reason"], "objected in writing");
    assert_eq!(value["do_not_record"]["callee"], Value::Null);
    let party = listed["party_ref"].as_str().unwrap();
    let said = stored.good(&["do-not-record", "remove", party]);
    assert!(said.contains("no longer"), "{said}");
    assert!(stored.good(&["do-not-record", "remove", NUMBER]).contains("was not on"));
    for bad in [
        ["do-not-record", "add", "", "--reason", "x"],
        ["do-not-record", "add", "1", "--reason", " "],
    ] {
        assert!(matches!(stored.run(&bad).1, Err(Failure::Usage(_))), "{bad:?}");
    }
}

/// Commands on stored recordings need no agent.
struct NoAgent;

impl Serve for NoAgent {
    type Agent = NoAgent;

    fn serve(self, _: Loaded) -> Result<(), Failure> {
        Ok(())
    }

    async fn start(self, _: Config) -> Result<NoAgent, Failure> {
        Ok(NoAgent)
    }
}

impl Running for NoAgent {
    fn sip(&self) -> Option<SocketAddr> {
        None
    }

    async fn stop(self) {}
}

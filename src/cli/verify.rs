//! `assent verify`: reads segments, manifests and evidence back and proves them.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Serialize;

use crate::catalog::{
    Filter, Integrity, Reader, RecordingDetail, RecordingState, Remains, SegmentRow, Tombstone,
};
use crate::cli::context::{self, Context};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::proof::{self, Holds, Keys, Known};
use crate::cli::which::Which;
use crate::cli::{segments, show};
use crate::config::Config;
use crate::ids::{RecordingId, StreamId};
use crate::keys::FileKeyStore;
use crate::segment::format::SignedManifest;
use crate::segment::{SegmentVerdict, verify_chain, verify_segment};

/// Recordings read at a time.
const PORTION: u32 = 200;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["id", "all"]))]
#[command(after_help = "\
Examples:
  assent verify last
  assent verify --all --json | jq 'select(.ok | not)'
  assent verify --all --head 812:5f2c…   the chain still has what an `agent.chain` event named")]
pub(super) struct Arguments {
    /// The recording, or `last`
    id: Option<Which>,
    /// Every recording, the whole evidence, and the catalog itself
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    known: Known,
}

/// One thing that was proved, or not.
#[derive(Debug, Serialize)]
struct Check {
    #[serde(skip_serializing_if = "Option::is_none")]
    recording: Option<RecordingId>,
    /// `segment`, `manifests`, `erasure`, `evidence`, `chain` or `catalog`.
    check: &'static str,
    name: String,
    ok: bool,
    /// What was found.
    said: String,
    /// Which bytes of the file are not proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<Range<u64>>,
}

pub(super) fn run(
    arguments: &Arguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let config = context.config()?;
    let reader = context::catalog(&config)?;
    let store = segments::key_store(&config)?;
    let keys = Keys::new(&reader, &config, &arguments.known)?;
    let mut proof = Proof {
        config: &config,
        reader: &reader,
        store: &store,
        keys,
        output,
        checks: 0,
        wrong: 0,
    };
    match arguments.id {
        Some(which) => {
            let id = which.resolve(&reader)?;
            let detail = reader.recording(id)?.ok_or_else(|| show::unknown(id))?;
            proof.recording(&detail)?;
            let agents: BTreeSet<&str> =
                detail.permissions.iter().map(|permission| permission.agent.as_str()).collect();
            for agent in agents {
                proof.chain(agent)?;
            }
        }
        None => proof.all()?,
    }
    proof.sum_up()
}

struct Proof<'a> {
    config: &'a Config,
    reader: &'a Reader,
    store: &'a FileKeyStore,
    keys: Keys<'a>,
    output: &'a mut Output,
    checks: u64,
    wrong: u64,
}

impl Proof<'_> {
    fn all(&mut self) -> Result<(), Failure> {
        let problems = self.reader.integrity()?;
        let said = if problems.is_empty() { "reads whole".to_owned() } else { problems.join(", ") };
        self.tell(Check {
            recording: None,
            check: "catalog",
            name: crate::catalog::FILE.to_owned(),
            ok: problems.is_empty(),
            said,
            range: None,
        })?;
        for agent in proof::agents(self.reader, &self.keys)? {
            self.chain(&agent)?;
        }
        let mut filter = Filter { limit: PORTION, ..Filter::default() };
        loop {
            let portion = self.reader.recordings(&filter)?;
            for row in &portion {
                if let Some(detail) = self.reader.recording(row.id)? {
                    self.recording(&detail)?;
                }
            }
            if portion.is_empty() {
                return Ok(());
            }
            filter.offset = filter.offset.saturating_add(PORTION);
        }
    }

    fn chain(&mut self, agent: &str) -> Result<(), Failure> {
        let proved = proof::chain(self.reader, agent, &self.keys)?;
        let (ok, said) = match proved {
            Ok(Holds { head, published }) => {
                let records = match head.sequence {
                    1 => "1 record, as it was signed".to_owned(),
                    n => format!("{n} records, none missing or changed"),
                };
                (true, format!("{records}; {published} published heads fit; head {head}"))
            }
            Err(why) => (false, why),
        };
        self.tell(Check {
            recording: None,
            check: "chain",
            name: agent.to_owned(),
            ok,
            said,
            range: None,
        })
    }

    fn recording(&mut self, detail: &RecordingDetail) -> Result<(), Failure> {
        let id = detail.recording.id;
        let erased =
            matches!(detail.recording.state, RecordingState::Erased | RecordingState::Expired);
        if !erased {
            let mut manifests = Vec::new();
            for segment in detail.segments.iter().filter(|it| !is_erased(detail, it)) {
                self.segment(detail, segment, &mut manifests)?;
            }
            self.manifests(id, &manifests)?;
        }
        for tombstone in detail.streams.iter().filter_map(|stream| stream.erased.as_ref()) {
            self.erasure(tombstone)?;
        }
        for record in self.reader.evidence_of(id)? {
            let proved = proof::record(&record, &self.keys);
            self.tell(Check {
                recording: Some(id),
                check: "evidence",
                name: record.id().to_string(),
                ok: proved.is_ok(),
                said: proved.err().unwrap_or_else(|| "signed as stored".to_owned()),
                range: None,
            })?;
        }
        Ok(())
    }

    /// Proves that nothing is left of a stream that is said to be erased.
    fn erasure(&mut self, tombstone: &Tombstone) -> Result<(), Failure> {
        let stream = tombstone.stream;
        let remains = self.reader.remains_of(stream)?;
        let files = segments::files(self.config, stream)?;
        let (ok, said) = match tombstone.verified {
            None => (true, segments::erased(tombstone)),
            Some(_) if files == 0 && remains == Remains::NONE => {
                (true, format!("{}; nothing of it is left", segments::erased(tombstone)))
            }
            Some(_) => {
                let rows = remains.keys + remains.segments + remains.gaps;
                let said = segments::erased(tombstone);
                (false, format!("{said}, but {files} files and {rows} rows are there again"))
            }
        };
        self.tell(Check {
            recording: Some(stream.recording),
            check: "erasure",
            name: show::voice(stream.index),
            ok,
            said,
            range: None,
        })
    }

    fn segment(
        &mut self,
        detail: &RecordingDetail,
        segment: &SegmentRow,
        manifests: &mut Vec<SignedManifest>,
    ) -> Result<(), Failure> {
        let recording = detail.recording.id;
        let (ok, said, range) = self.prove(detail, segment, manifests)?;
        self.tell(Check {
            recording: Some(recording),
            check: "segment",
            name: format!("{}-{}", segment.stream, segment.index),
            ok,
            said,
            range,
        })
    }

    fn prove(
        &self,
        detail: &RecordingDetail,
        segment: &SegmentRow,
        manifests: &mut Vec<SignedManifest>,
    ) -> Result<(bool, String, Option<Range<u64>>), Failure> {
        let stream = StreamId { recording: detail.recording.id, index: segment.stream };
        let Some(row) = detail.streams.iter().find(|row| row.stream == segment.stream) else {
            return Ok((false, "no permission is stored for its stream".to_owned(), None));
        };
        let Some(key) = segments::data_key(self.reader, self.store, stream)? else {
            return Ok((false, "its key is destroyed".to_owned(), None));
        };
        let path = segments::path(self.config, detail.recording.id, segment);
        let mut signers = Vec::new();
        if let Ok(signed) = segments::manifest(&path) {
            signers.extend(self.keys.find_for_manifest(&signed.manifest.signing_key.to_string()));
            let (digest, sha256) = (signed.digest(), signed.manifest.sha256);
            manifests.push(signed);
            if segment.manifest.is_some_and(|stored| stored != digest) || segment.sha256 != sha256 {
                return Ok((false, "the manifest is not the one in the catalog".to_owned(), None));
            }
        }
        let verdict = verify_segment(&path, row.evidence_digest, &key, &signers)
            .map_err(|why| Failure::Failed(format!("{} cannot be read: {why}", path.display())))?;
        Ok(match verdict {
            SegmentVerdict::Whole { packets, bytes } => {
                (true, format!("whole, {packets} packets in {bytes} bytes"), None)
            }
            // What a crash cut off is known; what is cut off later is damage.
            SegmentVerdict::Truncated { packets, whole, of } if whole <= of => {
                let known = segment.integrity == Integrity::Truncated && of == segment.bytes;
                let said = match known {
                    true => format!("cut off by a crash, {packets} packets read"),
                    false => format!("cut off at byte {whole} of {of}, {packets} packets read"),
                };
                (known, said, (!known).then_some(whole..of))
            }
            SegmentVerdict::Truncated { packets, .. } => {
                (false, format!("cut off, {packets} packets read"), None)
            }
            SegmentVerdict::Damaged { range, why } => {
                (false, format!("{why} (bytes {} to {})", range.start, range.end), Some(range))
            }
        })
    }

    fn manifests(&mut self, id: RecordingId, manifests: &[SignedManifest]) -> Result<(), Failure> {
        if manifests.is_empty() {
            return Ok(());
        }
        let erased = self.reader.erased_manifests(id)?;
        let proved = verify_chain(manifests, &erased);
        self.tell(Check {
            recording: Some(id),
            check: "manifests",
            name: id.to_string(),
            ok: proved.is_ok(),
            said: match proved {
                Ok(()) => format!("{} in one chain", manifests.len()),
                Err(why) => why.to_string(),
            },
            range: None,
        })
    }

    fn tell(&mut self, check: Check) -> Result<(), Failure> {
        self.checks += 1;
        self.wrong += u64::from(!check.ok);
        if self.output.is_json() {
            return Ok(self.output.value(&check)?);
        }
        let verdict = if check.ok { "ok   " } else { "WRONG" };
        let within = match (check.check, check.recording) {
            ("manifests", _) | (_, None) => String::new(),
            (_, Some(recording)) => format!(" of {recording}"),
        };
        let Check { check, name, said, .. } = check;
        Ok(self.output.line(format!("{verdict}  {check} {name}{within}: {said}"))?)
    }

    fn sum_up(self) -> Result<(), Failure> {
        match self.wrong {
            0 => Ok(()),
            wrong => Err(Failure::Found(format!(
                "{wrong} of {} checks failed; keep the data folder as it is, and restore what is \
                 damaged from a backup",
                self.checks
            ))),
        }
    }
}

/// Whether a segment is of a stream that is erased, or about to be.
fn is_erased(detail: &RecordingDetail, segment: &SegmentRow) -> bool {
    let stream = detail.streams.iter().find(|row| row.stream == segment.stream);
    stream.is_some_and(|row| row.erased.is_some())
}

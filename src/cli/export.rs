//! `assent export`: a recording as audio.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::catalog::{Reader, RecordingDetail, RecordingState, Tombstone};
use crate::cli::context::{self, Context};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::proof::{Keys, Known};
use crate::cli::segments::{self, Packets};
use crate::cli::which::Which;
use crate::cli::{note, show, when};
use crate::config::Config;
use crate::control::ExportNote;
use crate::export::{Format, Span, Summary, sample_rate, write_wav};
use crate::ids::{Leg, StreamId};
use crate::keys::FileKeyStore;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent export last --reason \"first try\"
  assent export 0193a4c0-… --reason \"complaint 4711\"
  assent export 0193a4c0-… --party caller --out caller.wav --reason audit")]
pub(super) struct Arguments {
    /// The recording, or `last`
    id: Which,
    /// As what: wav (stereo: the caller left, the callee right)
    #[arg(long, default_value_t = Format::Wav)]
    format: Format,
    /// Only this party's voice, in mono: caller or callee
    #[arg(long, value_parser = party)]
    party: Option<Leg>,
    /// The file to write [default: ID.wav]; one that is there already is left alone
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Why: stored with your name, before anything is written
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

fn party(text: &str) -> Result<Leg, String> {
    Leg::BOTH
        .into_iter()
        .find(|leg| leg.as_str() == text)
        .ok_or_else(|| "write caller or callee".to_owned())
}

pub(super) fn run(
    arguments: &Arguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    if arguments.reason.trim().is_empty() {
        return Err(Failure::Usage("--reason: say why the recording is exported".to_owned()));
    }
    let config = context.config()?;
    let reader = context::catalog(&config)?;
    let id = arguments.id.resolve(&reader)?;
    let detail = reader.recording(id)?.ok_or_else(|| show::unknown(id))?;
    if matches!(detail.recording.state, RecordingState::Erased | RecordingState::Expired) {
        let state = detail.recording.state;
        return Err(Failure::Failed(format!("recording {id} is {state}")));
    }
    let open = is_open(detail.recording.state);
    if open && detail.segments.is_empty() {
        return Err(Failure::Failed(format!(
            "recording {id} is still open, and nothing of it is sealed yet: export it when `assent \
             list` says sealed, a second after the call; what a crash left open, `assent serve` seals"
        )));
    }
    let legs = arguments.party.map_or_else(|| Leg::BOTH.to_vec(), |leg| vec![leg]);
    if let (Some(leg), Some(tombstone)) = (arguments.party, erased(&detail, &legs).first()) {
        return Err(Failure::Failed(format!("the {leg}'s voice: {}", segments::erased(tombstone))));
    }
    let store = segments::key_store(&config)?;
    let path = arguments
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{id}.{}", arguments.format)));
    if path.exists() {
        return Err(taken(&path));
    }
    note::export(
        &config,
        ExportNote {
            recording: detail.recording.id,
            call: detail.recording.call,
            actor: note::actor(),
            reason: arguments.reason.trim().to_owned(),
            stream: arguments.party.map(Leg::stream),
        },
    )?;
    let (summary, mut problems) = write(&config, &reader, &store, &detail, &legs, &path)?;
    if open {
        problems.push("it is still open: what is not sealed yet is not in it".to_owned());
    }
    report(output, &path, &legs, &summary, &problems)?;
    if !output.is_json() {
        for tombstone in erased(&detail, &legs) {
            let voice = show::voice(tombstone.stream.index);
            output.line(format!("  {voice}: silence, {}", segments::erased(tombstone)))?;
        }
    }
    match problems.len() {
        0 => Ok(()),
        _ => Err(Failure::Found("the export is not complete; see `assent verify`".to_owned())),
    }
}

/// Those of these parties' streams that are erased, or about to be.
fn erased<'a>(detail: &'a RecordingDetail, legs: &[Leg]) -> Vec<&'a Tombstone> {
    let tombstones = detail.streams.iter().filter_map(|stream| stream.erased.as_ref());
    tombstones.filter(|it| legs.iter().any(|leg| leg.stream() == it.stream.index)).collect()
}

/// Whether more of it may come.
fn is_open(state: RecordingState) -> bool {
    matches!(state, RecordingState::Permitted | RecordingState::Capturing | RecordingState::Paused)
}

fn taken(path: &Path) -> Failure {
    Failure::Failed(format!(
        "{} is there already; name another file with --out, or move that one away",
        path.display()
    ))
}

/// Writes beside the place first, so that no half of a file is ever in it.
fn write(
    config: &Config,
    reader: &Reader,
    store: &FileKeyStore,
    detail: &RecordingDetail,
    legs: &[Leg],
    path: &Path,
) -> Result<(Summary, Vec<String>), Failure> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    let partial = PathBuf::from(partial);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .map_err(|why| {
            Failure::Failed(format!("{} cannot be written: {why}", partial.display()))
        })?;
    let written = fill(&file, config, reader, store, detail, legs).and_then(|done| {
        // A link, unlike a rename, takes no file's place that came meanwhile.
        match std::fs::hard_link(&partial, path) {
            Ok(()) => Ok(done),
            Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => Err(taken(path)),
            Err(_) => std::fs::rename(&partial, path).map(|()| done).map_err(|why| {
                Failure::Failed(format!("{} cannot be written: {why}", path.display()))
            }),
        }
    });
    // It is a second name of the export, or of no use.
    let _ = std::fs::remove_file(&partial);
    written
}

fn fill(
    file: &File,
    config: &Config,
    reader: &Reader,
    store: &FileKeyStore,
    detail: &RecordingDetail,
    legs: &[Leg],
) -> Result<(Summary, Vec<String>), Failure> {
    let known = Known::default();
    let keys = Keys::new(reader, config, &known)?;
    let problems = RefCell::new(Vec::new());
    let (mut tracks, mut codecs) = (Vec::new(), Vec::new());
    for leg in legs {
        let index = leg.stream();
        let Some(row) = detail.streams.iter().find(|row| row.stream == index) else {
            // Never permitted, so never recorded: silence on its channel.
            tracks.push(None);
            continue;
        };
        if row.erased.is_some() {
            tracks.push(None);
            continue;
        }
        let stream = StreamId { recording: detail.recording.id, index };
        let Some(key) = segments::data_key(reader, store, stream)? else {
            problems.borrow_mut().push(format!("the {leg}'s voice is erased"));
            tracks.push(None);
            continue;
        };
        let (sources, unreadable) = segments::sources(config, detail, index, &keys);
        problems.borrow_mut().extend(unreadable);
        let audio = sources.iter().flat_map(|source| source.codecs.iter());
        codecs.extend(audio.filter_map(|(_, codec)| codec.audio()));
        tracks.push(Some(Packets::new(sources, key, row.evidence_digest, &problems)));
    }
    let recording = &detail.recording;
    let span = Span { start: recording.started.unwrap_or(recording.began), end: recording.ended };
    let tracks: Vec<_> = tracks.into_iter().map(|track| track.into_iter().flatten()).collect();
    let summary = write_wav(BufWriter::new(file), span, sample_rate(codecs), tracks)
        .map_err(|why| Failure::Failed(why.to_string()))?;
    file.sync_all()
        .map_err(|why| Failure::Failed(format!("the export cannot be written: {why}")))?;
    Ok((summary, problems.into_inner()))
}

fn report(
    output: &mut Output,
    path: &Path,
    legs: &[Leg],
    summary: &Summary,
    problems: &[String],
) -> Result<(), Failure> {
    if output.is_json() {
        let tracks: Vec<_> = legs
            .iter()
            .zip(&summary.tracks)
            .map(|(leg, track)| {
                json!({
                    "party": leg,
                    "packets": track.packets,
                    "dropped": track.dropped,
                    "damaged": track.damaged,
                    "audio_ms": millis(track.audio),
                })
            })
            .collect();
        output.value(&json!({
            "file": path.display().to_string(),
            "format": "wav",
            "sample_rate": summary.sample_rate,
            "duration_ms": millis(summary.duration),
            "tracks": tracks,
            "problems": problems,
        }))?;
    } else {
        output.line(format!(
            "{}: {} at {} Hz",
            path.display(),
            when::clock(summary.duration),
            summary.sample_rate
        ))?;
        for (leg, track) in legs.iter().zip(&summary.tracks) {
            let damaged = match track.damaged {
                0 => String::new(),
                n => format!(", {n} of them damaged"),
            };
            let audio = when::clock(track.audio);
            output
                .line(format!("  {leg}: {audio} of audio, {} packets{damaged}", track.packets))?;
        }
        for problem in problems {
            output.line(format!("  {problem}"))?;
        }
    }
    Ok(())
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

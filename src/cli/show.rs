//! `assent show`: one recording with everything in it.

use crate::catalog::{RecordingDetail, RecordingRow};
use crate::cli::context::{self, Context, Numbers};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::which::Which;
use crate::cli::{list, segments as stored, when};
use crate::ids::{RecordingId, StreamIndex};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent show last
  assent show 0193a4c0-… --numbers
  assent show 0193a4c0-… --json | jq .segments")]
pub(super) struct Arguments {
    /// The recording, or `last`
    id: Which,
    /// Show numbers in clear; needs the key folder
    #[arg(long)]
    numbers: bool,
}

pub(super) fn run(
    arguments: &Arguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let config = context.config()?;
    let reader = context::catalog(&config)?;
    let id = arguments.id.resolve(&reader)?;
    let detail = reader.recording(id)?.ok_or_else(|| unknown(id))?;
    if output.is_json() {
        return Ok(output.value(&detail)?);
    }
    let numbers = Numbers::new(&config, arguments.numbers)?;
    head(output, &detail.recording)?;
    output.line("")?;
    let mut rows = Vec::new();
    for party in &detail.recording.parties {
        rows.push([
            party.leg.to_string(),
            numbers.name(&reader, party.party_ref)?,
            when::short(party.joined),
            party.left.map_or_else(|| "-".to_owned(), when::short),
        ]);
    }
    output.table(["PARTY", "WHO", "JOINED (UTC)", "LEFT"], &rows)?;
    permissions(output, &detail)?;
    erasures(output, &detail)?;
    segments(output, &detail)?;
    gaps(output, &detail)
}

/// There is no such recording.
pub(super) fn unknown(id: RecordingId) -> Failure {
    Failure::Failed(format!("there is no recording {id}; `assent list` shows those there are"))
}

fn head(output: &mut Output, recording: &RecordingRow) -> Result<(), Failure> {
    let result = recording.result.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
    let basis = recording.basis.replace('_', " ");
    let time = |at: Option<_>| at.map_or_else(|| "-".to_owned(), when::short);
    for (name, value) in [
        ("Recording", recording.id.to_string()),
        ("Call", recording.call.to_string()),
        ("State", format!("{}{result}", recording.state)),
        ("Began", format!("{} UTC", when::short(recording.began))),
        ("Length", list::duration(recording)),
        ("Kept until", format!("{} UTC", time(recording.expires))),
        ("Policy", format!("{} (scope {})", recording.policy, recording.scope)),
        ("Basis", format!("{basis}, for {}", recording.purposes.join(", "))),
        ("Controller", recording.controller.clone()),
    ] {
        output.line(format!("{name:<12}{value}"))?;
    }
    Ok(())
}

fn permissions(output: &mut Output, detail: &RecordingDetail) -> Result<(), Failure> {
    if detail.permissions.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let rows: Vec<[String; 5]> = detail
        .permissions
        .iter()
        .map(|permission| {
            [
                when::precise(permission.at),
                voice(permission.stream),
                permission.gate.clone(),
                permission.outcome.clone(),
                permission.evidence.to_string(),
            ]
        })
        .collect();
    Ok(output.table(["DECIDED (UTC)", "PARTY", "GATE", "OUTCOME", "EVIDENCE"], &rows)?)
}

fn erasures(output: &mut Output, detail: &RecordingDetail) -> Result<(), Failure> {
    let erased = detail.streams.iter().filter_map(|stream| stream.erased.as_ref());
    for (n, tombstone) in erased.enumerate() {
        if n == 0 {
            output.line("")?;
        }
        let voice = voice(tombstone.stream.index);
        output.line(format!("{voice}'s voice: {}", stored::erased(tombstone)))?;
    }
    Ok(())
}

fn segments(output: &mut Output, detail: &RecordingDetail) -> Result<(), Failure> {
    if detail.segments.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let rows: Vec<[String; 6]> = detail
        .segments
        .iter()
        .map(|segment| {
            [
                voice(segment.stream),
                segment.index.to_string(),
                when::precise(segment.start),
                when::clock(segment.end.since(segment.start)),
                segment.bytes.to_string(),
                segment.location.clone(),
            ]
        })
        .collect();
    Ok(output.table(["PARTY", "SEGMENT", "FROM (UTC)", "LENGTH", "BYTES", "FILE"], &rows)?)
}

fn gaps(output: &mut Output, detail: &RecordingDetail) -> Result<(), Failure> {
    if detail.gaps.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let rows: Vec<[String; 4]> = detail
        .gaps
        .iter()
        .map(|gap| {
            [
                voice(gap.stream),
                when::precise(gap.start),
                format!("{:.2} s", gap.end.since(gap.start).as_secs_f64()),
                gap.reason.clone(),
            ]
        })
        .collect();
    Ok(output.table(["PARTY", "GAP FROM (UTC)", "LENGTH", "REASON"], &rows)?)
}

/// Whose voice a stream is.
pub(super) fn voice(stream: StreamIndex) -> String {
    match stream {
        StreamIndex(0) => "caller".to_owned(),
        StreamIndex(1) => "callee".to_owned(),
        other => format!("stream {other}"),
    }
}

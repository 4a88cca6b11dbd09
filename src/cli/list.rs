//! `assent list`: recordings, the newest first.

use crate::catalog::{Filter, RecordingRow, RecordingState};
use crate::cli::context::{self, Context, Numbers};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::when;
use crate::clock;
use crate::ids::CallId;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent list                            the newest 100
  assent list --party +4930123456 --since 30d
  assent list --state sealed --json | jq -r .id")]
pub(super) struct Arguments {
    /// Only those with this party: a number, an extension, a SIP URI, or a party_ref
    #[arg(long, value_name = "NUMBER")]
    party: Option<String>,
    /// Only those that began at this time or later: a date, a time, or a span such as 2d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those that began before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only those in this state: permitted, capturing, paused, sealed, failed, expired, erased
    #[arg(long)]
    state: Option<RecordingState>,
    /// Only those under this policy
    #[arg(long)]
    policy: Option<String>,
    /// Only those of this call
    #[arg(long, value_name = "ID")]
    call: Option<CallId>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: u32,
    /// Leave so many out first
    #[arg(long, default_value_t = 0, value_name = "N")]
    offset: u32,
    /// Show numbers in clear; needs the key folder
    #[arg(long)]
    numbers: bool,
}

pub(super) fn run(
    arguments: &Arguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let now = clock::wall();
    let time = |flag: &str, text: &Option<String>| {
        text.as_deref().map(|text| when::time(flag, text, now)).transpose()
    };
    let config = context.config()?;
    let filter = Filter {
        party: arguments.party.as_deref().map(|text| context::party(&config, text)).transpose()?,
        from: time("--since", &arguments.since)?,
        until: time("--until", &arguments.until)?,
        state: arguments.state,
        policy: arguments.policy.clone(),
        call: arguments.call,
        limit: arguments.limit,
        offset: arguments.offset,
    };
    let reader = context::catalog(&config)?;
    let recordings = reader.recordings(&filter)?;
    if output.is_json() {
        for recording in &recordings {
            output.value(recording)?;
        }
        return Ok(());
    }
    if recordings.is_empty() {
        return Ok(output.line("no recording fits")?);
    }
    let numbers = Numbers::new(&config, arguments.numbers)?;
    let mut rows = Vec::with_capacity(recordings.len());
    for recording in &recordings {
        let mut parties = Vec::with_capacity(recording.parties.len());
        for party in &recording.parties {
            parties.push(numbers.name(&reader, party.party_ref)?);
        }
        rows.push([
            recording.id.to_string(),
            when::short(recording.began),
            duration(recording),
            recording.state.to_string(),
            recording.policy.clone(),
            parties.join(", "),
        ]);
    }
    output.table(["ID", "BEGAN (UTC)", "LENGTH", "STATE", "POLICY", "PARTIES"], &rows)?;
    let full = u32::try_from(recordings.len()).is_ok_and(|n| n == arguments.limit);
    if full {
        let next = arguments.offset.saturating_add(arguments.limit);
        output.line(format!("There may be more: --offset {next}"))?;
    }
    Ok(())
}

/// How long a recording is, as far as it has come.
pub(super) fn duration(recording: &RecordingRow) -> String {
    match (recording.started, recording.ended) {
        (Some(started), Some(ended)) => when::clock(ended.since(started)),
        (Some(_), None) => "running".to_owned(),
        (None, _) => "-".to_owned(),
    }
}

//! `assent status`: how the running agent is, and which calls are in progress.

use std::io::Write;
use std::time::Duration;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::when;
use crate::clock;
use crate::config::Config;
use crate::control::{self, CallList, Command, Reply, Status};

/// How long an agent may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent status
  assent status --json | jq .state
  assent status --calls                  one line a call, the newest first

A call is asking (somebody is asked), recording, paused or unrecorded. Nobody's number is shown;
`assent pause`, `resume` and `withdraw` take the identifier of a call.")]
pub(super) struct Arguments {
    /// List the calls in progress instead
    #[arg(long)]
    calls: bool,
}

pub(super) fn run(
    arguments: &Arguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    if arguments.calls {
        return list(&calls(&context.config()?)?, output);
    }
    let status = ask(&context.config()?)?;
    if output.is_json() {
        return Ok(output.value(&status)?);
    }
    let calls: Vec<String> = status.calls.iter().map(|(state, n)| format!("{n} {state}")).collect();
    let calls = if calls.is_empty() { "none".to_owned() } else { calls.join(", ") };
    let up = clock::wall().since(status.started);
    let nats = match status.nats_connected {
        None => "not configured",
        Some(true) => "connected",
        Some(false) => "away",
    };
    let next_hops: Vec<String> =
        status.next_hops.iter().map(|hop| format!("{} {}", hop.next_hop, hop.state)).collect();
    let next_hops = if next_hops.is_empty() { "none".to_owned() } else { next_hops.join(", ") };
    let outbox = match status.outbox {
        0 => "empty".to_owned(),
        n => format!(
            "{n} events wait, the oldest for {}",
            when::clock(Duration::from_secs(status.outbox_age_seconds))
        ),
    };
    for (name, value) in [
        ("State", status.state.clone()),
        ("Agent", format!("{}, assent {}, process {}", status.node, status.version, status.pid)),
        ("Up", format!("{} (since {} UTC)", when::clock(up), when::short(status.started))),
        ("SIP", status.sip.join(", ")),
        ("HTTP", status.http.clone().unwrap_or_else(|| "off".to_owned())),
        ("Next hops", next_hops),
        ("Calls", calls),
        ("Recordings", status.recordings.to_string()),
        ("NATS", nats.to_owned()),
        ("Outbox", outbox),
    ] {
        output.line(format!("{name:<12}{value}"))?;
    }
    for need in &status.needs {
        let weight = if need.required { "missing" } else { "away" };
        output.line(format!("{:<12}{}: {}", need.name, weight, need.missing))?;
    }
    Ok(())
}

fn list(list: &CallList, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        for call in &list.calls {
            output.value(call)?;
        }
    } else if list.calls.is_empty() {
        output.line("No call is in progress.")?;
    } else {
        let rows: Vec<[String; 5]> = list
            .calls
            .iter()
            .map(|call| {
                [
                    call.call.to_string(),
                    when::short(call.since),
                    call.state.as_str().to_owned(),
                    call.recording.map_or_else(|| "-".to_owned(), |id| id.to_string()),
                    call.policy.clone(),
                ]
            })
            .collect();
        output.table(["CALL", "SINCE (UTC)", "STATE", "RECORDING", "POLICY"], &rows)?;
    }
    if list.left_out > 0 {
        // Beside what a program reads; where stderr is gone, nothing is lost by it.
        let _ = writeln!(std::io::stderr(), "assent: {} older calls are left out", list.left_out);
    }
    Ok(())
}

/// The calls in progress, the newest first.
pub(super) fn calls(config: &Config) -> Result<CallList, Failure> {
    match control::ask(&config.control_socket(), Command::Calls {}, PATIENCE)? {
        Reply::Calls(calls) => Ok(calls),
        Reply::Refused { message, .. } => Err(Failure::Unavailable(message)),
        _ => Err(Failure::Failed("the agent answers something else".to_owned())),
    }
}

fn ask(config: &Config) -> Result<Status, Failure> {
    match control::ask(&config.control_socket(), Command::Status {}, PATIENCE)? {
        Reply::Status(status) => Ok(*status),
        Reply::Refused { message, .. } => Err(Failure::Unavailable(message)),
        _ => Err(Failure::Failed("the agent answers something else".to_owned())),
    }
}

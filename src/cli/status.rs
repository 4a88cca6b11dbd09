//! `assent status`: how the running agent is.

use std::time::Duration;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::when;
use crate::clock;
use crate::config::Config;
use crate::control::{self, Command, Reply, Status};

/// How long an agent may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(context: &Context, output: &mut Output) -> Result<(), Failure> {
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

fn ask(config: &Config) -> Result<Status, Failure> {
    match control::ask(&config.control_socket(), Command::Status {}, PATIENCE)? {
        Reply::Status(status) => Ok(*status),
        Reply::Refused { message, .. } => Err(Failure::Unavailable(message)),
        _ => Err(Failure::Failed("the agent answers something else".to_owned())),
    }
}

//! `assent events`: the outbox as it is stored.

use std::time::Duration;

use serde_json::Value;

use crate::catalog::{OutboxRow, Reader};
use crate::cli::context::{self, Context};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::when;
use crate::clock;

/// Rows read at a time.
const PORTION: u32 = 500;
/// How often `--follow` looks again.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A * before an event's name: NATS has not acknowledged it yet, or none is configured.

Examples:
  assent events --since 1h
  assent events --follow
  assent events --unsent --json | jq -r .type")]
pub(super) struct Arguments {
    /// Go on with what comes, until interrupted
    #[arg(long)]
    follow: bool,
    /// Only those stored at this time or later: a date, a time, or a span such as 2d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those that NATS has not acknowledged
    #[arg(long)]
    unsent: bool,
}

pub(super) fn run(
    arguments: &Arguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let config = context.config()?;
    let reader = context::catalog(&config)?;
    let mut cursor = match &arguments.since {
        Some(text) => reader.outbox_cursor(when::time("--since", text, clock::wall())?)?,
        None => 0,
    };
    loop {
        let rows = portion(&reader, cursor, arguments.unsent)?;
        for row in &rows {
            print(row, output)?;
            cursor = row.sequence;
        }
        if !rows.is_empty() {
            continue;
        }
        if !arguments.follow {
            return Ok(());
        }
        output.finish()?;
        std::thread::sleep(PAUSE);
    }
}

fn portion(reader: &Reader, cursor: u64, unsent: bool) -> Result<Vec<OutboxRow>, Failure> {
    Ok(match unsent {
        true => reader.unsent(cursor, PORTION)?,
        false => reader.outbox_after(cursor, PORTION)?,
    })
}

fn print(row: &OutboxRow, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(output.verbatim(&row.json)?);
    }
    let envelope: Value = serde_json::from_str(&row.json).unwrap_or_default();
    let kind = envelope.get("type").and_then(Value::as_str).unwrap_or("?");
    let kind = kind.trim_start_matches("io.assent.").trim_end_matches(".v1");
    let sent = if row.sent.is_some() { ' ' } else { '*' };
    let said = envelope.get("data").map(in_short).unwrap_or_default();
    let line = format!("{} {sent}{kind:<24} {}  {said}", when::precise(row.at), row.about);
    Ok(output.line(line.trim_end())?)
}

/// What an event says beside the identifiers: its words and numbers, in one line.
fn in_short(data: &Value) -> String {
    let Value::Object(members) = data else { return String::new() };
    let mut said = Vec::new();
    for (name, value) in members {
        let text = match value {
            // References, digests and identifiers are for programs.
            Value::String(text) if text.len() <= 32 => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => continue,
        };
        said.push(format!("{name}={text}"));
    }
    said.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_has_words_and_no_digests() {
        let data = serde_json::json!({
            "outcome": "granted", "attempts": 2, "ok": true, "parties": [1],
            "evidence": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        });
        assert_eq!(in_short(&data), "outcome=granted attempts=2 ok=true");
    }
}

//! `assent evidence`: the permission receipts of a recording.

use serde_json::{Value, json};

use crate::catalog::Reader;
use crate::cli::context::{self, Context};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::proof::{self, Keys};
use crate::cli::which::Which;
use crate::cli::{receipt, show};
use crate::config::Config;
use crate::consent::evidence::Record;
use crate::ids::EvidenceId;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent evidence last                   receipts that a data-protection officer can read
  assent evidence 0193a4c0-… --verify    checks signatures and the chain; exit 2 if one is wrong
  assent evidence 0193a4c0-… --json      the signed records (RFC 8785), one a line")]
pub(super) struct Arguments {
    /// The recording, one evidence record, or `last`: the newest recording
    id: Which,
    /// Check each signature, and the whole chain that the records are in
    #[arg(long)]
    verify: bool,
}

pub(super) fn run(
    arguments: &Arguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let config = context.config()?;
    let reader = context::catalog(&config)?;
    let id = arguments.id.resolve(&reader)?;
    let mut records = reader.evidence_of(id)?;
    if records.is_empty() {
        records.extend(reader.evidence_record(EvidenceId(id.0))?);
    }
    if records.is_empty() {
        return Err(match reader.recording(id)? {
            Some(_) => Failure::Failed(format!("there is no evidence for {id}")),
            None => show::unknown(id),
        });
    }
    if !arguments.verify {
        return print(&records, output);
    }
    verify(&records, &reader, &config, output)
}

fn print(records: &[Record], output: &mut Output) -> Result<(), Failure> {
    for (index, record) in records.iter().enumerate() {
        if output.is_json() {
            output.verbatim(&signed(record))?;
            continue;
        }
        if index > 0 {
            output.line("")?;
        }
        for line in receipt::lines(record) {
            output.line(line)?;
        }
    }
    Ok(())
}

/// The record as it is stored and handed out.
fn signed(record: &Record) -> String {
    let signature = hex::encode(record.signature());
    format!(r#"{{"evidence":{},"signature":"{signature}"}}"#, record.body())
}

fn verify(
    records: &[Record],
    reader: &Reader,
    config: &Config,
    output: &mut Output,
) -> Result<(), Failure> {
    let keys = Keys::new(reader, config)?;
    let mut wrong = 0;
    for record in records {
        let said = proof::record(record, &keys);
        wrong += usize::from(said.is_err());
        tell(output, "record", &record.id().to_string(), said.err())?;
    }
    let mut agents: Vec<&str> = records.iter().map(Record::agent).collect();
    agents.sort_unstable();
    agents.dedup();
    for agent in agents {
        let said = proof::chain(reader, agent, &keys)?;
        wrong += usize::from(said.is_err());
        tell(output, "chain", agent, said.err())?;
    }
    match wrong {
        0 => Ok(()),
        1 => Err(Failure::Found("one check failed: keep the data folder as it is".to_owned())),
        n => Err(Failure::Found(format!("{n} checks failed: keep the data folder as it is"))),
    }
}

fn tell(output: &mut Output, what: &str, name: &str, wrong: Option<String>) -> Result<(), Failure> {
    if output.is_json() {
        let ok = wrong.is_none();
        let value: Value = json!({ "check": what, "name": name, "ok": ok, "problem": wrong });
        return Ok(output.value(&value)?);
    }
    let verdict = wrong.unwrap_or_else(|| "signature and order are right".to_owned());
    Ok(output.line(format!("{what} {name}: {verdict}"))?)
}

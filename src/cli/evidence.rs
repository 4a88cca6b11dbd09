//! `assent evidence`: the permission receipts of a recording.

use serde_json::{Value, json};

use crate::catalog::Reader;
use crate::cli::context::{self, Context};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::proof::{self, Keys, Known};
use crate::cli::spoken::Spoken;
use crate::cli::which::Which;
use crate::cli::{receipt, show};
use crate::config::Config;
use crate::consent::evidence::Record;
use crate::ids::EvidenceId;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent evidence last                   receipts that a data-protection officer can read
  assent evidence 0193a4c0-… --verify    checks signatures, the chain and prompts; exit 2 if one
                                         is wrong
  assent evidence 0193a4c0-… --json      the signed records (RFC 8785), one a line")]
pub(super) struct Arguments {
    /// The recording, one evidence record, or `last`: of the newest decision
    id: Which,
    /// Check each signature, the whole chain that the records are in, and the prompts they name
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    known: Known,
}

pub(super) fn run(
    arguments: &Arguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let config = context.config()?;
    let reader = context::catalog(&config)?;
    let records = find(arguments.id, &reader)?;
    if arguments.verify {
        return verify(&records, &reader, &config, &arguments.known, output);
    }
    print(&records, &config, output)
}

/// A recording's records, or the one with this identifier. `last` includes calls that were not
/// recorded: a refusal leaves no recording.
fn find(which: Which, reader: &Reader) -> Result<Vec<Record>, Failure> {
    let id = match which {
        Which::Id(id) => id,
        Which::Last => reader.last_decided()?.ok_or_else(|| {
            Failure::Failed("nothing was decided yet: there is no evidence".to_owned())
        })?,
    };
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
    Ok(records)
}

fn print(records: &[Record], config: &Config, output: &mut Output) -> Result<(), Failure> {
    let spoken = Spoken::of(config);
    for (index, record) in records.iter().enumerate() {
        if output.is_json() {
            output.verbatim(&signed(record))?;
            continue;
        }
        if index > 0 {
            output.line("")?;
        }
        for line in receipt::lines(record, &spoken) {
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
    known: &Known,
    output: &mut Output,
) -> Result<(), Failure> {
    let keys = Keys::new(reader, config, known)?;
    let spoken = Spoken::of(config);
    let mut wrong = 0;
    for record in records {
        let id = record.id().to_string();
        let said = proof::record(record, &keys).map(|()| "the signature is right".to_owned());
        wrong += usize::from(said.is_err());
        tell(output, "record", &id, said)?;
        for notice in receipt::notices(record) {
            // A prompt that was replaced since is no fault of the record's.
            tell(output, "prompt", &id, Ok(spoken.verdict(notice)))?;
        }
    }
    let mut agents: Vec<&str> = records.iter().map(Record::agent).collect();
    agents.sort_unstable();
    agents.dedup();
    for agent in agents {
        let said = proof::chain(reader, agent, &keys)?.map(|holds| {
            let (records, published) = (holds.head.sequence, holds.published);
            format!("{records} records, none missing or changed; {published} published heads fit")
        });
        wrong += usize::from(said.is_err());
        tell(output, "chain", agent, said)?;
    }
    match wrong {
        0 => Ok(()),
        1 => Err(Failure::Found("one check failed: keep the data folder as it is".to_owned())),
        n => Err(Failure::Found(format!("{n} checks failed: keep the data folder as it is"))),
    }
}

fn tell(
    output: &mut Output,
    what: &str,
    name: &str,
    said: Result<String, String>,
) -> Result<(), Failure> {
    if output.is_json() {
        let ok = said.is_ok();
        let (found, problem) = match said {
            Ok(found) => (Some(found), None),
            Err(problem) => (None, Some(problem)),
        };
        let value: Value =
            json!({ "check": what, "name": name, "ok": ok, "said": found, "problem": problem });
        return Ok(output.value(&value)?);
    }
    let verdict = match said {
        Ok(found) => found,
        Err(problem) => format!("WRONG: {problem}"),
    };
    Ok(output.line(format!("{what} {name}: {verdict}"))?)
}

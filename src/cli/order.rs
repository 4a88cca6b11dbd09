//! `assent pause`, `resume` and `withdraw`: orders for a call in progress, carried out by the agent.

use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, json};
use uuid::Uuid;

use crate::call::order::Recorded;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::{note, status};
use crate::clock;
use crate::config::Config;
use crate::control::{self, Command, OrderDone, Reply};
use crate::ids::Leg;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent status --calls                  which calls there are
  assent pause 0193a4c0-6b10-7c02-8a44-2e5e0e4a1b0f
  assent pause last --reason 'card number'

A pause ends at the policy's pause_limit, if nobody resumes before. One that is paused already
stays so, and that is no error.")]
pub(super) struct PauseArguments {
    #[command(flatten)]
    about: About,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent resume 0193a4c0-6b10-7c02-8a44-2e5e0e4a1b0f
  assent resume last")]
pub(super) struct ResumeArguments {
    #[command(flatten)]
    about: About,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent withdraw last --party caller --reason 'said so to the agent'
  assent withdraw 0193a4c0-6b10-7c02-8a44-2e5e0e4a1b0f --party callee --json

Nothing more of the party is written, and what there was is erased or kept, as the policy's
on_withdrawal says. Comes back when the evidence of it is on the disk. A party who is still being
asked refuses with it.")]
pub(super) struct WithdrawArguments {
    #[command(flatten)]
    about: About,
    /// Whose permission: caller or callee
    #[arg(long, value_name = "caller|callee", value_parser = leg)]
    party: Leg,
}

#[derive(Debug, clap::Args)]
struct About {
    /// A call in progress or a recording of it, or `last`: the call that came last
    #[arg(value_name = "CALL|RECORDING|last")]
    id: Which,
    /// Why, for the records
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// How an administrator names a call in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Last,
    Id(Uuid),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "last" {
            return Ok(Which::Last);
        }
        text.parse().map(Which::Id).map_err(|_| {
            "a call is named as `assent status --calls` shows it, in full, or `last`".to_owned()
        })
    }
}

fn leg(text: &str) -> Result<Leg, String> {
    let known = Leg::BOTH.into_iter().find(|leg| leg.as_str() == text);
    known.ok_or_else(|| "write caller or callee".to_owned())
}

pub(super) fn pause(
    arguments: &PauseArguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let done = give("pause", &arguments.about, None, context, output)?;
    let (recording, call) = (named(&done), done.call);
    let said = match (output.is_json(), done.changed) {
        (true, _) => output.value(&Printed { ok: true, done: &done }),
        (_, true) => output.line(format!("Recording {recording} of call {call} is paused.")),
        (_, false) => output.line(format!("Recording {recording} was paused already.")),
    };
    Ok(said?)
}

pub(super) fn resume(
    arguments: &ResumeArguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let done = give("resume", &arguments.about, None, context, output)?;
    let (recording, call) = (named(&done), done.call);
    let said = match (output.is_json(), done.changed) {
        (true, _) => output.value(&Printed { ok: true, done: &done }),
        (_, true) => output.line(format!("Recording {recording} of call {call} goes on.")),
        (_, false) => output.line(format!("Recording {recording} was not paused; it goes on.")),
    };
    Ok(said?)
}

pub(super) fn withdraw(
    arguments: &WithdrawArguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let party = arguments.party;
    let done = give("withdraw", &arguments.about, Some(party), context, output)?;
    if output.is_json() {
        return Ok(output.value(&Printed { ok: true, done: &done })?);
    }
    let call = done.call;
    output.line(match (done.changed, done.recording) {
        (false, _) => format!("The {party} of call {call} had taken their permission back before."),
        (true, None) => format!("The {party} of call {call} has refused."),
        (true, Some(recording)) => format!(
            "Nothing more of the {party} is written to recording {recording} of call {call}."
        ),
    })?;
    if done.state == Recorded::Recording {
        output.line(format!("The {} is still recorded.", party.other()))?;
    }
    Ok(())
}

/// An answer as it comes over NATS.
#[derive(Serialize)]
struct Printed<'a> {
    ok: bool,
    #[serde(flatten)]
    done: &'a OrderDone,
}

fn named(done: &OrderDone) -> String {
    done.recording.map_or_else(|| "-".to_owned(), |recording| recording.to_string())
}

/// Gives an order and waits for what comes of it.
fn give(
    verb: &str,
    about: &About,
    party: Option<Leg>,
    context: &Context,
    output: &mut Output,
) -> Result<OrderDone, Failure> {
    let config = context.config()?;
    let named = match about.id {
        Which::Id(id) => ("about", id.to_string()),
        Which::Last => ("call", last(&config)?),
    };
    let mut body = Map::from_iter([
        ("id".to_owned(), json!(clock::mint::<Uuid>())),
        ("issued".to_owned(), json!(clock::wall())),
        ("actor".to_owned(), json!(note::actor())),
        (named.0.to_owned(), json!(named.1)),
    ]);
    let further = [
        ("party", party.map(|leg| json!(leg))),
        ("reason", about.reason.as_ref().map(|reason| json!(reason))),
    ];
    body.extend(further.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let command = Command::CarryOut { verb: verb.to_owned(), body };
    match control::ask(&config.control_socket(), command, status::PATIENCE)? {
        Reply::Done(done) => Ok(done),
        Reply::Refused { code, message } => {
            if output.is_json() {
                output.value(&json!({ "ok": false, "code": code, "message": message }))?;
            }
            Err(match code.as_str() {
                "stopping" => Failure::Unavailable(message),
                _ => Failure::Failed(message),
            })
        }
        _ => Err(Failure::Failed("the agent answers something else".to_owned())),
    }
}

fn last(config: &Config) -> Result<String, Failure> {
    let calls = status::calls(config)?.calls;
    let newest = calls.first().map(|call| call.call.to_string());
    newest.ok_or_else(|| Failure::Failed("no call is in progress".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_in_full_or_as_the_last() {
        let id = "01a200d9-f5db-70e9-bb95-c6662a9412a9";
        assert_eq!(id.parse(), Ok(Which::Id(id.parse().unwrap())));
        assert_eq!("last".parse(), Ok(Which::Last));
        for wrong in ["", "01a200d9", "LAST"] {
            assert!(wrong.parse::<Which>().unwrap_err().contains("status --calls"), "{wrong}");
        }
    }
}

//! `assent do-not-record`: who counts as having objected, before anybody asks them.

use serde_json::json;

use crate::catalog::{Change, ListedParty, MAX_REASON_BYTES, Reader};
use crate::cli::context::{self, Context};
use crate::cli::failure::Failure;
use crate::cli::note;
use crate::cli::output::Output;
use crate::cli::status::PATIENCE;
use crate::cli::when;
use crate::clock;
use crate::config::Config;
use crate::control::{self, AskError, Command, ListChange, ListReply, ListStep, Reply};
use crate::ids::{PartyRef, Pii};
use crate::number::PartyNumber;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent do-not-record add +4930123456 --reason 'objected in writing on 3 May'
  assent do-not-record remove +4930123456
  assent do-not-record list --numbers")]
pub(super) struct Arguments {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, clap::Subcommand)]
enum Step {
    /// Nobody asks this party any more: they are not recorded, from their next call on
    Add {
        /// A number such as +4930123456, an extension or a SIP URI
        number: String,
        /// Why; kept with the entry
        #[arg(long)]
        reason: String,
    },
    /// This party may be asked again
    Remove {
        /// The number, or its party_ref
        number: String,
    },
    /// Show the list
    List {
        /// Show numbers in clear; needs the key folder
        #[arg(long)]
        numbers: bool,
    },
}

pub(super) fn run(
    arguments: &Arguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let config = context.config()?;
    match &arguments.step {
        Step::Add { number, reason } => add(&config, number, reason, output),
        Step::Remove { number } => {
            let party = context::party(&config, number)?;
            let reply = change(&config, ListStep::Remove { party })?;
            say(&reply, output)
        }
        Step::List { numbers } => list(&config, *numbers, output),
    }
}

fn add(config: &Config, number: &str, reason: &str, output: &mut Output) -> Result<(), Failure> {
    if PartyNumber::parse(number).is_none() {
        return Err(Failure::Usage(
            "NUMBER names nobody; write a number such as +4930123456, an extension or a SIP URI"
                .to_owned(),
        ));
    }
    if reason.trim().is_empty() || reason.len() > MAX_REASON_BYTES {
        return Err(Failure::Usage(format!(
            "--reason is empty or too long; say in up to {MAX_REASON_BYTES} bytes why the party \
             is listed"
        )));
    }
    let number = Pii::new(number.to_owned());
    let reply = change(config, ListStep::Add { number, reason: reason.to_owned() })?;
    say(&reply, output)
}

fn say(reply: &ListReply, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(output.value(reply)?);
    }
    let who: String = reply.party_ref.to_string().chars().take(12).collect();
    Ok(output.line(match (reply.listed, reply.was_listed) {
        (true, false) => format!("{who} is on the do-not-record list from now on."),
        (true, true) => format!("{who} was on the do-not-record list already; the reason is new."),
        (false, true) => format!("{who} is on the do-not-record list no longer."),
        (false, false) => format!("{who} was not on the do-not-record list."),
    })?)
}

/// Has the running agent change the list, or changes it where none runs.
fn change(config: &Config, step: ListStep) -> Result<ListReply, Failure> {
    let change = ListChange { actor: note::actor(), step };
    let command = Command::DoNotRecord(change.clone());
    match control::ask(&config.control_socket(), command, PATIENCE) {
        Ok(Reply::Listed(reply)) => Ok(reply),
        Ok(Reply::Refused { message, .. }) => Err(Failure::Unavailable(message)),
        Ok(_) => Err(Failure::Failed("the agent answers something else".to_owned())),
        Err(AskError::NoAgent { .. }) => store(config, change),
        Err(why) => Err(why.into()),
    }
}

fn store(config: &Config, change: ListChange) -> Result<ListReply, Failure> {
    let (party_ref, listed, stored) = match change.step {
        ListStep::Add { number, reason } => {
            let number = PartyNumber::parse(number.expose())
                .ok_or_else(|| Failure::Usage("NUMBER names nobody".to_owned()))?;
            let party_ref = context::reference_key(config)?.party_ref(number.expose());
            let (actor, since) = (change.actor, clock::wall());
            let entry = ListedParty { party_ref, reason, actor, since };
            (party_ref, true, Change::Listed { entry, number })
        }
        ListStep::Remove { party } => (party, false, Change::Unlisted { party }),
    };
    note::store(config, vec![stored], Vec::new(), |reader: &Reader| {
        Ok(reader.is_listed(party_ref)?.is_some())
    })
    .map(|(was_listed, _)| ListReply { party_ref, listed, was_listed })
}

fn list(config: &Config, numbers: bool, output: &mut Output) -> Result<(), Failure> {
    let reader = context::catalog(config)?;
    let key = if numbers { Some(context::reference_key(config)?) } else { None };
    let number = |party: PartyRef| match &key {
        Some(key) => Ok(reader.listed_number(party, key)?.map(Pii::into_exposed)),
        None => Ok::<_, Failure>(None),
    };
    let mut rows = Vec::new();
    for entry in reader.do_not_record()? {
        let number = number(entry.party_ref)?;
        if output.is_json() {
            let mut value = json!(entry);
            if let (Some(number), Some(fields)) = (number, value.as_object_mut()) {
                fields.insert("number".to_owned(), number.into());
            }
            output.value(&value)?;
            continue;
        }
        let short = || entry.party_ref.to_string().chars().take(12).collect();
        let since = when::short(entry.since);
        rows.push([number.unwrap_or_else(short), since, entry.actor, entry.reason]);
    }
    match (output.is_json(), rows.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => Ok(output.line("Nobody is on the do-not-record list.")?),
        (false, false) => Ok(output.table(["WHO", "SINCE (UTC)", "BY", "REASON"], &rows)?),
    }
}

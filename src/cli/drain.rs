//! `assent drain`: no new calls; the agent ends with the last one in progress.

use std::path::Path;
use std::time::Duration;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::status::PATIENCE;
use crate::cli::when;
use crate::control::{self, AskError, Command, Draining, Reply};

/// How often `--wait` looks again.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent drain                           says how many calls are left
  assent drain --wait                    comes back when the agent has stopped")]
pub(super) struct Arguments {
    /// Come back when the agent has stopped
    #[arg(long)]
    wait: bool,
}

pub(super) fn run(
    arguments: &Arguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let socket = context.config()?.control_socket();
    let draining = match control::ask(&socket, Command::Drain {}, PATIENCE)? {
        Reply::Draining(draining) => draining,
        Reply::Refused { message, .. } => return Err(Failure::Unavailable(message)),
        _ => {
            return Err(Failure::Failed("the agent answers something else".to_owned()));
        }
    };
    print(&draining, output)?;
    output.finish()?;
    if arguments.wait { wait(&socket) } else { Ok(()) }
}

/// Comes back when nobody is at the socket any more.
fn wait(socket: &Path) -> Result<(), Failure> {
    loop {
        match control::ask(socket, Command::Status {}, PATIENCE) {
            Err(AskError::NoAgent { .. }) => return Ok(()),
            Err(why @ AskError::NotAllowed { .. }) => return Err(why.into()),
            Ok(_) | Err(AskError::NoAnswer { .. }) => std::thread::sleep(PAUSE),
        }
    }
}

fn print(draining: &Draining, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(output.value(draining)?);
    }
    let until = when::short(draining.until);
    Ok(output.line(match draining.calls {
        0 => "The agent stops: no call is in progress.".to_owned(),
        1 => format!("The agent drains: one call is in progress, until {until} UTC at most."),
        n => format!("The agent drains: {n} calls are in progress, until {until} UTC at most."),
    })?)
}

//! The command line: one file a command.
//!
//! Exit codes: 0 done, 1 failed, 2 found something wrong, 64 bad arguments or configuration, 69
//! something needed is unavailable.

mod call;
mod check;
mod context;
mod demo;
mod do_not_record;
mod drain;
mod events;
mod evidence;
mod export;
mod failure;
mod keys;
mod list;
mod logging;
mod note;
mod order;
mod output;
mod policy_words;
mod proof;
mod receipt;
mod segments;
mod show;
mod spoken;
mod status;
#[cfg(test)]
mod stored;
mod verify;
mod when;
mod which;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Loaded};

pub use context::Context;
pub use demo::Running;
pub use failure::Failure;
pub use output::Output;

/// The agent, as the commands that run one need it.
pub trait Serve {
    /// One that runs within this program.
    type Agent: Running;

    /// Runs an agent with a configuration until it is told to end. Knows where the configuration
    /// is from, to read it again when told to.
    ///
    /// # Errors
    ///
    /// [`Failure::Unavailable`] when the agent cannot start, [`Failure::Failed`] when it broke.
    fn serve(self, loaded: Loaded) -> Result<(), Failure>;

    /// Starts an agent within the current tokio runtime. When this returns, it takes calls.
    ///
    /// # Errors
    ///
    /// As [`Serve::serve`].
    fn start(self, config: Config) -> impl Future<Output = Result<Self::Agent, Failure>>;
}

/// A call recorder that cannot record without permission.
#[derive(Debug, Parser)]
#[command(name = "assent", version, subcommand_required = true, arg_required_else_help = false)]
#[command(after_help = "\
Exit codes:
  0 done, 1 failed, 2 found something wrong (verify, check),
  64 bad arguments or configuration, 69 something needed is unavailable

Examples:
  assent check --config assent.toml
  assent serve --config assent.toml
  assent list --since 1d")]
struct Arguments {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Shared {
    /// The configuration file [default: $ASSENT_CONFIG, /etc/assent/assent.toml, built-in]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print results as JSON: one object, or one object a line
    #[arg(long, global = true)]
    json: bool,
    /// What to log: error, warn, info, debug, trace, or a filter such as info,assent::sip=debug
    /// [default: $ASSENT_LOG]
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
    /// How to log
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: logging::Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: SIGTERM drains, a second one ends at once, SIGHUP reloads
    #[command(after_help = "\
Examples:
  assent serve                           on loopback, data in ./assent-data
  assent serve --config /etc/assent/assent.toml --log info --log-format json")]
    Serve,
    /// Show a whole call on loopback: announced, permitted, bridged, recorded, verified, exported
    Demo(demo::Arguments),
    /// Make a test call and print what happens in it, to try out a dial plan without a phone
    Call(call::Arguments),
    /// Check the configuration and what it needs, and say which policy a call gets
    Check(check::Arguments),
    /// List recordings, the newest first
    List(list::Arguments),
    /// Show one recording: its parties, permissions, segments and gaps
    Show(show::Arguments),
    /// Export a recording as audio
    Export(export::Arguments),
    /// Read segments, manifests and evidence back and prove them
    Verify(verify::Arguments),
    /// Show the permission receipts of a recording
    Evidence(evidence::Arguments),
    /// Keep the list of those who are never recorded
    DoNotRecord(do_not_record::Arguments),
    /// Show the events as they are stored and published
    Events(events::Arguments),
    /// Stop writing a call's recording until it is resumed, for a card number say
    Pause(order::PauseArguments),
    /// Go on with a recording that is paused
    Resume(order::ResumeArguments),
    /// Take a party's permission back, for who asks for it by other ways than a key
    Withdraw(order::WithdrawArguments),
    /// Say how the running agent is, and which calls are in progress
    Status(status::Arguments),
    /// Take no new calls, let those in progress end, then stop the agent
    Drain(drain::Arguments),
    /// Look at the keys: epochs, and the public half of the signing key
    Keys(keys::Arguments),
}

/// Parses arguments, runs the command, and says how it went.
pub fn run(arguments: impl IntoIterator<Item = OsString>, agent: impl Serve) -> ExitCode {
    let Arguments { shared, command } = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where even this cannot be printed, the exit code still says it.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { failure::USAGE } else { 0 });
        }
    };
    let default = if matches!(command, Command::Serve) { "info" } else { "warn" };
    if let Err(failure) = logging::start(shared.log.as_deref(), shared.log_format, default) {
        return failure.report();
    }
    let context = Context::new(shared.config);
    let mut output = Output::stdout(shared.json);
    let result = dispatch(command, &context, &mut output, agent)
        .and_then(|()| output.finish().map_err(Failure::from));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // What was printed before it failed belongs on the screen before the reason.
            let _ = output.finish();
            failure.report()
        }
    }
}

fn dispatch(
    command: Command,
    context: &Context,
    output: &mut Output,
    agent: impl Serve,
) -> Result<(), Failure> {
    match command {
        Command::Serve => agent.serve(context.loaded()?),
        Command::Demo(arguments) => demo::run(&arguments, output, |config| agent.start(config)),
        Command::Call(arguments) => call::run(&arguments, output),
        Command::Check(arguments) => check::run(&arguments, context, output),
        Command::List(arguments) => list::run(&arguments, context, output),
        Command::Show(arguments) => show::run(&arguments, context, output),
        Command::Export(arguments) => export::run(&arguments, context, output),
        Command::Verify(arguments) => verify::run(&arguments, context, output),
        Command::Evidence(arguments) => evidence::run(&arguments, context, output),
        Command::DoNotRecord(arguments) => do_not_record::run(&arguments, context, output),
        Command::Events(arguments) => events::run(&arguments, context, output),
        Command::Pause(arguments) => order::pause(&arguments, context, output),
        Command::Resume(arguments) => order::resume(&arguments, context, output),
        Command::Withdraw(arguments) => order::withdraw(&arguments, context, output),
        Command::Status(arguments) => status::run(&arguments, context, output),
        Command::Drain(arguments) => drain::run(&arguments, context, output),
        Command::Keys(arguments) => keys::run(&arguments, context, output),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Arguments::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}", command.get_name());
        }
    }
}

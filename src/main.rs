//! The `assent` binary: parse arguments, run, exit code.

use assent::agent::{self, Blame};
use assent::cli::{self, Failure};
use assent::config::Config;

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os(), serve)
}

/// Runs the agent until it is told to stop.
fn serve(config: Config) -> Result<(), Failure> {
    agent::run(config).map_err(|why| match why.blame() {
        Blame::Configuration => Failure::Usage(why.to_string()),
        Blame::Surroundings => Failure::unavailable(why),
    })
}

//! The `assent` binary: parse arguments, run, exit code.

use assent::cli::{self, Failure};
use assent::config::Config;

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os(), serve)
}

/// Runs the agent.
fn serve(_: Config) -> Result<(), Failure> {
    Err(Failure::unavailable("the agent is not part of this build"))
}

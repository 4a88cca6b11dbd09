//! Logs: to stderr, for people or for programs.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::failure::Failure;

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging. What is logged says, in this order: the flag, `$ASSENT_LOG`, `$RUST_LOG`, the
/// command's default.
pub(super) fn start(flag: Option<&str>, format: Format, default: &str) -> Result<(), Failure> {
    let environment = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let (name, text) = match (flag, environment("ASSENT_LOG"), environment("RUST_LOG")) {
        (Some(text), ..) => ("--log", text.to_owned()),
        (None, Some(text), _) => ("ASSENT_LOG", text),
        (None, None, Some(text)) => ("RUST_LOG", text),
        (None, None, None) => ("--log", default.to_owned()),
    };
    let filter = EnvFilter::builder().parse(&text).map_err(|why| {
        Failure::Usage(format!(
            "{name}: {text:?} is not a filter ({why}); write error, warn, info, debug or trace"
        ))
    })?;
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter);
    let started = match format {
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
        Format::Text => builder.with_ansi(io::stderr().is_terminal()).finish().try_init(),
    };
    started.map_err(|why| Failure::Failed(format!("logging cannot start: {why}")))
}

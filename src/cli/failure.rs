//! Why a command did not do what it was asked, and the exit code that says so.

use std::io;
use std::process::ExitCode;

use crate::catalog::{OpenError, QueryError};
use crate::config::Problems;
use crate::control::AskError;

/// Bad arguments or configuration (`EX_USAGE` of sysexits.h).
pub(super) const USAGE: u8 = 64;
/// Something needed is unavailable (`EX_UNAVAILABLE`).
pub(super) const UNAVAILABLE: u8 = 69;

/// Why a command did not succeed. Each text tells the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It failed: exit 1.
    #[error("{0}")]
    Failed(String),
    /// It worked, and found something wrong: exit 2. What, has been printed; this sums up.
    #[error("{0}")]
    Found(String),
    /// The arguments ask for what cannot be: exit 64.
    #[error("{0}")]
    Usage(String),
    /// The configuration has problems: exit 64.
    #[error(transparent)]
    Config(#[from] Problems),
    /// Something needed is not there: exit 69.
    #[error("{0}")]
    Unavailable(String),
    /// Whoever read the output has gone, as `head` does: exit 0.
    #[error("nobody reads the output")]
    Closed,
}

impl Failure {
    /// Something needed is not there.
    pub fn unavailable(why: impl ToString) -> Self {
        Failure::Unavailable(why.to_string())
    }

    /// Prints the reason to stderr and gives the exit code.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        let code = match self {
            Failure::Closed => return ExitCode::SUCCESS,
            Failure::Failed(_) => 1,
            Failure::Found(_) => 2,
            Failure::Usage(_) | Failure::Config(_) => USAGE,
            Failure::Unavailable(_) => UNAVAILABLE,
        };
        let text = match self {
            // Each line names the file first, as compilers do, so that editors find the place.
            Failure::Config(problems) => problems.to_string(),
            other => format!("assent: {other}"),
        };
        use std::io::Write;
        // Where stderr is gone, the exit code still says it.
        let _ = writeln!(io::stderr(), "{text}");
        ExitCode::from(code)
    }
}

impl From<io::Error> for Failure {
    fn from(why: io::Error) -> Self {
        match why.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Failed(format!("the output cannot be written: {why}")),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(why: OpenError) -> Self {
        Failure::unavailable(why)
    }
}

impl From<QueryError> for Failure {
    fn from(why: QueryError) -> Self {
        match why {
            QueryError::Open(why) => why.into(),
            other => Failure::Failed(other.to_string()),
        }
    }
}

impl From<AskError> for Failure {
    fn from(why: AskError) -> Self {
        Failure::unavailable(why)
    }
}

//! The client's end of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::wire::{Command, Reply};

const REPLY_BYTES: u64 = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no agent runs on this data folder (there is nobody at {}); start one with `assent serve`", path.display())]
    NoAgent {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody else's agent.
    #[error("the agent's control socket {} is not open to you; run this as the user who runs the agent, or as root", path.display())]
    NotAllowed {
        /// The socket.
        path: PathBuf,
    },
    /// It does not answer as an agent does.
    #[error("the agent at {} does not answer ({why}); look at its log", path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What happened instead.
        why: String,
    },
}

/// Asks the agent at a control socket and waits for its answer, at most for `patience`.
///
/// # Errors
///
/// When there is no agent, it may not be asked, or it does not answer.
pub fn ask(path: &Path, command: Command, patience: Duration) -> Result<Reply, AskError> {
    let stream = UnixStream::connect(path).map_err(|why| match why.kind() {
        io::ErrorKind::PermissionDenied => AskError::NotAllowed { path: path.to_owned() },
        _ => AskError::NoAgent { path: path.to_owned() },
    })?;
    let no_answer = |why: &dyn std::fmt::Display| AskError::NoAnswer {
        path: path.to_owned(),
        why: why.to_string(),
    };
    let line = exchange(stream, command, patience).map_err(|why| no_answer(&why))?;
    serde_json::from_str(&line).map_err(|why| no_answer(&why))
}

fn exchange(mut stream: UnixStream, command: Command, patience: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut request = serde_json::to_vec(&command).map_err(io::Error::other)?;
    request.push(b'\n');
    stream.write_all(&request)?;
    let mut line = String::new();
    BufReader::new(stream.take(REPLY_BYTES)).read_line(&mut line)?;
    Ok(line)
}

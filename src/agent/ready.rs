//! `<data>/ready.json`: where a running agent can be reached, for scripts that chose port 0.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

const NAME: &str = "ready.json";

/// Where the agent is.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    pub(super) pid: u32,
    /// `udp:127.0.0.1:5060` and so on, as bound.
    pub(super) sip: Vec<String>,
    pub(super) http: Option<String>,
}

/// The file, for as long as the agent runs.
#[derive(Debug)]
pub(super) struct ReadyFile(PathBuf);

impl ReadyFile {
    /// Writes it whole: a reader sees all of it or nothing.
    pub(super) fn write(data: &Path, ready: &Ready) -> io::Result<Self> {
        let path = data.join(NAME);
        let fresh = data.join("ready.new");
        std::fs::write(&fresh, serde_json::to_vec(ready)?)?;
        std::fs::rename(&fresh, &path)?;
        Ok(Self(path))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

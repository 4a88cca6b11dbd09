//! The commands of this program, run on the demonstration's data as an administrator would.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::screen::Screen;
use crate::cli::failure::Failure;

/// Runs commands with one configuration.
#[derive(Debug)]
pub(super) struct Commands {
    config: PathBuf,
}

impl Commands {
    pub(super) fn with(config: PathBuf) -> Self {
        Self { config }
    }

    /// Runs a command, shows it, and says how it went: `meaning` where it went well.
    pub(super) fn run(
        &self,
        screen: &mut Screen<'_>,
        arguments: &[&str],
        meaning: &str,
    ) -> Result<bool, Failure> {
        let program = std::env::current_exe()?;
        let done =
            Command::new(program).args(arguments).arg("--config").arg(&self.config).output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        let text = match done.status.success() {
            true => meaning.to_owned(),
            false => said.lines().last().unwrap_or("it failed").to_owned(),
        };
        if screen.is_json() {
            let ok = done.status.success();
            screen.value(&json!({
                "check": arguments.first(), "recording": arguments.get(1), "ok": ok, "said": text,
            }))?;
        } else {
            screen.command(&format!("assent {}", arguments.join(" ")))?;
            screen.checked(done.status.success(), &text)?;
        }
        Ok(done.status.success())
    }
}

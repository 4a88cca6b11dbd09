//! The timeline on the screen, in colour where somebody looks at it.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use serde_json::Value;

use super::folder::Folder;
use super::left::Left;
use super::proof::Proof;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::clock;

/// Whose doing a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Caller,
    Assent,
    Callee,
}

impl Who {
    pub(super) fn name(self) -> &'static str {
        match self {
            Who::Caller => "caller",
            Who::Assent => "assent",
            Who::Callee => "callee",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Who::Caller => "36",
            Who::Assent => "1;32",
            Who::Callee => "35",
        }
    }
}

/// Where the story is told.
#[derive(Debug)]
pub(super) struct Screen<'a> {
    output: &'a mut Output,
    colour: bool,
    began: Instant,
}

impl<'a> Screen<'a> {
    pub(super) fn new(output: &'a mut Output) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let colour = wanted && std::io::stdout().is_terminal();
        Self { output, colour, began: clock::now() }
    }

    /// Whether a program reads along.
    pub(super) fn is_json(&self) -> bool {
        self.output.is_json()
    }

    /// A value for programs.
    pub(super) fn value(&mut self, value: &Value) -> Result<(), Failure> {
        self.output.value(value)?;
        Ok(self.output.finish()?)
    }

    /// Says what this is.
    pub(super) fn begin(&mut self, notice: &str) -> Result<(), Failure> {
        let arrow = self.dim("──▶");
        let (caller, assent, callee) =
            (self.name(Who::Caller), self.name(Who::Assent), self.name(Who::Callee));
        self.note("")?;
        self.note("Assent is a call recorder that cannot record without permission. Here are two")?;
        self.note("calls through it, over real sockets on this machine:")?;
        self.note("")?;
        self.note(&format!("    {caller} {arrow} {assent} {arrow} {callee}"))?;
        self.note("")?;
        self.note("The caller is asked, in a recorded voice:")?;
        self.note("")?;
        for line in wrapped(notice, 72) {
            let line = self.dim(&line);
            self.note(&format!("    {line}"))?;
        }
        self.note("")?;
        self.note("The callee has agreed beforehand. The agent's lines are its events, as they")?;
        self.note("are stored and would go to NATS; their names stand at the end.")
    }

    /// Time counts from here.
    pub(super) fn begin_timeline(&mut self) {
        self.began = clock::now();
    }

    /// A line of the timeline.
    pub(super) fn line(&mut self, who: Who, text: &str, event: &str) -> Result<(), Failure> {
        let at = clock::now().saturating_duration_since(self.began).as_secs_f64();
        let name = self.name(who);
        let lines = wrapped(text, 74);
        let last = lines.len().saturating_sub(1);
        for (index, line) in lines.iter().enumerate() {
            let event = match index == last && !event.is_empty() {
                true => format!("  {}", self.dim(event)),
                false => String::new(),
            };
            let head = match index {
                0 => format!("{at:>6.2} s  {name}"),
                _ => " ".repeat(16),
            };
            self.note(&format!("{head}  {line}{event}"))?;
        }
        Ok(())
    }

    /// A heading of the summary.
    pub(super) fn heading(&mut self, text: &str) -> Result<(), Failure> {
        let text = self.paint("1", text);
        self.note("")?;
        self.note(&text)
    }

    /// A fact of the summary that was checked.
    pub(super) fn checked(&mut self, holds: bool, text: &str) -> Result<(), Failure> {
        let mark = match holds {
            true => self.paint("32", "✓"),
            false => self.paint("31", "✗"),
        };
        let mut lines = wrapped(text, 84).into_iter();
        let first = lines.next().unwrap_or_default();
        self.note(&format!("  {mark} {first}"))?;
        lines.try_for_each(|line| self.note(&format!("    {line}")))
    }

    /// A command as an administrator would type it.
    pub(super) fn command(&mut self, text: &str) -> Result<(), Failure> {
        let text = self.dim(&format!("$ {text}"));
        self.note(&format!("    {text}"))
    }

    /// How it ends: what there is to see, and what this does not show.
    pub(super) fn end(
        &mut self,
        folder: &Folder,
        proof: &Proof<'_>,
        left: &Left,
    ) -> Result<(), Failure> {
        if self.is_json() {
            return self.value(&serde_json::json!({
                "result": "completed",
                "recording": proof.recording.to_string(),
                "withdrawn": left.recording.to_string(),
                "wav": proof.wav,
                "folder": folder.is_kept().then(|| folder.path()),
            }));
        }
        self.heading("In short")?;
        for line in [
            "first call    permitted with 1, recorded from that key on, verified, exported",
            "second call   permitted with 1, taken back with *9: the recording ended with that key, the",
            "              caller's voice was erased, and the evidence of both decisions stays",
        ] {
            self.note(&format!("    {line}"))?;
        }
        self.heading("What there is to see and hear")?;
        self.note(&format!("    {}", Folder::said(&proof.wav)))?;
        self.note("        the recording of the first call: the caller left, the callee right")?;
        if folder.is_kept() {
            self.note(&format!("    {}", Folder::said(folder.path())))?;
            self.note(
                "        configuration, catalog, keys and encrypted segments; look around with",
            )?;
            let config = Folder::said(&folder.config());
            self.command(&format!("export ASSENT_CONFIG={config}"))?;
            let evidence = format!("evidence {}", proof.recording);
            let show = format!("show {}", left.recording);
            for command in ["list", "events", &evidence, &show] {
                self.command(&format!("assent {command}"))?;
            }
        } else {
            self.note("    Everything else is gone with its folder; --keep leaves it to look at.")?;
        }
        self.note("")?;
        self.note(
            "Next: README.md, \"Take a call\" with your own phone, and \"Beside your PBX\":",
        )?;
        self.note("Asterisk, FreePBX, FreeSWITCH, Kamailio, OpenSIPS.")?;
        self.note("")
    }

    /// A line that is nobody's.
    pub(super) fn note(&mut self, text: &str) -> Result<(), Failure> {
        if self.is_json() {
            return Ok(());
        }
        // Not through `Output`, which escapes what colours a line. Nothing here comes from a peer.
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }

    fn name(&self, who: Who) -> String {
        self.paint(who.colour(), who.name())
    }

    fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The text in lines of at most `width` characters, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut();
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrapped("abcdef gh", 3), ["abcdef", "gh"]);
        assert_eq!(wrapped("", 3), [""]);
    }
}

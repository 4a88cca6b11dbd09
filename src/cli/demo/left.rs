//! After the second call: what the caller took back is looked for, and not found.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::commands::Commands;
use super::events::Events;
use super::proof;
use super::screen::Screen;
use crate::cli::failure::Failure;
use crate::ids::{Leg, RecordingId, StreamId};
use crate::segment::format::SegmentName;

/// A recording that a party took back, and what there was of it.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) recording: RecordingId,
    pub(super) folder: PathBuf,
    /// Its files when the permission was taken back.
    pub(super) before: Vec<File>,
}

/// A file of a recording.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// Where the files of a recording are.
pub(super) fn folder(recordings: &Path, recording: RecordingId) -> PathBuf {
    recordings.join(SegmentName::folder(recording))
}

/// The files in a folder, by name; none where there is no such folder.
pub(super) fn files(folder: &Path) -> Vec<File> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<File> = entries
        .map(|entry| File {
            name: entry.file_name().to_string_lossy().into_owned(),
            bytes: entry.metadata().map_or(0, |it| it.len()),
        })
        .collect();
    files.sort();
    files
}

impl Left {
    /// Looks for what was erased, and at what stays; says what it found.
    pub(super) fn show(
        &self,
        commands: &Commands,
        screen: &mut Screen<'_>,
        events: &Events,
    ) -> Result<(), Failure> {
        screen.heading("What is left of the second call")?;
        let mut holds = self.show_files(screen)?;
        holds &= self.show_keys(screen, events)?;
        let id = self.recording.to_string();
        holds &= commands.run(
            screen,
            &["verify", &id],
            "what stays was read back and is whole, and what is gone is known to be erased",
        )?;
        holds &= commands.run(
            screen,
            &["evidence", &id, "--verify"],
            "the receipts of the permission and of its end stay: signed, no link missing",
        )?;
        self.show_receipt(screen, events)?;
        if holds {
            Ok(())
        } else {
            Err(Failure::Found("not everything was erased as it should be".to_owned()))
        }
    }

    fn show_files(&self, screen: &mut Screen<'_>) -> Result<bool, Failure> {
        let now = files(&self.folder);
        let there: Vec<&File> = of(&self.before, Leg::Caller).collect();
        let still: Vec<&File> = of(&now, Leg::Caller).collect();
        let gone = there.iter().any(|file| file.bytes > 0) && still.is_empty();
        let text = match gone {
            true => format!(
                "the caller's voice is gone: when *9 was pressed, it was in {}; now no file has it",
                listed(&there)
            ),
            false => format!(
                "the caller's voice was in {} when *9 was pressed, and is in {} now",
                listed(&there),
                listed(&still)
            ),
        };
        self.tell(screen, "erased-files", gone, &text, &there)?;
        let kept: Vec<&File> = of(&now, Leg::Callee).collect();
        let stays = !kept.is_empty();
        let text = match stays {
            true => format!(
                "the callee's voice up to that key stays, as the callee's own agreement says: {}",
                listed(&kept)
            ),
            false => "the callee's voice, which nobody took back, is gone too".to_owned(),
        };
        self.tell(screen, "kept-files", stays, &text, &kept)?;
        Ok(gone && stays)
    }

    fn show_keys(&self, screen: &mut Screen<'_>, events: &Events) -> Result<bool, Failure> {
        let key = |leg: Leg| {
            let stream = StreamId { recording: self.recording, index: leg.stream() };
            events.reader().wrapped_key(stream)
        };
        let gone = key(Leg::Caller)?.is_none() && key(Leg::Callee)?.is_some();
        let text = match gone {
            true => "the key to the caller's voice is gone from the catalog; the callee's is there",
            false => "the catalog has not just the key to the callee's voice",
        };
        self.tell(screen, "erased-key", gone, text, &[])?;
        Ok(gone)
    }

    fn tell(
        &self,
        screen: &mut Screen<'_>,
        check: &str,
        ok: bool,
        text: &str,
        files: &[&File],
    ) -> Result<(), Failure> {
        if !screen.is_json() {
            return screen.checked(ok, text);
        }
        screen.value(&json!({
            "check": check,
            "recording": self.recording.to_string(),
            "ok": ok,
            "said": text,
            "files": names(files),
        }))
    }

    /// What the receipt of the withdrawal says, in short.
    fn show_receipt(&self, screen: &mut Screen<'_>, events: &Events) -> Result<(), Failure> {
        for record in events.reader().evidence_of(self.recording)? {
            if record.facts()["outcome"] == "withdrawn" {
                proof::receipt(screen, &record, &["Outcome", "it takes back", "Answer"])?;
            }
        }
        Ok(())
    }
}

/// Those of a party's stream.
fn of(files: &[File], leg: Leg) -> impl Iterator<Item = &File> {
    let start = format!("{}-", leg.stream().0);
    files.iter().filter(move |file| file.name.starts_with(&start))
}

fn listed(files: &[&File]) -> String {
    let each: Vec<String> =
        files.iter().map(|file| format!("{} ({} bytes)", file.name, file.bytes)).collect();
    if each.is_empty() { "no file".to_owned() } else { each.join(", ") }
}

fn names(files: &[&File]) -> Value {
    files.iter().map(|file| json!({ "name": file.name, "bytes": file.bytes })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_partys_whose_stream_its_name_says() {
        let file = |name: &str| File { name: name.to_owned(), bytes: 1 };
        let files = [file("0-0.json"), file("0-0.seg"), file("1-0.seg"), file("10-0.seg")];
        let caller: Vec<&File> = of(&files, Leg::Caller).collect();
        assert_eq!(listed(&caller), "0-0.json (1 bytes), 0-0.seg (1 bytes)");
        assert_eq!(of(&files, Leg::Callee).count(), 1);
        assert_eq!(listed(&[]), "no file");
    }
}

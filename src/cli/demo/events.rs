//! The agent's events, read as they are stored.

use std::time::Duration;

use serde_json::{Value, json};

use super::screen::{Screen, Who};
use super::words;
use crate::catalog::Reader;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::ids::RecordingId;

/// How often the events are read.
pub(super) const LOOK: Duration = Duration::from_millis(40);

/// The events of the demonstration's agent.
pub(super) struct Events {
    reader: Reader,
    cursor: u64,
    recording: Option<RecordingId>,
    sealed: Option<(RecordingId, Value)>,
}

impl Events {
    pub(super) fn open(config: &Config) -> Result<Self, Failure> {
        let reader = Reader::open(&config.data)?;
        Ok(Self { reader, cursor: 0, recording: None, sealed: None })
    }

    /// The catalog that they are in.
    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The recording that was spoken of last.
    pub(super) fn recording(&self) -> Option<RecordingId> {
        self.recording
    }

    /// What was told of a recording when it was sealed.
    pub(super) fn sealed(&self, recording: RecordingId) -> Option<&Value> {
        self.sealed.as_ref().filter(|(which, _)| *which == recording).map(|(_, told)| told)
    }

    /// Shows that the agent is ready, before anybody calls: the event is stored soon after it is.
    pub(super) async fn show_first(&mut self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        for _ in 0..25 {
            self.show(screen)?;
            if self.cursor > 0 {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Shows what has been stored since the last time.
    pub(super) fn show(&mut self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        for row in self.reader.outbox_after(self.cursor, 200)? {
            self.cursor = row.sequence;
            let envelope: Value = serde_json::from_str(&row.json).unwrap_or_default();
            let kind = envelope["type"].as_str().unwrap_or_default();
            let kind = kind.trim_start_matches("io.assent.").trim_end_matches(".v1").to_owned();
            let data = &envelope["data"];
            if let Some(recording) = data["recording"].as_str().and_then(|it| it.parse().ok()) {
                self.recording = Some(recording);
                if kind == "recording.sealed" {
                    self.sealed = Some((recording, data.clone()));
                }
            }
            if screen.is_json() {
                screen.value(&json!({ "who": "assent", "event": envelope }))?;
            } else {
                screen.line(Who::Assent, &words::of_event(&kind, data), &kind)?;
            }
        }
        Ok(())
    }
}

//! After the first call: the recording is verified, exported and listened to.

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::commands::Commands;
use super::events::Events;
use super::folder::Folder;
use super::screen::Screen;
use super::setting;
use crate::cli::failure::Failure;
use crate::cli::receipt;
use crate::cli::spoken::Spoken;
use crate::config::Config;
use crate::consent::evidence::Record;
use crate::ids::RecordingId;

/// What is proved, and with which files.
#[derive(Debug)]
pub(super) struct Proof<'a> {
    pub(super) commands: &'a Commands,
    pub(super) recording: RecordingId,
    pub(super) wav: PathBuf,
    /// How long the caller talked before the permission.
    pub(super) before_permission: Duration,
}

/// Less than this part of the full scale is not there.
const INAUDIBLE: f64 = 0.003;
/// More than this is.
const AUDIBLE: f64 = 0.01;

impl Proof<'_> {
    /// Runs the commands, listens to the export, and says what it found.
    pub(super) fn show(
        &self,
        screen: &mut Screen<'_>,
        events: &mut Events,
        sealed: &Value,
    ) -> Result<(), Failure> {
        let mut holds = true;
        screen.heading("The recording of the first call")?;
        let seconds = sealed["duration_ms"].as_u64().unwrap_or(0) as f64 / 1000.0;
        let streams = sealed["streams"].as_array().map_or(0, Vec::len);
        let expires = sealed["expires_at"].as_str().unwrap_or("?").get(..10).unwrap_or("?");
        screen.checked(
            true,
            &format!(
                "{seconds:.1} s, {streams} voices, each in encrypted segments (AES-256-GCM) under \
                 a key of its own; kept until {expires}"
            ),
        )?;
        let id = self.recording.to_string();
        let id = id.as_str();
        holds &= self.commands.run(
            screen,
            &["verify", id],
            "every segment, manifest and evidence record was read back and is whole",
        )?;
        holds &= self.commands.run(
            screen,
            &["evidence", id, "--verify"],
            "the permission receipts are signed, and no link of their chain is missing",
        )?;
        self.show_receipt(screen, events)?;
        let wav = Folder::said(&self.wav);
        // An export never overwrites; this one is the demonstration's own from last time.
        let _ = std::fs::remove_file(&self.wav);
        let exported = self.commands.run(
            screen,
            &["export", id, "--format", "wav", "--out", &wav, "--reason", "demonstration"],
            "exported, decoded and aligned on one clock",
        )?;
        holds &= exported;
        events.show(screen)?;
        if exported {
            holds &= self.listen(screen)?;
        }
        if holds {
            Ok(())
        } else {
            Err(Failure::Found("not everything was as it should be".to_owned()))
        }
    }

    /// What the caller's receipt says, in short.
    fn show_receipt(&self, screen: &mut Screen<'_>, events: &Events) -> Result<(), Failure> {
        for record in events.reader().evidence_of(self.recording)? {
            if record.facts()["leg"] == "caller" {
                let told = ["Outcome", "Basis", "Purposes", "Controller", "Notice", "Answer"];
                receipt(screen, &record, &told)?;
            }
        }
        Ok(())
    }

    /// Finds each voice on its channel, and nothing of what was said before the permission.
    fn listen(&self, screen: &mut Screen<'_>) -> Result<bool, Failure> {
        let channels = read(&self.wav)?;
        let [left, right] = channels.samples.as_slice() else {
            screen.checked(false, "the export has not one channel for each party")?;
            return Ok(false);
        };
        let level = |samples: &[i16], hz| strongest(samples, channels.rate, hz);
        let own =
            level(left, setting::CALLER_HZ) > AUDIBLE && level(right, setting::CALLEE_HZ) > AUDIBLE;
        let apart = level(left, setting::CALLEE_HZ) < INAUDIBLE
            && level(right, setting::CALLER_HZ) < INAUDIBLE;
        let before =
            level(left, setting::BEFORE_HZ).max(level(right, setting::BEFORE_HZ)) < INAUDIBLE;
        if screen.is_json() {
            screen.value(&json!({
                "check": "voices", "recording": self.recording.to_string(), "ok": own && apart,
                "before_permission_seconds": self.before_permission.as_secs_f64(),
            }))?;
            screen.value(&json!({
                "check": "nothing-before-permission", "recording": self.recording.to_string(),
                "ok": before,
            }))?;
            return Ok(own && apart && before);
        }
        let voices = match own && apart {
            true => "the caller's melody is on the left, the callee's on the right",
            false => "the voices are not where they belong",
        };
        screen.checked(own && apart, voices)?;
        let seconds = self.before_permission.as_secs_f64();
        let nothing = match before {
            true => format!(
                "of the {seconds:.1} s that the caller talked before pressing 1, nothing is in it"
            ),
            false => "something is in it that was said before the permission".to_owned(),
        };
        screen.checked(before, &nothing)?;
        Ok(own && apart && before)
    }
}

/// Those lines of a receipt that begin with one of some words.
pub(super) fn receipt(
    screen: &mut Screen<'_>,
    record: &Record,
    told: &[&str],
) -> Result<(), Failure> {
    // The demonstration speaks the prompts that come with the program.
    let spoken = Spoken::of(&Config::default());
    for line in receipt::lines(record, &spoken) {
        if told.iter().any(|words| line.trim_start().starts_with(words)) {
            screen.note(&format!("    {line}"))?;
        }
    }
    Ok(())
}

struct Channels {
    rate: u32,
    samples: Vec<Vec<i16>>,
}

fn read(path: &Path) -> Result<Channels, Failure> {
    let cannot = |why: hound::Error| Failure::Failed(format!("{}: {why}", path.display()));
    let mut wav = hound::WavReader::open(path).map_err(cannot)?;
    let spec = wav.spec();
    let count = usize::from(spec.channels.max(1));
    let mut samples = vec![Vec::new(); count];
    for (n, sample) in wav.samples::<i16>().enumerate() {
        if let Some(channel) = samples.get_mut(n % count) {
            channel.push(sample.map_err(cannot)?);
        }
    }
    Ok(Channels { rate: spec.sample_rate, samples })
}

/// The highest level of a frequency in any fifth of a second (Goertzel), as a part of the full
/// scale.
fn strongest(samples: &[i16], rate: u32, hz: f64) -> f64 {
    let window = (rate / 5).max(1) as usize;
    let step = TAU * hz / f64::from(rate);
    let level = |part: &[i16]| {
        // A Hann window: without it the edges of a loud note spread over all frequencies.
        let mut sums = (0.0, 0.0);
        for (n, sample) in part.iter().enumerate() {
            let weight = 1.0 - (TAU * n as f64 / part.len() as f64).cos();
            let value = f64::from(*sample) * weight;
            sums.0 += value * (step * n as f64).cos();
            sums.1 += value * (step * n as f64).sin();
        }
        2.0 * f64::hypot(sums.0, sums.1) / part.len() as f64 / 32_768.0
    };
    samples.chunks_exact(window).map(level).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64) -> Vec<i16> {
        (0..8000).map(|n| ((TAU * hz * f64::from(n) / 8000.0).sin() * 8000.0) as i16).collect()
    }

    #[test]
    fn a_tone_is_found_and_its_absence_too() {
        let heard = tone(setting::CALLER_HZ);
        assert!(strongest(&heard, 8000, setting::CALLER_HZ) > AUDIBLE);
        assert!(strongest(&heard, 8000, setting::CALLEE_HZ) < INAUDIBLE);
        assert!(strongest(&heard, 8000, setting::BEFORE_HZ) < INAUDIBLE);
    }
}

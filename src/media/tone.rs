//! Tones that are made and not recorded: ringback as the callers of a country know it (ITU-T E.180,
//! supplement 2), the one for who waits, and the one of a recording.

/// The rate that tones are made at, Hz.
pub(super) const RATE: u32 = 8000;

/// The level of each frequency of ringback: about -19 dBm0.
const RINGBACK: u16 = 2600;

/// A tone and its rhythm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cadence {
    frequencies: &'static [u16],
    /// Milliseconds of tone, of silence, of tone…
    rhythm: &'static [u16],
    /// The peak of each frequency, of 16 bits.
    amplitude: u16,
    /// Milliseconds that a tone takes to come and to go.
    fade: u16,
}

impl Cadence {
    const fn ringback(frequencies: &'static [u16], rhythm: &'static [u16]) -> Self {
        Self { frequencies, rhythm, amplitude: RINGBACK, fade: 0 }
    }
}

/// For who waits for the other party: a soft tone that says no more than that the line is alive.
/// About -32 dBm0, every four seconds.
pub(super) const WAITING: Cadence =
    Cadence { frequencies: &[425], rhythm: &[200, 3800], amplitude: 560, fade: 40 };

/// The tone of a recording: about -20 dBm0.
pub(super) const BEEP: Cadence =
    Cadence { frequencies: &[1400], rhythm: &[200], amplitude: 2230, fade: 10 };

/// The rhythms there are. The first is that of every country not named.
pub(super) const CADENCES: [Cadence; 5] = [
    Cadence::ringback(&[425], &[1000, 4000]),
    Cadence::ringback(&[440, 480], &[2000, 4000]),
    Cadence::ringback(&[440], &[1500, 3500]),
    Cadence::ringback(&[425], &[1500, 3000]),
    Cadence::ringback(&[400, 450], &[400, 200, 400, 2000]),
];

/// Which of [`CADENCES`] a locale's country uses.
pub(super) fn cadence_of(locale: &str) -> usize {
    match locale.rsplit(['-', '_']).next().unwrap_or_default().to_ascii_uppercase().as_str() {
        "US" | "CA" | "MX" | "PR" => 1,
        "FR" => 2,
        "ES" => 3,
        "GB" | "IE" | "AU" | "NZ" => 4,
        _ => 0,
    }
}

impl Cadence {
    /// The length of one turn in milliseconds.
    pub(super) fn millis(&self) -> u64 {
        self.rhythm.iter().copied().map(u64::from).sum()
    }

    /// One turn, mono at [`RATE`].
    pub(super) fn samples(&self) -> Vec<i16> {
        let mut out = Vec::new();
        for (turn, millis) in self.rhythm.iter().enumerate() {
            let length = usize::from(*millis) * (RATE as usize / 1000);
            if turn % 2 == 1 {
                out.resize(out.len() + length, 0);
                continue;
            }
            out.extend((0..length).map(|n| {
                let waves = self.frequencies.iter().map(|hz| {
                    let turn = std::f64::consts::TAU * f64::from(*hz) * n as f64;
                    (turn / f64::from(RATE)).sin()
                });
                let fade = usize::from(self.fade) * (RATE as usize / 1000);
                let edge = (n.min(length - 1 - n) + 1) as f64 / (fade + 1) as f64;
                (waves.sum::<f64>() * f64::from(self.amplitude) * edge.min(1.0)) as i16
            }));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_hears_its_own_rhythm() {
        for (locale, first) in
            [("en-US", 2000), ("de-DE", 1000), ("fr-FR", 1500), ("it-IT", 1000), ("en-GB", 400)]
        {
            assert_eq!(CADENCES[cadence_of(locale)].rhythm[0], first, "{locale}");
        }
        assert_eq!(cadence_of(""), 0);
    }

    #[test]
    fn a_turn_is_whole_frames_of_tone_and_then_silence() {
        for cadence in CADENCES {
            let samples = cadence.samples();
            assert_eq!(samples.len() as u64, cadence.millis() * 8);
            assert_eq!(cadence.millis() % 20, 0);
            assert!(samples[..800].iter().any(|s| *s > 1000));
            assert!(samples[samples.len() - 8000..].iter().all(|s| *s == 0));
        }
    }
}

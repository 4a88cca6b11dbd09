//! Finds the tones of keys (ITU-T Q.23) in packets of G.711, so that no recording holds a PIN.
//!
//! A packet is looked at in blocks of 5 ms. Two neighbouring ones hold a key's tone when two
//! sinusoids, one of each group of frequencies, explain nearly all that is in them. 10 ms are as
//! short as that can be told from speech. It is enough: what a tone fills less of, at its ends,
//! are the packets before and after one that it fills, and whoever masks masks those as well.

use std::sync::LazyLock;

use super::g711::Law;

/// Samples in a block.
const BLOCK: usize = 40;

/// Samples that are judged together.
const WINDOW: usize = 2 * BLOCK;

/// Hz.
const RATE: f64 = 8000.0;

/// The frequencies of rows and columns, Hz.
const ROWS: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS: [f64; 4] = [1209.0, 1336.0, 1477.0, 1633.0];

/// Senders may be off by 1.5 % (ITU-T Q.24): each frequency is tried as it should be, and a little
/// beside that.
const PLACES: usize = 3;
const BESIDE: [f64; PLACES] = [1.0, 0.989, 1.011];

/// The lowest mean square of a tone: about -57 dBm0, a few steps of G.711.
const FLOOR: f32 = 500.0;

/// What slopes a tone may have: the mean square from sample to sample, in relation to its own.
const FLATTEST: f32 = 0.2;
const STEEPEST: f32 = 1.7;

/// What two sinusoids of the nominal frequencies explain at least where a closer look is due.
const LIKELY: f32 = 0.4;

/// What two sinusoids have to explain of a tone. Speech hardly ever comes near it; with 0.8 a tone
/// would have to fill 9 ms of its window instead of 8.
const CERTAIN: f32 = 0.7;

/// How much stronger one group may be than the other, in power.
const TWIST: f32 = 20.0;

/// Whether a packet of G.711 holds 10 ms or more of a key's tone.
#[must_use]
pub fn is_key_tone(law: Law, payload: &[u8]) -> bool {
    let tables = &*TABLES;
    let (blocks, _) = payload.as_chunks::<BLOCK>();
    let mut before: Option<Block> = None;
    for bytes in blocks {
        let block = Block::new(law, bytes, tables);
        if let Some(before) = &before
            && let Some((row, column)) = likely(before, &block, tables)
            && is_tone(before, &block, row, column, tables)
        {
            return true;
        }
        before = Some(block);
    }
    false
}

/// 5 ms of a packet.
struct Block {
    samples: [f32; BLOCK],
    energy: f32,
    slope: f32,
    /// What it has in common with a cosine and a sine of each frequency; zero where its slope
    /// says that it is no tone.
    parts: [f32; 16],
}

impl Block {
    fn new(law: Law, bytes: &[u8; BLOCK], tables: &Tables) -> Self {
        let samples = bytes.map(|byte| f32::from(law.decode(byte)));
        let energy = sum(&samples, |sample| sample * sample);
        let slope = match samples.split_first() {
            Some((_, later)) => samples.iter().zip(later).map(|(a, b)| (b - a) * (b - a)).sum(),
            None => 0.0,
        };
        let mut parts = [0.0; 16];
        if may_be_tone(energy, slope, BLOCK) {
            for (sample, waves) in samples.iter().zip(&tables.waves) {
                for (part, wave) in parts.iter_mut().zip(waves) {
                    *part += sample * wave;
                }
            }
        }
        Self { samples, energy, slope, parts }
    }
}

/// A first look, as if frequencies did not disturb one another: the strongest row and column, where
/// there may be a tone.
fn likely(first: &Block, second: &Block, tables: &Tables) -> Option<(usize, usize)> {
    let energy = first.energy + second.energy;
    if !may_be_tone(energy, first.slope + second.slope, WINDOW) {
        return None;
    }
    let (first, _) = first.parts.as_chunks::<2>();
    let (second, _) = second.parts.as_chunks::<2>();
    let mut powers = [0.0f32; 8];
    for (power, ((a, b), turn)) in
        powers.iter_mut().zip(first.iter().zip(second).zip(&tables.turns))
    {
        let cosine = a[0] + b[0] * turn[0] - b[1] * turn[1];
        let sine = a[1] + b[0] * turn[1] + b[1] * turn[0];
        *power = cosine * cosine + sine * sine;
    }
    let (rows, columns) = powers.split_at(4);
    let ((row, in_row), (column, in_column)) = (strongest(rows)?, strongest(columns)?);
    let explained = (in_row + in_column) * 2.0 / WINDOW as f32;
    (explained >= LIKELY * energy).then_some((row, column))
}

fn strongest(powers: &[f32]) -> Option<(usize, f32)> {
    powers.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))
}

/// The closer look: a least-squares fit of both sinusoids at once, for each place that the two
/// frequencies may be at.
fn is_tone(first: &Block, second: &Block, row: usize, column: usize, tables: &Tables) -> bool {
    let energy = first.energy + second.energy;
    let (Some(rows), Some(columns), Some(fits)) =
        (tables.rows.get(row), tables.columns.get(column), tables.fits.get(row * 4 + column))
    else {
        return false;
    };
    rows.iter().zip(fits).any(|(row, fits)| {
        let row = shared(first, second, row);
        columns.iter().zip(fits).any(|(column, fit)| {
            let column = shared(first, second, column);
            let shared = [row[0], row[1], column[0], column[1]];
            let [a, b, c, d] = fit.map(|line| dot(&line, &shared));
            let (in_row, in_column) = (a * a + b * b, c * c + d * d);
            dot(&[a, b, c, d], &shared) >= CERTAIN * energy
                && in_row <= TWIST * in_column
                && in_column <= TWIST * in_row
        })
    })
}

/// What the two blocks have in common with a cosine and a sine.
fn shared(first: &Block, second: &Block, wave: &Wave) -> [f32; 2] {
    let samples = first.samples.iter().chain(&second.samples);
    samples.zip(&wave.0).fold([0.0; 2], |[cosine, sine], (sample, wave)| {
        [cosine + sample * wave[0], sine + sample * wave[1]]
    })
}

fn may_be_tone(energy: f32, slope: f32, samples: usize) -> bool {
    energy >= FLOOR * samples as f32 && slope >= FLATTEST * energy && slope <= STEEPEST * energy
}

fn sum(samples: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    samples.iter().map(|sample| of(*sample)).sum()
}

fn dot(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Cosine and sine, sample by sample.
struct Wave([[f32; 2]; WINDOW]);

struct Tables {
    /// By sample: cosine and sine of each frequency.
    waves: [[f32; 16]; BLOCK],
    /// By frequency: how far it turns within a block.
    turns: [[f32; 2]; 8],
    /// By frequency and place.
    rows: [[Wave; PLACES]; 4],
    columns: [[Wave; PLACES]; 4],
    /// By row and column, and the place of each: from what is shared with the four waves to their
    /// amplitudes, the inverse of the normal equations' matrix.
    fits: [[[[[f32; 4]; 4]; PLACES]; PLACES]; 16],
}

static TABLES: LazyLock<Box<Tables>> = LazyLock::new(|| Box::new(Tables::new()));

impl Tables {
    fn new() -> Self {
        let frequency = |n: usize| ROWS.iter().chain(&COLUMNS).nth(n).copied().unwrap_or(0.0);
        let at = |hz: f64, n: usize| {
            let (sine, cosine) = (std::f64::consts::TAU * hz * n as f64 / RATE).sin_cos();
            [cosine as f32, sine as f32]
        };
        let waves = std::array::from_fn(|n| {
            std::array::from_fn(|part| {
                at(frequency(part / 2), n).into_iter().nth(part % 2).unwrap_or(0.0)
            })
        });
        let turns = std::array::from_fn(|f| at(frequency(f), BLOCK));
        let wave = |hz: f64| Wave(std::array::from_fn(|n| at(hz, n)));
        let placed = |hz: f64| -> [Wave; PLACES] { BESIDE.map(|factor| wave(hz * factor)) };
        let (rows, columns) = (ROWS.map(placed), COLUMNS.map(placed));
        let mut fits = [[[[[0.0; 4]; 4]; PLACES]; PLACES]; 16];
        let pairs = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
        for (fit, (row, column)) in fits.iter_mut().zip(pairs) {
            for (fit, row) in fit.iter_mut().zip(row) {
                for (fit, column) in fit.iter_mut().zip(column) {
                    *fit = fitting(row, column);
                }
            }
        }
        Self { waves, turns, rows, columns, fits }
    }
}

/// The inverse of the matrix of what each of four waves shares with each.
fn fitting(row: &Wave, column: &Wave) -> [[f32; 4]; 4] {
    let mut matrix = [[0.0f64; 8]; 4];
    for (row, column) in row.0.iter().zip(&column.0) {
        let waves = [row[0], row[1], column[0], column[1]].map(f64::from);
        for (line, a) in matrix.iter_mut().zip(waves) {
            line.iter_mut().zip(waves).for_each(|(cell, b)| *cell += a * b);
        }
    }
    for (n, line) in matrix.iter_mut().enumerate() {
        line.iter_mut().skip(4 + n).take(1).for_each(|cell| *cell = 1.0);
    }
    // Gauss and Jordan. The matrix is symmetric and positive definite: no pivot is zero.
    for n in 0..4 {
        let Some(mut pivot) = matrix.get(n).copied() else { continue };
        let by = pivot.get(n).copied().unwrap_or(1.0);
        pivot.iter_mut().for_each(|cell| *cell /= by);
        for (m, line) in matrix.iter_mut().enumerate() {
            let factor = line.get(n).copied().unwrap_or(0.0);
            if m == n {
                *line = pivot;
            } else {
                line.iter_mut().zip(pivot).for_each(|(cell, p)| *cell -= factor * p);
            }
        }
    }
    matrix.map(|line| [line[4], line[5], line[6], line[7]].map(|cell| cell as f32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::resample;

    const LAWS: [Law; 2] = [Law::Mu, Law::A];

    /// 0 dBm0 as a sine's peak.
    const REFERENCE: f64 = 22_300.0;

    fn sines(waves: &[(f64, f64, f64)], n: usize) -> f64 {
        let turn = std::f64::consts::TAU * n as f64 / RATE;
        waves.iter().map(|(hz, peak, phase)| (turn * hz + phase).sin() * peak).sum()
    }

    fn packet(law: Law, from: usize, of: impl Fn(usize) -> f64) -> Vec<u8> {
        (from..from + 160).map(|n| law.encode(of(n) as i16)).collect()
    }

    /// A key's two sines: the louder one so many dBm0, the row so many dB above the column.
    fn key(key: usize, level: f64, twist: f64, phases: (f64, f64)) -> [(f64, f64, f64); 2] {
        let peak = |below: f64| REFERENCE * 10f64.powf((level - below) / 20.0);
        let (row, column) = (peak((-twist).max(0.0)), peak(twist.max(0.0)));
        [(ROWS[key / 4], row, phases.0), (COLUMNS[key % 4], column, phases.1)]
    }

    #[test]
    fn every_key_is_found_where_it_fills_nine_milliseconds_of_a_packet_at_either_end() {
        for law in LAWS {
            for n in 0..16 {
                let waves = key(n, -10.0, 2.0, (1.0, 2.0));
                for filled in 72..=160 {
                    let start = packet(law, 0, |n| if n < filled { sines(&waves, n) } else { 0.0 });
                    let end =
                        packet(law, 0, |n| if n >= 160 - filled { sines(&waves, n) } else { 0.0 });
                    assert!(is_key_tone(law, &start), "{law:?} key {n}, first {filled}");
                    assert!(is_key_tone(law, &end), "{law:?} key {n}, last {filled}");
                }
            }
        }
    }

    #[test]
    fn the_sounds_of_a_telephone_line_are_no_keys() {
        let others: [&[f64]; 11] = [
            &[],
            &[425.0],
            &[350.0, 440.0],
            &[440.0, 480.0],
            &[480.0, 620.0],
            &[1400.0],
            &[950.0, 1800.0],
            &[1100.0],
            &[2100.0],
            &[697.0],
            &[1209.0, 1477.0],
        ];
        for law in LAWS {
            for hertz in others {
                let waves: Vec<_> = hertz.iter().map(|hz| (*hz, 5000.0, 0.3)).collect();
                for from in (0..1600).step_by(37) {
                    let heard = packet(law, from, |n| sines(&waves, n));
                    assert!(!is_key_tone(law, &heard), "{law:?} {hertz:?} from {from}");
                }
            }
        }
    }

    /// Every prompt that comes with the program: minutes of speech in five languages.
    #[test]
    fn speech_is_hardly_ever_taken_for_a_key() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("prompts");
        let (mut packets, mut found) = (0u32, 0u32);
        for locale in std::fs::read_dir(folder).unwrap().flatten() {
            let Ok(files) = std::fs::read_dir(locale.path()) else { continue };
            for file in files.flatten() {
                let mut reader = hound::WavReader::open(file.path()).unwrap();
                let samples: Vec<i16> = reader.samples().map(Result::unwrap).collect();
                let samples = resample(&samples, reader.spec().sample_rate, 8000).unwrap();
                for frame in samples.chunks_exact(160) {
                    let power = frame.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / 160.0;
                    // Pauses are not speech.
                    if power > 10_000.0 {
                        packets += 1;
                        let payload: Vec<u8> = frame.iter().map(|s| Law::A.encode(*s)).collect();
                        found += u32::from(is_key_tone(Law::A, &payload));
                    }
                }
            }
        }
        assert!(packets > 9000, "{packets} packets of speech");
        // One that is found costs three.
        let share = f64::from(found * 3) / f64::from(packets);
        assert!(share < 0.002, "{found} of {packets}");
    }

    #[test]
    fn payloads_of_any_length_are_looked_at() {
        let waves = key(5, -10.0, 0.0, (0.0, 0.0));
        let tone: Vec<u8> = (0..480).map(|n| Law::Mu.encode(sines(&waves, n) as i16)).collect();
        for length in 0..=480 {
            assert_eq!(is_key_tone(Law::Mu, &tone[..length]), length >= WINDOW);
        }
    }

    proptest! {
        #[test]
        fn a_packet_full_of_a_tone_is_found_however_it_is_sent(
            n in 0..16usize, level in -45.0..0.0f64, twist in -9.0..9.0f64,
            row in 0.0..6.3f64, column in 0.0..6.3f64, from in 0..8000usize,
            off in prop::array::uniform2(-0.015..0.015f64),
        ) {
            let mut waves = key(n, level.min(-3.2), twist, (row, column));
            waves[0].0 *= 1.0 + off[0];
            waves[1].0 *= 1.0 + off[1];
            for law in LAWS {
                prop_assert!(is_key_tone(law, &packet(law, from, |n| sines(&waves, n))));
            }
        }

        #[test]
        fn any_bytes_at_all_are_looked_at(payload: Vec<u8>) {
            for law in LAWS {
                let _ = is_key_tone(law, &payload);
            }
        }

        #[test]
        fn noise_is_no_key(noise in prop::collection::vec(any::<u8>(), 160)) {
            prop_assert!(!is_key_tone(Law::Mu, &noise));
        }
    }
}

//! Keys to press: `1@4s` as people write it, and the telephone-events of RFC 4733.

use std::str::FromStr;
use std::time::Duration;

/// A key, and when it is pressed: this long after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Press {
    /// `0`-`9`, `*`, `#`, `A`-`D`.
    pub key: char,
    /// Since the answer.
    pub at: Duration,
}

/// Why a text is no [`Press`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a key and a time: write for example 1@4s or *@500ms")]
pub struct BadPress(pub String);

impl FromStr for Press {
    type Err = BadPress;

    fn from_str(text: &str) -> Result<Self, BadPress> {
        let bad = || BadPress(text.to_owned());
        let (key, at) = text.split_once('@').ok_or_else(bad)?;
        let mut keys = key.chars();
        let (Some(key), None) = (keys.next(), keys.next()) else { return Err(bad()) };
        let key = key.to_ascii_uppercase();
        event_code(key).ok_or_else(bad)?;
        let at = span_from_text(at).ok_or_else(bad)?;
        Ok(Self { key, at })
    }
}

/// Reads `4s`, `1.5s`, `500ms` or `2m`; at most a day.
#[must_use]
pub fn span_from_text(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => match text.strip_suffix('s') {
            Some(number) => (number, 1.0),
            None => (text.strip_suffix('m')?, 60.0),
        },
    };
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let span = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()?;
    (span <= Duration::from_secs(86_400)).then_some(span)
}

/// The event code of a key (RFC 4733, table 3).
pub(super) fn event_code(key: char) -> Option<u8> {
    match key {
        '0'..='9' => u8::try_from(key.to_digit(10)?).ok(),
        '*' => Some(10),
        '#' => Some(11),
        'A' => Some(12),
        'B' => Some(13),
        'C' => Some(14),
        'D' => Some(15),
        _ => None,
    }
}

/// The key of an event code.
pub(super) fn key_of(code: u8) -> Option<char> {
    const KEYS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D'];
    KEYS.get(usize::from(code)).copied()
}

/// How many packets of 20 ms a key is held for.
const HELD_FOR: u16 = 5;
/// How often the end of a key is told (RFC 4733, 2.5.1.4).
const ENDS: u16 = 3;

/// A key while it is held: one packet every 20 ms.
#[derive(Clone, Debug)]
pub(super) struct HeldKey {
    code: u8,
    step: u16,
    /// Timestamp units in 20 ms.
    tick: u16,
}

impl HeldKey {
    /// Starts to hold a key; `clock_rate` in Hz.
    pub(super) fn new(key: char, clock_rate: u32) -> Option<Self> {
        let tick = u16::try_from(clock_rate / 50).unwrap_or(u16::MAX);
        Some(Self { code: event_code(key)?, step: 0, tick })
    }

    /// Whether the next packet is the first one: it carries the marker.
    pub(super) fn begins(&self) -> bool {
        self.step == 0
    }

    /// The payloads for the next 20 ms; the end comes three times at once. `None` when the key is
    /// up.
    pub(super) fn next(&mut self) -> Option<Vec<[u8; 4]>> {
        if self.step > HELD_FOR {
            return None;
        }
        self.step += 1;
        let ends = self.step > HELD_FOR;
        let duration = self.tick.saturating_mul(self.step).to_be_bytes();
        // Volume: 10 below full, in the low six bits (RFC 4733, 2.3.3).
        let volume = if ends { 0x80 | 10 } else { 10 };
        let payload = [self.code, volume, duration[0], duration[1]];
        let times = if ends { usize::from(ENDS) } else { 1 };
        Some(vec![payload; times])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_is_a_key_and_a_time() {
        let press = |text: &str| text.parse::<Press>().map(|p| (p.key, p.at.as_millis()));
        assert_eq!(press("1@4s"), Ok(('1', 4000)));
        assert_eq!(press("*@500ms"), Ok(('*', 500)));
        assert_eq!(press("a@1.5s"), Ok(('A', 1500)));
        assert_eq!(press("#@2m"), Ok(('#', 120_000)));
        for bad in ["", "1", "1@", "@1s", "11@1s", "x@1s", "1@-1s", "1@1", "1@infs", "1@99999m"] {
            assert!(press(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_held_key_ends_three_times() {
        let mut held = HeldKey::new('#', 8000).unwrap();
        assert!(held.begins());
        let mut packets = Vec::new();
        while let Some(more) = held.next() {
            packets.extend(more);
        }
        assert_eq!(packets.len(), 8);
        assert!(packets.iter().all(|p| p[0] == 11));
        assert_eq!(packets[0], [11, 10, 0, 160]);
        assert!(packets[..5].iter().all(|p| p[1] & 0x80 == 0));
        assert!(packets[5..].iter().all(|p| p[1] & 0x80 != 0 && p[2..] == [3, 192]));
    }

    #[test]
    fn codes_and_keys_are_each_others_inverse() {
        for code in 0..16 {
            assert_eq!(key_of(code).and_then(event_code), Some(code));
        }
        assert_eq!(key_of(16), None);
    }
}

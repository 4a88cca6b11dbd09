//! Keys that mean something one after another, such as `*9`, matched at any time of a call.
//!
//! The same matcher runs where packets arrive, so that capture stops with the packet of the last
//! key, and in the permission machine, which decides what follows.

use std::time::{Duration, Instant};

/// Keys that are further apart do not belong together.
pub(crate) const TOGETHER_WITHIN: Duration = Duration::from_secs(3);

/// No sequence is longer.
pub(crate) const LONGEST: usize = 8;

/// The last keys of one party.
#[derive(Clone, Debug, Default)]
pub struct Keypad {
    /// Oldest first.
    typed: [Option<char>; LONGEST],
    last: Option<Instant>,
}

impl Keypad {
    /// Takes a key, and says which of `sequences` ends with it: the index of the longest one.
    /// The keys of a sequence that was completed belong to no other one.
    pub fn press<'a>(
        &mut self,
        at: Instant,
        key: char,
        sequences: impl IntoIterator<Item = &'a str>,
    ) -> Option<usize> {
        if self.last.is_some_and(|last| at.saturating_duration_since(last) > TOGETHER_WITHIN) {
            self.typed = [None; LONGEST];
        }
        self.last = Some(at);
        self.typed.rotate_left(1);
        if let Some(newest) = self.typed.last_mut() {
            *newest = Some(key);
        }
        let complete = sequences
            .into_iter()
            .enumerate()
            .filter(|(_, sequence)| self.ends_with(sequence))
            .max_by_key(|(_, sequence)| sequence.len())
            .map(|(index, _)| index);
        if complete.is_some() {
            self.typed = [None; LONGEST];
        }
        complete
    }

    fn ends_with(&self, sequence: &str) -> bool {
        let mut typed = self.typed.iter().rev();
        !sequence.is_empty() && sequence.chars().rev().all(|key| typed.next() == Some(&Some(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types keys a second apart.
    fn typed(keys: &str, sequences: &[&str]) -> Vec<Option<usize>> {
        let (mut keypad, mut at) = (Keypad::default(), Instant::now());
        keys.chars()
            .map(|key| {
                at += Duration::from_secs(1);
                keypad.press(at, key, sequences.iter().copied())
            })
            .collect()
    }

    #[test]
    fn a_sequence_is_complete_with_its_last_key_whatever_came_before() {
        assert_eq!(typed("*9", &["*9", "*7"]), [None, Some(0)]);
        assert_eq!(typed("123*7", &["*9", "*7"]), [None, None, None, None, Some(1)]);
        assert_eq!(typed("**9", &["*9"]), [None, None, Some(0)]);
        assert_eq!(typed("*5*9", &["*9"]), [None, None, None, Some(0)]);
    }

    #[test]
    fn keys_in_the_wrong_order_or_with_one_between_are_none() {
        assert_eq!(typed("9*", &["*9"]), [None, None]);
        assert_eq!(typed("*19", &["*9"]), [None, None, None]);
        assert_eq!(typed("9", &["*9"]), [None]);
        assert_eq!(typed("*9", &[""]), [None, None]);
    }

    #[test]
    fn the_keys_of_a_complete_sequence_are_used_up() {
        assert_eq!(typed("*9*9", &["*9*9", "*9"]), [None, Some(1), None, Some(1)]);
        assert_eq!(typed("##", &["#"]), [Some(0), Some(0)]);
    }

    #[test]
    fn the_longest_sequence_wins() {
        assert_eq!(typed("1*9", &["*9", "1*9"]), [None, None, Some(1)]);
    }

    #[test]
    fn keys_too_far_apart_do_not_belong_together() {
        let (mut keypad, start) = (Keypad::default(), Instant::now());
        assert_eq!(keypad.press(start, '*', ["*9"]), None);
        let late = start + TOGETHER_WITHIN + Duration::from_millis(1);
        assert_eq!(keypad.press(late, '9', ["*9"]), None);
        assert_eq!(keypad.press(late, '*', ["*9"]), None);
        assert_eq!(keypad.press(late + TOGETHER_WITHIN, '9', ["*9"]), Some(0));
    }
}

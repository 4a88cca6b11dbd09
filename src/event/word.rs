//! A short text in an event that did not come from a peer.

use std::fmt;

use serde::Serialize;

/// A name from the configuration or from this program: a policy, a purpose, a codec, a component.
///
/// At most 128 characters, none of them a control character, and never seven digits in a row: a
/// phone number that slips in is masked, since an event cannot be called back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Word(String);

/// The shortest run of digits that is taken for a number.
const NUMBER: usize = 7;
const LONGEST: usize = 128;

impl Word {
    /// Takes a text, with what an event may not hold replaced by `…`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut word = String::new();
        let mut digits = String::new();
        for c in text.chars().take(LONGEST) {
            if c.is_numeric() {
                digits.push(c);
                continue;
            }
            settle(&mut word, &mut digits);
            word.push(if c.is_control() { '…' } else { c });
        }
        settle(&mut word, &mut digits);
        Self(word)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn settle(word: &mut String, digits: &mut String) {
    if digits.chars().count() >= NUMBER {
        word.push('…');
    } else {
        word.push_str(digits);
    }
    digits.clear();
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_never_gets_through_as_a_word() {
        assert_eq!(Word::new("+4930123456").as_str(), "+…");
        assert_eq!(Word::new("to 1234567, please").as_str(), "to …, please");
        assert_eq!(Word::new("employee-agreement-2026").as_str(), "employee-agreement-2026");
    }

    #[test]
    fn a_word_is_one_short_line() {
        assert_eq!(Word::new("a\nb\u{1b}[2J").as_str(), "a…b…[2J");
        assert!(Word::new(&"x".repeat(10_000)).as_str().len() <= 128);
    }
}

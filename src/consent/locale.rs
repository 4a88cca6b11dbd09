//! In which locale a party is spoken to.
//!
//! What the header names that the policy reads goes first, then what the route says, then the
//! beginning of the party's number, then the policy's `*`.

use crate::consent::policy::Policy;
use crate::ids::Leg;

/// Of a longer header nothing is read.
const MAX_HEADER_BYTES: usize = 256;

/// What is known of a party's language besides their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints<'a> {
    /// What the header says that the policy reads for this party.
    pub header: Option<&'a [u8]>,
    /// What the route says.
    pub route: Option<&'a str>,
}

/// Why a party is spoken to in a locale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The header names it.
    Header,
    /// The route says so.
    Route,
    /// The number begins so, or begins like no other.
    Number,
}

impl Policy {
    /// The locale for the party of this number, and why.
    #[must_use]
    pub fn locale_of(&self, number: &str, hints: Hints<'_>) -> (String, Because) {
        if let Some(named) = hints.header.and_then(named) {
            return (named, Because::Header);
        }
        match hints.route {
            Some(route) => (route.to_owned(), Because::Route),
            None => (self.locale_for(number).to_owned(), Because::Number),
        }
    }

    /// The header that names the locale of the party on `leg`, if the policy reads one.
    #[must_use]
    pub fn locale_header(&self, leg: Leg) -> Option<&str> {
        self.locale_header.of(leg)
    }
}

/// The locale that a header names first, as prompts are named: `de-at;q=0.8, en` is `de-AT`.
/// `None` when it names none.
fn named(value: &[u8]) -> Option<String> {
    let value = value.get(..MAX_HEADER_BYTES).unwrap_or(value);
    let first = value.split(|byte| matches!(byte, b',' | b';')).next()?;
    normalised(std::str::from_utf8(first).ok()?.trim())
}

/// A language with a region or without, in the case that prompts are named in. `None` for
/// anything else.
#[must_use]
pub fn normalised(text: &str) -> Option<String> {
    let letters = |text: &str, most: usize| {
        (2..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphabetic())
    };
    let (language, region) = match text.split_once(['-', '_']) {
        Some((language, region)) => (language, Some(region)),
        None => (text, None),
    };
    if !letters(language, 3) {
        return None;
    }
    let language = language.to_ascii_lowercase();
    match region {
        None => Some(language),
        Some(region) if letters(region, 2) => {
            Some(format!("{language}-{}", region.to_ascii_uppercase()))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::tests::policy;

    #[test]
    fn a_locale_is_read_in_any_case_and_is_never_a_path() {
        for (text, locale) in
            [("de-AT", "de-AT"), ("de-at", "de-AT"), ("DE_de", "de-DE"), ("fr", "fr")]
        {
            assert_eq!(normalised(text).as_deref(), Some(locale), "{text}");
        }
        for bad in ["", "d", "deutsch", "de-", "de-ATX", "de-4x", "../etc", "de-AT-1996", "*", "ä"]
        {
            assert_eq!(normalised(bad), None, "{bad}");
        }
    }

    #[test]
    fn header_then_route_then_number_then_the_rest() {
        let mut policy = policy();
        policy.locale =
            [("*", "en-US"), ("+49", "de-DE")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let of = |number: &str, header: Option<&str>, route: Option<&str>| {
            let hints = Hints { header: header.map(str::as_bytes), route };
            policy.locale_of(number, hints)
        };
        let because = |locale: &str, because| (locale.to_owned(), because);
        assert_eq!(
            of("+4930", Some("fr-ch, de"), Some("it-IT")),
            because("fr-CH", Because::Header)
        );
        assert_eq!(of("+4930", Some("*"), Some("it-IT")), because("it-IT", Because::Route));
        assert_eq!(of("+4930", Some("nonsense"), None), because("de-DE", Because::Number));
        assert_eq!(of("+1", None, None), because("en-US", Because::Number));
    }

    #[test]
    fn a_hostile_header_names_nothing() {
        for bad in [&b"\xff\xfe"[..], &[b'a'; 10_000], b"", b",,,", b";q=1"] {
            assert_eq!(named(bad), None);
        }
        assert_eq!(named(b"de-AT;q=0.7, en"), Some("de-AT".to_owned()));
    }
}

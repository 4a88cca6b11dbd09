//! Which route a call takes. The first one that matches, in the order of the file.

use std::net::IpAddr;
use std::sync::Arc;

use crate::call::message::Headers;
use crate::config::next_hop::NextHops;
use crate::consent::policy::{ByLeg, Policy};
use crate::network::Network;

/// `[[route]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its place in the file, from 1.
    pub number: usize,
    /// Which calls it takes.
    pub matches: Match,
    /// What happens to them.
    pub mode: Mode,
    /// Under which policy, unless a stricter one fits the call.
    pub policy: Arc<Policy>,
    /// Whether each stream holds one party's voice.
    pub streams: Streams,
    /// In which locale its parties are spoken to; else it follows from their numbers.
    pub locale: ByLeg,
}

/// Whether each party's stream holds that party's voice alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// It does.
    Separate,
    /// An endpoint may echo the other side into its own stream, as a conference bridge or a
    /// loudspeaker does: whatever the policy says, its scope is `all`.
    Mixed,
}

/// How Assent takes part in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A B2BUA that dials the other leg.
    Inline {
        /// Where that leg goes.
        next_hops: NextHops,
    },
    /// The far end of the call.
    Endpoint,
}

impl Mode {
    /// As configuration and events write it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Mode::Inline { .. } => "inline",
            Mode::Endpoint => "endpoint",
        }
    }
}

/// `match = { … }`: everything that is named must fit; what is not named always fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// One of these fits the caller's number. Empty: any.
    pub from: Vec<Pattern>,
    /// One of these fits the called number. Empty: any.
    pub to: Vec<Pattern>,
    /// One of these networks holds the address that the INVITE came from. Empty: any.
    pub peer: Vec<Network>,
    /// The direction that the PBX states.
    pub direction: Option<CallDirection>,
    /// Each of these headers is there with a value that fits.
    pub header: Vec<HeaderMatch>,
}

/// The direction of a call as the PBX sees it. The PBX says so in the header
/// `X-Assent-Direction: inbound` or `outbound`; a call without it is inbound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallDirection {
    /// From outside.
    Inbound,
    /// To the outside.
    Outbound,
}

impl CallDirection {
    /// The direction that the headers of an INVITE state.
    #[must_use]
    pub fn of(headers: &Headers) -> Self {
        match headers.first("X-Assent-Direction") {
            Some(value) if value.trim_ascii().eq_ignore_ascii_case(b"outbound") => Self::Outbound,
            _ => Self::Inbound,
        }
    }

    /// As configuration and events write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// A header and what its value must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// The header's name, in any case.
    pub name: String,
    /// `*` fits any value: the header only has to be there.
    pub value: Pattern,
}

/// A text in which `*` stands for any run of characters and `?` for any one of them. Case counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Any text is a pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole text fits. Takes time in proportion to both lengths multiplied, at
    /// most, whatever the text.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let text: Vec<char> = text.chars().collect();
        let (mut p, mut t) = (0, 0);
        // Where the last `*` stood, and where the text was that it swallows up to.
        let mut star: Option<(usize, usize)> = None;
        while let Some(&have) = text.get(t) {
            match pattern.get(p) {
                Some('*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(&want) if want == '?' || want == have => {
                    p += 1;
                    t += 1;
                }
                _ => match star {
                    Some((star_p, star_t)) => {
                        star = Some((star_p, star_t + 1));
                        p = star_p + 1;
                        t = star_t + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
    }
}

/// A policy that says which calls it fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyMatch {
    /// Which.
    pub matches: Match,
    /// The policy.
    pub policy: Arc<Policy>,
}

/// What is known of a call before its route is.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// The user part of `From`.
    pub from: &'a str,
    /// The user part of the Request-URI.
    pub to: &'a str,
    /// Where the INVITE came from.
    pub peer: IpAddr,
    /// Its headers.
    pub headers: &'a Headers,
}

/// The first route that fits; `None` when the call has nowhere to go (404).
#[must_use]
pub fn select<'r>(routes: &'r [Route], call: &Offered<'_>) -> Option<&'r Route> {
    routes.iter().find(|route| route.matches.fits(call))
}

impl Match {
    /// Whether a call fits.
    #[must_use]
    pub fn fits(&self, call: &Offered<'_>) -> bool {
        let any = |patterns: &[Pattern], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.fits(text))
        };
        any(&self.from, call.from)
            && any(&self.to, call.to)
            && (self.peer.is_empty() || self.peer.iter().any(|cidr| cidr.contains(call.peer)))
            && self.direction.is_none_or(|want| want == CallDirection::of(call.headers))
            && self.header.iter().all(|header| {
                call.headers
                    .all(&header.name)
                    .any(|value| header.value.fits(String::from_utf8_lossy(value).trim()))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_takes_any_run_and_a_question_mark_one_character() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("*", "+4930", true),
            ("+49*", "+4930", true),
            ("+49*", "+4", false),
            ("+49*", "0+49", false),
            ("1??", "123", true),
            ("1??", "12", false),
            ("*9", "99", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "", true),
            ("", "1", false),
            ("100", "100", true),
            ("100", "1000", false),
            ("ä*", "äö", true),
        ] {
            assert_eq!(Pattern::new(pattern).fits(text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_text_does_not_make_matching_slow() {
        let pattern = Pattern::new("*a*a*a*a*a*a*a*a*b");
        assert!(!pattern.fits(&"a".repeat(2000)));
    }

    fn fits(matches: &Match, from: &str, to: &str, peer: &str, headers: &Headers) -> bool {
        matches.fits(&Offered { from, to, peer: peer.parse().unwrap(), headers })
    }

    #[test]
    fn everything_that_is_named_must_fit() {
        let matches = Match {
            from: vec![Pattern::new("+49*"), Pattern::new("+43*")],
            to: vec![Pattern::new("2??")],
            peer: vec!["10.0.0.0/8".parse().unwrap()],
            direction: Some(CallDirection::Outbound),
            header: vec![HeaderMatch { name: "X-Queue".into(), value: Pattern::new("sales*") }],
        };
        let headers = Headers::new()
            .with("x-queue", &b" sales-1"[..])
            .with("X-Assent-Direction", &b"OUTBOUND"[..]);
        assert!(fits(&matches, "+4930", "201", "10.1.1.1", &headers));
        assert!(fits(&matches, "+431", "201", "10.1.1.1", &headers));
        assert!(!fits(&matches, "+1", "201", "10.1.1.1", &headers));
        assert!(!fits(&matches, "+4930", "301", "10.1.1.1", &headers));
        assert!(!fits(&matches, "+4930", "201", "11.1.1.1", &headers));
        assert!(!fits(&matches, "+4930", "201", "10.1.1.1", &Headers::new()));
        let inbound = Headers::new().with("X-Queue", &b"sales"[..]);
        assert!(!fits(&matches, "+4930", "201", "10.1.1.1", &inbound));
    }

    #[test]
    fn nothing_named_fits_every_call() {
        assert!(fits(&Match::default(), "", "", "::1", &Headers::new()));
    }
}

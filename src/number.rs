//! Who somebody is on the telephone network: a SIP or tel URI, normalised so that the same person
//! has the same name wherever they appear.
//!
//! | what arrives | becomes |
//! |---|---|
//! | `sip:+493012345@pbx;user=phone`, `tel:+49-30-123-45`, `+49 (30) 12345` | `+493012345` |
//! | `sip:101@10.0.0.5:5060`, `tel:101;phone-context=example.com`, `*61` | `101`, `*61` |
//! | `sip:Alice@Example.com:5061;transport=tls` | `sip:alice@example.com` |
//! | `sip:anonymous@anonymous.invalid`, an empty user, a control character | nobody |
//!
//! A number is E.164 only when it starts with `+`: what `00`, `011` or a national prefix mean is
//! known to the PBX alone, which should send `+`. Dialled digits without it are kept as they are,
//! without a host, since the host is the PBX's and changes with its address.
//!
//! Whoever cannot be named (RFC 3323) gets a name that is theirs for this one call
//! ([`PartyNumber::unnamed`]), so that two anonymous callers never look like one person.

use std::fmt;

use crate::ids::{CallId, Leg, Pii};

/// The longest URI that names somebody, in bytes.
pub const MAX_BYTES: usize = 256;

/// The most digits of an E.164 number.
const MAX_E164_DIGITS: usize = 15;

/// A party's normalised number or address. Does not print: see [`PartyNumber::expose`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PartyNumber {
    text: Pii<String>,
    kind: NumberKind,
}

/// What kind of name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberKind {
    /// `+` and up to 15 digits (ITU-T E.164).
    E164,
    /// Digits, `*` and `#` as dialled: an extension, or a number in a national form.
    Extension,
    /// `sip:user@host`, in lower case.
    Address,
    /// Nobody that can be named: a name for one call.
    Unnamed,
}

impl PartyNumber {
    /// Normalises a `sip:`, `sips:` or `tel:` URI, or what a person typed. `None` when it names
    /// nobody.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let uri = uri.trim();
        if uri.is_empty() || uri.len() > MAX_BYTES {
            return None;
        }
        match scheme(uri) {
            Some(("tel", rest)) => Self::dialled(before(rest, ';')),
            Some(("sip" | "sips", rest)) => Self::addressed(rest),
            _ => Self::addressed(uri),
        }
    }

    /// The name of somebody who withholds theirs, for one leg of one call.
    #[must_use]
    pub fn unnamed(call: CallId, leg: Leg) -> Self {
        Self { text: Pii::new(format!("unnamed:{call}/{leg}")), kind: NumberKind::Unnamed }
    }

    /// The normalised text: what [`crate::ids::PartyRef`] is made from.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// What kind of name it is.
    #[must_use]
    pub fn kind(&self) -> NumberKind {
        self.kind
    }

    /// `user[:password]@host[:port][;parameters][?headers]`, or a number without a host.
    fn addressed(rest: &str) -> Option<Self> {
        let rest = before(rest, '?');
        let Some((user, host)) = rest.rsplit_once('@') else {
            let user = unescape(before(rest, ';'))?;
            return Self::dialled(&user);
        };
        // RFC 3261, 19.1.6: a telephone-subscriber keeps its parameters in the user part.
        let user = unescape(before(before(user, ';'), ':'))?.to_lowercase();
        let host = before(before(host, ';'), '>').to_ascii_lowercase();
        let host = without_port(&host).trim_end_matches('.');
        if user.is_empty() || !is_host(host) || is_anonymous(&user, host) {
            return None;
        }
        if let Some(number) = Self::dialled(&user) {
            return Some(number);
        }
        let text = Pii::new(format!("sip:{}@{host}", escape(&user)));
        Some(Self { text, kind: NumberKind::Address })
    }

    fn dialled(text: &str) -> Option<Self> {
        // RFC 3966, 5.1.1: visual separators say nothing.
        let bare: String =
            text.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')' | ' ' | '/')).collect();
        let (kind, fits) = match bare.strip_prefix('+') {
            Some(digits) => (
                NumberKind::E164,
                (1..=MAX_E164_DIGITS).contains(&digits.len())
                    && digits.bytes().all(|b| b.is_ascii_digit())
                    && !digits.starts_with('0'),
            ),
            None => (
                NumberKind::Extension,
                !bare.is_empty()
                    && bare.bytes().all(|b| b.is_ascii_digit() || b == b'*' || b == b'#'),
            ),
        };
        fits.then(|| Self { text: Pii::new(bare), kind })
    }
}

impl fmt::Debug for PartyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartyNumber({:?}, …)", self.kind)
    }
}

fn scheme(uri: &str) -> Option<(&'static str, &str)> {
    let (scheme, rest) = uri.split_once(':')?;
    ["sip", "sips", "tel"]
        .into_iter()
        .find(|known| scheme.eq_ignore_ascii_case(known))
        .map(|known| (known, rest))
}

fn before(text: &str, stop: char) -> &str {
    text.split_once(stop).map_or(text, |(head, _)| head)
}

/// A host without its port; the colons of an IPv6 reference are inside brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

/// A host name, an IPv4 address or an IPv6 reference, in lower case.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    }
}

/// RFC 3323, 4.1.1.3, and what gateways send in its place.
fn is_anonymous(user: &str, host: &str) -> bool {
    host == "anonymous.invalid"
        || matches!(user, "anonymous" | "unknown" | "restricted" | "unavailable" | "private")
}

/// Resolves `%hh`. `None` when the result is not text or holds a control character.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let mut value = [0];
                hex::decode_to_slice(digits, &mut value).ok()?;
                value[0]
            }
            plain => plain,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// Escapes again what would end the user part.
fn escape(user: &str) -> String {
    let mut escaped = String::with_capacity(user.len());
    for c in user.chars() {
        match c {
            '%' | ':' | ';' | '@' | '?' | '<' | '>' | '"' | ' ' => {
                escaped.push_str(&format!("%{:02x}", u32::from(c)));
            }
            plain => escaped.push(plain),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(uri: &str) -> Option<(String, NumberKind)> {
        PartyNumber::parse(uri).map(|n| (n.expose().to_owned(), n.kind()))
    }

    #[test]
    fn one_number_has_one_form() {
        for uri in [
            "sip:+4930123456@pbx.example;user=phone",
            "SIPS:+4930123456@10.0.0.1:5061;transport=tls?Subject=x",
            "sip:%2B4930123456@pbx.example",
            "sip:+49-30-123456;ext=5@pbx.example",
            "sip:+4930123456:secret@[2001:db8::1]:5060",
            "tel:+49-30-123-456",
            "tel:+49(30)123456;phone-context=x",
            "+49 30 123456",
            " +49/30/123456 ",
        ] {
            assert_eq!(name(uri), Some(("+4930123456".into(), NumberKind::E164)), "{uri}");
        }
    }

    #[test]
    fn an_extension_is_the_same_behind_every_address_of_its_pbx() {
        for uri in ["sip:101@10.0.0.5:5060", "sip:101@pbx.example", "101", "tel:101"] {
            assert_eq!(name(uri), Some(("101".into(), NumberKind::Extension)), "{uri}");
        }
        assert_eq!(name("sip:*61%23@pbx"), Some(("*61#".into(), NumberKind::Extension)));
        assert_eq!(name("0049301"), Some(("0049301".into(), NumberKind::Extension)));
    }

    #[test]
    fn an_address_is_lower_case_without_port_and_parameters() {
        for (uri, text) in [
            ("sip:Alice@Example.COM.:5061;transport=tls", "sip:alice@example.com"),
            ("alice@example.com", "sip:alice@example.com"),
            ("sip:bob@[2001:DB8::1]:5060", "sip:bob@[2001:db8::1]"),
            ("sip:bob@[2001:db8::1]", "sip:bob@[2001:db8::1]"),
            ("sip:b%6Fb%40home@h", "sip:bob%40home@h"),
            ("sip:+12345678901234567@h", "sip:+12345678901234567@h"),
        ] {
            assert_eq!(name(uri), Some((text.into(), NumberKind::Address)), "{uri}");
        }
    }

    #[test]
    fn who_withholds_their_name_is_nobody_and_never_two_people_at_once() {
        for uri in [
            "",
            "sip:",
            "sip:@host",
            "sip:anonymous@anonymous.invalid",
            "sip:Anonymous@pbx.example",
            "sip:x@anonymous.invalid",
            "sip:pbx.example",
            "sip:a%0D%0Ab@host",
            "sip:a%zz@host",
            "tel:",
            "+",
        ] {
            assert_eq!(name(uri), None, "{uri}");
        }
        assert_eq!(name(&format!("sip:{}@h", "x".repeat(300))), None);
        let call = |n| CallId(uuid::Uuid::from_u128(n));
        let (one, two) = (
            PartyNumber::unnamed(call(1), Leg::Caller),
            PartyNumber::unnamed(call(2), Leg::Caller),
        );
        assert_ne!(one, two);
        assert_eq!(one.kind(), NumberKind::Unnamed);
    }

    #[test]
    fn a_number_does_not_print() {
        let number = PartyNumber::parse("+4930123456");
        assert!(!format!("{number:?}").contains("4930"));
    }

    proptest! {
        #[test]
        fn normalising_what_is_normal_changes_nothing(uri in "\\PC{0,40}") {
            if let Some(once) = PartyNumber::parse(&uri) {
                let again = PartyNumber::parse(once.expose());
                prop_assert_eq!(again.as_ref().map(PartyNumber::expose), Some(once.expose()));
            }
        }

        #[test]
        fn sip_uris_too(user in "[a-zA-Z0-9+*#%.;:@ -]{0,12}", host in "[a-zA-Z0-9.:;\\[\\]]{0,12}") {
            if let Some(once) = PartyNumber::parse(&format!("sip:{user}@{host}")) {
                let again = PartyNumber::parse(once.expose());
                prop_assert_eq!(again.as_ref().map(PartyNumber::expose), Some(once.expose()));
            }
        }
    }
}

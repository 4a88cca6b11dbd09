//! `Refer-To` (RFC 3515) and `Replaces` (RFC 3891): whom a party is referred to, and which dialog a
//! new one takes the place of.

use crate::ids::Pii;

/// The dialog that an INVITE takes the place of, as its receiver knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// `Call-ID`.
    pub call_id: String,
    /// The receiver's own tag.
    pub to_tag: String,
    /// The tag of the receiver's peer.
    pub from_tag: String,
    /// Whether a dialog that is answered already may be replaced.
    pub when: When,
}

/// Which dialogs a [`Replaces`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Early and confirmed ones.
    Always,
    /// `early-only`.
    Early,
}

impl Replaces {
    /// Reads the value of the header. `None` where it breaks the grammar of RFC 3891, 6.1.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        let call_id = parts.next().filter(|id| is_word(id))?.to_owned();
        let (mut to_tag, mut from_tag, mut when) = (None, None, When::Always);
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let slot = match name.trim().to_ascii_lowercase().as_str() {
                "to-tag" => &mut to_tag,
                "from-tag" => &mut from_tag,
                "early-only" => {
                    when = When::Early;
                    continue;
                }
                _ => continue,
            };
            if slot.replace(value.trim().to_owned()).is_some() {
                return None;
            }
        }
        let tag = |tag: Option<String>| tag.filter(|tag| is_word(tag));
        Some(Self { call_id, to_tag: tag(to_tag)?, from_tag: tag(from_tag)?, when })
    }

    /// The value of the header.
    #[must_use]
    pub fn to_value(&self) -> String {
        let Self { call_id, to_tag, from_tag, when } = self;
        let early = match when {
            When::Always => "",
            When::Early => ";early-only",
        };
        format!("{call_id};to-tag={to_tag};from-tag={from_tag}{early}")
    }
}

/// What a `Refer-To` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferTo {
    /// The user part of the URI, still escaped, or the number of a `tel:` one.
    pub user: Pii<String>,
    /// The dialog that the new one is to take the place of: an attended transfer.
    pub replaces: Option<Replaces>,
}

/// Why a `Refer-To` is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadReferTo {
    /// It does not parse, or names nobody: 400.
    Malformed,
    /// It is no SIP or tel URI: 416.
    Scheme,
    /// It asks for something else than a call: 603.
    Method,
}

impl BadReferTo {
    /// The status that refuses the REFER.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            BadReferTo::Malformed => 400,
            BadReferTo::Scheme => 416,
            BadReferTo::Method => 603,
        }
    }
}

impl ReferTo {
    /// Reads the value of the header.
    ///
    /// # Errors
    /// [`BadReferTo`].
    pub fn parse(value: &[u8]) -> Result<Self, BadReferTo> {
        let value = std::str::from_utf8(value).map_err(|_| BadReferTo::Malformed)?;
        let uri = match value.split_once('<') {
            Some((_, rest)) => rest.split_once('>').ok_or(BadReferTo::Malformed)?.0,
            None => value.split(';').next().unwrap_or(value),
        };
        let (scheme, rest) = uri.trim().split_once(':').ok_or(BadReferTo::Malformed)?;
        let (address, headers) = rest.split_once('?').unwrap_or((rest, ""));
        let user = match scheme.to_ascii_lowercase().as_str() {
            "sip" | "sips" => {
                // The user part may itself hold a semicolon (RFC 3261, 19.1.6).
                let (user, host) = address.rsplit_once('@').unwrap_or(("", address));
                let method = |p: &&str| p.to_ascii_lowercase().starts_with("method=");
                if host
                    .split(';')
                    .find(method)
                    .is_some_and(|p| !p[7..].eq_ignore_ascii_case("invite"))
                {
                    return Err(BadReferTo::Method);
                }
                user.split(':').next().unwrap_or_default()
            }
            "tel" => address.split(';').next().unwrap_or_default(),
            _ => return Err(BadReferTo::Scheme),
        };
        if user.is_empty() || user.len() > 256 || !user.bytes().all(is_user) {
            return Err(BadReferTo::Malformed);
        }
        let named = |name: &str| {
            headers.split('&').find_map(|header| {
                let (key, value) = header.split_once('=')?;
                key.eq_ignore_ascii_case(name).then_some(value)
            })
        };
        let replaces = match named("Replaces") {
            None => None,
            Some(value) => {
                let value = unescaped(value).ok_or(BadReferTo::Malformed)?;
                Some(Replaces::parse(&value).ok_or(BadReferTo::Malformed)?)
            }
        };
        Ok(Self { user: Pii::new(user.to_owned()), replaces })
    }
}

/// A URI with another user part.
#[must_use]
pub fn with_user(uri: &str, user: &str) -> String {
    let (scheme, rest) = uri.split_once(':').unwrap_or(("sip", uri));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}:{user}@{host}")
}

/// RFC 3261, 25.1: a Call-ID is a word with at most one `@`; a tag is a token. Both go into a
/// header of ours.
fn is_word(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_graphic() && !matches!(b, b';' | b',' | b'"');
    !text.is_empty() && text.len() <= 256 && text.bytes().all(fits)
}

/// unreserved, user-unreserved and escapes (RFC 3261, 25.1), and the `#` that many send as it is.
fn is_user(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/%#".contains(&b)
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_replaces_as_rfc_3891_writes_it() {
        let read = Replaces::parse("98732@sip.example.com ;from-tag=r33th4x0r ;to-tag=ff87ff");
        let expected = Replaces {
            call_id: "98732@sip.example.com".into(),
            to_tag: "ff87ff".into(),
            from_tag: "r33th4x0r".into(),
            when: When::Always,
        };
        assert_eq!(read.as_ref(), Some(&expected));
        let early = Replaces::parse("a;to-tag=1;from-tag=2;early-only;x=y").unwrap();
        assert_eq!(early.when, When::Early);
        for replaces in [expected, early] {
            assert_eq!(Replaces::parse(&replaces.to_value()), Some(replaces));
        }
        for bad in [
            "",
            ";to-tag=1;from-tag=2",
            "a;to-tag=1",
            "a;from-tag=1",
            "a;to-tag=;from-tag=1",
            "a;to-tag=1;to-tag=2;from-tag=3",
            "a b;to-tag=1;from-tag=2",
            "a;to-tag=1\r\n2;from-tag=2",
        ] {
            assert_eq!(Replaces::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn reads_whom_somebody_is_referred_to() {
        let user =
            |value: &str| ReferTo::parse(value.as_bytes()).map(|to| to.user.expose().clone());
        assert_eq!(user("<sip:300@pbx.example>"), Ok("300".into()));
        assert_eq!(
            user("\"C\" <sips:carol%20x:secret@[::1]:5061;transport=tls>;x=y"),
            Ok("carol%20x".into())
        );
        assert_eq!(user("sip:+4930@pbx;method=INVITE"), Ok("+4930".into()));
        assert_eq!(user("<sip:1@h;method=invite>"), Ok("1".into()));
        assert_eq!(user("<tel:+49-30-1;ext=2>"), Ok("+49-30-1".into()));
        for (value, why) in [
            ("<sip:pbx.example>", BadReferTo::Malformed),
            ("<sip:3\r\n00@h>", BadReferTo::Malformed),
            ("<sip:300@h", BadReferTo::Malformed),
            ("300", BadReferTo::Malformed),
            ("<http://example.com/>", BadReferTo::Scheme),
            ("<sip:1@h;method=BYE>", BadReferTo::Method),
            ("<sip:1@h?Replaces=a%3Bto-tag%3D1>", BadReferTo::Malformed),
            ("<sip:1@h?Replaces=%zz>", BadReferTo::Malformed),
        ] {
            assert_eq!(user(value), Err(why), "{value:?}");
        }
        let attended = "<sip:c@h?Replaces=12%40h%3Bto-tag%3Dt%3Bfrom-tag%3Df&Require=replaces>";
        let replaces = ReferTo::parse(attended.as_bytes()).unwrap().replaces.unwrap();
        assert_eq!(replaces.to_value(), "12@h;to-tag=t;from-tag=f");
    }

    #[test]
    fn only_the_user_part_is_ever_taken() {
        assert_eq!(
            with_user("sip:200@127.0.0.1:5080;transport=tcp", "300"),
            "sip:300@127.0.0.1:5080;transport=tcp"
        );
        assert_eq!(with_user("sip:pbx", "300"), "sip:300@pbx");
    }

    proptest! {
        #[test]
        fn no_bytes_make_them_panic_or_break_a_line(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(to) = ReferTo::parse(&bytes) {
                prop_assert!(to.user.expose().bytes().all(|b| b.is_ascii_graphic()));
            }
            if let Some(replaces) = std::str::from_utf8(&bytes).ok().and_then(Replaces::parse) {
                prop_assert!(!replaces.to_value().contains(['\r', '\n']));
            }
        }
    }
}

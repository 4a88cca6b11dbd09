//! `a=fingerprint` (RFC 8122) and `a=setup` (RFC 4145), by which DTLS-SRTP is agreed on (RFC 5763).

use std::fmt::Write as _;

use crate::rtp::{DtlsPeer, DtlsRole};

/// What a peer says of itself: the SHA-256 of its certificate, and who it lets begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identified {
    pub(super) fingerprint: [u8; 32],
    setup: Setup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setup {
    Active,
    Passive,
    Either,
}

impl Identified {
    /// From the values of a line's attributes, or those of its session. `None` without a SHA-256,
    /// or without anybody who would begin.
    pub(super) fn of<'a>(
        mut fingerprints: impl Iterator<Item = &'a str>,
        setup: Option<&str>,
    ) -> Option<Self> {
        let setup = match setup.map(|text| text.trim().to_ascii_lowercase()).as_deref() {
            // RFC 4145, 4: who says nothing begins.
            None | Some("active") => Setup::Active,
            Some("passive") => Setup::Passive,
            Some("actpass") => Setup::Either,
            Some(_) => return None,
        };
        Some(Self { fingerprint: fingerprints.find_map(sha256)?, setup })
    }

    /// What we are to this peer: we begin where we may (RFC 5763, 5), unless an association with
    /// it stands already.
    pub(super) fn peer(&self, before: Option<DtlsPeer>) -> DtlsPeer {
        let before = before.filter(|before| before.fingerprint == self.fingerprint);
        let role = match (self.setup, before) {
            (Setup::Either, Some(before)) => before.role,
            (Setup::Either | Setup::Passive, _) => DtlsRole::Active,
            (Setup::Active, _) => DtlsRole::Passive,
        };
        DtlsPeer { fingerprint: self.fingerprint, role }
    }
}

/// `sha-256 12:34:…`
fn sha256(value: &str) -> Option<[u8; 32]> {
    let (hash, digits) = value.trim().split_once(char::is_whitespace)?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut fingerprint = [0; 32];
    let mut pairs = digits.trim().split(':');
    for byte in &mut fingerprint {
        let pair = pairs.next().filter(|pair| pair.len() == 2)?;
        let hex = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = hex.then(|| u8::from_str_radix(pair, 16).ok()).flatten()?;
    }
    pairs.next().is_none().then_some(fingerprint)
}

/// The lines that say who we are and what we do.
pub(super) fn lines(fingerprint: &[u8; 32], role: DtlsRole) -> String {
    let mut lines = String::from("a=fingerprint:sha-256 ");
    for (place, byte) in fingerprint.iter().enumerate() {
        let colon = if place == 0 { "" } else { ":" };
        // Writing to a String cannot fail.
        let _ = write!(lines, "{colon}{byte:02X}");
    }
    let role = match role {
        DtlsRole::Active => "active",
        DtlsRole::Passive => "passive",
    };
    let _ = write!(lines, "\r\na=setup:{role}\r\n");
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let fingerprint: [u8; 32] = std::array::from_fn(|n| (n * 7) as u8);
        let text = lines(&fingerprint, DtlsRole::Passive);
        assert!(text.ends_with("\r\na=setup:passive\r\n"), "{text}");
        let value = text.lines().next().unwrap().strip_prefix("a=fingerprint:").unwrap();
        assert_eq!(sha256(value), Some(fingerprint));
        assert_eq!(sha256(&value.to_lowercase().replace("sha-256", "SHA-256")), Some(fingerprint));
        for wrong in [
            value.replace("sha-256", "sha-1"),
            value[..value.len() - 3].to_owned(),
            format!("{value}:00"),
            value.replace(':', ""),
            value.replacen("07", "+7", 1),
            "sha-256".to_owned(),
        ] {
            assert_eq!(sha256(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn we_begin_where_we_may_and_keep_an_association_that_stands() {
        let text = lines(&[9; 32], DtlsRole::Active);
        let value = text.lines().next().unwrap().strip_prefix("a=fingerprint:").unwrap();
        let of = |setup| Identified::of(["sha-1 00:11", value].into_iter(), setup);
        let role = |setup, before| of(setup).map(|peer: Identified| peer.peer(before).role);
        assert_eq!(role(Some("actpass"), None), Some(DtlsRole::Active));
        assert_eq!(role(Some("passive"), None), Some(DtlsRole::Active));
        assert_eq!(role(Some("active"), None), Some(DtlsRole::Passive));
        assert_eq!(role(None, None), Some(DtlsRole::Passive));
        assert_eq!(role(Some("holdconn"), None), None);
        let before = DtlsPeer { fingerprint: [9; 32], role: DtlsRole::Passive };
        assert_eq!(role(Some("actpass"), Some(before)), Some(DtlsRole::Passive));
        let another = DtlsPeer { fingerprint: [8; 32], ..before };
        assert_eq!(role(Some("actpass"), Some(another)), Some(DtlsRole::Active));
    }
}

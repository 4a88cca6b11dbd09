//! What SIP peers send.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::call::message::Headers;
use crate::consent::Stated;
use crate::consent::token::{TokenKey, TokenRule};
use crate::ids::{Digest, Leg};
use crate::number::{NumberKind, PartyNumber};
use crate::time::Timestamp;

/// SIP out of a byte stream.
pub fn sip_framing(bytes: &[u8]) {
    crate::sip::fuzz::framing(bytes);
}

/// One SIP message: parsed, checked, decoded, answered.
pub fn sip_message(bytes: &[u8]) {
    crate::sip::fuzz::message(bytes);
}

/// One header of an otherwise good INVITE; the first byte says which.
pub fn sip_headers(bytes: &[u8]) {
    crate::sip::fuzz::headers(bytes);
}

/// A body of several parts; its first line is the boundary.
pub fn sip_multipart(bytes: &[u8]) {
    crate::sip::fuzz::parts(bytes);
}

/// Who a peer says is speaking (P-Asserted-Identity, Remote-Party-ID).
pub fn identity(bytes: &[u8]) {
    for name in ["P-Asserted-Identity", "Remote-Party-ID"] {
        let headers = Headers::new().with(name, bytes.to_vec());
        if let Some(number) = crate::call::asserted(&headers) {
            is_normal(&number);
        }
    }
}

/// A number or an address becomes its normal form, which stays as it is.
pub fn number(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(number) = PartyNumber::parse(text)
    {
        is_normal(&number);
    }
}

#[track_caller]
fn is_normal(number: &PartyNumber) {
    let text = number.expose();
    assert_ne!(number.kind(), NumberKind::Unnamed);
    assert!(!text.chars().any(char::is_control), "{text:?}");
    let again = PartyNumber::parse(text);
    assert_eq!(again.as_ref().map(PartyNumber::expose), Some(text), "{text:?} is not normal");
}

/// The Call-ID that the tokens of the seeds are for.
pub const CALL: &str = "a84b4c76e66710@pbx.example";
/// When they are read.
pub const NOW: Timestamp = Timestamp::from_micros(1_770_000_000_000_000);
/// What they are signed with.
pub const KEY: [u8; 32] = [7; 32];

/// The headers of consent tokens, one a line. Nothing that nobody signed states anything.
pub fn consent_token(bytes: &[u8]) {
    let rule = TokenRule {
        header: "User-to-User".to_owned(),
        peers: vec!["10.0.0.5/32".parse().expect("a network")],
        max_age: Duration::from_secs(300),
        keys: BTreeMap::from([("k".to_owned(), TokenKey::Hmac(Zeroizing::new(KEY.to_vec())))]),
    };
    let peer: IpAddr = [10, 0, 0, 5].into();
    let found = rule.read(bytes.split(|byte| *byte == b'\n'), peer, CALL, NOW);
    for leg in [Leg::Caller, Leg::Callee] {
        if let Some(token) = found.of(leg) {
            let signed = SIGNED.iter().any(|text| Digest::of(text.as_bytes()) == token.digest);
            assert!(signed, "a token that nobody signed states {:?}", token.stated);
            assert!(matches!(token.stated, Stated::Granted | Stated::Refused));
        }
    }
}

/// The tokens that were signed: those of the seeds.
pub const SIGNED: [&str; 2] = [
    include_str!("../../fuzz/seeds/consent_token/caller-granted"),
    include_str!("../../fuzz/seeds/consent_token/callee-refused"),
];

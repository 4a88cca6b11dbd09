//! Reads `match`: which calls a route takes, or a policy fits.

use crate::config::address;
use crate::config::document::Section;
use crate::config::problem::Wrong;
use crate::config::route::{CallDirection, HeaderMatch, Match, Pattern};

/// Reads `match`, of a route or of a policy.
pub(super) fn read(mut section: Section<'_>) -> Match {
    let pattern = |text: &str| match text.len() {
        0..=256 => Ok(Pattern::new(text)),
        _ => Err(Wrong::new("is too long a pattern", "write at most 256 characters")),
    };
    let headers = section.field("header");
    let header = headers.table().unwrap_or_default().into_iter().filter_map(|(name, value, _)| {
        if let Err(wrong) = header_name(name) {
            let remedy = "write header = { \"X-Name\" = \"value\" }, with \"*\" for any value";
            headers.report(Wrong::new(wrong.what, remedy));
            return None;
        }
        Some(HeaderMatch { name: name.to_owned(), value: pattern(value).ok()? })
    });
    let header = header.collect();
    let words =
        [("inbound", Some(CallDirection::Inbound)), ("outbound", Some(CallDirection::Outbound))];
    let matches = Match {
        from: section.field("from").each(pattern).unwrap_or_default(),
        to: section.field("to").each(pattern).unwrap_or_default(),
        peer: section.field("peer").each(address::network).unwrap_or_default(),
        direction: section.field("direction").word(None, &words),
        header,
    };
    section.finish();
    matches
}

/// The name of a header (RFC 3261, 25.1: a token).
pub(super) fn header_name(text: &str) -> Result<&str, Wrong> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(token) {
        return Err(Wrong::new(
            format!("{text:?} is not the name of a header"),
            "write a name such as \"X-Name\"",
        ));
    }
    Ok(text)
}

//! Which headers of one leg's messages reach the other.

use crate::call::message::Headers;

/// Headers that belong to one dialog or one hop, and so are made anew on the other leg. Everything
/// else passes within a dialog, known or not.
const OF_ONE_DIALOG: &[&str] = &[
    "Via",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Max-Forwards",
    "Route",
    "Record-Route",
    "Path",
    "Content-Length",
    "Authorization",
    "Proxy-Authorization",
    "Proxy-Require",
    "Session-Expires",
    "Min-SE",
    "RSeq",
    "RAck",
    "Timestamp",
    "Server",
    "User-Agent",
    CALL_HEADER,
];

/// Headers that say what we ourselves can do or describe a body of our own: they are made anew
/// where a message has a session description.
const OF_OUR_OWN: &[&str] = &[
    "Content-Type",
    "Content-Encoding",
    "Content-Disposition",
    "Content-ID",
    "Content-Language",
    "MIME-Version",
    "Require",
    "Supported",
    "Allow",
    "Allow-Events",
    "Accept",
    "Accept-Encoding",
    "Expires",
    "WWW-Authenticate",
    "Proxy-Authenticate",
    "Authentication-Info",
];

/// Marks an INVITE that has been through Assent, with the call's identifier.
pub const CALL_HEADER: &str = "X-Assent-Call";

/// The headers of an INVITE, or of an answer to one, that go on to the other leg, in order.
#[must_use]
pub fn passed_on(invite: &Headers) -> Headers {
    without(invite, &[OF_ONE_DIALOG, OF_OUR_OWN])
}

/// The headers of any other message within a dialog that go on to the other leg, with those of its
/// body, in order.
#[must_use]
pub fn within_dialog(request: &Headers) -> Headers {
    without(request, &[OF_ONE_DIALOG])
}

/// The headers of an INVITE that say who calls (RFC 3325, RFC 3323).
#[must_use]
pub fn identity(invite: &Headers) -> Headers {
    let names = ["P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Privacy"];
    let mut identity = Headers::new();
    for (name, value) in invite.iter() {
        if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            identity.push(name, value.clone());
        }
    }
    identity
}

/// The same headers with this `Max-Forwards`.
#[must_use]
pub fn forwarded(headers: &Headers, hops: u8) -> Headers {
    let mut changed = Headers::new();
    for (name, value) in headers.iter() {
        if name == "Max-Forwards" {
            changed.push(name, hops.to_string());
        } else {
            changed.push(name, value.clone());
        }
    }
    changed
}

fn without(headers: &Headers, lists: &[&[&str]]) -> Headers {
    let mut passed = Headers::new();
    for (name, value) in headers.iter() {
        if !lists.iter().copied().flatten().any(|ours| ours.eq_ignore_ascii_case(name)) {
            passed.push(name, value.clone());
        }
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_and_unknown_headers_pass_and_hop_headers_do_not() {
        let invite = Headers::new()
            .with("Via", "SIP/2.0/UDP 192.0.2.1")
            .with("P-Asserted-Identity", "<sip:a@b>")
            .with("User-to-User", "00FF;encoding=hex")
            .with("X-Unknown", "kept")
            .with("x-assent-call", "someone else's")
            .with("Session-ID", "ab;remote=cd");
        let passed = passed_on(&invite);
        let names: Vec<&str> = passed.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["P-Asserted-Identity", "User-to-User", "X-Unknown", "Session-ID"]);
    }
}

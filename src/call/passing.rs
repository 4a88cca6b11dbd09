//! Which headers of the caller's INVITE reach the callee.

use crate::call::message::Headers;

/// Headers that belong to one dialog, one hop or one body, and so are made anew on the other leg.
/// Everything else passes, known or not.
const OURS: &[&str] = &[
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
    "Content-Type",
    "Content-Encoding",
    "Content-Disposition",
    "Content-ID",
    "Content-Language",
    "MIME-Version",
    "Authorization",
    "Proxy-Authorization",
    "Proxy-Require",
    "Require",
    "Supported",
    "Allow",
    "Allow-Events",
    "Accept",
    "Accept-Encoding",
    "Session-Expires",
    "Min-SE",
    "RSeq",
    "RAck",
    "Replaces",
    "Join",
    "Timestamp",
    "Expires",
    CALL_HEADER,
];

/// Marks an INVITE that has been through Assent, with the call's identifier.
pub const CALL_HEADER: &str = "X-Assent-Call";

/// The headers of `invite` that go on to the other leg, in order.
#[must_use]
pub fn passed_on(invite: &Headers) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in invite.iter() {
        if !OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
            headers.push(name, value.clone());
        }
    }
    headers
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

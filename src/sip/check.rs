//! Whether a request is one that we can serve, and the answer when it is not (RFC 3261, 8.2).

use sipx_sip::headers::{ContentType, MaxForwards, Require, To};
use sipx_sip::{HeaderName, Method, Request, Scheme, Via, validate_request};

use crate::call::message::{ALLOW, Hop, Incoming};
use crate::sip::decode;
use crate::sip::text::contains;

/// The option tags that we support; any other `Require` is refused.
pub(super) const SUPPORTED: &[&str] = &["100rel", "replaces", "timer"];

/// The bodies that we read.
pub(super) const ACCEPT: &str = "application/sdp, multipart/mixed";

/// A final response that needs no more than the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    /// Without further headers.
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new() }
    }

    /// With one more header.
    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Where a request stands towards dialogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has a `To` tag.
    InDialog,
    /// It has none.
    OutOfDialog,
}

/// Checks everything that needs no memory of other messages, in the order of RFC 3261, 8.2.
/// `cookie` is how our own branches start. Not for ACK and CANCEL.
pub(super) fn request(
    request: &Request,
    source: Hop,
    cookie: &[u8],
) -> Result<(Incoming, Place), Refusal> {
    well_formed(request)?;
    let place = match request.headers.typed::<To>() {
        Some(Ok(to)) if to.tag().is_some() => Place::InDialog,
        _ => Place::OutOfDialog,
    };
    method(request, place)?;
    if !matches!(request.uri.scheme(), Scheme::Sip | Scheme::Sips | Scheme::Tel) {
        return Err(Refusal::new(416));
    }
    let looped = |via: &sipx_sip::Header| contains(via.raw_value(), cookie);
    if request.headers.get_all(&HeaderName::Via).any(looped) {
        return Err(Refusal::new(482));
    }
    let hops = request.headers.typed::<MaxForwards>().and_then(Result::ok);
    if hops == Some(MaxForwards(0)) && request.method != Method::Options {
        return Err(Refusal::new(483));
    }
    if place == Place::OutOfDialog || is_ours(&request.method) {
        extensions(request)?;
        body(request)?;
    }
    let incoming = decode::incoming(request, source).map_err(|_| Refusal::new(400))?;
    Ok((incoming, place))
}

fn well_formed(request: &Request) -> Result<(), Refusal> {
    // A missing Max-Forwards is repaired; everything else is beyond repair. The version comes
    // first: what another version means by its headers is not for us to say.
    let findings = validate_request(request);
    let statuses = || findings.iter().filter(|f| !f.is_repairable()).map(sipx_sip::Finding::status);
    if let Some(status) = statuses().find(|status| *status == 505).or_else(|| statuses().next()) {
        return Err(Refusal::new(status));
    }
    if request.headers.typed_all::<Via>().any(|via| via.is_err()) {
        return Err(Refusal::new(400));
    }
    Ok(())
}

fn method(request: &Request, place: Place) -> Result<(), Refusal> {
    match (&request.method, place) {
        (Method::Invite | Method::Options, _) => Ok(()),
        (Method::Register | Method::Publish, _) => {
            Err(Refusal::new(405).with(HeaderName::Allow, ALLOW))
        }
        // What is not for us goes to the other party, who decides.
        (_, Place::InDialog) => Ok(()),
        (Method::Bye | Method::Info | Method::Update | Method::Notify, Place::OutOfDialog) => {
            Err(Refusal::new(481))
        }
        (Method::Other(_), _) => Err(Refusal::new(501).with(HeaderName::Allow, ALLOW)),
        _ => Err(Refusal::new(405).with(HeaderName::Allow, ALLOW)),
    }
}

/// Whether we ourselves answer a method within a dialog, rather than the other party.
fn is_ours(method: &Method) -> bool {
    matches!(method, Method::Invite | Method::Update | Method::Bye | Method::Prack | Method::Refer)
}

fn extensions(request: &Request) -> Result<(), Refusal> {
    let mut unsupported = Vec::new();
    for require in request.headers.typed_all::<Require>() {
        let require = require.map_err(|_| Refusal::new(400))?;
        for tag in &require.0.0 {
            let tag = String::from_utf8_lossy(tag);
            if !SUPPORTED.iter().any(|known| known.eq_ignore_ascii_case(&tag)) {
                unsupported.push(tag.into_owned());
            }
        }
    }
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(420).with(HeaderName::Unsupported, unsupported.join(", ")))
}

fn body(request: &Request) -> Result<(), Refusal> {
    if request.body().is_empty() {
        return Ok(());
    }
    let plain = |header: &sipx_sip::Header| header.value().eq_ignore_ascii_case(b"identity");
    if !request.headers.get_all(&HeaderName::ContentEncoding).all(plain) {
        return Err(Refusal::new(415).with(HeaderName::AcceptEncoding, "identity"));
    }
    let Some(Ok(content)) = request.headers.typed::<ContentType>() else {
        return Err(Refusal::new(400));
    };
    let readable = content.is("application", "sdp") || content.media_type == b"multipart";
    if request.method == Method::Invite && !readable {
        return Err(Refusal::new(415).with(HeaderName::Accept, ACCEPT));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sipx_sip::{Limits, Message, parse_datagram};

    use super::*;
    use crate::call::message::Transport;

    fn status(text: &str) -> u16 {
        let bytes = Bytes::from(text.replace('\n', "\r\n"));
        let Ok(Message::Request(parsed)) = parse_datagram(bytes, &Limits::datagram()) else {
            panic!("does not parse: {text}");
        };
        let source = Hop { transport: Transport::Udp, addr: ([127, 0, 0, 1], 9).into() };
        request(&parsed, source, b"z9hG4bKacookie-").map_or_else(|refusal| refusal.status, |_| 200)
    }

    const INVITE: &str = "INVITE sip:bob@b SIP/2.0\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\n\
        From: <sip:alice@a>;tag=1\nTo: <sip:bob@b>\nCall-ID: id\nCSeq: 7 INVITE\n\
        Contact: <sip:alice@a>\nContent-Type: application/sdp\nContent-Length: 3\n\nv=0";

    #[test]
    fn each_fault_has_its_answer() {
        let cases = [
            (200, INVITE.to_owned()),
            (505, INVITE.replace("b SIP/2.0", "b SIP/3.0")),
            (505, INVITE.replace("b SIP/2.0", "b SIP/3.0").replace("CSeq: 7 INVITE\n", "")),
            (400, INVITE.replace("CSeq: 7 INVITE\n", "")),
            (400, INVITE.replace("7 INVITE", "7 OPTIONS")),
            (400, INVITE.replace("Call-ID: id\n", "Call-ID: id\nCall-ID: id2\n")),
            (400, INVITE.replace("=z9hG4bK1", "=z9hG4bK1, SIP/2.0/UDP b;;branch=z9hG4bK2")),
            (400, INVITE.replace("sip:bob@b SIP", "sip:bob@b?Subject=x SIP")),
            (400, INVITE.replace("Content-Type: application/sdp\n", "")),
            (416, INVITE.replace("sip:bob@b SIP", "mailto:bob@b SIP")),
            (200, INVITE.replace("sip:bob@b SIP", "tel:+4930 SIP")),
            (482, INVITE.replace("=z9hG4bK1", "=z9hG4bK1, SIP/2.0/UDP b;branch=z9hG4bKacookie-1")),
            (483, INVITE.replace("Call-ID", "Max-Forwards: 0\nCall-ID")),
            (420, INVITE.replace("Call-ID", "Require: timer, precondition\nCall-ID")),
            (200, INVITE.replace("Call-ID", "Require: timer\nCall-ID")),
            (415, INVITE.replace("application/sdp", "text/plain")),
            (415, INVITE.replace("Call-ID", "Content-Encoding: gzip\nCall-ID")),
            (200, INVITE.replace("Call-ID", "Content-Encoding: identity\nCall-ID")),
            (200, INVITE.replace("application/sdp", "Multipart/Mixed;boundary=x")),
            (405, INVITE.replace("INVITE", "REGISTER")),
            (501, INVITE.replace("INVITE", "DANCE")),
            (481, INVITE.replace("INVITE", "BYE")),
            (200, INVITE.replace("INVITE", "BYE").replace("b>\n", "b>;tag=2\n")),
        ];
        for (expected, text) in cases {
            assert_eq!(status(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_ping_at_its_last_hop_is_answered() {
        let options = INVITE.replace("INVITE", "OPTIONS").replace("Call", "Max-Forwards: 0\nCall");
        assert_eq!(status(&options), 200);
    }
}

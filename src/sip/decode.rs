//! From the SIP library's messages to the neutral ones of `call`.

use bytes::Bytes;
use sipx_sip::{HeaderName, Uri, headers as sipx};

use crate::call::message::{Address, Answered, Headers, Hop, Incoming, Method};
use crate::ids::Pii;
use crate::sip::multipart;
use crate::sip::text::{is_token, parameter_name, split};

/// A header that everything depends on is missing or not well-formed. Names the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing or malformed")]
pub(super) struct Malformed(pub(super) &'static str);

/// A request, with `headers` already stamped.
pub(super) fn incoming(request: &sipx_sip::Request, source: Hop) -> Result<Incoming, Malformed> {
    let headers = &request.headers;
    let contact = match headers.typed::<sipx::ContactValue>() {
        Some(Ok(sipx::ContactValue::Address(address))) => Some(uri_text(&address.uri)),
        Some(Ok(sipx::ContactValue::Wildcard)) | None => None,
        Some(Err(_)) => return Err(Malformed("Contact")),
    };
    if contact.is_none() && request.method == sipx_sip::Method::Invite {
        return Err(Malformed("Contact"));
    }
    let from = headers.typed::<sipx::From>().and_then(Result::ok).ok_or(Malformed("From"))?;
    let to = headers.typed::<sipx::To>().and_then(Result::ok).ok_or(Malformed("To"))?;
    let max_forwards = match headers.typed::<sipx::MaxForwards>() {
        None => 70,
        Some(Ok(hops)) => hops.0,
        Some(Err(_)) => return Err(Malformed("Max-Forwards")),
    };
    Ok(Incoming {
        method: method(&request.method),
        uri: Pii::new(uri_text(&request.uri)),
        user: Pii::new(user(&request.uri)),
        from: address(headers, &HeaderName::From, &from).ok_or(Malformed("From"))?,
        to: address(headers, &HeaderName::To, &to).ok_or(Malformed("To"))?,
        call_id: call_id(headers)?,
        cseq: cseq(headers)?,
        max_forwards,
        contact,
        record_route: record_route(headers)?,
        headers: neutral(headers),
        body: multipart::session(headers, request.body()),
        source,
    })
}

/// A response to a request of ours.
pub(super) fn answered(response: &sipx_sip::Response) -> Result<Answered, Malformed> {
    let headers = &response.headers;
    let to = headers.typed::<sipx::To>().and_then(Result::ok).ok_or(Malformed("To"))?;
    let contact = match headers.typed::<sipx::ContactValue>() {
        Some(Ok(sipx::ContactValue::Address(address))) => Some(uri_text(&address.uri)),
        _ => None,
    };
    call_id(headers)?;
    Ok(Answered {
        status: response.status.code(),
        reason: printable(&response.reason),
        to_tag: tag(&to).map_err(|()| Malformed("To"))?,
        cseq: cseq(headers)?,
        contact,
        record_route: record_route(headers)?,
        headers: neutral(headers),
        body: multipart::session(headers, response.body()),
        reached: None,
    })
}

/// The neutral headers: canonical names, values unfolded.
pub(super) fn neutral(headers: &sipx_sip::Headers) -> Headers {
    let mut out = Headers::new();
    for header in headers.iter() {
        let name = String::from_utf8_lossy(header.name().canonical()).into_owned();
        out.push(name, Bytes::from(header.value().into_owned()));
    }
    out
}

/// The method, known or not.
pub(super) fn method(method: &sipx_sip::Method) -> Method {
    use sipx_sip::Method as M;
    match method {
        M::Invite => Method::Invite,
        M::Ack => Method::Ack,
        M::Bye => Method::Bye,
        M::Cancel => Method::Cancel,
        M::Options => Method::Options,
        M::Info => Method::Info,
        M::Update => Method::Update,
        M::Prack => Method::Prack,
        M::Refer => Method::Refer,
        M::Notify => Method::Notify,
        M::Subscribe => Method::Subscribe,
        M::Message => Method::Message,
        M::Register => Method::Register,
        M::Publish => Method::Publish,
        other => Method::Other(String::from_utf8_lossy(other.as_bytes()).into_owned()),
    }
}

fn address(
    headers: &sipx_sip::Headers,
    name: &HeaderName,
    parsed: &sipx::Address,
) -> Option<Address> {
    let value = headers.value(name)?;
    let kept: Vec<&[u8]> = split(&value, b';')
        .into_iter()
        .enumerate()
        .filter(|(n, part)| *n == 0 || !parameter_name(part).eq_ignore_ascii_case(b"tag"))
        .map(|(_, part)| part)
        .collect();
    Some(Address {
        value: Pii::new(Bytes::from(kept.join(&b';'))),
        uri: Pii::new(uri_text(&parsed.uri)),
        user: Pii::new(user(&parsed.uri)),
        tag: tag(parsed).ok()?,
    })
}

/// `Err` where there is a tag that is none: it would not come back to its owner unchanged.
fn tag(address: &sipx::Address) -> Result<Option<String>, ()> {
    let mut tags = address.params.iter().filter(|param| param.is("tag"));
    match (tags.next(), tags.next()) {
        (None, _) => Ok(None),
        (Some(tag), None) => match &tag.value {
            Some(value) if is_token(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            _ => Err(()),
        },
        (Some(_), Some(_)) => Err(()),
    }
}

fn call_id(headers: &sipx_sip::Headers) -> Result<String, Malformed> {
    let value = headers.value(&HeaderName::CallId).ok_or(Malformed("Call-ID"))?;
    let fits = !value.is_empty() && value.iter().all(u8::is_ascii_graphic);
    match String::from_utf8(value.into_owned()) {
        Ok(call_id) if fits => Ok(call_id),
        _ => Err(Malformed("Call-ID")),
    }
}

fn cseq(headers: &sipx_sip::Headers) -> Result<u32, Malformed> {
    let cseq = headers.typed::<sipx::CSeq>().and_then(Result::ok);
    cseq.map(|cseq| cseq.sequence).ok_or(Malformed("CSeq"))
}

/// Each element as it came, after the library has said that all of them are well-formed.
fn record_route(headers: &sipx_sip::Headers) -> Result<Vec<String>, Malformed> {
    let bad = Malformed("Record-Route");
    if headers.typed_all::<sipx::RecordRoute>().any(|route| route.is_err()) {
        return Err(bad);
    }
    let mut routes = Vec::new();
    for row in headers.get_all(&HeaderName::RecordRoute) {
        for element in split(&row.value(), b',') {
            let text = std::str::from_utf8(element.trim_ascii()).map_err(|_| bad)?;
            routes.push(text.to_owned());
        }
    }
    Ok(routes)
}

// The library lets only printable ASCII into a URI.
fn uri_text(uri: &Uri) -> String {
    String::from_utf8_lossy(&uri.to_bytes()).into_owned()
}

fn user(uri: &Uri) -> String {
    if let Some(tel) = uri.tel_parts() {
        return String::from_utf8_lossy(tel.subscriber()).into_owned();
    }
    String::from_utf8_lossy(&uri.decoded_user().unwrap_or_default()).into_owned()
}

fn printable(reason: &[u8]) -> String {
    let text = String::from_utf8_lossy(reason);
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use sipx_sip::{Limits, Message, parse_datagram};

    use super::*;
    use crate::call::message::Transport;

    fn decoded(text: &str) -> Result<Incoming, Malformed> {
        let bytes = Bytes::from(text.replace('\n', "\r\n"));
        let Ok(Message::Request(request)) = parse_datagram(bytes, &Limits::datagram()) else {
            panic!("does not parse: {text}");
        };
        let source = Hop { transport: Transport::Udp, addr: ([127, 0, 0, 1], 9).into() };
        incoming(&request, source)
    }

    const INVITE: &str = "INVITE sip:%2B4930@b;user=phone SIP/2.0\nv: SIP/2.0/UDP a;branch=z9hG4bK1\n\
        f: \"A;tag=no\" <sip:alice@a;x=1>;tag=t1;foo=bar\nTo: <sip:bob@b>\ni: id@a\nCSeq: 7 INVITE\n\
        m: <sip:alice@a:5070>, <sip:second@a>\nRecord-Route: <sip:p1;lr>,\n <sip:p2;lr>\n\
        Record-Route: <sip:p3;lr>\nX-Odd: a\n  b\nl: 0\n\n";

    #[test]
    fn what_the_machine_decides_on_is_parsed_and_the_rest_is_kept() {
        let request = decoded(INVITE).unwrap();
        assert_eq!(request.uri.expose(), "sip:%2B4930@b;user=phone");
        assert_eq!(request.user.expose(), "+4930");
        assert_eq!(
            request.from.value.expose().as_ref(),
            br#""A;tag=no" <sip:alice@a;x=1>;foo=bar"#
        );
        assert_eq!(request.from.uri.expose(), "sip:alice@a;x=1");
        assert_eq!(request.from.user.expose(), "alice");
        assert_eq!(request.from.tag.as_deref(), Some("t1"));
        assert_eq!(request.to.tag, None);
        assert_eq!((request.call_id.as_str(), request.cseq), ("id@a", 7));
        assert_eq!(request.max_forwards, 70);
        assert_eq!(request.contact.as_deref(), Some("sip:alice@a:5070"));
        assert_eq!(request.record_route, ["<sip:p1;lr>", "<sip:p2;lr>", "<sip:p3;lr>"]);
        assert_eq!(request.headers.first("X-Odd").unwrap().as_ref(), b"a b");
        assert_eq!(request.headers.first("Call-ID").unwrap().as_ref(), b"id@a");
        let names: Vec<&str> = request.headers.iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"Via") && names.contains(&"From"), "{names:?}");
    }

    #[test]
    fn headers_that_identify_a_dialog_must_be_whole() {
        let bad = [
            ("Contact", INVITE.replace("m: <sip:alice@a:5070>, <sip:second@a>\n", "")),
            ("Contact", INVITE.replace("m: <sip:alice@a:5070>, ", "m: <sip:alice@a:5070>, \"")),
            ("From", INVITE.replace(";tag=t1", ";tag=t1;tag=t2")),
            ("From", INVITE.replace(";tag=t1", ";tag=\"a b\"")),
            ("From", INVITE.replace(";tag=t1", ";tag")),
            ("Call-ID", INVITE.replace("id@a", "id id")),
            ("CSeq", INVITE.replace("7 INVITE", "4294967296 INVITE")),
            ("Record-Route", INVITE.replace("<sip:p3;lr>", "<sip:p3;lr")),
            ("Max-Forwards", INVITE.replace("l: 0", "Max-Forwards: 300\nl: 0")),
        ];
        for (header, text) in bad {
            assert_eq!(decoded(&text).err(), Some(Malformed(header)), "{text}");
        }
    }

    #[test]
    fn a_telephone_number_is_the_user_of_a_tel_uri() {
        let request = decoded(&INVITE.replace("sip:%2B4930@b;user=phone", "tel:+49-30;ext=1"));
        assert_eq!(request.unwrap().user.expose(), "+49-30");
    }
}

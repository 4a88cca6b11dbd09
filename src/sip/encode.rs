//! From the neutral messages of `call` to the SIP library's, refusing what would not arrive as
//! it was meant.

use bytes::Bytes;
use sipx_sip::{
    Header, HeaderName, Method, RequestBuilder, ResponseBuilder, StatusCode, Uri, validate_request,
};

use crate::call::message::{Headers, Request, Response};
use crate::sip::text::is_token;

/// Why a message cannot be sent. Says what is wrong with it, never its content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsendable {
    /// A value could end its line early, or a name is no token.
    #[error("{0}")]
    Build(#[from] sipx_sip::BuildError),
    /// The Request-URI is none.
    #[error("the Request-URI is malformed: {0}")]
    Uri(#[from] sipx_sip::UriError),
    /// The status is not between 100 and 699.
    #[error("{0} is not a status code")]
    Status(u16),
    /// The method or the tag is not a token.
    #[error("the {0} is not a token")]
    Token(&'static str),
    /// A header that every request needs is missing or malformed.
    #[error("the request is incomplete: {0:?}")]
    Incomplete(sipx_sip::Finding),
}

/// The request with `via` on top.
pub(super) fn request(neutral: &Request, via: String) -> Result<sipx_sip::Request, Unsendable> {
    if !is_token(neutral.method.as_str().as_bytes()) {
        return Err(Unsendable::Token("method"));
    }
    let method = Method::parse(&Bytes::copy_from_slice(neutral.method.as_str().as_bytes()));
    let uri = Uri::parse(Bytes::copy_from_slice(neutral.uri.as_bytes()))?;
    let mut builder = RequestBuilder::new(method, uri).header(HeaderName::Via, via)?;
    let mut hops_given = false;
    for (name, value) in neutral.headers.iter() {
        let name = HeaderName::parse(&Bytes::copy_from_slice(name.as_bytes()));
        if matches!(name, HeaderName::Via | HeaderName::ContentLength) {
            continue;
        }
        hops_given |= name == HeaderName::MaxForwards;
        builder = builder.header(name, value.clone())?;
    }
    if !hops_given {
        builder = builder.max_forwards(70);
    }
    let request = builder.body(neutral.body.clone()).build();
    match validate_request(&request).into_iter().next() {
        None => Ok(request),
        Some(finding) => Err(Unsendable::Incomplete(finding)),
    }
}

/// The response to a request. `tag` goes into `To` where the request has none there.
pub(super) fn response(
    request: &sipx_sip::Request,
    neutral: &Response,
    tag: &str,
    product: &str,
) -> Result<sipx_sip::Response, Unsendable> {
    let status = StatusCode::new(neutral.status).ok_or(Unsendable::Status(neutral.status))?;
    let mut builder = ResponseBuilder::to_request(request, status, neutral.reason.clone())?;
    builder = with_headers(builder, &neutral.headers)?;
    if neutral.headers.first("Server").is_none() && !product.is_empty() {
        builder = builder.header(HeaderName::Server, product.to_owned())?;
    }
    let mut response = builder.body(neutral.body.clone()).build();
    if neutral.status != 100 {
        add_tag(&mut response.headers, tag)?;
    }
    Ok(response)
}

fn with_headers(
    mut builder: ResponseBuilder,
    headers: &Headers,
) -> Result<ResponseBuilder, Unsendable> {
    for (name, value) in headers.iter() {
        let name = HeaderName::parse(&Bytes::copy_from_slice(name.as_bytes()));
        // Those that the request decides, and the one that the body decides.
        if matches!(
            name,
            HeaderName::Via
                | HeaderName::From
                | HeaderName::To
                | HeaderName::CallId
                | HeaderName::CSeq
                | HeaderName::ContentLength
        ) {
            continue;
        }
        builder = builder.header(name, value.clone())?;
    }
    Ok(builder)
}

fn add_tag(headers: &mut sipx_sip::Headers, tag: &str) -> Result<(), Unsendable> {
    let has_tag = match headers.typed::<sipx_sip::headers::To>() {
        Some(Ok(to)) => to.params.iter().any(|param| param.is("tag")),
        // A `To` that cannot be read goes back as it came.
        _ => true,
    };
    if has_tag {
        return Ok(());
    }
    if !is_token(tag.as_bytes()) {
        return Err(Unsendable::Token("tag"));
    }
    let at = headers.iter().position(|header| header.name() == &HeaderName::To).unwrap_or(0);
    let to = headers.value(&HeaderName::To).unwrap_or_default().into_owned();
    let tagged = as_it_came("To", &[&to, &b";tag="[..], tag.as_bytes()].concat());
    headers.remove_first(&HeaderName::To);
    headers.insert(at, tagged.ok_or(Unsendable::Token("To"))?);
    Ok(())
}

/// A header read as if it had arrived. The builder takes no NUL, which is legal in the quoted
/// name of somebody whom we answer (RFC 3261, 25.1).
fn as_it_came(name: &str, value: &[u8]) -> Option<Header> {
    let text = [b"SIP/2.0 200 \r\n", name.as_bytes(), b": ", value, b"\r\n\r\n"].concat();
    let message = sipx_sip::parse_datagram(text.into(), &sipx_sip::Limits::stream()).ok()?;
    let mut headers = message.headers().iter();
    let header = headers.next()?.clone();
    headers.next().is_none().then_some(header)
}

/// The CANCEL for an INVITE: its `Via`, its route, its identity (RFC 3261, 9.1).
pub(super) fn cancel(
    invite: &sipx_sip::Request,
    further: &Headers,
) -> Result<sipx_sip::Request, Unsendable> {
    let mut cancel = sipx_sip::Request::new(Method::Cancel, invite.uri.clone());
    let copied = |name: &HeaderName| {
        matches!(
            name,
            HeaderName::Via
                | HeaderName::From
                | HeaderName::To
                | HeaderName::CallId
                | HeaderName::Route
        )
    };
    for header in invite.headers.iter().filter(|header| copied(header.name())) {
        cancel.headers.push(header.clone());
    }
    let cseq = invite.headers.typed::<sipx_sip::headers::CSeq>().and_then(Result::ok);
    let number = cseq.map_or(0, |cseq| cseq.sequence);
    cancel.headers.push(Header::build(HeaderName::CSeq, format!("{number} CANCEL"))?);
    cancel.headers.push(Header::build(HeaderName::MaxForwards, "70")?);
    for (name, value) in further.iter() {
        let name = HeaderName::parse(&Bytes::copy_from_slice(name.as_bytes()));
        cancel.headers.push(Header::build(name, value.clone())?);
    }
    cancel.headers.push(Header::build(HeaderName::ContentLength, "0")?);
    Ok(cancel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::message::{self, Hop, Transport};

    fn invite() -> Request {
        Request {
            method: message::Method::Invite,
            uri: "sip:bob@192.0.2.1".to_owned(),
            headers: Headers::new()
                .with("From", "<sip:a@a>;tag=1")
                .with("To", "<sip:b@b>")
                .with("Call-ID", "c")
                .with("CSeq", "5 INVITE")
                .with("Route", "<sip:p;lr>")
                .with("Via", "SIP/2.0/UDP forged")
                .with("Content-Length", "99"),
            body: Bytes::from_static(b"v=0\r\n"),
            hop: Hop { transport: Transport::Udp, addr: ([127, 0, 0, 1], 9).into() },
        }
    }

    fn via() -> String {
        "SIP/2.0/UDP 127.0.0.1:5060;rport;branch=z9hG4bKx".to_owned()
    }

    #[test]
    fn a_request_leaves_with_our_via_its_length_and_its_hops() {
        let request = request(&invite(), via()).unwrap();
        let text = String::from_utf8(sipx_sip::Message::Request(request).to_bytes().to_vec());
        assert_eq!(
            text.unwrap(),
            "INVITE sip:bob@192.0.2.1 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:5060;rport;branch=z9hG4bKx\r\n\
             From: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: c\r\nCSeq: 5 INVITE\r\n\
             Route: <sip:p;lr>\r\nMax-Forwards: 70\r\nContent-Length: 5\r\n\r\nv=0\r\n"
        );
    }

    #[test]
    fn nothing_leaves_that_could_become_a_second_header_or_message() {
        let injected = |name: &str, value: &'static str| {
            let mut bad = invite();
            bad.headers.push(name, value);
            request(&bad, via()).is_err()
        };
        assert!(injected("X-A", "a\r\nX-B: b"));
        assert!(injected("X-A", "a\nb"));
        assert!(injected("X A", "a"));
        assert!(injected("X-A: b\r\nX-C", "a"));
        let with = |change: fn(&mut Request)| {
            let mut bad = invite();
            change(&mut bad);
            request(&bad, via()).is_err()
        };
        assert!(with(|r| r.uri = "sip:a@b\r\nX: y".to_owned()));
        assert!(with(|r| r.uri = "sip:a b".to_owned()));
        assert!(with(|r| r.method = message::Method::Other("A B".to_owned())));
        assert!(with(|r| r.method = message::Method::Bye), "the CSeq must name the method");
        assert!(with(|r| r.headers = Headers::new()));
    }

    #[test]
    fn a_response_goes_back_with_what_came_and_one_tag() {
        let incoming = request(&invite(), via()).unwrap();
        let mut neutral = Response::new(200, Some("ours".to_owned()));
        neutral.headers.push("To", "<sip:forged@x>");
        neutral.headers.push("Contact", "<sip:127.0.0.1>");
        let answer = response(&incoming, &neutral, "ours", "").unwrap();
        assert_eq!(answer.headers.value(&HeaderName::To).unwrap().as_ref(), b"<sip:b@b>;tag=ours");
        assert_eq!(answer.headers.count(&HeaderName::To), 1);
        assert_eq!(
            answer.headers.value(&HeaderName::Contact).unwrap().as_ref(),
            b"<sip:127.0.0.1>"
        );
        let trying = response(&incoming, &Response::new(100, None), "ours", "").unwrap();
        assert_eq!(trying.headers.value(&HeaderName::To).unwrap().as_ref(), b"<sip:b@b>");
        assert!(response(&incoming, &neutral, "a b", "").is_err());
        neutral.reason = "OK\r\nX: y".to_owned();
        assert!(response(&incoming, &neutral, "ours", "").is_err());
    }

    #[test]
    fn whoever_has_a_nul_in_their_name_is_answered() {
        let text = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
            From: <sip:b>;tag=1\r\nTo: \"N\\\0L\" <sip:a>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n";
        let parsed =
            sipx_sip::parse_datagram(Bytes::from_static(text), &sipx_sip::Limits::datagram());
        let Ok(sipx_sip::Message::Request(request)) = parsed else { panic!("it parses") };
        let answer = response(&request, &Response::new(200, None), "ours", "").unwrap();
        let to = answer.headers.value(&HeaderName::To).unwrap();
        assert_eq!(to.as_ref(), b"\"N\\\0L\" <sip:a>;tag=ours");
    }

    #[test]
    fn a_cancel_names_the_invite_that_it_cancels() {
        let further = Headers::new().with("Reason", "SIP;cause=200");
        let cancel = cancel(&request(&invite(), via()).unwrap(), &further).unwrap();
        assert_eq!(cancel.headers.value(&HeaderName::Via).unwrap().as_ref(), via().as_bytes());
        assert_eq!(cancel.headers.value(&HeaderName::CSeq).unwrap().as_ref(), b"5 CANCEL");
        assert_eq!(cancel.headers.value(&HeaderName::Route).unwrap().as_ref(), b"<sip:p;lr>");
        assert!(sipx_sip::validate_request(&cancel).is_empty());
    }
}

//! Answers for which no state is kept: to requests that we refuse, and to messages that do not
//! parse but say who wants an answer.

use std::net::SocketAddr;

use bytes::Bytes;
use sipx_sip::error::{LimitKind, ParseError};
use sipx_sip::headers::{CSeq, From};
use sipx_sip::{Header, HeaderName, Headers, Message, Method, Request, StatusCode, Via};

use crate::call::message::Response;
use crate::sip::check::Refusal;
use crate::sip::encode;
use crate::sip::secret::Secret;
use crate::sip::via;

/// The bytes of a refusal, ready to go back. `None` when nobody could tell what it answers.
pub(super) fn answer(
    request: &Request,
    refusal: &Refusal,
    tag: &str,
    product: &str,
) -> Option<Bytes> {
    let mut response = Response::new(refusal.status, None);
    for (name, value) in &refusal.headers {
        let name = String::from_utf8_lossy(name.canonical()).into_owned();
        response.headers.push(name, value.clone());
    }
    let response = match encode::response(request, &response, tag, product) {
        Ok(response) => response,
        Err(_) => incomplete(request, &response)?,
    };
    Some(Message::Response(response).to_bytes())
}

/// The answer to a request that lacks From, To or Call-ID. Its sender finds it by its `Via` and
/// its `CSeq` (RFC 3261, 17.1.3).
fn incomplete(request: &Request, answer: &Response) -> Option<sipx_sip::Response> {
    let status = StatusCode::new(answer.status)?;
    let mut response = sipx_sip::Response::new(status, answer.reason.clone());
    let ids = [&HeaderName::From, &HeaderName::To, &HeaderName::CallId];
    let needed = [&HeaderName::Via, &HeaderName::CSeq];
    let has = |name: &HeaderName| request.headers.get(name).is_some();
    if ids.into_iter().all(has) || !needed.into_iter().all(has) {
        return None;
    }
    for name in needed.into_iter().chain(ids) {
        for header in request.headers.get_all(name) {
            response.headers.push(header.clone());
        }
    }
    response.headers.push(Header::build(HeaderName::ContentLength, "0").ok()?);
    Some(response)
}

/// The tag that a refusal of this request bears, and by which its ACK is known.
pub(super) fn stateless_tag(headers: &Headers, secret: &Secret) -> String {
    let call_id = headers.value(&HeaderName::CallId).unwrap_or_default();
    let from = headers.typed::<From>().and_then(Result::ok);
    let from_tag = from.as_ref().and_then(|from| from.tag()).unwrap_or_default();
    let cseq = headers.typed::<CSeq>().and_then(Result::ok).map_or(0, |cseq| cseq.sequence);
    secret.tag(&call_id, from_tag, cseq)
}

/// The status for a message that did not parse.
pub(super) fn status_for(error: &ParseError) -> u16 {
    match error {
        ParseError::Limit { limit: LimitKind::BodyBytes, .. } => 413,
        ParseError::Limit { limit: LimitKind::MessageBytes, .. } => 513,
        _ => 400,
    }
}

/// What could be saved of a request that did not parse.
pub(super) struct Salvaged {
    request: Request,
    /// Where the answer goes over UDP.
    pub(super) reply_to: SocketAddr,
}

impl Salvaged {
    /// The answer.
    pub(super) fn answer(&self, status: u16, secret: &Secret, product: &str) -> Option<Bytes> {
        let tag = stateless_tag(&self.request.headers, secret);
        answer(&self.request, &Refusal::new(status), &tag, product)
    }
}

/// Reads the five headers that a response copies (RFC 3261, 8.2.6.2) out of bytes that are
/// otherwise broken. `None` when one is missing, when it is a response, or an ACK: to those
/// there is no answer.
pub(super) fn salvage(bytes: &[u8], source: SocketAddr) -> Option<Salvaged> {
    let mut lines = bytes.split(|&b| b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    let start = lines.next()?;
    let method = start.split(u8::is_ascii_whitespace).next()?;
    let is_response = start.get(..4).is_some_and(|s| s.eq_ignore_ascii_case(b"SIP/"));
    if is_response || method == b"ACK" || !crate::sip::text::is_token(method) {
        return None;
    }
    let mut headers = Headers::new();
    for (name, value) in unfolded(lines) {
        let name = HeaderName::parse(&Bytes::copy_from_slice(name));
        let wanted = match name {
            HeaderName::Via => true,
            HeaderName::From | HeaderName::To | HeaderName::CallId | HeaderName::CSeq => {
                headers.get(&name).is_none()
            }
            _ => false,
        };
        if wanted {
            headers.push(Header::build(name, value).ok()?);
        }
    }
    let needed = [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq];
    if needed.iter().any(|name| headers.value(name).is_none_or(|value| value.is_empty())) {
        return None;
    }
    headers.typed::<Via>()?.ok()?;
    let reply_to = via::stamp(&mut headers, source)?;
    // The Request-URI is not part of the answer; a URI that always parses stands in for it.
    let uri = sipx_sip::Uri::parse(Bytes::from_static(b"sip:invalid.invalid")).ok()?;
    let mut request = Request::new(Method::parse(&Bytes::copy_from_slice(method)), uri);
    request.headers = headers;
    Some(Salvaged { request, reply_to })
}

/// Header lines up to the blank line, with their continuations.
fn unfolded<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<(&'a [u8], Vec<u8>)> {
    const MOST: usize = 256;
    let mut out: Vec<(&[u8], Vec<u8>)> = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()).take(MOST) {
        if line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
            if let Some((_, value)) = out.last_mut() {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            continue;
        }
        let Some(colon) = line.iter().position(|&b| b == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        out.push((name.trim_ascii(), value.trim_ascii().to_vec()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str) -> Option<String> {
        let secret = Secret::draw().unwrap();
        let bytes = text.replace('\n', "\r\n");
        let salvaged = salvage(bytes.as_bytes(), "192.0.2.1:9".parse().unwrap())?;
        let answer = salvaged.answer(400, &secret, "")?;
        Some(String::from_utf8(answer.to_vec()).unwrap())
    }

    const BROKEN: &str = "INVITE sip:b ob SIP/2.0\nv: SIP/2.0/UDP a;branch=z9hG4bK1\n\
        Via: SIP/2.0/UDP c\nFrom: <sip:a>;tag=1\nno colon here\nt: <sip:b>\ni: id\n\
        CSeq: 1\n  INVITE\n\n";

    #[test]
    fn a_broken_request_that_names_its_sender_is_answered() {
        let answer = answered(BROKEN).unwrap();
        assert!(answer.starts_with("SIP/2.0 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("Via: SIP/2.0/UDP a;branch=z9hG4bK1;received=192.0.2.1\r\n"));
        assert!(answer.contains("Via: SIP/2.0/UDP c\r\n"));
        assert!(answer.contains("CSeq: 1 INVITE\r\n"), "{answer}");
        assert!(answer.contains("To: <sip:b>;tag="), "{answer}");
    }

    #[test]
    fn a_request_without_a_call_is_answered_with_what_it_has() {
        let text =
            b"INVITE sip:a SIP/2.0\r\nCSeq: 1 INVITE\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\r\n";
        let request = |text: &'static [u8]| {
            let limits = sipx_sip::Limits::datagram();
            match sipx_sip::parse_datagram(Bytes::from_static(text), &limits) {
                Ok(Message::Request(request)) => request,
                other => panic!("{other:?}"),
            }
        };
        let bytes = answer(&request(text), &Refusal::new(400), "t", "").unwrap();
        assert_eq!(
            bytes.as_ref(),
            b"SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
              CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        );
        let no_way_back = b"INVITE sip:a SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n";
        assert_eq!(answer(&request(no_way_back), &Refusal::new(400), "t", ""), None);
    }

    #[test]
    fn what_names_no_sender_or_wants_no_answer_gets_none() {
        for (from, to) in [
            ("v: SIP/2.0/UDP a;branch=z9hG4bK1\nVia: SIP/2.0/UDP c\n", ""),
            ("v: SIP/2.0/UDP a;branch=z9hG4bK1\n", "Via: nonsense\n"),
            ("From: <sip:a>;tag=1\n", ""),
            ("i: id\n", "i:\n"),
            ("INVITE sip", "ACK sip"),
            ("INVITE sip:b ob SIP/2.0", "SIP/2.0 abc"),
            ("INVITE", "\u{0}\u{1}"),
        ] {
            assert_eq!(answered(&BROKEN.replacen(from, to, 1)), None, "{from} {to}");
        }
        assert_eq!(answered(""), None);
        assert_eq!(answered("\n\n\n"), None);
    }
}

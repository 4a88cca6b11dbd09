//! What the fuzz targets do with the parsers of this folder.

use std::net::SocketAddr;

use bytes::Bytes;
use sipx_sip::{HeaderName, Message};

use crate::call::message::{Headers, Hop, Response, Transport};
use crate::sip::arrival::Intake;
use crate::sip::framer::{Frame, Framer};
use crate::sip::secret::Secret;
use crate::sip::text::{contains, find_bytes};
use crate::sip::{Limits, check, decode, encode, multipart, refuse, via};

const MOST_HEAD: usize = 2048;
const MOST_BODY: usize = 1024;

/// Cuts a stream into messages, which are the same however the stream is cut into reads.
pub(crate) fn framing(bytes: &[u8]) {
    let step = usize::from(bytes.first().copied().unwrap_or_default() % 7) + 1;
    let whole = frames(bytes, bytes.len().max(1));
    assert_eq!(whole, frames(bytes, step), "in steps of {step}");
}

fn frames(bytes: &[u8], step: usize) -> (Vec<Frame>, Option<u16>) {
    let mut framer = Framer::new(MOST_HEAD, MOST_BODY);
    let mut frames = Vec::new();
    for chunk in bytes.chunks(step) {
        framer.push(chunk);
        loop {
            match framer.next() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    if let Frame::Message(message) = &frame {
                        assert!(message.len() <= MOST_HEAD + MOST_BODY, "longer than allowed");
                    }
                    frames.push(frame);
                }
                Err(lost) => return (frames, Some(lost.status)),
            }
        }
    }
    (frames, None)
}

/// Everything that reads one message. What is answered is a response with one length, and bears
/// none of the branches that are ours.
pub(crate) fn message(bytes: &[u8]) {
    let source = Hop { transport: Transport::Udp, addr: SocketAddr::from(([127, 0, 0, 1], 9)) };
    let Ok(secret) = Secret::draw() else { return };
    if let Some(salvaged) = refuse::salvage(bytes, source.addr)
        && let Some(answer) = salvaged.answer(400, &secret, "Assent")
    {
        is_a_response(&answer);
    }
    let limits = Intake::parsing(&Limits::default());
    match sipx_sip::parse_datagram(Bytes::copy_from_slice(bytes), &limits) {
        Ok(Message::Request(request)) => requested(request, source, &secret),
        Ok(Message::Response(response)) => {
            let _ = sipx_sip::validate_response(&response);
            let _ = decode::answered(&response);
        }
        Err(error) => {
            assert!(refuse::status_for(&error) >= 400);
        }
    }
}

fn requested(mut request: sipx_sip::Request, source: Hop, secret: &Secret) {
    let stamped = via::stamp(&mut request.headers, source.addr);
    if let Some(reply_to) = stamped {
        assert_eq!(reply_to.ip(), source.addr.ip(), "an answer aimed at somebody else");
    }
    let tag = refuse::stateless_tag(&request.headers, secret);
    for status in [100, 200, 400] {
        if let Ok(response) = encode::response(&request, &Response::new(status, None), &tag, "A") {
            is_a_response(&Message::Response(response).to_bytes());
        }
    }
    if let Ok(cancel) = encode::cancel(&request, &Headers::new()) {
        assert_eq!(cancel.headers.count(&HeaderName::CSeq), 1);
    }
    match check::request(&request, source, secret.cookie()) {
        Ok((incoming, _)) => {
            assert!(!incoming.call_id.is_empty());
            assert!(!contains(incoming.uri.expose().as_bytes(), b"\r"));
        }
        Err(refusal) => {
            if let Some(answer) = refuse::answer(&request, &refusal, &tag, "Assent") {
                is_a_response(&answer);
            }
        }
    }
    let _ = decode::incoming(&request, source);
}

/// A second length or a line of somebody's choice would be a message within a message.
#[track_caller]
fn is_a_response(bytes: &Bytes) {
    let limits = sipx_sip::Limits { max_headers: 1024, ..sipx_sip::Limits::stream() };
    match sipx_sip::parse_datagram(bytes.clone(), &limits) {
        Ok(Message::Response(response)) => {
            assert_eq!(response.headers.count(&HeaderName::ContentLength), 1);
            assert!(response.body().is_empty());
        }
        other => panic!("no response: {other:?}"),
    }
}

/// One header of many, whose value is the input behind its first byte.
pub(crate) fn headers(bytes: &[u8]) {
    const NAMES: [&str; 24] = [
        "Via",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Contact",
        "Max-Forwards",
        "Record-Route",
        "Route",
        "Require",
        "Content-Type",
        "Content-Encoding",
        "Content-Length",
        "Accept",
        "Supported",
        "Timestamp",
        "Reason",
        "Diversion",
        "History-Info",
        "User-to-User",
        "Session-ID",
        "Privacy",
        "Alert-Info",
        "P-Asserted-Identity",
    ];
    let Some((choice, value)) = bytes.split_first() else { return };
    let name = NAMES[usize::from(*choice) % NAMES.len()];
    let mut text = b"INVITE sip:bob@b SIP/2.0\r\n".to_vec();
    for (other, good) in [
        ("Via", "SIP/2.0/UDP a;branch=z9hG4bK1"),
        ("From", "<sip:alice@a>;tag=1"),
        ("To", "<sip:bob@b>"),
        ("Call-ID", "id@h"),
        ("CSeq", "7 INVITE"),
        ("Contact", "<sip:alice@a>"),
    ] {
        if other != name {
            text.extend(format!("{other}: {good}\r\n").into_bytes());
        }
    }
    text.extend([name.as_bytes(), b": ", value, b"\r\n\r\nv=0\r\n"].concat());
    message(&text);
}

/// A body of several parts, behind a line that is its boundary.
pub(crate) fn parts(bytes: &[u8]) {
    let Some(end) = find_bytes(bytes, b"\n") else { return };
    let (boundary, body) = bytes.split_at(end);
    let body = Bytes::copy_from_slice(body.get(1..).unwrap_or_default());
    if let Some(found) = multipart::description(&body, boundary) {
        assert!(contains(&body, &found) || found.is_empty(), "made of nothing that came");
    }
}

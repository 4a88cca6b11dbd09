//! The session description in a body of several parts (RFC 5621): PBXs put ISUP, locations or
//! recording metadata beside it.

use bytes::Bytes;
use sipx_sip::headers::ContentType;

use crate::sip::text::find_bytes;

/// More parts than this are not looked at.
const MOST_PARTS: usize = 32;

/// The body that the call machine reads: of several parts, the description's; empty where there is
/// none among them. Any other body as it is.
pub(super) fn session(headers: &sipx_sip::Headers, body: &Bytes) -> Bytes {
    let Some(Ok(content)) = headers.typed::<ContentType>() else { return body.clone() };
    if content.media_type != b"multipart" {
        return body.clone();
    }
    let boundary = content.params.iter().find(|param| param.is("boundary"));
    let boundary = boundary.and_then(|param| param.value.as_deref()).unwrap_or_default();
    description(body, boundary).unwrap_or_default()
}

pub(super) fn description(body: &Bytes, boundary: &[u8]) -> Option<Bytes> {
    // RFC 2046, 5.1.1: one to seventy characters.
    if boundary.is_empty() || boundary.len() > 70 {
        return None;
    }
    let delimiter = [b"--", boundary].concat();
    let mut rest = after(body, &delimiter)?;
    for _ in 0..MOST_PARTS {
        if body.get(rest..)?.starts_with(b"--") {
            return None;
        }
        let next = after(body.get(rest..)?, &delimiter)?;
        // The line break before a delimiter belongs to the delimiter.
        let end = rest + next - delimiter.len();
        let part = body.slice(rest..end);
        if let Some(content) = description_in(&part) {
            return Some(content);
        }
        rest += next;
    }
    None
}

/// Behind the first `delimiter`.
fn after(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    find_bytes(bytes, delimiter).map(|at| at + delimiter.len())
}

/// The content of a part, if it is a description.
fn description_in(part: &Bytes) -> Option<Bytes> {
    let head = find_bytes(part, b"\r\n\r\n")?;
    let is_description = part.get(..head)?.split(|b| *b == b'\n').any(|line| {
        let mut words = line.splitn(2, |b| *b == b':');
        let name = words.next().unwrap_or_default().trim_ascii();
        let value = words.next().unwrap_or_default();
        let kind = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        (name.eq_ignore_ascii_case(b"Content-Type") || name.eq_ignore_ascii_case(b"c"))
            && kind.eq_ignore_ascii_case(b"application/sdp")
    });
    let content = part.slice(head + 4..);
    let length = content.strip_suffix(b"\r\n").map_or(content.len(), <[u8]>::len);
    is_description.then(|| content.slice(..length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(boundary: &str, body: &str) -> Option<String> {
        let body = Bytes::from(body.replace('\n', "\r\n"));
        let found = description(&body, boundary.as_bytes())?;
        Some(String::from_utf8_lossy(&found).into_owned())
    }

    const ISUP: &str = "--b\nContent-Type: application/isup\n\nxyz\n";
    const SDP: &str = "--b\nContent-ID: <1>\ncontent-type:Application/SDP;x=y\n\nv=0\ns=-\n\n";

    #[test]
    fn the_description_is_found_wherever_it_stands() {
        for body in [
            format!("{ISUP}{SDP}--b--\n"),
            format!("preamble\n{SDP}{ISUP}--b--"),
            format!("{SDP}--b--\nepilogue"),
        ] {
            assert_eq!(found("b", &body).as_deref(), Some("v=0\r\ns=-\r\n"), "{body}");
        }
    }

    #[test]
    fn what_is_cut_or_absent_is_not_found() {
        for (boundary, body) in [
            ("b", ISUP.to_owned() + "--b--\n"),
            ("b", SDP.to_owned()),
            ("b", "--b--\n".to_owned() + SDP + "--b--"),
            ("b", "--b\nContent-Type: application/sdp\n--b--".to_owned()),
            ("c", SDP.to_owned() + "--b--"),
            ("", SDP.to_owned() + "--b--"),
            ("b", String::new()),
            ("b", format!("{}{SDP}--b--", ISUP.repeat(40))),
        ] {
            assert_eq!(found(boundary, &body), None, "{body}");
        }
    }
}

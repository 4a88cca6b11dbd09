//! From bytes to the parser's session, leaving out what could only make it fail.
//!
//! Names, times, bandwidths and origins decide nothing here, and real peers send them in Latin-1
//! or with versions beyond 64 bits. They are dropped before the parser sees them.

use sdp_types::{ParserError, Session};

use super::{MAX_BYTES, MAX_MEDIA, SdpError};

/// Parses a description, keeping its version, connection, media and attribute lines.
pub(super) fn parse(bytes: &[u8]) -> Result<Session, SdpError> {
    if bytes.len() > MAX_BYTES {
        return Err(SdpError::TooLarge);
    }
    let session = Session::parse(&kept_lines(bytes)).map_err(|error| line_of(&error))?;
    if session.medias.len() > MAX_MEDIA {
        return Err(SdpError::TooLarge);
    }
    Ok(session)
}

/// Every line in place, so that an error names the peer's line; empty where it decides nothing.
fn kept_lines(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    for line in bytes.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Blanks at the end of a line are common and mean nothing.
        let line = line.trim_ascii_end();
        let decides = match line {
            [b'v' | b'c' | b'm', b'=', ..] => true,
            [b'a', b'=', value @ ..] => std::str::from_utf8(value).is_ok(),
            [b'a'..=b'z', b'=', ..] => false,
            // Not of the form key=value: the parser says where.
            other => !other.is_empty(),
        };
        if decides {
            kept.extend_from_slice(line);
        }
        kept.push(b'\n');
    }
    kept
}

fn line_of(error: &ParserError) -> SdpError {
    match *error {
        ParserError::InvalidLineFormat(line, _)
        | ParserError::InvalidFieldEncoding(line, _)
        | ParserError::InvalidFieldFormat(line, _)
        | ParserError::MissingField(line, _)
        | ParserError::FieldTrailingData(line, _)
        | ParserError::InvalidVersion(line, _)
        | ParserError::MultipleVersions(line)
        | ParserError::MultipleConnections(line) => SdpError::Syntax(line),
        // The first line is not v=; the others are of lines that were dropped.
        _ => SdpError::Syntax(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_nothing_cannot_spoil_a_description() {
        let sdp = b"v=0\r\no=- 1 99999999999999999999999999 IN IP4 \xff\r\ns=Caf\xe9\r\ni=\xff\r\n\
            t=never\r\nb=lots\r\nk=\xff\r\nc=IN IP4 192.0.2.1 \r\nm=audio 4000 RTP/AVP 0\r\n\
            a=\xff:x\r\na=sendrecv\r\n";
        let session = parse(sdp).unwrap();
        assert_eq!(session.medias.len(), 1);
        assert_eq!(session.medias[0].attributes.len(), 1);
    }

    #[test]
    fn an_error_names_the_line_of_the_peer() {
        assert_eq!(parse(b"v=0\r\ns=x\r\nnonsense\r\n"), Err(SdpError::Syntax(3)));
        assert_eq!(parse(b"v=0\nt=0 0\n\nm=audio x RTP/AVP 0\n"), Err(SdpError::Syntax(4)));
        assert_eq!(parse(b"v=1\r\n"), Err(SdpError::Syntax(1)));
        assert_eq!(parse(b""), Err(SdpError::Syntax(1)));
        assert_eq!(parse(b"v=0\r\nc=IN IP4 1\0\r\n"), Err(SdpError::Syntax(2)));
    }

    #[test]
    fn size_is_bounded() {
        assert_eq!(parse(&vec![b'a'; MAX_BYTES + 1]), Err(SdpError::TooLarge));
        let many = format!("v=0\r\n{}", "m=audio 4000 RTP/AVP 0\r\n".repeat(MAX_MEDIA + 1));
        assert_eq!(parse(many.as_bytes()), Err(SdpError::TooLarge));
    }
}

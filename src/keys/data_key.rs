//! The key that one party's voice in one recording is encrypted with.

use sha2::Digest as _;
use zeroize::Zeroizing;

use crate::segment::format::KeyId;

/// The 32-byte key of one party of one recording.
///
/// Neither `Clone`, `Debug` nor serde. The bytes live on the heap, so that moving the key leaves
/// no copy behind on the stack, and are zeroised when it is dropped.
pub struct DataKey(Box<Zeroizing<[u8; DataKey::LENGTH]>>);

/// The operating system gave no random bytes; nothing may be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes: {0}")]
pub struct NoRandomness(#[from] getrandom::Error);

impl DataKey {
    /// How long it is, in bytes.
    pub const LENGTH: usize = 32;

    /// A fresh key from the operating system's random source.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`]: there is no key then, and so no recording.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut key = Self::zero();
        getrandom::fill(key.0.as_mut_slice())?;
        Ok(key)
    }

    /// A key from bytes that were kept elsewhere. The caller zeroises its own copy.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut key = Self::zero();
        key.0.copy_from_slice(bytes);
        key
    }

    /// The key itself, for the cipher, for wrapping, and for an export that somebody answers for.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// What names the key without giving it away: the first 8 bytes of the SHA-256 of
    /// `assent-key-id-v1` and the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut hash = sha2::Sha256::new_with_prefix(b"assent-key-id-v1");
        hash.update(self.expose());
        KeyId::first_of(&hash.finalize().into())
    }

    fn zero() -> Self {
        Self(Box::new(Zeroizing::new([0; Self::LENGTH])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_are_the_same() {
        let (a, b) = (DataKey::generate().unwrap(), DataKey::generate().unwrap());
        assert_ne!(a.expose(), b.expose());
        assert_ne!(a.id(), b.id());
    }

    #[test]
    fn a_key_keeps_its_name() {
        let key = DataKey::from_bytes(&[7; 32]);
        assert_eq!(key.id(), DataKey::from_bytes(&[7; 32]).id());
        let mut text = b"assent-key-id-v1".to_vec();
        text.extend([7; 32]);
        let digest = crate::ids::Digest::of(&text).to_string();
        assert_eq!(key.id().to_string(), digest[..16]);
    }
}

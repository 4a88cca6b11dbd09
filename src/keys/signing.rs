//! The key that signs manifests and evidence (Ed25519, RFC 8032).

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use ed25519_dalek::Signer as _;
use zeroize::Zeroizing;

use crate::keys::folder::{KeyFolder, KeyFolderError};
use crate::segment::format::{KeyId, Signature};

/// The agent's signing key. It is zeroised when dropped.
pub struct SigningKey(Box<ed25519_dalek::SigningKey>);

impl SigningKey {
    /// Reads `signing-key` in the key folder; makes folder and key where they are missing.
    ///
    /// # Errors
    ///
    /// [`KeyFolderError`], which names the path and the remedy.
    pub fn open(folder: &Path) -> Result<Self, KeyFolderError> {
        Ok(Self::from_seed(&*KeyFolder::open(folder)?.read_or_make("signing-key")?))
    }

    /// The key of a 32-byte seed (RFC 8032, 5.1.5).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let seed = Zeroizing::new(*seed);
        Self(Box::new(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// Signs a message. The same message always gets the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Which key signed: see [`VerifyingKey::key_id`].
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.public().key_id()
    }
}

/// The public half of a [`SigningKey`]: 32 bytes, written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

/// A signature is not that of this key over this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not belong to this text and key")]
pub struct BadSignature;

/// A text or bytes are not an Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an Ed25519 public key is written as 64 hex digits")]
pub struct BadVerifyingKey;

impl VerifyingKey {
    /// From its 32 bytes.
    ///
    /// # Errors
    ///
    /// [`BadVerifyingKey`] when they are no point of the curve, or a weak one.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, BadVerifyingKey> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| BadVerifyingKey)?;
        if key.is_weak() { Err(BadVerifyingKey) } else { Ok(Self(key)) }
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The first 8 bytes of the SHA-256 of the public key's 32 bytes.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId::first_of(&crate::ids::Digest::of(&self.to_bytes()).0)
    }

    /// Checks a signature, strictly: no signature of the same message is accepted in two forms.
    ///
    /// # Errors
    ///
    /// [`BadSignature`].
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(message, &signature).map_err(|_| BadSignature)
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyingKey {
    type Err = BadVerifyingKey;

    fn from_str(text: &str) -> Result<Self, BadVerifyingKey> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| BadVerifyingKey)?;
        Self::from_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 2.
    #[test]
    fn signs_as_rfc_8032_says() {
        let mut seed = [0; 32];
        hex::decode_to_slice(
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            &mut seed,
        )
        .unwrap();
        let key = SigningKey::from_seed(&seed);
        assert_eq!(
            key.public().to_string(),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        assert_eq!(
            hex::encode(key.sign(&[0x72])),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
    }

    #[test]
    fn a_signature_belongs_to_its_message_and_key() {
        let key = SigningKey::from_seed(&[1; 32]);
        let signature = Signature(key.sign(b"said"));
        assert_eq!(key.public().verify(b"said", &signature), Ok(()));
        assert_eq!(key.public().verify(b"Said", &signature), Err(BadSignature));
        let other = SigningKey::from_seed(&[2; 32]);
        assert_eq!(other.public().verify(b"said", &signature), Err(BadSignature));
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
    }

    #[test]
    fn a_weak_public_key_is_none() {
        assert!("00".repeat(32).parse::<VerifyingKey>().is_err());
        assert!("0".parse::<VerifyingKey>().is_err());
    }
}

//! The key that turns numbers into references and keeps the numbers themselves sealed.

use std::path::Path;

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::ids::{PartyRef, Pii};
use crate::keys::NoRandomness;
use crate::keys::folder::{KeyFolder, KeyFolderError};

/// The tenant's reference key. It is zeroised when dropped.
pub struct ReferenceKey {
    /// Filled up with zeros to the block of the hash, as HMAC does it.
    hmac: Box<Zeroizing<[u8; 64]>>,
    numbers: Box<Aes256Gcm>,
}

/// A number could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No random bytes for the nonce.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// Longer than AES-GCM takes.
    #[error("the number is too long to be encrypted")]
    TooLong,
}

/// A sealed number was not sealed under this key for this party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the number was not encrypted under this reference key for this party")]
pub struct NotSealedByUs;

const NONCE: usize = 12;
const TAG: usize = 16;

impl ReferenceKey {
    /// Reads `reference-key` in the key folder; makes folder and key where they are missing.
    ///
    /// # Errors
    ///
    /// [`KeyFolderError`], which names the path and the remedy.
    pub fn open(folder: &Path) -> Result<Self, KeyFolderError> {
        Ok(Self::from_bytes(&*KeyFolder::open(folder)?.read_or_make("reference-key")?))
    }

    /// From its 32 bytes. The caller zeroises its own copy.
    #[must_use]
    pub fn from_bytes(key: &[u8; 32]) -> Self {
        let mut derived = Zeroizing::new([0; 32]);
        let expanded = hkdf::Hkdf::<Sha256>::new(None, key)
            .expand(b"assent-party-number-v1", derived.as_mut_slice());
        // HKDF-SHA-256 expands to up to 8160 bytes; 32 are asked for.
        debug_assert!(expanded.is_ok());
        let numbers = Box::new(Aes256Gcm::new(&(*derived).into()));
        let mut hmac = Box::new(Zeroizing::new([0; 64]));
        hmac.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        Self { hmac, numbers }
    }

    /// The reference of a party: HMAC-SHA-256 of the normalised number.
    #[must_use]
    pub fn party_ref(&self, normalised: &str) -> PartyRef {
        let mut mac = Hmac::<Sha256>::new((&**self.hmac).into());
        mac.update(normalised.as_bytes());
        PartyRef(mac.finalize().into_bytes().into())
    }

    /// Encrypts a party's number for the catalog: AES-256-GCM under a key derived from this one,
    /// the random nonce first, bound to the party's reference.
    ///
    /// # Errors
    ///
    /// [`SealError`] when there are no random bytes.
    pub fn seal(&self, party: PartyRef, number: &str) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(NoRandomness::from)?;
        let mut text = Zeroizing::new(number.as_bytes().to_vec());
        let tag = self
            .numbers
            .encrypt_inout_detached(&nonce.into(), &party.0, text.as_mut_slice().into())
            .map_err(|_| SealError::TooLong)?;
        Ok([&nonce[..], &text, &tag].concat())
    }

    /// Decrypts a party's number.
    ///
    /// # Errors
    ///
    /// [`NotSealedByUs`] when the bytes are changed, or are another party's.
    pub fn open_sealed(
        &self,
        party: PartyRef,
        sealed: &[u8],
    ) -> Result<Pii<String>, NotSealedByUs> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or(NotSealedByUs)?;
        let (text, tag) = rest.split_last_chunk::<TAG>().ok_or(NotSealedByUs)?;
        let mut text = text.to_vec();
        self.numbers
            .decrypt_inout_detached(
                &(*nonce).into(),
                &party.0,
                text.as_mut_slice().into(),
                &(*tag).into(),
            )
            .map_err(|_| NotSealedByUs)?;
        String::from_utf8(text).map(Pii::new).map_err(|_| NotSealedByUs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_hmac_sha_256_of_the_number() {
        // RFC 4231 has no 32-byte key; computed with Python's hmac module.
        let key = ReferenceKey::from_bytes(&[0x0b; 32]);
        assert_eq!(
            key.party_ref("+4930123456").to_string(),
            "9532da496b964d78cda23c9e612be93ff554a4f5b541ee338b8246647d75bcba"
        );
        assert_ne!(key.party_ref("+4930123456"), key.party_ref("+4930123457"));
    }

    #[test]
    fn a_sealed_number_opens_for_its_party_alone() {
        let key = ReferenceKey::from_bytes(&[1; 32]);
        let party = key.party_ref("+4930123456");
        let sealed = key.seal(party, "+4930123456").unwrap();
        assert!(!sealed.windows(6).any(|six| six == b"493012"));
        assert_ne!(sealed, key.seal(party, "+4930123456").unwrap(), "the nonce is random");
        let opened = key.open_sealed(party, &sealed).unwrap();
        assert_eq!(opened.expose(), "+4930123456");

        let stranger = key.party_ref("+1");
        assert_eq!(key.open_sealed(stranger, &sealed), Err(NotSealedByUs));
        let other = ReferenceKey::from_bytes(&[2; 32]);
        assert_eq!(other.open_sealed(party, &sealed), Err(NotSealedByUs));
    }

    #[test]
    fn every_changed_byte_of_a_sealed_number_is_found() {
        let key = ReferenceKey::from_bytes(&[1; 32]);
        let party = key.party_ref("+1");
        let sealed = key.seal(party, "+1").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open_sealed(party, &changed), Err(NotSealedByUs), "byte {at}");
            assert_eq!(key.open_sealed(party, &sealed[..at]), Err(NotSealedByUs), "cut at {at}");
        }
    }
}

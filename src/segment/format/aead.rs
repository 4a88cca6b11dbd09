//! Tink's AES-GCM-HKDF streaming AEAD, with AES-256, HKDF-SHA-256 and chunks of 2048 bytes.
//!
//! ```text
//! header   1 byte, 40 │ salt, 32 bytes │ nonce prefix, 7 bytes
//! key      HKDF-SHA-256(data key, salt, info = associated data), 32 bytes
//! nonce    nonce prefix │ chunk number, u32 big-endian │ 1 for the last chunk, else 0
//! chunk    AES-256-GCM(plaintext) │ tag, 16 bytes
//! ```
//!
//! Every chunk but the last is [`CHUNK`] bytes in the file; the first one includes the header.
//! Chunks are what Tink calls ciphertext segments. A file is never longer than 2³² of them.

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use zeroize::Zeroizing;

use super::name::AssociatedData;

/// The size of a chunk in the file, in bytes.
pub const CHUNK: usize = 2048;
/// The size of the header, in bytes; also the value of its first byte.
pub const HEADER: usize = 1 + SALT + NONCE_PREFIX;
/// The size of a chunk's authentication tag, in bytes.
pub const TAG: usize = 16;
/// The plaintext that the first chunk holds, in bytes.
pub const FIRST_PLAINTEXT: usize = CHUNK - HEADER - TAG;
/// The plaintext that every further chunk holds, in bytes.
pub const PLAINTEXT: usize = CHUNK - TAG;

const SALT: usize = 32;
const NONCE_PREFIX: usize = 7;
const NONCE: usize = NONCE_PREFIX + 4 + 1;

/// The random part of a segment's header. Never used for two segments.
#[derive(Clone)]
pub struct Seed {
    /// The salt of the key derivation.
    pub salt: [u8; SALT],
    /// The first bytes of every chunk's nonce.
    pub nonce_prefix: [u8; NONCE_PREFIX],
}

impl Seed {
    /// The header of the segment.
    #[must_use]
    pub fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let (length, rest) = header.split_at_mut(1);
        let (salt, nonce_prefix) = rest.split_at_mut(SALT);
        length.copy_from_slice(&[HEADER as u8]);
        salt.copy_from_slice(&self.salt);
        nonce_prefix.copy_from_slice(&self.nonce_prefix);
        header
    }

    /// The seed in a header; `None` when the header is not of this format.
    #[must_use]
    pub fn of_header(header: &[u8; HEADER]) -> Option<Self> {
        let (length, rest) = header.split_first_chunk::<1>()?;
        let (salt, rest) = rest.split_first_chunk::<SALT>()?;
        let nonce_prefix = rest.first_chunk::<NONCE_PREFIX>()?;
        (usize::from(length[0]) == HEADER)
            .then_some(Self { salt: *salt, nonce_prefix: *nonce_prefix })
    }
}

/// Whether a chunk ends its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// More chunks follow.
    Inner,
    /// The last one: the segment is whole.
    Last,
}

/// Chunks cannot be encrypted any more: their numbers are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a segment cannot be longer")]
pub struct SegmentFull;

/// A chunk is not what was written at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunk does not authenticate at this place")]
pub struct NotAuthentic;

/// The cipher of one segment. Its keys are zeroised when it is dropped.
pub struct SegmentCipher {
    cipher: Box<Aes256Gcm>,
    nonce_prefix: [u8; NONCE_PREFIX],
}

impl SegmentCipher {
    /// Derives a segment's key from the party's data key.
    #[must_use]
    pub fn new(data_key: &[u8; 32], seed: &Seed, associated: &AssociatedData) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        let expanded = hkdf::Hkdf::<sha2::Sha256>::new(Some(&seed.salt), data_key)
            .expand(associated.as_str().as_bytes(), key.as_mut_slice());
        // HKDF-SHA-256 expands to up to 8160 bytes; 32 are asked for.
        debug_assert!(expanded.is_ok());
        let cipher = Box::new(Aes256Gcm::new((&*key).into()));
        Self { cipher, nonce_prefix: seed.nonce_prefix }
    }

    /// Encrypts a chunk in place and returns its tag.
    ///
    /// # Errors
    ///
    /// [`SegmentFull`] when the text is longer than any chunk may be.
    pub fn seal(
        &self,
        number: u32,
        place: Place,
        text: &mut [u8],
    ) -> Result<[u8; TAG], SegmentFull> {
        let nonce = self.nonce(number, place).into();
        let tag = self.cipher.encrypt_inout_detached(&nonce, b"", text.into());
        tag.map(Into::into).map_err(|_| SegmentFull)
    }

    /// Decrypts a chunk (without the header) in place and returns its text.
    ///
    /// # Errors
    ///
    /// [`NotAuthentic`] when it is not the chunk of this number and place; the bytes are left as
    /// they were.
    pub fn open<'a>(
        &self,
        number: u32,
        place: Place,
        chunk: &'a mut [u8],
    ) -> Result<&'a mut [u8], NotAuthentic> {
        let (text, tag) = chunk.split_last_chunk_mut::<TAG>().ok_or(NotAuthentic)?;
        let nonce = self.nonce(number, place).into();
        self.cipher
            .decrypt_inout_detached(&nonce, b"", (&mut *text).into(), &(*tag).into())
            .map_err(|_| NotAuthentic)?;
        Ok(text)
    }

    fn nonce(&self, number: u32, place: Place) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        let (prefix, rest) = nonce.split_at_mut(NONCE_PREFIX);
        let (counter, last) = rest.split_at_mut(4);
        prefix.copy_from_slice(&self.nonce_prefix);
        counter.copy_from_slice(&number.to_be_bytes());
        last.copy_from_slice(&[u8::from(place == Place::Last)]);
        nonce
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{StreamId, StreamIndex};
    use crate::segment::format::SegmentName;

    /// A text, and the file that Tink made of it.
    struct Known {
        text: Vec<u8>,
        file: Vec<u8>,
    }

    #[derive(serde::Deserialize)]
    struct Vectors {
        key: String,
        associated_data: String,
        vectors: Vec<Vector>,
    }

    #[derive(serde::Deserialize)]
    struct Vector {
        length: usize,
        file: String,
    }

    /// Written by Tink: `tests/python/make_tink_vectors.py`.
    fn known() -> (impl Fn(&Seed) -> SegmentCipher, Vec<Known>) {
        let known: Vectors = serde_json::from_str(include_str!("vectors/tink.json")).unwrap();
        let recording = "019aa8a6-2c00-7abc-8def-0123456789ab".parse().unwrap();
        let stream = StreamId { recording, index: StreamIndex(1) };
        let name = SegmentName { stream, segment: 12 };
        let associated = name.associated_data(crate::ids::Digest::of(b"abc"));
        assert_eq!(associated.as_str(), known.associated_data);
        let mut key = [0; 32];
        hex::decode_to_slice(known.key, &mut key).unwrap();
        let vectors = known.vectors.into_iter().map(|Vector { length, file }| {
            let text = (0..length).map(|i| (7 * i + 3) as u8).collect();
            Known { text, file: hex::decode(file).unwrap() }
        });
        let cipher = move |seed: &Seed| SegmentCipher::new(&key, seed, &associated);
        (cipher, vectors.collect())
    }

    /// A text as chunks, each with its place; the last is never empty unless the text is.
    fn in_chunks(text: &[u8]) -> Vec<(Place, Vec<u8>)> {
        let (first, rest) = text.split_at(text.len().min(FIRST_PLAINTEXT));
        let mut chunks: Vec<_> = std::iter::once(first)
            .chain(rest.chunks(PLAINTEXT))
            .map(|chunk| (Place::Inner, chunk.to_vec()))
            .collect();
        chunks.last_mut().unwrap().0 = Place::Last;
        chunks
    }

    #[test]
    fn encrypts_to_the_same_bytes_as_tink() {
        let (cipher, vectors) = known();
        for Known { text, file } in vectors {
            let seed = Seed::of_header(file.first_chunk().unwrap()).unwrap();
            let cipher = cipher(&seed);
            let mut ours = seed.header().to_vec();
            for (number, (place, mut chunk)) in in_chunks(&text).into_iter().enumerate() {
                let tag = cipher.seal(number as u32, place, &mut chunk).unwrap();
                ours.extend(chunk);
                ours.extend(tag);
            }
            assert!(ours == file, "{} bytes of text", text.len());
        }
    }

    #[test]
    fn decrypts_what_tink_wrote_and_nothing_at_another_place() {
        let (cipher, vectors) = known();
        for Known { text, mut file } in vectors {
            let seed = Seed::of_header(file.first_chunk().unwrap()).unwrap();
            let cipher = cipher(&seed);
            let mut opened = Vec::new();
            let mut ciphertext = &mut file[HEADER..];
            for (number, (place, chunk)) in in_chunks(&text).into_iter().enumerate() {
                let (this, rest) = ciphertext.split_at_mut(chunk.len() + TAG);
                let (number, other) = match place {
                    Place::Inner => (number as u32, Place::Last),
                    Place::Last => (number as u32, Place::Inner),
                };
                assert_eq!(cipher.open(number, other, this), Err(NotAuthentic));
                assert_eq!(cipher.open(number + 1, place, this), Err(NotAuthentic));
                opened.extend_from_slice(cipher.open(number, place, this).unwrap());
                ciphertext = rest;
            }
            assert!(opened == text, "{} bytes of text", text.len());
        }
    }

    #[test]
    fn a_header_of_another_format_is_none() {
        let seed = Seed { salt: [1; 32], nonce_prefix: [2; 7] };
        let mut header = seed.header();
        assert!(Seed::of_header(&header).is_some_and(|same| same.header() == header));
        header[0] = 24;
        assert!(Seed::of_header(&header).is_none());
    }
}

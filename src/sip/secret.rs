//! What nobody outside can guess: branches, tags of stateless answers, and the cookie by which
//! this agent knows its own messages.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A key drawn once when the edge starts. Everything else is derived from it, so that nothing
/// later depends on the operating system's random numbers being there.
pub(super) struct Secret {
    key: [u8; 32],
    /// The start of every branch of ours.
    cookie: String,
}

impl Secret {
    /// Draws the key.
    ///
    /// # Errors
    /// When the operating system has no random numbers.
    pub(super) fn draw() -> Result<Self, getrandom::Error> {
        let mut secret = Self { key: [0; 32], cookie: String::new() };
        getrandom::fill(&mut secret.key)?;
        let mark = secret.derive("cookie", &[]);
        secret.cookie = format!("z9hG4bKa{}-", hex::encode(mark.get(..8).unwrap_or_default()));
        Ok(secret)
    }

    /// The branch with this number: 128 bits that no one else can foretell. RFC 3261, 8.1.1.7
    /// wants them unique; a branch that cannot be guessed also keeps forged responses out.
    pub(super) fn branch(&self, number: u64) -> String {
        let random = self.derive("branch", &[&number.to_be_bytes()]);
        format!("{}{}", self.cookie, hex::encode(random))
    }

    /// How every branch of ours starts.
    pub(super) fn cookie(&self) -> &[u8] {
        self.cookie.as_bytes()
    }

    /// The `To` tag of an answer for which no state is kept: the same for each retransmission
    /// and for the ACK (RFC 3261, 8.2.7).
    pub(super) fn tag(&self, call_id: &[u8], from_tag: &[u8], cseq: u32) -> String {
        hex::encode(self.derive("tag", &[call_id, from_tag, &cseq.to_be_bytes()]))
    }

    /// The 128 bits that stand for these texts in a table.
    pub(super) fn derive(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 16] {
        let mut out = [0; 16];
        // HMAC takes a key of any length, so there is nothing to fail; all zeroes would only
        // make answers alike.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else {
            return out;
        };
        mac.update(purpose.as_bytes());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        for (to, from) in out.iter_mut().zip(mac.finalize().into_bytes()) {
            *to = from;
        }
        out
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_ours_unique_and_128_bits() {
        let secret = Secret::draw().unwrap();
        let (one, two) = (secret.branch(1), secret.branch(2));
        assert_ne!(one, two);
        assert!(one.as_bytes().starts_with(secret.cookie()));
        assert_eq!(one.len() - secret.cookie().len(), 32);
        assert_ne!(secret.cookie(), Secret::draw().unwrap().cookie());
    }

    #[test]
    fn a_stateless_tag_depends_on_every_part_and_on_the_boundaries_between_them() {
        let secret = Secret::draw().unwrap();
        assert_eq!(secret.tag(b"a", b"b", 1), secret.tag(b"a", b"b", 1));
        assert_ne!(secret.tag(b"ab", b"", 1), secret.tag(b"a", b"b", 1));
        assert_ne!(secret.tag(b"a", b"b", 2), secret.tag(b"a", b"b", 1));
    }
}

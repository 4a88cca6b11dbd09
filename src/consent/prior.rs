//! What is known of a party before anybody asks them.

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// What is known of a party before anybody asks them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Prior {
    /// Nothing: the policy says what to do.
    #[default]
    Nothing,
    /// They are on the do-not-record list: they count as having objected, and are not asked.
    Listed,
    /// A token whose signature, age and call were found right speaks for them. It counts only
    /// where the policy's gate is `token`.
    Token(TokenStated),
}

/// What a valid token states about a party.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenStated {
    /// SHA-256 of the token's text.
    pub digest: Digest,
    /// The identifier of the key that signed it.
    pub key: String,
    /// What the party is said to have answered.
    pub stated: Stated,
}

/// What a token states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stated {
    /// The party agreed.
    Granted,
    /// The party refused.
    Refused,
}

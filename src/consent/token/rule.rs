//! Whose tokens count under a policy, and what those of a call say of its parties.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::consent::token::{Fault, TokenKey, header, verify};
use crate::consent::{Stated, TokenStated};
use crate::ids::Leg;
use crate::network::Network;
use crate::time::Timestamp;

/// So many tokens of a call are looked at: two parties, each before and after a change of keys,
/// and as many again.
const MOST: usize = 8;

/// Whose tokens count under a policy.
#[derive(Debug)]
pub struct TokenRule {
    /// The header that holds them.
    pub header: String,
    /// Who may send them.
    pub peers: Vec<Network>,
    /// How old they may be.
    pub max_age: Duration,
    /// The keys by their identifiers.
    pub keys: BTreeMap<String, TokenKey>,
}

/// What the tokens of a call say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Of the caller.
    pub caller: Option<TokenStated>,
    /// Of the callee.
    pub callee: Option<TokenStated>,
    /// Why the others are none.
    pub faults: Vec<Fault>,
}

impl Found {
    /// What they say of the party on `leg`.
    #[must_use]
    pub fn of(&self, leg: Leg) -> Option<&TokenStated> {
        match leg {
            Leg::Caller => self.caller.as_ref(),
            Leg::Callee => self.callee.as_ref(),
        }
    }

    /// Of two tokens about one party the one that refuses counts, else the first.
    fn add(&mut self, leg: Leg, stated: TokenStated) {
        let known = match leg {
            Leg::Caller => &mut self.caller,
            Leg::Callee => &mut self.callee,
        };
        match known {
            Some(known) if known.stated == Stated::Refused || stated.stated == Stated::Granted => {}
            _ => *known = Some(stated),
        }
    }
}

impl TokenRule {
    /// Reads the tokens in `values`, the values of the rule's header in an INVITE from `peer`.
    #[must_use]
    pub fn read<'v>(
        &self,
        values: impl Iterator<Item = &'v [u8]>,
        peer: IpAddr,
        call_id: &str,
        now: Timestamp,
    ) -> Found {
        let mut found = Found::default();
        let trusted = self.peers.iter().any(|network| network.contains(peer));
        for (number, text) in values.flat_map(header::tokens).enumerate() {
            let verdict = match text {
                _ if number >= MOST => Err(Fault::TooMuch),
                _ if !trusted => Err(Fault::Stranger),
                None => Err(Fault::Malformed),
                Some(text) => verify(&text, |id| self.keys.get(id), self.max_age, call_id, now),
            };
            match verdict {
                Ok(verified) => found.add(verified.leg, verified.stated),
                Err(fault) => found.faults.push(fault),
            }
            if number >= MOST {
                break;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::consent::token::tests::{CALL, NOW, by_hmac, payload};

    fn rule() -> TokenRule {
        TokenRule {
            header: "User-to-User".to_owned(),
            peers: vec!["10.0.0.5".parse().unwrap()],
            max_age: Duration::from_secs(300),
            keys: BTreeMap::from([("k".to_owned(), TokenKey::Hmac(Zeroizing::new(vec![7; 32])))]),
        }
    }

    fn read(values: &[String], peer: &str) -> Found {
        let values = values.iter().map(String::as_bytes);
        rule().read(values, peer.parse().unwrap(), CALL, NOW)
    }

    fn token(party: &str, stated: &str) -> String {
        by_hmac(&payload(party, stated, NOW.as_micros() / 1_000_000))
    }

    #[test]
    fn each_party_has_a_token_of_their_own() {
        let separate = [token("caller", "granted"), token("callee", "refused")];
        let together = [separate.join(",")];
        let hex = [format!("{};encoding=hex", hex::encode(&separate[0])), separate[1].clone()];
        for values in [&separate[..], &together[..], &hex[..]] {
            let found = read(values, "10.0.0.5");
            assert_eq!(found.of(Leg::Caller).map(|t| t.stated), Some(Stated::Granted));
            assert_eq!(found.of(Leg::Callee).map(|t| t.stated), Some(Stated::Refused));
            assert_eq!(found.faults, []);
        }
        let found = read(&separate[..1], "10.0.0.5");
        assert_eq!(found.callee, None);
    }

    #[test]
    fn a_stranger_states_nothing() {
        let found = read(&[token("caller", "granted")], "10.0.0.6");
        assert_eq!(found, Found { faults: vec![Fault::Stranger], ..Found::default() });
        assert_eq!(read(&[], "10.0.0.6"), Found::default());
    }

    #[test]
    fn of_two_tokens_about_one_party_the_refusal_counts() {
        let (yes, no) = (token("caller", "granted"), token("caller", "refused"));
        for values in [[yes.clone(), no.clone()], [no, yes.clone()]] {
            let found = read(&values, "10.0.0.5");
            assert_eq!(found.of(Leg::Caller).map(|t| t.stated), Some(Stated::Refused));
        }
        let found = read(&["nonsense".to_owned(), yes], "10.0.0.5");
        assert_eq!(found.of(Leg::Caller).map(|t| t.stated), Some(Stated::Granted));
        assert_eq!(found.faults, [Fault::Malformed]);
    }

    #[test]
    fn a_flood_of_tokens_is_not_read() {
        let mut values = vec!["x".to_owned(); 1000];
        values.push(token("caller", "granted"));
        let found = read(&values, "10.0.0.5");
        assert_eq!(found.caller, None);
        assert_eq!(found.faults.len(), MOST + 1);
        assert_eq!(found.faults.last(), Some(&Fault::TooMuch));
    }
}

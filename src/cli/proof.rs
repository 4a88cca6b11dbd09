//! Proving evidence: signatures, the chain, the heads that were published of it, the prompts.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::catalog::Reader;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::consent::evidence::{Head, Record, verify_chain};
use crate::ids::{EventId, Token};
use crate::keys::{self, SigningKey};

/// What somebody knows of this agent from elsewhere.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Known {
    /// A head of the chain from an `agent.chain` event or an earlier check: the chain must still
    /// have that record. Of another agent's chain: AGENT=SEQUENCE:DIGEST. May be given repeatedly
    #[arg(long, value_name = "SEQUENCE:DIGEST")]
    head: Vec<GivenHead>,
    /// The public half of a signing key that was this agent's before, as `assent keys public`
    /// prints it. May be given repeatedly
    #[arg(long, value_name = "HEX")]
    key: Vec<keys::VerifyingKey>,
}

/// A head as it is given on the command line.
#[derive(Clone, Debug)]
struct GivenHead {
    /// Whose; this agent's when nothing is said.
    agent: Option<Token>,
    head: Head,
}

impl FromStr for GivenHead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (agent, head) = match text.split_once('=') {
            Some((agent, head)) => {
                (Some(agent.parse().map_err(|why: crate::ids::BadToken| why.to_string())?), head)
            }
            None => (None, text),
        };
        Ok(Self { agent, head: head.parse().map_err(|why| format!("{why}"))? })
    }
}

/// What is wrong with a record's signature, if anything is.
pub(super) fn record(record: &Record, keys: &Keys<'_>) -> Result<(), String> {
    match keys.find(record.signing_key()) {
        None => Err(format!("signed by key {}, {}", record.signing_key(), keys.stranger())),
        Some(key) => record.verify(&key).map_err(|why| why.to_string()),
    }
}

/// A chain that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holds {
    /// Where it ends.
    pub(super) head: Head,
    /// How many of its published heads were compared with it.
    pub(super) published: usize,
}

/// What is wrong with an agent's chain, if anything is: with its records, with what the catalog
/// notes of it, and with what was published of it.
pub(super) fn chain(
    reader: &Reader,
    agent: &str,
    keys: &Keys<'_>,
) -> Result<Result<Holds, String>, Failure> {
    let published = match keys.published(agent)? {
        Ok(published) => published,
        Err(why) => return Ok(Err(why)),
    };
    let noted = reader.chain_head(agent)?;
    let mut found = BTreeMap::new();
    let rows = reader.evidence_chain(agent, 0).inspect(|row| {
        if let Ok(record) = row
            && published.iter().any(|(head, _)| head.sequence == record.head().sequence)
        {
            found.insert(record.head().sequence, record.digest());
        }
    });
    let head = match verify_chain(rows, agent, Head::START, Some(noted), |id| keys.find(id)) {
        Ok(head) => head,
        Err(why @ crate::consent::evidence::ChainError::UnknownKey { .. }) => {
            return Ok(Err(format!("{why}: {}", keys.stranger())));
        }
        Err(why) => return Ok(Err(why.to_string())),
    };
    for (wanted, by) in &published {
        let Head { sequence, digest } = *wanted;
        match found.get(&sequence) {
            None => {
                return Ok(Err(format!(
                    "the chain ends at record {}, but {by} says that there are {sequence}: records \
                     were removed at its end",
                    head.sequence
                )));
            }
            Some(there) if *there != digest => {
                return Ok(Err(format!(
                    "record {sequence} is not the one that {by} names ({digest}): the chain was \
                     replaced since"
                )));
            }
            Some(_) => {}
        }
    }
    Ok(Ok(Holds { head, published: published.len() }))
}

/// The agents whose chains there are, here or by what was published.
pub(super) fn agents(reader: &Reader, keys: &Keys<'_>) -> Result<Vec<String>, Failure> {
    let mut agents = reader.agents()?;
    agents.extend(keys.known.head.iter().map(|given| keys.agent_of(given).to_owned()));
    let published = reader.published_heads()?;
    agents.extend(published.into_iter().filter_map(|it| Some(it.signed?.head.agent)));
    agents.sort_unstable();
    agents.dedup();
    Ok(agents)
}

/// The keys that receipts are checked with: this agent's own from its key folder and those that
/// are given; where the folder cannot be read and none is given, what the catalog says.
pub(super) struct Keys<'r> {
    reader: &'r Reader,
    node: String,
    folder: String,
    known: &'r Known,
    trusted: BTreeMap<String, keys::VerifyingKey>,
}

impl<'r> Keys<'r> {
    pub(super) fn new(
        reader: &'r Reader,
        config: &Config,
        known: &'r Known,
    ) -> Result<Self, Failure> {
        let folder = &config.keys.path;
        let mut trusted: Vec<keys::VerifyingKey> = known.key.clone();
        if folder.join("signing-key").exists() {
            trusted.push(SigningKey::open(folder).map_err(Failure::unavailable)?.public());
        }
        let trusted = trusted.into_iter().map(|key| (key.key_id().to_string(), key)).collect();
        let folder = folder.display().to_string();
        Ok(Self { reader, node: config.node.to_string(), folder, known, trusted })
    }

    pub(super) fn find(&self, id: &str) -> Option<ed25519_dalek::VerifyingKey> {
        if self.trusted.is_empty() {
            return self.reader.verifying_key(id).ok().flatten();
        }
        let key = self.trusted.get(id)?;
        ed25519_dalek::VerifyingKey::from_bytes(&key.to_bytes()).ok()
    }

    /// The same key, as manifests are checked with it.
    pub(super) fn find_for_manifest(&self, id: &str) -> Option<keys::VerifyingKey> {
        keys::VerifyingKey::from_bytes(&self.find(id)?.to_bytes()).ok()
    }

    /// What to say of a key that is not found.
    fn stranger(&self) -> String {
        format!(
            "which is not this agent's signing key in {}; if it was once, name it: --key HEX",
            self.folder
        )
    }

    fn agent_of<'a>(&'a self, given: &'a GivenHead) -> &'a str {
        given.agent.as_ref().map_or(self.node.as_str(), Token::as_str)
    }

    /// Heads of an agent's chain that somebody else has seen, and who says so; or which of them
    /// is not genuine.
    fn published(&self, agent: &str) -> Result<Result<Vec<(Head, String)>, String>, Failure> {
        let mut heads = Vec::new();
        for given in self.known.head.iter().filter(|given| self.agent_of(given) == agent) {
            heads.push((given.head, "--head".to_owned()));
        }
        for published in self.reader.published_heads()? {
            let event: EventId = published.event;
            let Some(signed) = published.signed else {
                return Ok(Err(format!("the event {event} was changed: it names no head")));
            };
            if signed.head.agent != agent {
                continue;
            }
            let key = self.find(&signed.head.signing_key);
            if key.is_none_or(|key| signed.verify(&key).is_err()) {
                return Ok(Err(format!("the event {event} was changed: its signature is wrong")));
            }
            heads.push((signed.at(), format!("the event {event}")));
        }
        Ok(Ok(heads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_given_with_its_agent_or_without() {
        let digest = "ab".repeat(32);
        let given: GivenHead = format!("7:{digest}").parse().unwrap();
        assert_eq!((given.agent, given.head.to_string()), (None, format!("7:{digest}")));
        let given: GivenHead = format!("node-2=7:{digest}").parse().unwrap();
        assert_eq!(given.agent.unwrap().as_str(), "node-2");
        for wrong in ["", "7", "7:ab", &format!("x:{digest}"), &format!("A b=7:{digest}")] {
            assert!(wrong.parse::<GivenHead>().is_err(), "{wrong}");
        }
    }
}

//! Proving evidence: signatures and the chain.

use ed25519_dalek::VerifyingKey;

use crate::catalog::Reader;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::consent::evidence::{Head, Record, verify_chain};
use crate::keys::{self, SigningKey};

/// What is wrong with a record's signature, if anything is.
pub(super) fn record(record: &Record, keys: &Keys<'_>) -> Result<(), String> {
    match keys.find(record.signing_key()) {
        None => Err(format!("signed by key {}, which is not known here", record.signing_key())),
        Some(key) => record.verify(&key).map_err(|why| why.to_string()),
    }
}

/// What is wrong with an agent's chain, if anything is.
pub(super) fn chain(
    reader: &Reader,
    agent: &str,
    keys: &Keys<'_>,
) -> Result<Result<Head, String>, Failure> {
    let head = reader.chain_head(agent)?;
    let rows = reader.evidence_chain(agent, 0);
    let verified = verify_chain(rows, agent, Head::START, Some(head), |id| keys.find(id));
    Ok(verified.map_err(|why| why.to_string()))
}

/// The keys that receipts are checked with: this agent's own from its key folder where that can
/// be read, else what the catalog says.
pub(super) struct Keys<'r> {
    reader: &'r Reader,
    own: Option<(String, VerifyingKey)>,
}

impl<'r> Keys<'r> {
    pub(super) fn new(reader: &'r Reader, config: &Config) -> Result<Self, Failure> {
        let folder = &config.keys.path;
        let own = if folder.join("signing-key").exists() {
            let key = SigningKey::open(folder).map_err(Failure::unavailable)?;
            let public = VerifyingKey::from_bytes(&key.public().to_bytes()).ok();
            public.map(|public| (key.key_id().to_string(), public))
        } else {
            None
        };
        Ok(Self { reader, own })
    }

    pub(super) fn find(&self, id: &str) -> Option<VerifyingKey> {
        match &self.own {
            Some((own, key)) if own == id => Some(*key),
            _ => self.reader.verifying_key(id).ok().flatten(),
        }
    }

    /// The same key, as manifests are checked with it.
    pub(super) fn find_for_manifest(&self, id: &str) -> Option<keys::VerifyingKey> {
        keys::VerifyingKey::from_bytes(&self.find(id)?.to_bytes()).ok()
    }
}

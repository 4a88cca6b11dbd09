//! What is known of parties before anybody asks them: the do-not-record list, and the consent
//! tokens that come with a call. Kept in memory, so that no call waits for the catalog or a file.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use crate::call::message::Incoming;
use crate::catalog::{Catalog, Change, CommitError, ListedParty, MAX_REASON_BYTES, QueryError};
use crate::clock;
use crate::config::{BadKeyFile, Config};
use crate::consent::policy::{Gate, Policy};
use crate::consent::token::{Found, TokenRule};
use crate::control::{ListChange, ListReply, ListStep};
use crate::ids::PartyRef;
use crate::keys::{self, KeyFolderError, ReferenceKey};
use crate::number::PartyNumber;

/// What is known of parties beforehand. One for the whole agent.
#[derive(Debug)]
pub(super) struct PriorBook {
    listed: RwLock<HashSet<PartyRef>>,
    rules: RwLock<Arc<TokenRules>>,
}

/// Whose tokens count, by the name of the policy.
#[derive(Debug)]
pub(super) struct TokenRules(BTreeMap<String, TokenRule>);

/// A key for tokens is of no use.
#[derive(Debug, thiserror::Error)]
#[error("[policy.token] of \"{policy}\": {why}")]
pub struct TokenKeyError {
    policy: String,
    why: BadKeyFile<KeyFolderError>,
}

/// Why the list was not changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    /// It names nobody.
    #[error("this names nobody: write a number such as +4930123456, an extension or a SIP URI")]
    Nobody,
    /// It says too much.
    #[error("the reason is too long: write at most {MAX_REASON_BYTES} bytes")]
    TooLong,
    /// It cannot be stored.
    #[error(transparent)]
    Catalog(#[from] CommitError),
}

impl TokenRules {
    /// Reads the keys that the configuration names.
    ///
    /// # Errors
    ///
    /// [`TokenKeyError`] names the policy, the file and the remedy.
    pub(super) fn load(config: &Config) -> Result<Self, TokenKeyError> {
        let rules = config.tokens.iter().map(|(policy, source)| {
            let rule = source.rule(keys::read_secret);
            rule.map(|rule| (policy.clone(), rule))
                .map_err(|why| TokenKeyError { policy: policy.clone(), why })
        });
        Ok(Self(rules.collect::<Result<_, _>>()?))
    }
}

impl PriorBook {
    /// Reads the list.
    ///
    /// # Errors
    ///
    /// When the catalog cannot be read: whoever is on the list would be asked.
    pub(super) async fn open(catalog: &Catalog, rules: TokenRules) -> Result<Self, QueryError> {
        let listed = catalog.read(|reader| reader.listed()).await?;
        Ok(Self { listed: RwLock::new(listed), rules: RwLock::new(Arc::new(rules)) })
    }

    /// Tokens count by these rules from now on.
    pub(super) fn replace_rules(&self, rules: TokenRules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Whether a party is never to be recorded.
    pub(super) fn lists(&self, party: PartyRef) -> bool {
        self.listed.read().unwrap_or_else(PoisonError::into_inner).contains(&party)
    }

    /// What the tokens of an INVITE say of its parties. Nothing, where the policy does not go by
    /// tokens.
    pub(super) fn tokens(&self, policy: &Policy, request: &Incoming) -> Found {
        if policy.gate != Gate::Token {
            return Found::default();
        }
        let rules = Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner));
        let Some(rule) = rules.0.get(&policy.name) else { return Found::default() };
        let values = request.headers.all(&rule.header).map(|value| &value[..]);
        rule.read(values, request.source.addr.ip(), &request.call_id, clock::wall())
    }

    /// Changes the list: in the catalog first, then for the calls that arrive from now on.
    ///
    /// # Errors
    ///
    /// [`ListError`]: the list is as it was.
    pub(super) async fn change(
        &self,
        catalog: &Catalog,
        reference: &ReferenceKey,
        change: ListChange,
    ) -> Result<ListReply, ListError> {
        let (party_ref, listed, change) = match change.step {
            ListStep::Add { number, reason } => {
                if reason.len().max(change.actor.len()) > MAX_REASON_BYTES {
                    return Err(ListError::TooLong);
                }
                let number = PartyNumber::parse(number.expose()).ok_or(ListError::Nobody)?;
                let party_ref = reference.party_ref(number.expose());
                let (actor, since) = (change.actor, clock::wall());
                let entry = ListedParty { party_ref, reason, actor, since };
                (party_ref, true, Change::Listed { entry, number })
            }
            ListStep::Remove { party } => (party, false, Change::Unlisted { party }),
        };
        catalog.record(vec![change], Vec::new()).await?;
        let mut set = self.listed.write().unwrap_or_else(PoisonError::into_inner);
        let was_listed = match listed {
            true => !set.insert(party_ref),
            false => set.remove(&party_ref),
        };
        Ok(ListReply { party_ref, listed, was_listed })
    }
}

//! The chain's head, published: what tells a chain that lost its end, or was replaced, from the one
//! that was written.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::catalog::writer::Identity;
use crate::catalog::{CommitError, QueryError, Reader, outbox};
use crate::consent::chain_head::SignedHead;
use crate::consent::evidence::Head;
use crate::event::{AgentChain, Draft};
use crate::ids::EventId;
use crate::time::Timestamp;

/// Appends an `agent.chain` event, if the head is another than the one published last. Returns
/// its place in the outbox.
pub(super) fn publish(
    db: &Connection,
    identity: &Identity,
    head: Head,
    at: Timestamp,
) -> Result<Option<u64>, CommitError> {
    let agent = identity.origin.node.as_str();
    let noted = format!("published-head/{agent}");
    let published: Option<String> = db
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([&noted], |row| row.get(0))
        .optional()?;
    let now = head.to_string();
    if head == Head::START || published.as_ref() == Some(&now) {
        return Ok(None);
    }
    let sign = |bytes: &[u8]| identity.signing.sign(bytes);
    let head = SignedHead::sign(agent, head, at, &identity.signing_key, sign)?;
    let (_, place) = outbox::append(db, Draft::new(AgentChain { head }), at, &identity.origin)?;
    db.prepare_cached(
        "INSERT INTO meta (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )?
    .execute(params![noted, now])?;
    Ok(Some(place))
}

/// A head that was published, as the outbox still has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedHead {
    /// The event.
    pub event: EventId,
    /// What it says; `None` when it is no `agent.chain` event any more.
    pub signed: Option<SignedHead>,
}

impl Reader {
    /// The heads that were published and are still in the outbox, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub fn published_heads(&self) -> Result<Vec<PublishedHead>, QueryError> {
        let mut statement = self.db.prepare_cached(
            "SELECT id, json FROM outbox
             WHERE entity = 'agent' AND subject LIKE '%.agent.chain.%' ORDER BY sequence",
        )?;
        let rows = statement.query_map([], |row| {
            let event = EventId(Uuid::from_bytes(row.get(0)?));
            let json: String = row.get(1)?;
            Ok(PublishedHead { event, signed: signed(&json) })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn signed(json: &str) -> Option<SignedHead> {
    let mut event: serde_json::Value = serde_json::from_str(json).ok()?;
    serde_json::from_value(event.get_mut("data")?.take()).ok()
}

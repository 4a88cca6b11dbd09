//! Tells others where the chain of evidence stands, so that nobody can take its records back.

use std::time::Duration;

use crate::agent::scribe::Scribe;
use crate::catalog::{Catalog, CommitError};

/// How often, at most. What was promised is once a minute.
const EVERY: Duration = Duration::from_secs(30);

/// Publishes the chain's head when it moved: at once, for what a crash left unpublished, and then
/// from time to time, until it is dropped with its runtime.
pub(super) async fn publish_from_time_to_time(catalog: Catalog) {
    loop {
        match catalog.publish_head().await {
            Ok(()) => {}
            Err(CommitError::Closed) => return,
            Err(why) => {
                tracing::warn!(%why, "the head of the chain of evidence was not published; again soon");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Publishes it once more, after everything that was told.
pub(super) async fn publish_last(scribe: &Scribe, catalog: &Catalog) {
    scribe.flush().await;
    if let Err(why) = catalog.publish_head().await {
        tracing::warn!(%why, "the head of the chain of evidence was not published: the next start does");
    }
}

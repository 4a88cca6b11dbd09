//! The catalog's outbox, as the publisher needs it.

use tokio::sync::watch;

use crate::bus::{self, Acknowledged, Backlog, OutboxError, OutboxRow, Placed};
use crate::catalog::{self, Catalog};
use crate::clock;

/// The catalog, seen by the publisher.
#[derive(Clone, Debug)]
pub(super) struct CatalogOutbox {
    pub(super) catalog: Catalog,
}

impl bus::Outbox for CatalogOutbox {
    async fn unsent(&self, limit: usize) -> Result<Vec<OutboxRow>, OutboxError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let rows = self.catalog.read(move |reader| reader.unsent(0, limit)).await;
        Ok(rows.map_err(failed)?.into_iter().map(row).collect())
    }

    async fn placed(&self, rows: Vec<Placed>) -> Result<(), OutboxError> {
        let at = clock::wall();
        let sent = rows
            .into_iter()
            .map(|placed| catalog::Sent {
                sequence: placed.position,
                acknowledged: catalog::Acknowledged {
                    stream: placed.stream,
                    sequence: placed.sequence,
                    at,
                },
            })
            .collect();
        self.catalog.mark_sent(sent).await.map_err(failed)
    }

    async fn set_aside(&self, position: u64, reason: String) -> Result<(), OutboxError> {
        self.catalog.set_aside(position, reason).await.map_err(failed)
    }

    async fn acknowledged(
        &self,
        stream: &str,
        below: u64,
        limit: usize,
    ) -> Result<Vec<Acknowledged>, OutboxError> {
        let stream = stream.to_owned();
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let rows = self.catalog.read(move |reader| reader.acknowledged(&stream, below, limit));
        Ok(rows.await.map_err(failed)?.iter().filter_map(acknowledged).collect())
    }

    async fn acknowledged_elsewhere(
        &self,
        stream: &str,
        limit: usize,
    ) -> Result<Vec<Acknowledged>, OutboxError> {
        let stream = stream.to_owned();
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let rows = self.catalog.read(move |reader| reader.acknowledged_elsewhere(&stream, limit));
        Ok(rows.await.map_err(failed)?.iter().filter_map(acknowledged).collect())
    }

    async fn unsend(&self, positions: Vec<u64>) -> Result<(), OutboxError> {
        self.catalog.mark_unsent(positions).await.map_err(failed)
    }

    async fn backlog(&self) -> Result<Backlog, OutboxError> {
        let status = self.catalog.read(|reader| reader.outbox_status()).await.map_err(failed)?;
        Ok(Backlog { unsent: status.unsent, oldest: status.oldest, last: status.last })
    }

    async fn beyond(&self, last: u64) {
        let mut place: watch::Receiver<u64> = self.catalog.outbox();
        if place.wait_for(|place| *place > last).await.is_err() {
            // The catalog is closed: nothing will ever come.
            std::future::pending::<()>().await;
        }
    }
}

fn row(row: catalog::OutboxRow) -> OutboxRow {
    OutboxRow {
        position: row.sequence,
        id: row.id,
        subject: row.subject,
        order: row.call.map_or(row.about, |call| call.0),
        json: row.json,
    }
}

fn acknowledged(row: &catalog::OutboxRow) -> Option<Acknowledged> {
    let sent = row.sent.as_ref()?;
    Some(Acknowledged { position: row.sequence, id: row.id, sequence: sent.sequence })
}

fn failed(why: impl std::fmt::Display) -> OutboxError {
    OutboxError(why.to_string())
}

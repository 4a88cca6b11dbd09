//! An outbox in memory that outlives the publisher, as the catalog does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use assent::bus::{Acknowledged, Backlog, Outbox, OutboxError, OutboxRow, Placed};
use assent::event::{Draft, FinishedEvent, Origin, finish};
use assent::ids::EventId;
use assent::time::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

#[derive(Clone)]
pub(crate) struct Memory(Arc<Inner>);

struct Inner {
    origin: Origin,
    rows: Mutex<BTreeMap<u64, Row>>,
    last: watch::Sender<u64>,
}

struct Row {
    row: OutboxRow,
    state: State,
}

enum State {
    Unsent,
    Placed(Placed),
    SetAside(String),
}

impl Memory {
    pub(crate) fn new(origin: Origin) -> Self {
        let (last, _) = watch::channel(0);
        Self(Arc::new(Inner { origin, rows: Mutex::default(), last }))
    }

    /// Stores an event as the catalog would.
    pub(crate) fn commit(&self, draft: Draft) -> FinishedEvent {
        let mut rows = self.0.rows.lock().unwrap();
        let place = rows.len() as u64 + 1;
        let about = draft.about(&self.0.origin).to_string();
        let sequence = rows.values().filter(|row| row.row.subject.ends_with(&about)).count() + 1;
        let id = EventId(Uuid::now_v7());
        let at = Timestamp::from_micros(1_795_298_400_000_000 + place as i64);
        let event = finish(draft, id, at, sequence as u64, &self.0.origin).unwrap();
        rows.insert(place, Row { row: row_of(place, &event), state: State::Unsent });
        drop(rows);
        self.0.last.send_replace(place);
        event
    }

    /// Stores a row that the catalog would never store.
    pub(crate) fn commit_raw(&self, subject: &str) -> EventId {
        let mut rows = self.0.rows.lock().unwrap();
        let position = rows.len() as u64 + 1;
        let id = EventId(Uuid::now_v7());
        let row = OutboxRow {
            position,
            id,
            subject: subject.to_owned(),
            order: id.0,
            json: "{}".to_owned(),
        };
        rows.insert(position, Row { row, state: State::Unsent });
        drop(rows);
        self.0.last.send_replace(position);
        id
    }

    pub(crate) fn unsent_now(&self) -> usize {
        let rows = self.0.rows.lock().unwrap();
        rows.values().filter(|row| matches!(row.state, State::Unsent)).count()
    }

    pub(crate) fn set_aside_now(&self) -> Vec<(EventId, String)> {
        let rows = self.0.rows.lock().unwrap();
        rows.values()
            .filter_map(|row| match &row.state {
                State::SetAside(reason) => Some((row.row.id, reason.clone())),
                _ => None,
            })
            .collect()
    }

    /// Ids in the order of the outbox.
    pub(crate) fn ids(&self) -> Vec<EventId> {
        self.0.rows.lock().unwrap().values().map(|row| row.row.id).collect()
    }

    fn placed_rows(&self, keep: impl Fn(&Placed) -> bool) -> Vec<Acknowledged> {
        let rows = self.0.rows.lock().unwrap();
        rows.values()
            .filter_map(|row| match &row.state {
                State::Placed(placed) if keep(placed) => Some(Acknowledged {
                    position: placed.position,
                    id: row.row.id,
                    sequence: placed.sequence,
                }),
                _ => None,
            })
            .collect()
    }

    fn set(&self, position: u64, state: State) {
        self.0.rows.lock().unwrap().get_mut(&position).unwrap().state = state;
    }
}

fn row_of(position: u64, event: &FinishedEvent) -> OutboxRow {
    OutboxRow {
        position,
        id: event.id,
        subject: event.subject.as_str().to_owned(),
        order: event.correlation.map_or(event.about, |call| call.0),
        json: event.json.clone(),
    }
}

impl Outbox for Memory {
    async fn unsent(&self, limit: usize) -> Result<Vec<OutboxRow>, OutboxError> {
        let rows = self.0.rows.lock().unwrap();
        let unsent = rows.values().filter(|row| matches!(row.state, State::Unsent));
        Ok(unsent.take(limit).map(|row| row.row.clone()).collect())
    }

    async fn placed(&self, rows: Vec<Placed>) -> Result<(), OutboxError> {
        rows.into_iter().for_each(|placed| self.set(placed.position, State::Placed(placed)));
        Ok(())
    }

    async fn set_aside(&self, position: u64, reason: String) -> Result<(), OutboxError> {
        self.set(position, State::SetAside(reason));
        Ok(())
    }

    async fn acknowledged(
        &self,
        stream: &str,
        below: u64,
        limit: usize,
    ) -> Result<Vec<Acknowledged>, OutboxError> {
        let mut rows = self.placed_rows(|row| row.stream == stream && row.sequence < below);
        rows.sort_by_key(|row| std::cmp::Reverse(row.sequence));
        rows.truncate(limit);
        Ok(rows)
    }

    async fn acknowledged_elsewhere(
        &self,
        stream: &str,
        limit: usize,
    ) -> Result<Vec<Acknowledged>, OutboxError> {
        let mut rows = self.placed_rows(|row| row.stream != stream);
        rows.truncate(limit);
        Ok(rows)
    }

    async fn unsend(&self, positions: Vec<u64>) -> Result<(), OutboxError> {
        positions.into_iter().for_each(|position| self.set(position, State::Unsent));
        Ok(())
    }

    async fn backlog(&self) -> Result<Backlog, OutboxError> {
        let unsent = self.unsent_now() as u64;
        Ok(Backlog { unsent, oldest: None, last: *self.0.last.borrow() })
    }

    async fn beyond(&self, last: u64) {
        let _ = self.0.last.subscribe().wait_for(|now| *now > last).await;
    }
}

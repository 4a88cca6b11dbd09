//! What the publisher tells about itself.

use std::sync::Arc;

use tokio::sync::watch;

use crate::bus::Backlog;

/// The publisher's state, for readiness, metrics and the console.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusStatus {
    /// Whether there is a NATS server.
    pub link: LinkStatus,
    /// What went wrong last, with the remedy; stays after a recovery.
    pub last_error: Option<String>,
    /// What an administrator should change at the server or its JetStream streams.
    pub warnings: Vec<String>,
    /// How much waits, as of the last look.
    pub backlog: Backlog,
    /// Events acknowledged since the start.
    pub published: u64,
    /// Events that a server had acknowledged and lost, and that were put back to be sent again.
    pub recovered: u64,
    /// Events that can never be published and were set aside.
    pub set_aside: u64,
}

/// Whether there is a NATS server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkStatus {
    /// A connection is being made.
    #[default]
    Connecting,
    /// Connected, with the streams in place and compared.
    Up {
        /// The server's name.
        server: String,
        /// Its version.
        version: String,
    },
    /// Not connected; the next attempt comes by itself.
    Down,
    /// The publisher has ended.
    Stopped,
}

impl BusStatus {
    /// Whether events flow.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.link, LinkStatus::Up { .. })
    }
}

/// Where the parts of the publisher write what they see.
#[derive(Clone, Debug)]
pub(super) struct Board(Arc<watch::Sender<BusStatus>>);

impl Board {
    pub(super) fn new() -> (Self, watch::Receiver<BusStatus>) {
        let (sender, receiver) = watch::channel(BusStatus::default());
        (Self(Arc::new(sender)), receiver)
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut BusStatus)) {
        self.0.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }
}

//! Events on their way to the call machine: those that may be refused, and those that may not.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::sip::SipEvent;

/// The bounded channel, and a backlog for what must not be lost: without the end of a
/// transaction, the call machine would wait for ever. A transaction causes few of those, so the
/// backlog is bounded by the transactions.
#[derive(Debug)]
pub(super) struct Outbox {
    events: mpsc::Sender<SipEvent>,
    backlog: VecDeque<SipEvent>,
    most: usize,
}

impl Outbox {
    pub(super) fn new(events: mpsc::Sender<SipEvent>, most: usize) -> Self {
        Self { events, backlog: VecDeque::new(), most }
    }

    /// Whether [`Outbox::offer`] would take an event now.
    pub(super) fn has_room(&self) -> bool {
        self.backlog.is_empty() && self.events.capacity() > 0
    }

    /// Whether something waits.
    pub(super) fn is_behind(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// For what the peer sends again, or can do without. `false` when there was no room.
    pub(super) fn offer(&mut self, event: SipEvent) -> bool {
        self.backlog.is_empty() && self.events.try_send(event).is_ok()
    }

    /// For what nobody says twice.
    pub(super) fn deliver(&mut self, event: SipEvent) {
        let event = if self.backlog.is_empty() {
            match self.events.try_send(event) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Closed(_)) => return,
                Err(mpsc::error::TrySendError::Full(event)) => event,
            }
        } else {
            event
        };
        if self.backlog.len() < self.most {
            self.backlog.push_back(event);
        } else {
            tracing::error!("the call machine does not take its SIP events; one is lost");
        }
    }

    /// The oldest that waits.
    pub(super) fn pop(&mut self) -> Option<SipEvent> {
        self.backlog.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::message::{ClientTxn, ServerTxn, Unanswered};

    #[test]
    fn an_end_is_never_lost_or_overtaken_and_the_rest_is_refused_meanwhile() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut outbox = Outbox::new(sender, 2);
        let end = |n| SipEvent::Unanswered { txn: ClientTxn(n), why: Unanswered::Timeout };
        assert!(outbox.has_room());
        outbox.deliver(end(1));
        assert!(!outbox.has_room());
        outbox.deliver(end(2));
        assert!(!outbox.offer(SipEvent::NoAck { txn: ServerTxn(9) }));
        assert!(receiver.try_recv().is_ok());
        assert!(!outbox.has_room(), "what waits goes first");
        assert!(matches!(outbox.pop(), Some(SipEvent::Unanswered { txn: ClientTxn(2), .. })));
        assert!(outbox.has_room());
    }

    #[test]
    fn the_backlog_is_bounded() {
        let (sender, _receiver) = mpsc::channel(1);
        let mut outbox = Outbox::new(sender, 2);
        for n in 0..10 {
            outbox.deliver(SipEvent::NoAck { txn: ServerTxn(n) });
        }
        assert_eq!(outbox.backlog.len(), 2);
    }
}

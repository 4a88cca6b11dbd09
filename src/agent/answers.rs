//! The answers to the commands of the last minutes, so that none is carried out twice.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use uuid::Uuid;

/// How many are remembered.
const REMEMBERED: usize = 4096;
/// How long; longer than a command lives.
const MEMORY: Duration = Duration::from_secs(180);

/// Answers by the command's identifier. An answer that is still being made is waited for.
#[derive(Debug)]
pub(super) struct Answers<T> {
    by_id: HashMap<Uuid, Arc<OnceCell<T>>>,
    order: VecDeque<(Uuid, Instant)>,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self { by_id: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Answers<T> {
    /// Where the answer to a command is, or is to be put.
    pub(super) fn to(&mut self, id: Uuid, now: Instant) -> Arc<OnceCell<T>> {
        while let Some((oldest, at)) = self.order.front().copied() {
            if now.saturating_duration_since(at) <= MEMORY && self.order.len() < REMEMBERED {
                break;
            }
            self.order.pop_front();
            self.by_id.remove(&oldest);
        }
        let order = &mut self.order;
        let answer = self.by_id.entry(id).or_insert_with(|| {
            order.push_back((id, now));
            Arc::default()
        });
        Arc::clone(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_remembered_up_to_a_limit_and_for_a_while() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        for nth in 0..(REMEMBERED as u128 + 500) {
            let answer = answers.to(Uuid::from_u128(nth), now);
            assert!(answer.set(nth).is_ok(), "a new one");
        }
        assert_eq!((answers.by_id.len(), answers.order.len()), (REMEMBERED, REMEMBERED));
        let late = Uuid::from_u128(REMEMBERED as u128 + 400);
        assert!(answers.to(late, now + MEMORY).initialized());
        assert!(!answers.to(late, now + MEMORY * 2).initialized());
        assert_eq!(answers.by_id.len(), 1);
    }
}

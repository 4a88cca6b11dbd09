//! The only place that reads a clock, and the only one that mints identifiers.
//!
//! Everything that decides takes a time as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::time::{Moment, Timestamp};

/// The monotonic clock, for intervals and time-outs.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, for records that people and other machines read.
#[must_use]
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::EPOCH.plus(since)
}

/// A fresh UUIDv7 (RFC 9562), in the identifier type that is asked for.
#[must_use]
pub fn mint<T: From<Uuid>>() -> T {
    T::from(Uuid::now_v7())
}

/// Both clocks at once.
#[must_use]
pub fn moment() -> Moment {
    Moment { instant: now(), wall: wall() }
}

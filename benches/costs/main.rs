//! What the parts that every call needs cost, each by itself: `make bench` prints one table.
//!
//! What a whole call costs is measured from outside: see `docs/performance.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod catalog;
mod packets;
mod permission;
mod recording;

criterion::criterion_group! {
    name = costs;
    config = criterion::Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = packets::relay, packets::keys, packets::tones, recording::append, recording::export,
        catalog::evidence, catalog::search
}
criterion::criterion_main!(costs);

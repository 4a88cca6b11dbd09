//! Decisions made durable, and recordings found.

use assent::catalog::{Filter, Reader};
use criterion::{BatchSize, Criterion, Throughput};

use crate::permission::{catalog, decided, entry, number, policy, reference};
use crate::recording::disk;

/// How many decisions come at once in a busy moment.
const TOGETHER: u64 = 100;
/// How many recordings are searched.
const STORED: u64 = 10_000;

/// One decision from the machine to the disk, alone and with others.
pub(crate) fn evidence(criterion: &mut Criterion) {
    let folder = disk();
    let catalog = catalog(folder.path());
    let policy = policy();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut n = 0;
    let mut group = criterion.benchmark_group("evidence");
    for together in [1, TOGETHER] {
        group.throughput(Throughput::Elements(together));
        group.bench_function(format!("{together} durable at once"), |b| {
            b.iter_batched(
                || {
                    let fresh = |_| {
                        n += 1;
                        entry(decided(&policy, n).1, n)
                    };
                    (0..together).map(fresh).collect::<Vec<_>>()
                },
                |entries| {
                    let commit = |entry| catalog.decide(entry);
                    let all = futures_util::future::join_all(entries.into_iter().map(commit));
                    assert!(runtime.block_on(all).iter().all(Result::is_ok));
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Searches as the commands make them.
pub(crate) fn search(criterion: &mut Criterion) {
    let folder = disk();
    let catalog = catalog(folder.path());
    let (policy, runtime) =
        (policy(), tokio::runtime::Builder::new_current_thread().build().unwrap());
    for start in (0..STORED).step_by(1000) {
        let entries = (start..start + 1000).map(|n| entry(decided(&policy, n).1, n));
        let all = futures_util::future::join_all(entries.map(|entry| catalog.decide(entry)));
        assert!(runtime.block_on(all).iter().all(Result::is_ok));
    }
    let reader = Reader::open(folder.path()).unwrap();
    let party = reference().party_ref(number(STORED / 2).expose());
    let filters = [
        ("a party", Filter { party: Some(party), ..Filter::default() }, 1),
        ("the newest 100", Filter { limit: 100, ..Filter::default() }, 100),
    ];
    for (what, filter, expected) in filters {
        criterion.bench_function(&format!("search/{what} of {STORED} recordings"), |b| {
            b.iter(|| assert_eq!(reader.recordings(&filter).unwrap().len(), expected));
        });
    }
}

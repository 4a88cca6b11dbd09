//! What it costs. Run by hand: `cargo test --release catalog::tests::speed -- --ignored --nocapture`.

use super::*;
use crate::catalog::Filter;

#[test]
#[ignore = "a measurement"]
fn durable_decisions_in_a_second() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let catalog = open(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let total = 20_000_u64;
    let begun = crate::clock::now();
    runtime.block_on(async {
        for start in (0..total).step_by(1000) {
            let entries = (start..start + 1000).map(granted).collect();
            assert!(decide_all(&catalog, entries).await.iter().all(Result::is_ok));
        }
    });
    let took = begun.elapsed();
    println!("{:.0} durable decisions a second", total as f64 / took.as_secs_f64());
    let begun = crate::clock::now();
    runtime.block_on(async {
        for n in total..total + 200 {
            drop(catalog.decide(granted(n)).await.unwrap());
        }
    });
    println!("{:?} for one alone", begun.elapsed() / 200);
    let reader = Reader::open(dir.path()).unwrap();
    for (what, filter) in [
        ("a party", Filter { party: Some(party(77)), ..Filter::default() }),
        ("a call", Filter { call: Some(call(77)), ..Filter::default() }),
        ("the newest 100", Filter::default()),
    ] {
        let begun = crate::clock::now();
        let found = reader.recordings(&filter).unwrap().len();
        println!("{:?} to find {found} by {what}", begun.elapsed());
    }
    let begun = crate::clock::now();
    chain(&reader).unwrap();
    println!("{:?} to verify the chain", begun.elapsed());
}

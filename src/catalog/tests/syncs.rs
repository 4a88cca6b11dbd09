//! What a decision costs the disk, counted from outside.

use std::process::Command;

use super::crash::{child, data_of_child};
use super::*;
use crate::catalog::Step;
use crate::event::{AgentReady, Draft, Word};

const HOW_MANY: &str = "ASSENT_TEST_DECISIONS";

#[test]
#[ignore = "the program whose syncs are counted"]
fn decides_one_after_the_other() {
    let catalog = open(&data_of_child()).unwrap();
    let decisions: u64 = std::env::var(HOW_MANY).unwrap().parse().unwrap();
    wait(async {
        for n in 0..decisions {
            let ready = AgentReady { version: Word::new("1") };
            let facts = Step::Facts { changes: Vec::new(), events: vec![Draft::new(ready)] };
            let steps = vec![facts, Step::Decision(Box::new(granted(n)))];
            assert!(catalog.in_order(steps).await.into_iter().all(|answer| answer.is_ok()));
        }
        // What closing costs is the same for few decisions and for many.
        catalog.close().await.unwrap();
    });
}

/// How often a program that makes so many decisions waits for the disk.
fn syncs(decisions: u64) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let (data, trace) = (dir.path().join("data"), dir.path().join("trace"));
    let program = child("catalog::tests::syncs::decides_one_after_the_other", &data);
    let traced = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync,sync_file_range,msync,sync"])
        .arg("-o")
        .arg(&trace)
        .arg(program.get_program())
        .args(program.get_args())
        .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env(HOW_MANY, decisions.to_string())
        .output();
    assert!(traced.expect("make test installs strace").status.success());
    let trace = std::fs::read_to_string(trace).unwrap();
    // A call that another thread interrupts in the trace is on two lines.
    trace.lines().filter(|line| line.contains("sync") && !line.contains("resumed>")).count()
}

#[test]
fn a_decision_costs_one_sync_with_what_happened_before_it() {
    assert_eq!(syncs(60) - syncs(10), 50);
}

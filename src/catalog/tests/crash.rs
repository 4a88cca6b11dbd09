//! Killed at any moment: every receipt that was handed out is there, and the chain holds.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;
use crate::ids::{Digest, EvidenceId};

const FOLDER: &str = "ASSENT_TEST_CATALOG";

/// This test program again, with one of its tests as the program that is killed.
pub(super) fn child(test: &str, data: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, data)
        .stdout(Stdio::piped());
    command
}

pub(super) fn data_of_child() -> std::path::PathBuf {
    std::env::var_os(FOLDER).expect("run by another test").into()
}

/// Says what it was given a receipt for, only once it has it.
pub(super) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\nreceipt {line}");
    let _ = out.flush();
}

#[test]
#[ignore = "the program that other tests kill"]
fn decides_until_it_is_killed() {
    let catalog = open(&data_of_child()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let start = catalog.outbox().borrow().to_owned();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for task in 0..8_u64 {
            let catalog = catalog.clone();
            tasks.push(tokio::spawn(async move {
                for n in 0.. {
                    let n = start * 1_000_000 + task * 100_000 + n;
                    let receipt = catalog.decide(granted(n)).await.unwrap();
                    say(&format!("{} {}", receipt.id(), receipt.evidence()));
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn every_receipt_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut receipts: Vec<(EvidenceId, Digest)> = Vec::new();
    for kill_after in [1, 40, 200, 77] {
        let mut child =
            child("catalog::tests::crash::decides_until_it_is_killed", dir.path()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines {
            let Ok(line) = line else { break };
            let Some(receipt) = line.strip_prefix("receipt ") else { continue };
            let Some((id, digest)) = receipt.split_once(' ') else { continue };
            // The last line before the kill may be cut off.
            let (Ok(id), Ok(digest)) = (id.parse(), digest.parse()) else { continue };
            receipts.push((id, digest));
            seen += 1;
            if seen == kill_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= kill_after, "{seen} receipts before the end");

        // A command that only reads finds it before any agent has taken the folder over.
        let reader = Reader::open(dir.path()).unwrap();
        for (id, digest) in &receipts {
            let record = reader.evidence_record(*id).unwrap().expect("a receipt was given for it");
            assert_eq!(record.digest(), *digest);
        }
        let head = chain(&reader).unwrap();
        assert!(head.sequence >= receipts.len() as u64);
        // One transaction holds all of a decision: none has its evidence without the rest.
        assert_eq!(reader.outbox_status().unwrap().last, head.sequence);
        assert_eq!(reader.unfinished().unwrap().len() as u64, head.sequence);
        assert!(reader.integrity().unwrap().is_empty());
        wait(open(dir.path()).unwrap().close()).unwrap();
    }
}

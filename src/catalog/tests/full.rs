//! A full disk permits nothing, breaks nothing, and is forgotten once there is room.

use std::io::{BufRead as _, BufReader};
use std::process::Command;

use super::crash::{child, data_of_child, say};
use super::*;

#[tokio::test]
async fn a_full_database_permits_nothing_until_there_is_room() {
    let scratch = Scratch::new();
    scratch.keep(granted(0)).await;
    scratch
        .on_writer(|db| {
            let pages: u32 = db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
            db.pragma_update(None, "max_page_count", pages + 4).unwrap();
        })
        .await;
    let mut stored = 1;
    let first = loop {
        match scratch.catalog.decide(granted(stored)).await {
            Ok(_) => stored += 1,
            Err(why) => break why,
        }
    };
    assert_eq!(first, CommitError::DiskFull);
    for answer in decide_all(&scratch.catalog, (1000..1050).map(granted).collect()).await {
        assert_eq!(answer.unwrap_err(), CommitError::DiskFull);
    }
    assert_eq!(chain(&scratch.reader()).unwrap().sequence, stored);

    scratch.on_writer(|db| db.pragma_update(None, "max_page_count", 1_000_000).unwrap()).await;
    scratch.keep(granted(stored)).await;
    assert_eq!(chain(&scratch.reader()).unwrap().sequence, stored + 1);
    assert!(scratch.reader().integrity().unwrap().is_empty());
}

#[test]
#[ignore = "the program that runs out of disk"]
fn decides_until_the_disk_is_full_and_on_when_there_is_room() {
    let catalog = open(&data_of_child()).unwrap();
    wait(async {
        let mut n = 0;
        while let Ok(receipt) = catalog.decide(granted(n)).await {
            say(&format!("{} {}", receipt.id(), receipt.evidence()));
            n += 1;
        }
        let answers = [catalog.decide(granted(n)).await, catalog.decide(granted(n)).await];
        assert!(answers.iter().all(Result::is_err), "there is no room yet");
        let raised = Command::new("prlimit")
            .args(["--fsize=unlimited:unlimited", "--pid", &std::process::id().to_string()])
            .status();
        assert!(raised.is_ok_and(|status| status.success()), "prlimit is in util-linux");
        let receipt = catalog.decide(granted(n)).await.unwrap();
        say(&format!("{} {}", receipt.id(), receipt.evidence()));
        say("recovered");
    });
}

#[test]
fn writes_that_fail_permit_nothing_and_the_writer_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let program = child(
        "catalog::tests::full::decides_until_the_disk_is_full_and_on_when_there_is_room",
        dir.path(),
    );
    // A soft limit on the size of a file: from then on writes fail as on a full disk. The signal
    // that comes with it is ignored, as it would end the program.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", r#"trap '' XFSZ; ulimit -S -f 1200; exec "$0" "$@""#])
        .arg(program.get_program())
        .args(program.get_args())
        .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdout(std::process::Stdio::piped());
    let mut child = limited.spawn().unwrap();
    let mut receipts = Vec::new();
    let mut recovered = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(receipt) = line.strip_prefix("receipt ") else { continue };
        match receipt.split_once(' ') {
            Some((id, digest)) => receipts.push((id.parse().unwrap(), digest.to_owned())),
            None => recovered = true,
        }
    }
    assert!(child.wait().unwrap().success() && recovered);
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(chain(&reader).unwrap().sequence, receipts.len() as u64);
    for (id, digest) in receipts {
        let record = reader.evidence_record(id).unwrap().expect("a receipt was given for it");
        assert_eq!(record.digest().to_string(), digest);
    }
    assert!(reader.integrity().unwrap().is_empty());
}

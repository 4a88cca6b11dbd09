//! `assent demo` shows two calls, one permitted and one taken back, and proves what it shows.

#![allow(clippy::expect_used)]

use serde_json::Value;

#[test]
fn the_demonstration_records_what_was_permitted_erases_what_was_taken_back_and_leaves_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let temporary = tempfile::tempdir().expect("a folder");
    let told = std::process::Command::new(env!("CARGO_BIN_EXE_assent"))
        .args(["demo", "--json"])
        .current_dir(folder.path())
        .env("TMPDIR", temporary.path())
        .output()
        .expect("assent runs");
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success(), "{text}\n{}", String::from_utf8_lossy(&told.stderr));

    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let checks: Vec<(&str, bool)> = lines
        .iter()
        .filter_map(|line| Some((line["check"].as_str()?, line["ok"].as_bool()?)))
        .collect();
    let names: Vec<&str> = checks.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "verify",
            "evidence",
            "export",
            "voices",
            "nothing-before-permission",
            "erased-files",
            "kept-files",
            "erased-key",
            "verify",
            "evidence",
        ],
        "{text}"
    );
    assert!(checks.iter().all(|(_, ok)| *ok), "{checks:?}");

    let events: Vec<&str> =
        lines.iter().filter_map(|line| line["event"]["type"].as_str()).collect();
    for event in [
        "io.assent.notice.completed.v1",
        "io.assent.permission.granted.v1",
        "io.assent.recording.started.v1",
        "io.assent.recording.sealed.v1",
        "io.assent.permission.withdrawn.v1",
        "io.assent.erasure.requested.v1",
        "io.assent.erasure.completed.v1",
        "io.assent.access.exported.v1",
    ] {
        assert!(events.contains(&event), "{event}: {events:?}");
    }
    let heard = |who: &str, what: &str| {
        let said = format!("hears \"{what}\"");
        lines.iter().any(|line| line["who"] == who && line["said"] == said.as_str())
    };
    assert!(heard("caller", "The recording has been stopped and deleted."), "{text}");
    assert!(heard("callee", "The recording has been stopped."), "{text}");

    // What was erased is the second call's, and the first one's is left alone.
    let end = lines.last().expect("an end");
    let (first, second) = (end["recording"].as_str(), end["withdrawn"].as_str());
    assert!(first.is_some() && second.is_some() && first != second, "{end}");
    let of = |event: &str| {
        let whole = lines.iter().find(|line| line["event"]["type"] == event);
        whole.and_then(|line| line["event"]["data"]["recording"].as_str())
    };
    assert_eq!(of("io.assent.recording.sealed.v1"), first);
    assert_eq!(of("io.assent.erasure.completed.v1"), second);
    let erased = lines.iter().find(|line| line["check"] == "erased-files").expect("a check");
    assert_eq!(erased["recording"].as_str(), second);
    assert!(erased["files"][0]["bytes"].as_u64() > Some(0), "{erased}");

    let left: Vec<_> = std::fs::read_dir(folder.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left, ["assent-demo.wav"]);
    let none = std::fs::read_dir(temporary.path()).expect("the folder").count();
    assert_eq!(none, 0, "the data folder is gone");
}

//! Dependencies point up across the layers of the architecture: edges → storage → pure.
//!
//! Reads the paths that each source file names, and fails with the line that breaks a rule. What
//! is compiled for tests only may do as it likes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Decides: input in, output out.
const PURE: [&str; 11] = [
    "consent",
    "call",
    "sdp",
    "rtp",
    "codec",
    "segment::format",
    "event",
    "ids",
    "time",
    "number",
    "network",
];
/// Keeps.
const STORAGE: [&str; 3] = ["keys", "segment", "catalog"];
/// Touches the world.
const EDGES: [&str; 8] = ["sip", "media", "bus", "erasure", "export", "http", "control", "phone"];
/// Join the edges.
const ABOVE: [&str; 2] = ["agent", "cli"];

/// The one exception: a grant is made of the proof that its evidence is durable, so permission
/// may name that proof, and nothing else of the catalog.
const RECEIPT: (&str, [&str; 3]) = ("catalog::Receipt", ["grant", "message", "party"]);
/// The call machine only hands it through.
const RECEIPT_IS_PASSED_BY: [&str; 1] = ["src/call/machine.rs"];

/// What nothing pure does.
const WORLD: [&str; 26] = [
    "tokio",
    "futures_util",
    "std::fs",
    "std::os",
    "std::env",
    "std::process",
    "std::thread",
    "std::sync::mpsc",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "File::",
    "getrandom",
    "rusqlite",
    "async_nats",
    "axum",
    "mio",
    "libc",
    "rustix",
    "socket2",
    "rustls",
    "SystemTime",
    "crate::clock",
    "println!",
    "tracing::",
];

/// Crates that stay behind one module, so that they can be exchanged there.
const BEHIND: [(&str, &[&str]); 12] = [
    ("sipx_sip", &["sip", "phone"]),
    ("rusqlite", &["catalog"]),
    ("async_nats", &["bus"]),
    ("axum", &["http"]),
    ("mio", &["media"]),
    ("sdp_types", &["sdp"]),
    ("rtp_types", &["rtp", "phone"]),
    ("opus", &["codec"]),
    ("rtc_dtls", &["media"]),
    ("rtc_rtp", &["media"]),
    ("rtc_srtp", &["media"]),
    ("aes_gcm", &["segment::format", "keys"]),
];

/// Reading a clock, and identifiers that do.
const CLOCKS: [&str; 6] =
    ["Instant::now", "SystemTime::now", "now_v7", "new_v4", ".elapsed()", "Timestamp::now"];

const LONGEST: usize = 800;
const LONGEST_WITHOUT_TESTS: usize = 600;

#[test]
fn every_module_has_its_layer() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for line in lib.lines() {
        let Some(name) = line.strip_prefix("pub mod ").and_then(|l| l.strip_suffix(';')) else {
            continue;
        };
        if name == "fuzz" {
            continue;
        }
        let known = [&PURE[..], &STORAGE, &EDGES, &ABOVE, &["config", "clock"]].concat();
        assert!(known.contains(&name), "tests/layers.rs does not know which layer {name} is in");
    }
}

#[test]
fn dependencies_point_up() {
    check(|source, line, report| {
        for path in paths(&line.code) {
            if !may(source, &path) {
                report(format!("{} may not name crate::{path}", source.module));
            }
        }
        // A group hides from this test what it names.
        if line.code.contains("crate::{") || line.code.contains("super::super") {
            report("write the whole path from crate::".to_owned());
        }
    });
}

#[test]
fn what_decides_does_not_touch_the_world() {
    check(|source, line, report| {
        if PURE.contains(&source.module.as_str()) {
            for word in WORLD.into_iter().filter(|word| names(&line.code, word)) {
                report(format!("{} is pure, and {word} is not", source.module));
            }
        }
    });
}

#[test]
fn foreign_crates_stay_behind_their_module() {
    check(|source, line, report| {
        for (krate, homes) in BEHIND {
            let used = names(&line.code, &format!("{krate}::"));
            if used && !homes.contains(&source.module.as_str()) {
                report(format!("{krate} belongs to {homes:?}"));
            }
        }
    });
}

#[test]
fn only_the_clock_reads_a_clock() {
    check(|source, line, report| {
        if source.path != Path::new("src/clock.rs") {
            for call in CLOCKS.into_iter().filter(|call| line.code.contains(call)) {
                report(format!("{call}: ask crate::clock, or take the time as an argument"));
            }
        }
    });
}

#[test]
fn unsafe_code_is_in_one_file() {
    check(|source, line, report| {
        if source.path != Path::new("src/media/io.rs") && names(&line.code, "unsafe") {
            report("unsafe code belongs to src/media/io.rs".to_owned());
        }
        if source.path != Path::new("src/media/io.rs") && line.code.contains("allow(unsafe_code") {
            report("only src/media/io.rs may allow it".to_owned());
        }
    });
}

#[test]
fn no_file_is_longer_than_a_reader() {
    let mut long = Vec::new();
    for path in files(&root().join("src")) {
        let all = std::fs::read_to_string(&path).unwrap().lines().count();
        if all > LONGEST {
            long.push(format!("{}: {all} lines with its tests", path.display()));
        }
    }
    for source in sources() {
        let own = source.lines.len();
        if own > LONGEST_WITHOUT_TESTS {
            long.push(format!("{}: {own} lines before its tests", source.path.display()));
        }
    }
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn these_rules_find_what_breaks_them() {
    let source = |module: &str, path: &str| Source {
        path: path.into(),
        module: module.to_owned(),
        lines: Vec::new(),
    };
    let consent = source("consent", "src/consent/party.rs");
    assert!(may(&consent, "catalog::Receipt") && may(&consent, "ids::Leg"));
    for wrong in ["catalog::Catalog", "media::Media", "clock::now", "segment::SegmentWriter"] {
        assert!(!may(&consent, wrong), "{wrong}");
    }
    assert!(!may(&source("consent", "src/consent/policy.rs"), "catalog::Receipt"));
    assert!(!may(&source("catalog", "src/catalog/mod.rs"), "sip::Sip"));
    assert!(!may(&source("bus", "src/bus/mod.rs"), "http::Http"));
    assert!(may(&source("agent", "src/agent/mod.rs"), "http::Http"));
    assert!(!may(&source("agent", "src/agent/mod.rs"), "cli::run"));
    assert!(!may(&source("media", "src/media/mod.rs"), "agent::run"));
    assert!(may(&source("segment::format", "src/segment/format/a.rs"), "segment::format::Gap"));
    assert!(!may(&source("segment::format", "src/segment/format/a.rs"), "segment::SegmentStore"));
    assert_eq!(paths("use crate::ids::{Leg, Pii}; crate::rtp::x()"), ["ids::", "rtp::x"]);
    assert!(names("unsafe {", "unsafe") && !names("#![deny(unsafe_code)]", "unsafe"));
    assert!(names("a::tokio::b", "tokio") && !names("my_tokio::x", "tokio"));
    assert_eq!(code("let a = \"// crate::x\"; // crate::y"), "let a = \"\"; ");
    assert_eq!(before_tests("a\n#[cfg(test)]\nmod tests {\nb\n"), "a\n");
    assert!(sources().len() > 150, "the sources are read");
}

struct Source {
    /// From the project's folder.
    path: PathBuf,
    module: String,
    lines: Vec<Line>,
}

struct Line {
    number: usize,
    /// Without comments and without what is in strings.
    code: String,
}

/// Applies a rule to every line that is built into the product.
fn check(rule: impl Fn(&Source, &Line, &mut dyn FnMut(String))) {
    let mut broken = Vec::new();
    for source in sources() {
        for line in &source.lines {
            rule(&source, line, &mut |why| {
                broken.push(format!("{}:{}: {why}", source.path.display(), line.number));
            });
        }
    }
    assert!(broken.is_empty(), "{} lines break the layers:\n{}", broken.len(), broken.join("\n"));
}

/// Whether a file may name this path, which starts below `crate`.
fn may(source: &Source, path: &str) -> bool {
    let target = module(path);
    let (from, to) = (source.module.as_str(), target.as_str());
    let file = source.path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    if from == to || from == "main" {
        return true;
    }
    if path.starts_with(RECEIPT.0) {
        let passed = RECEIPT_IS_PASSED_BY.iter().any(|path| source.path == Path::new(path));
        if passed || (from == "consent" && RECEIPT.1.contains(&file)) {
            return true;
        }
    }
    let (pure, storage) = (PURE.contains(&to), STORAGE.contains(&to));
    if PURE.contains(&from) || from == "config" || from == "clock" {
        return pure;
    }
    if STORAGE.contains(&from) {
        return pure || storage || to == "clock";
    }
    if EDGES.contains(&from) {
        return pure || storage || to == "clock" || to == "config";
    }
    // `agent` and `cli` stand above the edges, side by side.
    ABOVE.contains(&from) && !ABOVE.contains(&to)
}

/// The module that a path below `crate` (with `::` or `/`) is in.
fn module(path: &str) -> String {
    let path = path.replace('/', "::");
    if path.starts_with("segment::format") {
        return "segment::format".to_owned();
    }
    path.split("::").next().unwrap_or_default().trim_end_matches(".rs").to_owned()
}

/// What follows each `crate::` in a line.
fn paths(code: &str) -> Vec<String> {
    // Who may see something is no dependency.
    let code = &code.replace("pub(in crate::", "pub(in ");
    let path = |from: &str| {
        let end = from.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        from[..end.unwrap_or(from.len())].to_owned()
    };
    code.match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, found)| path(&code[at + found.len()..]))
        .filter(|path| !path.is_empty())
        .collect()
}

/// Whether a line has this word, not as a part of another.
fn names(code: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        !(before.ends_with(inside) || word.ends_with(inside) && after.starts_with(inside))
    })
}

/// The sources of the product, without their tests.
fn sources() -> Vec<Source> {
    let root = root();
    let all = files(&root.join("src"));
    let texts: Vec<(PathBuf, String)> =
        all.iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect();
    let mut tests = BTreeSet::new();
    for (path, text) in &texts {
        tests.extend(test_modules(path, text));
    }
    let is_test = |path: &Path| path.ancestors().any(|a| tests.contains(&a.with_extension("")));
    let product = texts.into_iter().filter(|(path, _)| !is_test(path));
    product
        .map(|(path, text)| {
            let path = path.strip_prefix(&root).unwrap().to_owned();
            let below = path.strip_prefix("src").unwrap().to_string_lossy().into_owned();
            let lines = before_tests(&text)
                .lines()
                .enumerate()
                .map(|(n, line)| Line { number: n + 1, code: code(line) })
                .collect();
            Source { path, module: module(&below), lines }
        })
        .filter(|source| source.module != "lib")
        .collect()
}

/// The files or folders, without an extension, that a file declares for tests only.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let stem = path.file_stem().unwrap();
    let folder = path.parent().unwrap();
    let folder = if stem == "mod" || stem == "lib" { folder.to_owned() } else { folder.join(stem) };
    let for_tests = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"];
    let declared = lines.windows(2).filter(|pair| for_tests.contains(&pair[0]));
    declared
        .filter_map(|pair| pair[1].split_once("mod ")?.1.strip_suffix(';'))
        .map(|name| folder.join(name))
        .collect()
}

/// Everything up to the tests at the bottom of a file.
fn before_tests(text: &str) -> &str {
    let starts = text.match_indices("#[cfg(test)]\n");
    let tests = starts.map(|(at, _)| at).find(|at| {
        let next = text[*at..].lines().nth(1).unwrap_or_default();
        next.contains("mod ") && next.ends_with('{')
    });
    &text[..tests.unwrap_or(text.len())]
}

/// A line without its comment and without what is in its strings.
fn code(line: &str) -> String {
    let mut code = String::new();
    let (mut inside, mut escaped) = (false, false);
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            // The character literal of a quote begins no string.
            '"' if !inside && code.ends_with('\'') => {}
            '"' => {
                inside = !inside;
                code.push(c);
            }
            '/' if !inside && characters.peek() == Some(&'/') => break,
            _ if inside => {}
            _ => code.push(c),
        }
    }
    code
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

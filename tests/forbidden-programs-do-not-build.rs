//! Programs that would break a promise do not build. Each file of `tests/forbidden` is one of
//! them and says which promise it would break; beside it is what the compiler says.
//!
//! After a change of compiler or of these programs: `BLESS=1 cargo test --test
//! forbidden-programs-do-not-build`, and read what has changed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn forbidden_programs_do_not_build() {
    let build = Build::of_this_test();
    let permitted = build.complaints(Path::new("tests/forbidden/permitted/permitted.rs"));
    assert_eq!(permitted, "", "a program that breaks nothing does not build");
    let mut wrong = Vec::new();
    let mut programs = 0;
    for entry in std::fs::read_dir("tests/forbidden").unwrap() {
        let program = entry.unwrap().path();
        if program.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        programs += 1;
        let said = build.complaints(&program);
        let pinned = program.with_extension("stderr");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&pinned, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&pinned).unwrap_or_default();
        if !said.contains("error") {
            wrong.push(format!("{} builds", program.display()));
        } else if said != expected {
            let program = program.display();
            wrong.push(format!("{program} says\n{said}and not, as it should,\n{expected}"));
        }
    }
    assert!(programs >= 25, "the forbidden programs are read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What this very test was built with: the same libraries serve the forbidden programs, so that
/// nothing is built a second time.
struct Build {
    libraries: Vec<(&'static str, PathBuf)>,
    folder: tempfile::TempDir,
}

impl Build {
    fn of_this_test() -> Self {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let test = "forbidden-programs-do-not-build";
        cargo.args(["build", "--offline", "--message-format=json", "--test", test]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo build --test {test}:\n{complaints}");
        let artifacts: Vec<serde_json::Value> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let library = |name: &'static str| {
            let mut files = artifacts
                .iter()
                .filter(|artifact| artifact["target"]["name"] == name)
                .filter_map(|artifact| artifact["filenames"].as_array())
                .flatten()
                .filter_map(|file| file.as_str());
            let file = files.rfind(|file| file.ends_with(".rlib"));
            (name, PathBuf::from(file.unwrap_or_else(|| panic!("cargo names no lib{name}"))))
        };
        let libraries = vec![library("assent"), library("serde")];
        Self { libraries, folder: tempfile::tempdir().unwrap() }
    }

    /// What the compiler says, a line an error.
    fn complaints(&self, program: &Path) -> String {
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc
            .args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "--error-format=short"])
            .arg("--cap-lints=allow")
            .arg("--out-dir")
            .arg(self.folder.path());
        for (name, file) in &self.libraries {
            rustc.arg("--extern").arg(format!("{name}={}", file.display()));
        }
        let beside = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        rustc.arg("-L").arg(format!("dependency={}", beside.display())).arg(program);
        let output = rustc.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("rustc runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), said.is_empty(), "{}:\n{said}", program.display());
        said.lines().filter(|line| !line.starts_with("error: aborting")).fold(
            String::new(),
            |mut lines, line| {
                lines.push_str(line);
                lines.push('\n');
                lines
            },
        )
    }
}

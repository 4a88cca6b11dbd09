//! Consent tokens, as the program that the documentation shows makes them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The secret that the PBX and the agent share, in hex.
pub const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A token that states `granted` or `refused` for a party of the call with this Call-ID.
pub fn token(call_id: &str, party: &str, stated: &str) -> String {
    let page = include_str!("../../docs/consent-token.md");
    let program = page.split("```python").nth(1).expect("a program");
    let program = program.split("```").next().expect("its end");
    let call = format!(
        "{program}\nprint(token('{call_id}', '{party}', '{stated}', 'pbx-1', \
         bytes.fromhex('{SECRET}')))"
    );
    let run = Command::new("python3").args(["-c", &call]).output().expect("python3 runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).expect("ASCII").trim().to_owned()
}

/// The secret in a file that only its owner may read.
pub fn key_file(folder: &Path) -> PathBuf {
    let path = folder.join("pbx-1.key");
    std::fs::write(&path, format!("{SECRET}\n")).expect("a key");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its mode");
    path
}

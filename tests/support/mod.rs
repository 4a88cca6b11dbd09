//! What integration tests share: the real agent and real peers, each in its own temporary folder,
//! each ended by its own handle.
//!
//! Use with `mod support;`. `make test` installs the programs that are run here.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wrong_self_convention,
    clippy::should_implement_trait
)]

pub mod agent;
pub mod audio;
pub mod baresip;
pub mod certificates;
pub mod disk;
pub mod dns;
pub mod kamailio;
pub mod ledger;
pub mod nats;
pub mod peer;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod scenario;
pub mod sipp;
pub mod talker;
pub mod token;
pub mod tone_phone;
pub mod wire_phone;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use agent::{Agent, AgentBuilder};
pub use baresip::Baresip;
pub use disk::Disk;
pub use kamailio::Kamailio;
pub use nats::Nats;
pub use peer::{Answerer, Talker};
pub use ports::Ports;
pub use process::Process;
pub use proxy::{Proxy, Toward, Verdict};
pub use scenario::Scenario;
pub use sipp::Sipp;
pub use tone_phone::TonePhone;
pub use wire_phone::WirePhone;

/// How much of something to do: little in `make test`, much in `make soak`.
pub fn rounds(test: usize, soak: usize) -> usize {
    if std::env::var_os("ASSENT_SOAK").is_some() { soak } else { test }
}

/// Asks until there is an answer, and fails the test after `patience`, saying what it waited for.
pub fn wait_until<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The same for a condition.
pub fn wait_for(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    wait_until(patience, what, || holds().then_some(()));
}

/// A program that `make test` installs: from the virtual environment, else from the search path.
pub fn tool(name: &str) -> PathBuf {
    let tools = std::env::var_os("ASSENT_TEST_TOOLS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/test-tools"),
        PathBuf::from,
    );
    let ours = tools.join("venv/bin").join(name);
    if ours.exists() {
        return ours;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("{name} is not installed: run `make test-tools`"))
}

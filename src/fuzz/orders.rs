//! What other programs ask for.

use crate::control::{Command, Reply};
use crate::time::Timestamp;

/// A line on the control socket, to either side of it.
pub fn control_socket(bytes: &[u8]) {
    if let Ok(command) = serde_json::from_slice::<Command>(bytes) {
        let text = serde_json::to_vec(&command).expect("it is written");
        assert_eq!(serde_json::from_slice::<Command>(&text).ok(), Some(command));
    }
    let _ = serde_json::from_slice::<Reply>(bytes);
}

/// A command over NATS: its subject in the first line, its payload behind it.
pub fn nats_command(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (subject, payload) = bytes.split_at(end);
    let subject = String::from_utf8_lossy(subject);
    let Ok(command) = crate::bus::read_command(&subject, payload) else { return };
    let now = Timestamp::from_micros(1_770_000_000_000_000);
    let _ = crate::agent::order_reads(command.verb.as_str(), &command.body, now);
}

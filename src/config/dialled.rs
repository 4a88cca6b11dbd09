//! Reads the keys of a policy, and refuses those that could mean two things.

use crate::config::document::Section;
use crate::config::problem::Wrong;
use crate::consent::policy::Policy;

fn is_key(key: char) -> bool {
    matches!(key, '0'..='9' | '*' | '#' | 'A'..='D')
}

/// Reads one key.
pub(super) fn key(text: &str) -> Result<char, Wrong> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(key), None) if is_key(key) => Ok(key),
        _ => Err(Wrong::new(
            format!("{text:?} is not one key"),
            "write one of 0 to 9, *, # and A to D",
        )),
    }
}

/// Reads a sequence: two keys at least, so that no single one that is pressed for something else
/// takes a permission back or stops a recording.
pub(super) fn keys(text: &str) -> Result<String, Wrong> {
    if (2..=8).contains(&text.len()) && text.chars().all(is_key) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("{text:?} is not a sequence of keys"),
        "write two to eight of 0 to 9, *, # and A to D, such as \"*9\"",
    ))
}

/// A key that could mean two things would be a permission by accident.
///
/// Sequences are found anywhere in what is dialled, so a sequence within another one would be
/// found there too. The accept key within a sequence would agree to something on the way, and the
/// key that refuses within the one that pauses would refuse; within the one that withdraws it only
/// says the same sooner.
pub(super) fn refuse_ambiguous(section: &Section<'_>, policy: &Policy) {
    let Policy { accept, refuse, withdraw, pause, .. } = policy;
    let clash = |key: &str, what: String| {
        section.report(key, Wrong::new(what, "give each meaning keys of its own"));
    };
    if accept == refuse {
        clash("refuse", format!("the key {refuse} accepts and refuses"));
    }
    if withdraw.contains(pause.as_str()) || pause.contains(withdraw.as_str()) {
        clash(
            "pause",
            format!("one of {pause:?} and the keys that withdraw, {withdraw:?}, is in the other"),
        );
    }
    for (name, keys) in [("withdraw", withdraw), ("pause", pause)] {
        if keys.contains(*accept) {
            clash(name, format!("{keys:?} contains {accept}, the key that accepts"));
        }
    }
    if pause.contains(*refuse) {
        clash("pause", format!("{pause:?} contains {refuse}, the key that refuses"));
    }
}

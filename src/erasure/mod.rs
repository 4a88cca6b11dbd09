//! Erasure: what was recorded of a party is destroyed, and whatever interrupts that, it is finished.
//!
//! ```text
//!   decision ──one transaction──▶ Tombstoned ─▶ KeyDestroyed ─▶ FilesRemoved ─▶ Verified
//!   (catalog: tombstone, wrapped key out)   log emptied    unlink, rows     read back
//! ```
//!
//! Each step can be repeated without harm, and is noted once it is done: a crash anywhere repeats
//! at most one. [`finish_all`] takes up at start what the last run left, [`Eraser`] carries out
//! what comes while the agent runs. A step that fails is tried again, for as long as it takes.
//!
//! Overwriting a file is of no use on file systems that write elsewhere than where they are told,
//! so files are unlinked: without their key they are noise. The wrapped key is out of every file of
//! the catalog, but a backup may hold it: an erasure is final once the key-encryption key of its
//! epoch is destroyed, which is a later step.

mod eraser;
mod files;
mod steps;
#[cfg(test)]
mod tests;

pub use eraser::{Condition, Eraser, finish_all};
pub use steps::StepError;

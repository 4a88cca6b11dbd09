//! Segments: what they are made of, how they are written, read and proved.

pub mod format;

//! The catalog: recordings, permissions, the evidence chain and the outbox, in one SQLite
//! database with one writer.

mod receipt;

pub use receipt::Receipt;

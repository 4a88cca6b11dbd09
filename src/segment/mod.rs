//! Segments: what they are made of, how they are written, read and proved.
//!
//! [`SegmentWriter`] is the only way to write one, and takes a grant. [`SegmentStore`] puts its
//! chunks on the disk, [`SegmentReader`] reads them back, [`verify_segment`] proves them, and
//! [`recover_truncated`] closes what a crash left open.

mod chain;
mod chunks;
#[cfg(test)]
mod example;
pub mod format;
mod mask;
mod reader;
mod recover;
mod sink;
mod store;
mod stream;
#[cfg(test)]
mod tampering;
#[cfg(test)]
mod testing;
mod verify;
mod writer;

pub use reader::{ReadError, SegmentReader};
pub use recover::{RecoverError, SegmentContext, recover_truncated, unfinished_segments};
pub use sink::{NotTaken, SegmentHead, SegmentSink, SegmentTail};
pub use store::{
    FailedSegment, SealedSegment, SegmentStore, StoreCounters, StoreError, StoreOptions,
    StoreReport, StoreSink,
};
pub use stream::{Appended, Finished, StreamStart};
pub use verify::{ChainBreak, Damage, SegmentVerdict, verify_chain, verify_segment};
pub use writer::SegmentWriter;

//! Assent: a call recorder that cannot record without permission.
//!
//! Everything that decides is pure, everything that touches the world is thin, and permission is
//! a value that the compiler tracks: see [`consent`] for the chain from a decision to the right
//! to write, and `docs/architecture.md` for the layers.

pub mod agent;
pub mod bus;
pub mod call;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod codec;
pub mod config;
pub mod consent;
pub mod control;
pub mod erasure;
pub mod event;
pub mod export;
#[doc(hidden)]
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod http;
pub mod ids;
pub mod keys;
pub mod media;
pub mod network;
pub mod number;
pub mod phone;
pub mod rtp;
pub mod sdp;
pub mod segment;
pub mod sip;
pub mod time;

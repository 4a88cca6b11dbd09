//! The two-leg call as a pure machine. Endpoint and inline share it.

pub mod media;
pub mod message;

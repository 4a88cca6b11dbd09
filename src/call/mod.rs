//! The two-leg call as a pure machine: [`machine::Input`] in, [`machine::Output`]s out. Endpoint
//! and inline share it.

mod asking;
mod callee;
mod caller;
mod delayed_offer;
mod departing;
pub mod dialog;
mod early;
mod fact;
mod forks;
mod identity;
mod joining;
mod leg;
pub mod machine;
pub mod media;
pub mod message;
pub mod negotiate;
mod offering;
pub mod order;
pub mod passing;
mod provisional;
mod referring;
mod refreshing;
mod relaying;
mod renegotiating;
pub mod replaces;
mod replacing;
pub mod session_timer;
pub mod setup;
#[cfg(test)]
mod tests;
pub mod timer;

#[cfg(any(test, fuzzing))]
pub(crate) use identity::asserted;

//! Permission: whom to ask, what silence means, what was decided, and the right to write that
//! follows from it. Pure: no clock, no socket, no file.

pub mod chain_head;
mod decision;
pub mod evidence;
mod grant;
mod joint;
mod keypad;
pub mod locale;
pub mod machine;
mod message;
mod overview;
mod party;
mod pausing;
pub mod policy;
mod prior;
mod question;
mod stop;
pub mod strictness;
mod terms;
#[cfg(test)]
mod tests;
pub mod token;

pub use decision::{
    Answer, Decision, DecisionFacts, DecisionNumber, KeyVia, MediaTransport, NoticePlayed, Outcome,
};
pub use grant::{Grant, Lease, Standing};
pub use keypad::Keypad;
pub use prior::{Prior, Stated, TokenStated};
pub use stop::{Stop, Stops};
